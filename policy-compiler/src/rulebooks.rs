//! Rulebooks and policy classes, each stored once however many endpoints they are for.

use std::collections::BTreeSet;
use std::sync::Arc;

use heddle_image::{Direction, PortTable, Rulebook};

use crate::Map;
use crate::model::NamedPort;
use crate::policies::PolicyNumber;
use crate::terms::TermNumber;

pub(crate) type BookNumber = u32;

/// The rulebook of endpoints that no policy selects for the direction.
pub(crate) const ALLOW_ALL: BookNumber = 0;

/// Port tables kept for rulebooks to share; above that the collection starts afresh.
const KEPT_TABLES: usize = 4096;

/// What a rulebook follows from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct BookKey {
    pub(crate) direction: Direction,
    /// Those that select the endpoint for the direction, sorted.
    pub(crate) policies: Vec<PolicyNumber>,
    /// The endpoint's own ports that ingress rules of those policies call by name.
    pub(crate) ports: Vec<NamedPort>,
}

#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) key: Arc<BookKey>,
    /// The terms of its policies.
    pub(crate) terms: Vec<TermNumber>,
    /// The policy classes that have it. Without any it goes away.
    classes: BTreeSet<u32>,
    /// None until it is built.
    pub(crate) compiled: Option<Rulebook>,
}

/// All rulebooks by number.
#[derive(Debug)]
pub(crate) struct Rulebooks {
    slots: Vec<Option<Book>>,
    free: Vec<BookNumber>,
    numbers: Map<Arc<BookKey>, BookNumber>,
    tables: Map<Vec<(u32, u16)>, PortTable>,
    /// To be built, or built again.
    pub(crate) outdated: BTreeSet<BookNumber>,
    /// Bytes of all rows.
    pub(crate) row_bytes: usize,
}

impl Default for Rulebooks {
    fn default() -> Self {
        let key =
            Arc::new(BookKey { direction: Direction::Ingress, policies: Vec::new(), ports: Vec::new() });
        let book =
            Book { key, terms: Vec::new(), classes: BTreeSet::new(), compiled: Some(Rulebook::allow_all()) };
        Self {
            slots: vec![Some(book)],
            free: Vec::new(),
            numbers: Map::default(),
            tables: Map::default(),
            outdated: BTreeSet::new(),
            row_bytes: 0,
        }
    }
}

impl Rulebooks {
    pub(crate) fn get(&self, number: BookNumber) -> Option<&Book> {
        self.slots.get(number as usize)?.as_ref()
    }

    pub(crate) fn number(&self, key: &BookKey) -> Option<BookNumber> {
        self.numbers.get(key).copied()
    }

    /// Adds a rulebook whose key is new; it will be built at the end of the update.
    pub(crate) fn insert(&mut self, key: BookKey, terms: Vec<TermNumber>) -> BookNumber {
        let key = Arc::new(key);
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as BookNumber - 1
        });
        self.numbers.insert(key.clone(), number);
        self.slots[number as usize] = Some(Book { key, terms, classes: BTreeSet::new(), compiled: None });
        self.outdated.insert(number);
        number
    }

    pub(crate) fn add_class(&mut self, number: BookNumber, class: u32) {
        if let Some(Some(book)) = self.slots.get_mut(number as usize) {
            book.classes.insert(class);
        }
    }

    /// Takes a policy class off a rulebook. If it was the last one, the rulebook goes, and its terms are returned.
    pub(crate) fn remove_class(&mut self, number: BookNumber, class: u32) -> Vec<TermNumber> {
        let Some(Some(book)) = self.slots.get_mut(number as usize) else { return Vec::new() };
        book.classes.remove(&class);
        if number == ALLOW_ALL || !book.classes.is_empty() {
            return Vec::new();
        }
        self.outdated.remove(&number);
        self.free.push(number);
        let book = self.slots[number as usize].take();
        book.map(|book| {
            self.numbers.remove(&book.key);
            self.row_bytes -= book.compiled.map_or(0, |compiled| compiled.rows.bytes());
            book.terms
        })
        .unwrap_or_default()
    }

    /// Puts what was built in its place and returns the policy classes that have it.
    pub(crate) fn set_compiled(&mut self, number: BookNumber, compiled: Rulebook) -> Vec<u32> {
        let Some(Some(book)) = self.slots.get_mut(number as usize) else { return Vec::new() };
        self.row_bytes += compiled.rows.bytes();
        let old = book.compiled.replace(compiled);
        self.row_bytes -= old.map_or(0, |old| old.rows.bytes());
        book.classes.iter().copied().collect()
    }

    /// A port table with these runs, shared with all rulebooks that have the same.
    pub(crate) fn table(&mut self, runs: Vec<(u32, u16)>) -> PortTable {
        if self.tables.len() >= KEPT_TABLES {
            self.tables.clear();
        }
        self.tables.entry(runs).or_insert_with_key(|runs| PortTable::new(runs)).clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}

/// All policy classes by number: pairs of rulebooks, ingress and egress. Number 0 is the class of endpoints without policies and never
/// goes away.
#[derive(Debug)]
pub(crate) struct PolicyClasses {
    slots: Vec<Option<([BookNumber; 2], usize)>>,
    free: Vec<u32>,
    numbers: Map<[BookNumber; 2], u32>,
}

impl Default for PolicyClasses {
    fn default() -> Self {
        let both = [ALLOW_ALL; 2];
        Self { slots: vec![Some((both, 1))], free: Vec::new(), numbers: Map::from_iter([(both, 0)]) }
    }
}

impl PolicyClasses {
    /// The class with these rulebooks, which gets one more user, and whether it is a new one.
    pub(crate) fn acquire(&mut self, books: [BookNumber; 2]) -> (u32, bool) {
        if let Some(number) = self.numbers.get(&books) {
            if let Some((_, users)) = &mut self.slots[*number as usize] {
                *users += 1;
            }
            return (*number, false);
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[number as usize] = Some((books, 1));
        self.numbers.insert(books, number);
        (number, true)
    }

    /// Takes one user away. If it was the last one, the class goes, and its rulebooks are returned.
    pub(crate) fn release(&mut self, number: u32) -> Option<[BookNumber; 2]> {
        let (books, users) = self.slots[number as usize].as_mut()?;
        *users -= 1;
        if *users > 0 {
            return None;
        }
        let books = *books;
        self.slots[number as usize] = None;
        self.numbers.remove(&books);
        self.free.push(number);
        Some(books)
    }

    pub(crate) fn books(&self, number: u32) -> Option<[BookNumber; 2]> {
        self.slots.get(number as usize)?.map(|(books, _)| books)
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}
