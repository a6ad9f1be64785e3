//! The table: entries, the index in front of them, and the lists through them.

use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;

use foldhash::quality::SeedableRandomState;

use super::super::EndpointNumber;
use super::counters::Counters;
use super::entry::{Entry, NONE};
use super::index::{Full, Index};
use super::key::{FlowKey, Key, Side};
use super::lists::Lists;
use super::offload::Change;
use super::progress::Progress;
use super::state::State;
use super::tick::Tick;

/// The connections of one worker's endpoints. See the [module](super).
#[derive(Debug)]
pub struct Connections {
    pub(super) entries: Box<[Entry]>,
    index: Index,
    pub(super) lists: Lists,
    /// Head of the list of free entries.
    free: u32,
    len: u32,
    seed: SeedableRandomState,
    pub(super) counters: Counters,
    /// Entries with a flow that passes unseen.
    pub(super) offloaded: u32,
    /// See [`changes`](Self::changes).
    pub(super) changes: Vec<Change>,
    /// The state whose list [`expire`](Self::expire) looks at next.
    pub(super) hand: usize,
}

/// A packet's key, hashed: everything about the packet that a lookup needs.
#[derive(Debug, Clone)]
pub struct Probe {
    pub(super) key: Key,
    hash: u64,
    /// The slot that [`Connections::warm`] found. It may be out of date, so the key is compared again.
    hint: u32,
    pub(super) seen: Side,
}

impl Probe {
    /// The packet's flow key.
    pub fn flow(&self) -> FlowKey {
        self.key.flow(self.seen)
    }
}

impl Connections {
    /// A table for at most `capacity` connections, between 1 and four billion. All memory is allocated here.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, NONE as usize);
        let link = |slot: usize| if slot + 1 < capacity { slot as u32 + 1 } else { NONE };
        Self {
            entries: (0..capacity).map(|slot| Entry::free(link(slot))).collect(),
            index: Index::new(capacity),
            lists: Lists::new(),
            free: 0,
            len: 0,
            seed: SeedableRandomState::random(),
            counters: Counters::default(),
            offloaded: 0,
            changes: Vec::new(),
            hand: 0,
        }
    }

    /// Most connections it holds.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Connections it holds, idle ones that have not been swept up yet among them.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Connections it holds in one state.
    pub fn in_state(&self, state: State) -> usize {
        self.lists.len(state)
    }

    /// Totals since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Bytes allocated.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.entries) + self.index.memory()
    }

    /// Hashes the key of a packet seen at an endpoint.
    #[inline(always)]
    pub fn probe(&self, endpoint: EndpointNumber, seen: Side, flow: &FlowKey) -> Probe {
        let key = Key::new(endpoint, seen, flow);
        Probe { key, hash: self.hash(&key), hint: NONE, seen }
    }

    /// Looks the packets of a batch up ahead of time, only to have what they need in the cache: the misses of different
    /// packets overlap here, while in [`track`](Self::track) each packet would wait for its own.
    pub fn warm(&self, probes: &mut [Probe]) {
        for probe in &mut *probes {
            probe.hint = self.index.likely(probe.hash).unwrap_or(NONE);
        }
        for probe in probes {
            let Some(entry) = self.entries.get(probe.hint as usize) else { continue };
            // Reads the entry's second line as well.
            black_box(entry.state());
            if entry.key != probe.key {
                probe.hint = NONE;
            }
        }
    }

    /// The slot of the probe's connection, idle for too long or not.
    #[inline]
    pub(super) fn find(&self, probe: &Probe) -> Option<u32> {
        let is_key = |slot: u32| self.entries[slot as usize].key == probe.key;
        match self.entries.get(probe.hint as usize) {
            Some(entry) if entry.key == probe.key => Some(probe.hint),
            _ => self.index.find(probe.hash, is_key),
        }
    }

    /// The slot of the probe's connection. One that was idle for too long is forgotten on the way.
    #[inline]
    pub(super) fn find_live(&mut self, now: Tick, probe: &Probe) -> Option<u32> {
        let slot = self.find(probe)?;
        if self.entries[slot as usize].is_expired(now) {
            self.counters.expired += 1;
            self.release(slot);
            return None;
        }
        Some(slot)
    }

    /// Adds an entry for a key that has none; there must be room.
    pub(super) fn occupy(&mut self, now: Tick, probe: &Probe, judged_at: u32, progress: Progress) -> u32 {
        let mut slot = self.free;
        if let Err(Full) = self.index.insert(probe.hash, slot) {
            self.clear_way(now, probe.hash);
            // The entry that made way is the free one now, and its place in the index is empty.
            slot = self.free;
            let inserted = self.index.insert(probe.hash, slot);
            debug_assert!(inserted.is_ok(), "a place was made free");
        }
        let entry = &mut self.entries[slot as usize];
        self.free = entry.next;
        *entry = Entry { key: probe.key, judged_at, last_seen: now, progress, ..Entry::free(NONE) };
        self.lists.append(&mut self.entries, slot, now);
        self.len += 1;
        slot
    }

    /// Takes an entry to another state.
    #[inline]
    pub(super) fn enter(&mut self, now: Tick, slot: u32, state: State) {
        let progress = &mut self.entries[slot as usize].progress;
        let old = std::mem::replace(&mut progress.state, state);
        self.lists.unlink(&mut self.entries, slot, old);
        self.lists.append(&mut self.entries, slot, now);
        self.recall_unless_settled(slot, state);
    }

    /// Removes an entry.
    pub(super) fn release(&mut self, slot: u32) {
        if self.entries[slot as usize].progress.is_offloaded() {
            self.recall(slot);
        }
        let entry = &self.entries[slot as usize];
        let (state, hash) = (entry.state(), self.hash(&entry.key));
        self.index.remove(hash, slot);
        self.lists.unlink(&mut self.entries, slot, state);
        self.entries[slot as usize] = Entry::free(self.free);
        self.free = slot;
        self.len -= 1;
    }

    /// Gives up the least worth of the entries in a full pair of buckets.
    fn clear_way(&mut self, now: Tick, hash: u64) {
        let worth = |slot: &u32| {
            let entry = &self.entries[*slot as usize];
            (entry.state().group(), std::cmp::Reverse(entry.idle(now)))
        };
        if let Some(slot) = self.index.rivals(hash).min_by_key(worth) {
            self.counters.collided += 1;
            self.release(slot);
        }
    }

    #[inline(always)]
    fn hash(&self, key: &Key) -> u64 {
        let mut hasher = self.seed.build_hasher();
        key.hash(&mut hasher);
        hasher.finish()
    }
}
