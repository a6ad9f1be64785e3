//! Peer classes: one for each set of memberships that some address has.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::Map;
use crate::terms::{Membership, TermNumber, Terms};

/// A class's memberships, sorted.
pub(crate) type ClassKey = Arc<[Membership]>;

#[derive(Debug)]
struct Class {
    /// Of a retired class: what it was when rulebooks last heard of it, because they may still have bits for it.
    key: ClassKey,
    /// Addresses and ranges that are in the class.
    holders: u32,
    /// Not in `numbers`; waits for another key.
    retired: bool,
    /// Which of its entries in `idle` counts: the one it got last.
    idle_since: u64,
}

impl Class {
    fn is_idle_since(&self, time: u64) -> bool {
        self.holders == 0 && !self.retired && self.idle_since == time
    }
}

/// All peer classes by number. Class 0 is the empty set and never goes away.
#[derive(Debug)]
pub(crate) struct PeerClasses {
    slots: Vec<Class>,
    numbers: Map<ClassKey, u32>,
    /// Classes that lost their last holder, longest ago first, each with the time of that. Kept with their columns up to date, in case
    /// their pods come back (a rolling restart, a label set back). Entries of classes that found another holder are left behind.
    idle: VecDeque<(u32, u64)>,
    idle_count: usize,
    /// Most classes kept so. Beyond that the one idle for longest gives its number to the next new class.
    most_idle: usize,
    /// Counts releases.
    clock: u64,
    retired: Vec<u32>,
}

impl PeerClasses {
    /// Class 0 alone.
    pub(crate) fn new(most_idle: usize) -> Self {
        let key: ClassKey = [].into();
        Self {
            slots: vec![Class { key: key.clone(), holders: 1, retired: false, idle_since: 0 }],
            numbers: Map::from_iter([(key, 0)]),
            idle: VecDeque::new(),
            idle_count: 0,
            most_idle,
            clock: 0,
            retired: Vec::new(),
        }
    }

    /// The class with this key, which gets one more holder.
    pub(crate) fn acquire(&mut self, key: &[Membership], terms: &mut Terms) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            let class = &mut self.slots[*number as usize];
            self.idle_count -= usize::from(class.holders == 0);
            class.holders += 1;
            return *number;
        }
        let number = self.free_number(terms);
        let key: ClassKey = key.into();
        for membership in &*key {
            terms.add_class(*membership, number);
        }
        self.numbers.insert(key.clone(), number);
        self.slots[number as usize] = Class { key, holders: 1, retired: false, idle_since: 0 };
        number
    }

    /// Takes one holder away.
    pub(crate) fn release(&mut self, number: u32) {
        let class = &mut self.slots[number as usize];
        class.holders -= 1;
        if class.holders > 0 {
            return;
        }
        self.clock += 1;
        class.idle_since = self.clock;
        self.idle_count += 1;
        self.idle.push_back((number, self.clock));
        // What was left behind is cleared away once it is more than half.
        if self.idle.len() > 2 * self.idle_count + 64 {
            let slots = &self.slots;
            self.idle.retain(|(number, since)| slots[*number as usize].is_idle_since(*since));
        }
    }

    /// Gives all holders of a class another key at once, if no class has that key and this one is not class 0.
    pub(crate) fn rename(&mut self, number: u32, key: &[Membership], terms: &mut Terms) -> bool {
        if number == 0 || self.numbers.contains_key(key) {
            return false;
        }
        let key: ClassKey = key.into();
        let old = std::mem::replace(&mut self.slots[number as usize].key, key.clone());
        self.numbers.remove(&old);
        for gone in old.iter().filter(|membership| key.binary_search(membership).is_err()) {
            terms.remove_class(*gone, number);
            terms.touch(gone.term);
        }
        for new in key.iter().filter(|membership| old.binary_search(membership).is_err()) {
            terms.add_class(*new, number);
        }
        self.numbers.insert(key, number);
        true
    }

    /// Retires the idle classes that are in a term which is about to be forgotten.
    pub(crate) fn leave_term(&mut self, term: TermNumber, terms: &mut Terms) {
        let members: Vec<u32> = terms.classes(term).flat_map(|(_, classes)| classes.iter()).collect();
        for number in members {
            debug_assert_eq!(self.slots[number as usize].holders, 0, "an address is still in an unused term");
            self.retire(number, terms);
        }
    }

    pub(crate) fn key(&self, number: u32) -> &ClassKey {
        &self.slots[number as usize].key
    }

    pub(crate) fn holders(&self, number: u32) -> usize {
        self.slots[number as usize].holders as usize
    }

    /// Number of classes with a holder, and number of columns.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.numbers.len() - self.idle_count, self.slots.len())
    }

    /// A number for a new class. One that was used before may still have bits in rulebooks: those are rebuilt.
    fn free_number(&mut self, terms: &mut Terms) -> u32 {
        while self.idle_count > self.most_idle {
            let Some((oldest, since)) = self.idle.pop_front() else { break };
            if self.slots[oldest as usize].is_idle_since(since) {
                self.retire(oldest, terms);
            }
        }
        if let Some(number) = self.retired.pop() {
            for stale in &*self.slots[number as usize].key {
                terms.touch(stale.term);
            }
            return number;
        }
        self.slots.push(Class { key: [].into(), holders: 0, retired: true, idle_since: 0 });
        self.slots.len() as u32 - 1
    }

    fn retire(&mut self, number: u32, terms: &mut Terms) {
        let class = &mut self.slots[number as usize];
        if class.retired || class.holders > 0 {
            return;
        }
        class.retired = true;
        self.idle_count -= 1;
        self.numbers.remove(&class.key);
        for membership in &*class.key {
            terms.remove_class(*membership, number);
        }
        self.retired.push(number);
    }
}
