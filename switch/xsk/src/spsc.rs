//! A bounded queue from one thread to one other, without locks.
//!
//! It carries frames to the worker that owns the port they leave by. Each side keeps a copy of the other side's index
//! and reads the shared one only when the copy says full (or empty), so in the steady state the two cores exchange one
//! cache line per several items instead of two per item.

use std::fmt;
use std::mem::MaybeUninit;

use crossbeam::utils::CachePadded;

use crate::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// A queue for at most `capacity` items (at least one).
///
/// Dropping both ends drops what is still in the queue. Items that must not be dropped, such as frames, are taken out
/// by [`Consumer::drain`] once the producer is gone.
pub fn ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.max(1);
    let slots = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let shared = Arc::new(Shared {
        slots,
        capacity,
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
    });
    let producer = Producer { shared: Arc::clone(&shared), tail: 0, head_seen: 0 };
    (producer, Consumer { shared, head: 0, tail_seen: 0 })
}

/// Indices count items for ever and wrap around; an index modulo the number of slots, a power of two, is its slot.
/// `tail - head` is the number of items, and slots head..tail hold one each.
struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    capacity: usize,
    /// Index of the next item to pop; written by the consumer only.
    head: CachePadded<AtomicUsize>,
    /// Index of the next item to push; written by the producer only.
    tail: CachePadded<AtomicUsize>,
}

// SAFETY: the ends reach disjoint slots (the producer those outside head..tail, the consumer those inside), and hand
// them over by a release store of the index that the other end loads with acquire. Items cross threads, hence `Send`.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: owning the slots is owning the items in them, which are `Send`.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    #[inline]
    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[index & (self.slots.len() - 1)]
    }

    fn len(&self) -> usize {
        // Head first: it never passes the tail, so the difference cannot be negative. The tail may have moved since,
        // and with it the head, which is why the result is bounded.
        let head = self.head.load(Ordering::Acquire);
        self.tail.load(Ordering::Acquire).wrapping_sub(head).min(self.capacity)
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tail = self.tail.load(Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        while head != tail {
            // SAFETY: slots head..tail hold an item each, and both ends are gone.
            self.slot(head).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

/// The end that items enter by.
pub struct Producer<T: Send> {
    shared: Arc<Shared<T>>,
    /// The shared tail, which only this end writes.
    tail: usize,
    /// The shared head as last read.
    head_seen: usize,
}

impl<T: Send> Producer<T> {
    /// Appends `item`, or gives it back when the queue is full.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        let shared = &*self.shared;
        if self.tail.wrapping_sub(self.head_seen) == shared.capacity {
            // Acquire: the consumer has read its item out of the slot before we overwrite it.
            self.head_seen = shared.head.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) == shared.capacity {
                return Err(item);
            }
        }
        // SAFETY: tail - head < capacity, so the tail's slot is outside head..tail: empty, and the producer's alone.
        shared.slot(self.tail).with_mut(|slot| unsafe { (*slot).write(item) });
        self.tail = self.tail.wrapping_add(1);
        // Release: whoever sees the new tail sees the item.
        shared.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Items in the queue; the consumer may be taking some right now.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// True when the consumer has taken everything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items the queue can hold.
    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }
}

/// The end that items leave by.
pub struct Consumer<T: Send> {
    shared: Arc<Shared<T>>,
    /// The shared head, which only this end writes.
    head: usize,
    /// The shared tail as last read.
    tail_seen: usize,
}

impl<T: Send> Consumer<T> {
    /// Takes the oldest item, or `None` when there is none.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let shared = &*self.shared;
        if self.head == self.tail_seen {
            // Acquire: seeing the new tail is seeing the items before it.
            self.tail_seen = shared.tail.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: head < tail, so the slot holds an item, the consumer's alone. The head moves past it below, so it is
        // read once.
        let item = shared.slot(self.head).with_mut(|slot| unsafe { (*slot).assume_init_read() });
        self.head = self.head.wrapping_add(1);
        // Release: the item is out of the slot before the producer may write to it again.
        shared.head.store(self.head, Ordering::Release);
        Some(item)
    }

    /// Takes everything there is. Once the producer is gone this leaves the queue empty for good.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.pop())
    }

    /// Items in the queue; the producer may be adding some right now.
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// True when there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Send> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T: Send> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
