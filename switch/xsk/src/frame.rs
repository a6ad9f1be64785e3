//! One chunk of packet memory, owned.

use std::ptr::NonNull;
use std::slice;

/// One chunk of an [`Arena`](crate::Arena) with a packet in it.
///
/// A frame is the exclusive right to a chunk. It cannot be copied, and it has to end its way in a
/// [`Pool`](crate::Pool) or a socket: dropping one is a leak, which debug builds turn into a panic.
///
/// The packet may start anywhere in the chunk, so headers are added and removed without moving what follows them:
///
/// ```text
/// |<---------- capacity ---------->|
/// | headroom | packet   | tailroom |
/// ```
#[derive(Debug)]
pub struct Frame {
    chunk: NonNull<u8>,
    index: u32,
    capacity: u16,
    start: u16,
    len: u16,
}

// SAFETY: a frame is the only way to reach its chunk (the invariant of `Frame::new`), so moving it to another thread
// moves the access with it.
unsafe impl Send for Frame {}

impl Frame {
    /// Takes ownership of a chunk. The packet is empty and starts at `start`.
    ///
    /// # Safety
    ///
    /// `chunk` points to `capacity` initialised bytes that stay allocated as long as the frame lives, and that nothing
    /// else, in this process or in the kernel, reads or writes while the frame lives.
    pub(crate) unsafe fn new(chunk: NonNull<u8>, index: u32, capacity: u16, start: u16) -> Self {
        debug_assert!(start <= capacity);
        Self { chunk, index, capacity, start, len: 0 }
    }

    /// Number of the chunk in its arena.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Length of the packet in bytes.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// True when there is no packet in the frame.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Free bytes before the packet.
    pub fn headroom(&self) -> usize {
        usize::from(self.start)
    }

    /// Free bytes behind the packet.
    pub fn tailroom(&self) -> usize {
        usize::from(self.capacity - self.start - self.len)
    }

    /// The packet.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: start + len <= capacity holds always (every method that changes them checks it), the chunk is
        // initialised, allocated and exclusively ours (`Frame::new`), and the slice borrows the frame.
        unsafe { slice::from_raw_parts(self.chunk.as_ptr().add(self.headroom()), self.len()) }
    }

    /// The packet, to change in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the exclusive borrow of the frame makes this the only access.
        unsafe { slice::from_raw_parts_mut(self.chunk.as_ptr().add(self.headroom()), self.len()) }
    }

    /// Puts `n` bytes in front of the packet and returns the whole packet, whose first `n` bytes are for the caller to
    /// fill. `None`, and nothing changed, when the headroom is smaller.
    #[inline]
    pub fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        if n > self.headroom() {
            return None;
        }
        self.start -= n as u16;
        self.len += n as u16;
        Some(self.bytes_mut())
    }

    /// Takes the first `n` bytes off the packet. False, and nothing changed, when the packet is shorter.
    #[inline]
    pub fn strip(&mut self, n: usize) -> bool {
        if n > self.len() {
            return false;
        }
        self.start += n as u16;
        self.len -= n as u16;
        true
    }

    /// Makes the packet `len` bytes long: cuts it, or extends it by bytes of unspecified content. False, and nothing
    /// changed, when it does not fit behind the packet's start.
    #[inline]
    pub fn set_len(&mut self, len: usize) -> bool {
        if len > self.len() + self.tailroom() {
            return false;
        }
        self.len = len as u16;
        true
    }

    /// Replaces the packet by a copy of `packet`, keeping the place where it starts. False, and nothing changed, when
    /// it does not fit.
    pub fn copy_from(&mut self, packet: &[u8]) -> bool {
        if !self.set_len(packet.len()) {
            return false;
        }
        self.bytes_mut().copy_from_slice(packet);
        true
    }

    /// Makes the packet start at `start`, moving its bytes there. False, and nothing changed, when it would not fit.
    #[inline]
    pub(crate) fn move_to(&mut self, start: u16) -> bool {
        if self.start == start {
            return true;
        }
        if self.len() + usize::from(start) > usize::from(self.capacity) {
            return false;
        }
        // SAFETY: both ranges lie inside the chunk (start + len <= capacity for the old start always, for the new one
        // checked above), which is initialised, allocated and exclusively ours (`Frame::new`). They may overlap.
        unsafe {
            let chunk = self.chunk.as_ptr();
            std::ptr::copy(chunk.add(self.headroom()), chunk.add(usize::from(start)), self.len());
        }
        self.start = start;
        true
    }

    /// Says where in the chunk a packet is. False, and nothing changed, when it would not fit.
    #[inline]
    pub(crate) fn set_packet(&mut self, start: u16, len: usize) -> bool {
        if len + usize::from(start) > usize::from(self.capacity) {
            return false;
        }
        self.start = start;
        self.len = len as u16;
        true
    }

    /// Gives the frame up. Only its number is left, by which its arena can make it again.
    #[inline]
    pub(crate) fn into_index(self) -> u32 {
        let index = self.index;
        std::mem::forget(self);
        index
    }

    /// Where the chunk begins.
    #[inline]
    pub(crate) fn chunk(&self) -> NonNull<u8> {
        self.chunk
    }

    /// Empties the frame and sets the place where the next packet starts.
    pub(crate) fn reset(&mut self, start: u16) {
        debug_assert!(start <= self.capacity);
        self.start = start;
        self.len = 0;
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // A panic on the way already explains the loss; a second one would abort.
        debug_assert!(std::thread::panicking(), "frame {} leaked: give it to a pool or a socket", self.index);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
