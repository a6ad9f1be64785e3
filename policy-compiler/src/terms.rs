//! Terms: what rules say about the other side, each stored once however many rules say it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use heddle_image::{Bitmap, Protocol};

use crate::Map;
use crate::model::{Block, Labels, NamedPort};
use crate::rulebooks::BookNumber;
use crate::selector::Selector;

pub(crate) type TermNumber = u32;

/// One peer of one rule. With a port name it is one peer and one named port of an egress rule: whom that matches, and at which
/// number, depends on the pod at the other end, so it has to be part of the peer's class.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Term {
    pub(crate) peer: TermPeer,
    pub(crate) port: Option<PortName>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TermPeer {
    /// Every pod. Only with a port name: a rule without peers and without named ports needs no term.
    AnyPod,
    /// Pods of one namespace.
    Local { namespace: String, pods: Selector },
    /// Pods of the namespaces with such labels.
    Wide { namespaces: Selector, pods: Selector },
    /// Addresses.
    Block(Block),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PortName {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
}

impl PortName {
    /// The numbers a pod with these ports gives the name.
    pub(crate) fn numbers<'a>(&'a self, ports: &'a [NamedPort]) -> impl Iterator<Item = u16> + 'a {
        let same = |port: &&NamedPort| port.name == self.name && port.protocol == self.protocol;
        ports.iter().filter(same).map(|port| port.number)
    }
}

/// Being in a term; for a term with a port name, at this port. Port 0 otherwise: no port has that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Membership {
    pub(crate) term: TermNumber,
    pub(crate) port: u16,
}

impl Term {
    /// True when the peer's podSelector matches. Says nothing about namespaces and blocks.
    fn selects(&self, labels: &Labels) -> bool {
        match &self.peer {
            TermPeer::AnyPod | TermPeer::Block(_) => true,
            TermPeer::Local { pods, .. } | TermPeer::Wide { pods, .. } => pods.matches(labels),
        }
    }

    /// Adds what a pod with these labels and ports, in a namespace or block of the term, is a member of.
    pub(crate) fn memberships(
        &self,
        number: TermNumber,
        labels: &Labels,
        ports: &[NamedPort],
        into: &mut Vec<Membership>,
    ) {
        match &self.port {
            _ if !self.selects(labels) => {}
            None => into.push(Membership { term: number, port: 0 }),
            Some(name) => into.extend(name.numbers(ports).map(|port| Membership { term: number, port })),
        }
    }
}

#[derive(Debug)]
struct TermState {
    term: Arc<Term>,
    /// Rules that have it.
    uses: u32,
    /// The peer classes in it, by port.
    classes: BTreeMap<u16, Bitmap>,
    /// The rulebooks that have it, to be rebuilt when `classes` changes.
    books: BTreeSet<BookNumber>,
}

/// All terms.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    slots: Vec<Option<TermState>>,
    free: Vec<TermNumber>,
    numbers: Map<Arc<Term>, TermNumber>,
    /// Not yet matched with anything.
    pub(crate) fresh: Vec<TermNumber>,
    /// Lost their last use since they were last looked at; may have found a new one.
    pub(crate) idle: Vec<TermNumber>,
    /// Their classes changed, so their rulebooks are out of date.
    changed: BTreeSet<TermNumber>,
}

impl Terms {
    /// The number of a term, which gets one more use.
    pub(crate) fn acquire(&mut self, term: Term) -> TermNumber {
        if let Some(number) = self.numbers.get(&term) {
            self.slots[*number as usize].as_mut().expect("numbered terms exist").uses += 1;
            return *number;
        }
        let term = Arc::new(term);
        let state =
            TermState { term: term.clone(), uses: 1, classes: BTreeMap::new(), books: BTreeSet::new() };
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as TermNumber - 1
        });
        self.slots[number as usize] = Some(state);
        self.numbers.insert(term, number);
        self.fresh.push(number);
        number
    }

    /// Takes one use away.
    pub(crate) fn release(&mut self, number: TermNumber) {
        if let Some(state) = &mut self.slots[number as usize] {
            state.uses -= 1;
            if state.uses == 0 {
                self.idle.push(number);
            }
        }
    }

    pub(crate) fn get(&self, number: TermNumber) -> Option<&Arc<Term>> {
        self.slots.get(number as usize)?.as_ref().map(|state| &state.term)
    }

    pub(crate) fn is_used(&self, number: TermNumber) -> bool {
        self.state(number).is_some_and(|state| state.uses > 0)
    }

    /// Frees the number of an unused term. No class may have it in its key any more.
    pub(crate) fn forget(&mut self, number: TermNumber) {
        if let Some(state) = self.slots[number as usize].take() {
            self.numbers.remove(&state.term);
            self.changed.remove(&number);
            self.free.push(number);
        }
    }

    /// The peer classes that are in the term, by port.
    pub(crate) fn classes(&self, number: TermNumber) -> impl Iterator<Item = (u16, &Bitmap)> {
        let classes = self.state(number).map(|state| state.classes.iter());
        classes.into_iter().flatten().map(|(port, classes)| (*port, classes))
    }

    /// The peer classes that are in the term at that port.
    pub(crate) fn classes_at(&self, membership: Membership) -> Option<&Bitmap> {
        self.state(membership.term)?.classes.get(&membership.port)
    }

    /// Notes that a peer class is in the term. Its rulebooks have to be rebuilt.
    pub(crate) fn add_class(&mut self, membership: Membership, class: u32) {
        if let Some(Some(state)) = self.slots.get_mut(membership.term as usize) {
            state.classes.entry(membership.port).or_default().insert(class);
            self.changed.insert(membership.term);
        }
    }

    /// Notes that a peer class is not in the term any more. Rulebooks may go on with a bit no address has: see
    /// [`Self::touch`].
    pub(crate) fn remove_class(&mut self, membership: Membership, class: u32) {
        if let Some(Some(state)) = self.slots.get_mut(membership.term as usize)
            && let Some(classes) = state.classes.get_mut(&membership.port)
        {
            classes.remove(class);
            if classes.is_empty() {
                state.classes.remove(&membership.port);
            }
        }
    }

    /// Has the term's rulebooks rebuilt.
    pub(crate) fn touch(&mut self, number: TermNumber) {
        if self.state(number).is_some() {
            self.changed.insert(number);
        }
    }

    pub(crate) fn add_book(&mut self, number: TermNumber, book: BookNumber) {
        if let Some(Some(state)) = self.slots.get_mut(number as usize) {
            state.books.insert(book);
        }
    }

    pub(crate) fn remove_book(&mut self, number: TermNumber, book: BookNumber) {
        if let Some(Some(state)) = self.slots.get_mut(number as usize) {
            state.books.remove(&book);
        }
    }

    /// The rulebooks whose terms changed since the last call.
    pub(crate) fn take_outdated_books(&mut self) -> BTreeSet<BookNumber> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .iter()
            .filter_map(|number| self.state(*number))
            .flat_map(|state| &state.books)
            .copied()
            .collect()
    }

    /// Number of terms.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    fn state(&self, number: TermNumber) -> Option<&TermState> {
        self.slots.get(number as usize)?.as_ref()
    }
}
