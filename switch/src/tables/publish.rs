//! Snapshots for the workers: one writer publishes whole states, readers look at the newest one, nobody waits.
//!
//! # What it gives and what it costs
//!
//! A worker asks for the tables once a batch. When nothing was published since, that is one load of a value which sits
//! unchanged in the worker's own cache: no lock, no reference count, no fence. All other costs were put where they hurt
//! less:
//!
//! - *Changes arrive late, by at most a batch or two.* A worker notices a new snapshot at its next batch; should the
//!   lock be taken in that very moment, it works on with the one it has and tries again a batch later.
//! - *Old states live longer.* Memory of a replaced snapshot is given back only after the slowest worker has moved on.
//!   A worker that stops without [parking](Reader::park) holds back everything published after it stopped; its
//!   snapshots share their unchanged parts, so that is kilobytes a change, and [`Publisher::retired`] shows it.
//! - *There is one writer, and it copies.* `publish` takes a whole `T`. It is meant for values whose clone is cheap
//!   because it shares, as [`Tables`](super::Tables) does.
//! - *The number of readers is fixed* at the start, as the number of workers is.
//!
//! # How it works
//!
//! This is quiescent-state-based reclamation with the pointer made safe by reference counts, which are touched only when
//! a snapshot changes hands. `current` holds the newest snapshot and its generation under a lock. Each reader has a
//! cell, `seen`, with the generation it works with, or [`PARKED`]. Reading `seen` tells the publisher who may still look
//! at what. Two orders carry the proof:
//!
//! 1. *A reader lets go before it acknowledges.* It drops its old `Arc`, then stores the new generation with `Release`.
//!    So when the publisher reads (`Acquire`) that every reader has moved past a snapshot, the publisher's own `Arc` is
//!    the last one. **Workers therefore never free tables**: the thousand small frees of a dropped trie happen on the
//!    control thread.
//! 2. *A waking reader announces itself under the lock.* A reader that parked is counted as having seen everything. When
//!    it wakes, it takes the snapshot and stores its generation while it holds the lock that `publish` also takes.
//!    Either it was first, then the publisher finds its announcement afterwards; or it was second, then it got
//!    the new snapshot. There is no third case in which an old snapshot is in use and `seen` does not tell.
//!
//! `generation` repeats the generation outside the lock and is only a hint to look there. It is stored while the
//! lock is held, so a reader that saw it change and then gets the lock finds that snapshot or a newer one; the lock orders
//! the data, the hint can be `Relaxed`.
//!
//! The one time a worker may wait is when it wakes: it has no older snapshot to go on with. The publisher holds
//! the lock for the exchange of one pointer.
//!
//! The publisher is meant to outlive its readers. If it does not, everything stays valid, and the last reader
//! to go frees the last snapshot.

mod sync;

#[cfg(all(test, loom))]
mod interleavings;
#[cfg(all(test, not(loom)))]
mod tests;

use std::collections::VecDeque;

use crossbeam::utils::CachePadded;

use sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError, TryLockError};

/// In `seen`: the reader holds no snapshot. Greater than any generation, because it cannot be behind.
const PARKED: u64 = u64::MAX;

/// A published value and its number.
struct Snapshot<T> {
    generation: u64,
    value: Arc<T>,
}

impl<T> Clone for Snapshot<T> {
    fn clone(&self) -> Self {
        Self { generation: self.generation, value: Arc::clone(&self.value) }
    }
}

/// What publisher and readers have in common.
struct Shared<T> {
    /// Generation of `current`: tells readers that looking there is worthwhile.
    generation: CachePadded<AtomicU64>,
    current: Mutex<Snapshot<T>>,
    /// By reader: the generation of the snapshot it holds, or `PARKED`. Never more than what it really holds.
    seen: Box<[CachePadded<AtomicU64>]>,
}

impl<T> Shared<T> {
    /// Nothing that can panic runs under the lock, so a poisoned one holds a whole snapshot as well.
    fn lock(&self) -> MutexGuard<'_, Snapshot<T>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As `lock`, but `None` instead of waiting.
    fn try_lock(&self) -> Option<MutexGuard<'_, Snapshot<T>>> {
        match self.current.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// The writing side: publishes values and frees the old ones when no reader can see them any more.
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
    current: Snapshot<T>,
    /// Replaced snapshots that a reader may still hold, oldest first.
    retired: VecDeque<Snapshot<T>>,
}

