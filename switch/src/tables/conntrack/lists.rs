//! The connections of each state in the order in which they were last looked after.

use super::entry::{Entry, NONE};
use super::state::State;
use super::tick::Tick;

#[derive(Debug, Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
    len: u32,
}

/// One doubly linked list per state, threaded through the entries.
#[derive(Debug)]
pub(super) struct Lists([List; State::COUNT]);

impl Lists {
    pub(super) fn new() -> Self {
        Self([List { head: NONE, tail: NONE, len: 0 }; State::COUNT])
    }

    pub(super) fn len(&self, state: State) -> usize {
        self.0[state as usize].len as usize
    }

    /// The entry looked after longest ago.
    pub(super) fn head(&self, state: State) -> Option<u32> {
        let head = self.0[state as usize].head;
        (head != NONE).then_some(head)
    }

    /// Puts an entry that is in no list at the end of its state's.
    pub(super) fn append(&mut self, entries: &mut [Entry], slot: u32, now: Tick) {
        let entry = &mut entries[slot as usize];
        let list = &mut self.0[entry.state() as usize];
        entry.linked_at = now;
        entry.previous = list.tail;
        entry.next = NONE;
        match list.tail {
            NONE => list.head = slot,
            tail => entries[tail as usize].next = slot,
        }
        list.tail = slot;
        list.len += 1;
    }

    /// Takes an entry out of the list it is in, that of `state`.
    pub(super) fn unlink(&mut self, entries: &mut [Entry], slot: u32, state: State) {
        let list = &mut self.0[state as usize];
        let Entry { previous, next, .. } = entries[slot as usize];
        match previous {
            NONE => list.head = next,
            previous => entries[previous as usize].next = next,
        }
        match next {
            NONE => list.tail = previous,
            next => entries[next as usize].previous = previous,
        }
        list.len -= 1;
    }

    /// Gives an entry another turn.
    pub(super) fn move_to_end(&mut self, entries: &mut [Entry], slot: u32, now: Tick) {
        let state = entries[slot as usize].state();
        self.unlink(entries, slot, state);
        self.append(entries, slot, now);
    }
}
