//! Which frames a socket has lent to the kernel.

use std::fmt;
use std::sync::Arc;

use crate::{Arena, Frame};

/// The frames lent to the kernel for one purpose.
///
/// The invariant everything rests on: a number is in the set exactly when its frame was lent here and has not come back,
/// so no frame of it exists. A descriptor from the kernel is believed only if it names a frame in the set; whatever the
/// kernel writes into a ring, no frame is ever made twice.
///
/// Dropping the set sends what is in it to quarantine, so it has to be dropped after the socket's rings.
pub(crate) struct Lent {
    arena: Arc<Arena>,
    /// One bit per frame of the arena: small enough to stay in the first cache level, and nobody else's to touch.
    bits: Box<[u64]>,
    len: u32,
}

impl Lent {
    pub(crate) fn new(arena: &Arc<Arena>) -> Self {
        let words = arena.count().div_ceil(u64::BITS) as usize;
        Self { arena: Arc::clone(arena), bits: vec![0; words].into_boxed_slice(), len: 0 }
    }

    /// Frames lent.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Takes a frame to lend and returns its number. A frame of another arena comes back.
    #[inline]
    pub(crate) fn lend(&mut self, frame: Frame) -> Result<u32, Frame> {
        if !self.arena.owns(&frame) {
            return Err(frame);
        }
        let index = frame.into_index();
        self.bits[(index / u64::BITS) as usize] |= 1 << (index % u64::BITS);
        self.len += 1;
        Ok(index)
    }

    /// The frame that `address`, an offset into the arena's memory, points into, and where in its chunk; `None` if it
    /// is not lent.
    #[inline]
    pub(crate) fn take_back(&mut self, address: usize) -> Option<(Frame, u16)> {
        let (index, offset) = self.arena.locate(address)?;
        let word = &mut self.bits[(index / u64::BITS) as usize];
        let bit = 1 << (index % u64::BITS);
        if *word & bit == 0 {
            return None;
        }
        *word &= !bit;
        self.len -= 1;
        // SAFETY: the bit said that the frame was lent, so none of this chunk exists; the kernel has just given it
        // back; and `locate` checked the index.
        Some((unsafe { self.arena.frame(index) }, offset))
    }

    fn take_numbers(&mut self) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(self.len as usize);
        for (word, bits) in (0..).zip(&mut self.bits) {
            while *bits != 0 {
                numbers.push(word * u64::BITS + bits.trailing_zeros());
                *bits &= *bits - 1;
            }
        }
        self.len = 0;
        numbers
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let numbers = self.take_numbers();
        self.arena.quarantine(numbers);
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("len", &self.len).finish_non_exhaustive()
    }
}
