//! The memory that frames are chunks of.

use std::alloc::{self, Layout};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::quarantine::Quarantine;
use crate::umem::Umem;
use crate::{ArenaError, Frame};

/// Room in front of a fresh packet: what the kernel keeps for XDP programs (`XDP_PACKET_HEADROOM`, `include/uapi/linux/bpf.h`),
/// so that heap and UMEM frames look alike. It also holds the headers encapsulation adds.
///
/// It is where the kernel puts received packets, and, the UMEM having no headroom of its own besides, also the only
/// place xsk-rs sends from.
pub(crate) const DATA_OFFSET: u16 = 256;

/// Longest packet that a frame of `chunk_size` bytes can receive or send.
pub const fn max_packet(chunk_size: u32) -> usize {
    (chunk_size as usize).saturating_sub(DATA_OFFSET as usize)
}

/// The memory of a switch's packets, divided into frames of one size.
///
/// Frames that no pool, socket or worker holds rest in the reserve, from which the [`Pool`](crate::Pool)s are filled;
/// frames of a closed socket rest in quarantine first. Once all is quiet, the frames in the reserve, the quarantine,
/// the pools and the sockets add up to [`Arena::count`].
///
/// The memory is freed when all frames are back; if one is missing it is left allocated, so that a frame can never
/// outlive its chunk.
#[derive(Debug)]
pub struct Arena {
    memory: Memory,
    base: NonNull<u8>,
    count: u32,
    chunk_size: u32,
    reserve: ArrayQueue<Frame>,
    quarantine: Quarantine,
}

#[derive(Debug)]
enum Memory {
    Heap(Layout),
    /// Dropped by hand, and only when all frames are back.
    Umem(Box<ManuallyDrop<Umem>>),
}

// SAFETY: the base pointer is used only to make frames, one per chunk, and to free the memory when nobody else can
// reach it (see `Drop`).
unsafe impl Send for Arena {}
// SAFETY: as above; shared access reaches only the reserve, the quarantine and the UMEM, which are `Sync`.
unsafe impl Sync for Arena {}

impl Arena {
    /// Most frames an arena can have.
    pub const MAX_FRAMES: u32 = 1 << 20;

    /// Memory from the heap, for in-memory ports. `chunk_size` is 2,048 or 4,096 bytes.
    pub fn heap(count: u32, chunk_size: u32) -> Result<Arc<Self>, ArenaError> {
        check(count, chunk_size)?;
        let layout = Layout::from_size_align(count as usize * chunk_size as usize, 4096)
            .map_err(|_| ArenaError::Count(count))?;
        // SAFETY: the layout's size is not zero, count and chunk_size being at least 1.
        let base = NonNull::new(unsafe { alloc::alloc_zeroed(layout) }).ok_or(ArenaError::OutOfMemory)?;
        Ok(Self::new(Memory::Heap(layout), base, count, chunk_size))
    }

    /// Memory shared with the kernel, for AF_XDP sockets on any interface of the calling thread's network namespace.
    /// `chunk_size` is 2,048 or 4,096 bytes.
    ///
    /// For as long as the arena lives, queue 0 of `lo` is bound to it (see [`umem`](crate::umem)), so there can be one
    /// such arena in a network namespace.
    pub fn umem(count: u32, chunk_size: u32) -> Result<Arc<Self>, ArenaError> {
        check(count, chunk_size)?;
        let umem = Umem::new(count, chunk_size)?;
        let base = umem.base();
        Ok(Self::new(Memory::Umem(Box::new(ManuallyDrop::new(umem))), base, count, chunk_size))
    }

    fn new(memory: Memory, base: NonNull<u8>, count: u32, chunk_size: u32) -> Arc<Self> {
        let reserve = ArrayQueue::new(count as usize);
        let arena = Self { memory, base, count, chunk_size, reserve, quarantine: Quarantine::default() };
        for index in 0..count {
            // SAFETY: every chunk gets its one frame here.
            arena.put(unsafe { arena.frame(index) });
        }
        Arc::new(arena)
    }

    /// Number of frames, wherever they are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Longest packet a frame can receive or send.
    pub fn max_packet(&self) -> usize {
        max_packet(self.chunk_size)
    }

    /// Frames in the reserve.
    pub fn reserved(&self) -> usize {
        self.release_quarantine();
        self.reserve.len()
    }

