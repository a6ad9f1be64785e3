//! A worker's own stock of free frames.

use std::sync::Arc;

use crate::{Arena, BATCH, Frame};

/// Free frames at one worker's hand, filled from and emptied into the reserve of the [`Arena`] in batches, so that
/// workers rarely meet there.
#[derive(Debug)]
pub struct Pool {
    arena: Arc<Arena>,
    free: Vec<Frame>,
}

impl Pool {
    /// Frames above which a pool gives a batch back to the reserve.
    const HIGH_WATER: usize = 4 * BATCH;

    /// An empty pool of `arena`.
    pub fn new(arena: Arc<Arena>) -> Self {
        Self { arena, free: Vec::with_capacity(Self::HIGH_WATER + 1) }
    }

    /// The arena the frames belong to.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Frames in this pool, without the reserve.
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// True when there is no frame in this pool; the reserve may have some.
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// An empty frame, or `None` when the arena has no free frame left.
    #[inline]
    pub fn take(&mut self) -> Option<Frame> {
        if let Some(frame) = self.free.pop() {
            return Some(frame);
        }
        self.arena.take(BATCH, &mut self.free);
        self.free.pop()
    }

    /// Takes a frame back, whatever is in it.
    #[inline]
    pub fn put(&mut self, mut frame: Frame) {
        frame.reset(crate::arena::DATA_OFFSET);
        self.free.push(frame);
        if self.free.len() > Self::HIGH_WATER {
            self.free.drain(..BATCH).for_each(|frame| self.arena.put(frame));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.free.drain(..).for_each(|frame| self.arena.put(frame));
    }
}
