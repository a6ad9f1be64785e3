//! Expiry and eviction: who has to go, found in a bounded number of steps.

use super::entry::Entry;
use super::state::{Group, State};
use super::table::Connections;
use super::tick::Tick;

/// A connection is looked after this many times within its timeout, so that one that has gone idle is found at most a
/// quarter of the timeout late. Until then a packet that meets it finds it [expired](Connections::track) all the same.
const LOOKS: u32 = 4;
/// How many busy connections get another turn before one of those seen has to go.
const TURNS: usize = 8;

impl Connections {
    /// Forgets connections that were idle for too long, looking at `budget` of them at most. Returns how many it looked
    /// at: fewer than `budget` means that it is done for now.
    ///
    /// Call it at least once a second. With N connections of timeout T, 4 N / T of them are due a second.
    pub fn expire(&mut self, now: Tick, budget: usize) -> usize {
        let mut looks = 0;
        for _ in 0..State::COUNT {
            let state = State::ALL[self.hand];
            // Moves on even when the budget ends here, so that no state starves another.
            self.hand = (self.hand + 1) % State::COUNT;
            while let Some(slot) = self.due(state, now) {
                if looks == budget {
                    return looks;
                }
                looks += 1;
                if self.entries[slot as usize].is_expired(now) {
                    self.counters.expired += 1;
                    self.release(slot);
                } else {
                    self.lists.move_to_end(&mut self.entries, slot, now);
                }
            }
        }
        looks
    }

    /// The first connection of the state's list, if it is time to look after it.
    fn due(&self, state: State, now: Tick) -> Option<u32> {
        let slot = self.lists.head(state)?;
        let since = now.since(self.entries[slot as usize].linked_at);
        (since > state.timeout() / LOOKS).then_some(slot)
    }

    /// Gives up a connection if the table is full.
    pub(super) fn make_room(&mut self, now: Tick) {
        if self.len() < self.capacity() {
            return;
        }
        if let Some(slot) = Group::ALL.into_iter().find_map(|group| self.victim(group, now)) {
            let state = self.entries[slot as usize].state();
            if self.entries[slot as usize].is_expired(now) {
                self.counters.expired += 1;
            } else {
                self.counters.evicted[state as usize] += 1;
            }
            self.release(slot);
        }
    }

    /// The longest idle of a group, as far as a few heads of lists show it; nothing when the group has none.
    fn victim(&mut self, group: Group, now: Tick) -> Option<u32> {
        let mut idlest: Option<u32> = None;
        for _ in 0..TURNS {
            let slot = self.oldest(group)?;
            let Entry { last_seen, linked_at, .. } = self.entries[slot as usize];
            if last_seen <= linked_at {
                return Some(slot);
            }
            if idlest.is_none_or(|idlest| last_seen < self.entries[idlest as usize].last_seen) {
                idlest = Some(slot);
            }
            self.lists.move_to_end(&mut self.entries, slot, now);
        }
        idlest
    }

    /// Among the heads of a group's lists, the one looked after longest ago.
    fn oldest(&self, group: Group) -> Option<u32> {
        let of_group = State::ALL.iter().filter(|state| state.group() == group);
        let heads = of_group.filter_map(|&state| self.lists.head(state));
        heads.min_by_key(|&slot| self.entries[slot as usize].linked_at)
    }
}