    /// Frames of closed sockets that the kernel may still be using. They return to the reserve by themselves.
    pub fn quarantined(&self) -> usize {
        self.release_quarantine();
        self.quarantine.len()
    }

    /// Moves up to `n` frames into `frames`.
    pub(crate) fn take(&self, n: usize, frames: &mut Vec<Frame>) {
        self.release_quarantine();
        frames.extend(std::iter::from_fn(|| self.reserve.pop()).take(n));
    }

    pub(crate) fn put(&self, mut frame: Frame) {
        frame.reset(DATA_OFFSET);
        // A frame of another arena would be counted as ours, and the memory freed while one of ours is still out: it is
        // lost to its own arena rather than mixed into this one.
        if !self.owns(&frame) {
            debug_assert!(std::thread::panicking(), "frame {} belongs to another arena", frame.index());
            frame.into_index();
            return;
        }
        // The queue has room for every frame of the arena.
        let _ = self.reserve.push(frame).map_err(Frame::into_index);
    }

    /// True when `frame` is a chunk of this arena.
    #[inline]
    pub(crate) fn owns(&self, frame: &Frame) -> bool {
        frame.index() < self.count && frame.chunk() == self.chunk(frame.index())
    }

    /// Keeps frames apart that the kernel may still be using.
    pub(crate) fn quarantine(&self, frames: Vec<u32>) {
        self.release_quarantine();
        self.quarantine.enter(frames);
    }

    fn release_quarantine(&self) {
        self.quarantine.leave(|index| {
            // SAFETY: what enters the quarantine is the index of a frame that was given up for it, and the kernel has
            // let go of the chunk by now.
            self.put(unsafe { self.frame(index) });
        });
    }

    /// The UMEM, unless the memory is the heap.
    pub(crate) fn as_umem(&self) -> Option<&Umem> {
        match &self.memory {
            Memory::Heap(_) => None,
            Memory::Umem(umem) => Some(umem),
        }
    }

    /// Index of the chunk that `address`, an offset from the base, lies in, and the offset within it.
    #[inline]
    pub(crate) fn locate(&self, address: usize) -> Option<(u32, u16)> {
        // Chunk sizes are powers of two.
        let index = u32::try_from(address >> self.chunk_size.trailing_zeros()).ok()?;
        (index < self.count).then_some((index, (address & (self.chunk_size as usize - 1)) as u16))
    }

    #[inline]
    fn chunk(&self, index: u32) -> NonNull<u8> {
        debug_assert!(index < self.count);
        // SAFETY: index < count (checked by the callers), so the chunk lies inside the allocation.
        unsafe { self.base.add(index as usize * self.chunk_size as usize) }
    }

    /// The frame of chunk `index`.
    ///
    /// # Safety
    ///
    /// `index < count`, there is no frame of this chunk, and the kernel does not use the chunk.
    #[inline]
    pub(crate) unsafe fn frame(&self, index: u32) -> Frame {
        // SAFETY: the chunk is inside the memory, which is zeroed or mapped anonymously, so initialised, and freed only
        // when all frames are back. The rest is the caller's promise.
        unsafe { Frame::new(self.chunk(index), index, self.chunk_size as u16, DATA_OFFSET) }
    }
}

fn check(count: u32, chunk_size: u32) -> Result<(), ArenaError> {
    if !matches!(chunk_size, 2048 | 4096) {
        return Err(ArenaError::ChunkSize(chunk_size));
    }
    if count == 0 || count > Arena::MAX_FRAMES {
        return Err(ArenaError::Count(count));
    }
    Ok(())
}

impl Drop for Arena {
    fn drop(&mut self) {
        // Frames in quarantine exist as numbers only, and the kernel holds the pages it may still use.
        let mut home = self.quarantine.len();
        while let Some(frame) = self.reserve.pop() {
            frame.into_index();
            home += 1;
        }
        if home != self.count as usize {
            return;
        }
        match &mut self.memory {
            // SAFETY: allocated in `heap` with this layout; every frame was just taken out of the reserve and given up,
            // so nothing points into the memory any more.
            Memory::Heap(layout) => unsafe { alloc::dealloc(self.base.as_ptr(), *layout) },
            // SAFETY: dropped here only, and nothing points into the memory, as above. Sockets hold the arena, so there
            // is none.
            Memory::Umem(umem) => unsafe { ManuallyDrop::drop(umem) },
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