impl<T> Publisher<T> {
    /// Publishes `initial` as generation 0 to `readers` readers. All of them start parked.
    pub fn new(initial: T, readers: usize) -> (Self, Vec<Reader<T>>) {
        let current = Snapshot { generation: 0, value: Arc::new(initial) };
        let shared = Arc::new(Shared {
            generation: CachePadded::new(AtomicU64::new(current.generation)),
            current: Mutex::new(current.clone()),
            seen: (0..readers).map(|_| CachePadded::new(AtomicU64::new(PARKED))).collect(),
        });
        let reader = |index| Reader { shared: Arc::clone(&shared), index, held: None };
        let readers = (0..readers).map(reader).collect();
        (Self { shared, current, retired: VecDeque::new() }, readers)
    }

    /// Makes `value` what readers get from their next refresh on, and returns its generation: one more than the
    /// last. Frees what no reader sees any more.
    pub fn publish(&mut self, value: T) -> u64 {
        let next = Snapshot { generation: self.current.generation + 1, value: Arc::new(value) };
        let mut shared = self.shared.lock();
        // Not the last reference: `self.current` has one too, so nothing is freed under the lock.
        *shared = next.clone();
        self.shared.generation.store(next.generation, Ordering::Relaxed);
        drop(shared);
        self.retired.push_back(std::mem::replace(&mut self.current, next));
        self.reclaim();
        self.current.generation
    }

    /// What was published last.
    pub fn current(&self) -> &Arc<T> {
        &self.current.value
    }

    /// Generation of what was published last.
    pub fn generation(&self) -> u64 {
        self.current.generation
    }

    /// True when `generation` was published and no reader uses an older one any more, nor will. A parked reader uses
    /// none, and when it wakes it takes the newest.
    pub fn seen_by_all(&self, generation: u64) -> bool {
        generation <= self.current.generation && generation <= self.oldest_seen()
    }

    /// Frees the replaced snapshots that no reader sees any more. `publish` does it too; call this when nothing
    /// has been published for a while.
    pub fn reclaim(&mut self) {
        if self.retired.is_empty() {
            return;
        }
        let oldest = self.oldest_seen();
        while self.retired.pop_front_if(|snapshot| snapshot.generation < oldest).is_some() {}
    }

    /// Number of replaced snapshots that are still kept for a reader.
    pub fn retired(&self) -> usize {
        self.retired.len()
    }

    /// The generation that no reader is behind.
    fn oldest_seen(&self) -> u64 {
        // `Acquire` pairs with the stores in `Reader`: what was dropped before them is dropped for us.
        let seen = self.shared.seen.iter().map(|seen| seen.load(Ordering::Acquire));
        seen.min().unwrap_or(PARKED)
    }
}

/// The reading side, one a worker.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    index: usize,
    /// `None` while parked.
    held: Option<Snapshot<T>>,
}

impl<T> Reader<T> {
    /// The newest value; call it once a batch. Waits for nothing, except for an exchange of pointers
    /// when the reader was parked.
    #[inline]
    pub fn refresh(&mut self) -> &T {
        let latest = self.shared.generation.load(Ordering::Relaxed);
        if self.held.as_ref().is_some_and(|held| held.generation != latest) {
            self.advance();
        }
        let Self { shared, index, held } = self;
        &held.get_or_insert_with(|| wake(shared, *index)).value
    }

    /// Lets go of the snapshot, so that a sleeping worker holds nothing back. The next refresh takes the newest.
    pub fn park(&mut self) {
        self.held = None;
        // After the drop: see "how it works", 1.
        self.shared.seen[self.index].store(PARKED, Ordering::Release);
    }

    /// Exchanges the snapshot for the newest, unless somebody has the lock.
    #[cold]
    fn advance(&mut self) {
        let Some(newest) = self.shared.try_lock().map(|current| current.clone()) else { return };
        let generation = newest.generation;
        // Drops the old one: the publisher has it in `retired` at least until the store below.
        self.held = Some(newest);
        self.shared.seen[self.index].store(generation, Ordering::Release);
    }
}

/// Takes the newest snapshot for a reader that has none.
#[cold]
fn wake<T>(shared: &Shared<T>, index: usize) -> Snapshot<T> {
    let current = shared.lock();
    // Under the lock: see "how it works", 2.
    shared.seen[index].store(current.generation, Ordering::Release);
    current.clone()
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        self.park();
    }
}
