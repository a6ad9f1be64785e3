//! The memory that frames are chunks of.

use std::alloc::{self, Layout};
use std::ptr::NonNull;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::Frame;

/// Room in front of a fresh packet: what the kernel keeps for XDP programs (`XDP_PACKET_HEADROOM`, include/uapi/linux/bpf.h),
/// so that heap and UMEM frames look alike. It also holds the headers encapsulation adds.
pub(crate) const DATA_OFFSET: u16 = 256;

/// Why an [`Arena`] could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// The kernel takes chunks of 2,048 or 4,096 bytes (`xdp_umem_reg`, net/xdp/xdp_umem.c).
    #[error("frame size {0} is not supported: use 2048 or 4096")]
    ChunkSize(u32),
    /// There has to be at least one frame, and their total size has to fit the address space.
    #[error("{0} frames cannot be allocated: use a number from 1 to {max}", max = Arena::MAX_FRAMES)]
    Count(u32),
}

/// The memory of a switch's packets, divided into frames of one size.
///
/// Frames that no pool, socket or worker holds rest in the reserve, from which the [`Pool`](crate::Pool)s are filled.
/// The memory is freed when all frames are back in the reserve; if one is missing it is left allocated, so that a
/// frame can never outlive its chunk.
#[derive(Debug)]
pub struct Arena {
    memory: Memory,
    count: u32,
    reserve: ArrayQueue<Frame>,
}

#[derive(Debug)]
enum Memory {
    Heap { base: NonNull<u8>, layout: Layout },
}

// SAFETY: the base pointer is used only to free the memory, when nobody else can reach it (see `Drop`).
unsafe impl Send for Arena {}
// SAFETY: as above; shared access reaches only the reserve, which is a concurrent queue.
unsafe impl Sync for Arena {}

impl Arena {
    /// Most frames an arena can have.
    pub const MAX_FRAMES: u32 = 1 << 20;

    /// Memory from the heap, for in-memory ports. `chunk_size` is 2,048 or 4,096 bytes.
    pub fn heap(count: u32, chunk_size: u32) -> Result<Arc<Self>, ArenaError> {
        if !matches!(chunk_size, 2048 | 4096) {
            return Err(ArenaError::ChunkSize(chunk_size));
        }
        if count == 0 || count > Self::MAX_FRAMES {
            return Err(ArenaError::Count(count));
        }
        let layout = Layout::from_size_align(count as usize * chunk_size as usize, 4096)
            .map_err(|_| ArenaError::Count(count))?;
        // SAFETY: the layout's size is not zero, count and chunk_size being at least 1.
        let base = NonNull::new(unsafe { alloc::alloc_zeroed(layout) }).ok_or(ArenaError::Count(count))?;
        let reserve = ArrayQueue::new(count as usize);
        for index in 0..count {
            // SAFETY: index < count, so the chunk lies inside the allocation.
            let chunk = unsafe { base.add(index as usize * chunk_size as usize) };
            // SAFETY: zeroed above, one frame per chunk, and freed only when all frames are back.
            let frame = unsafe { Frame::new(chunk, index, chunk_size as u16, DATA_OFFSET) };
            // The queue has room for every frame.
            let _ = reserve.push(frame).map_err(std::mem::forget);
        }
        Ok(Arc::new(Self { memory: Memory::Heap { base, layout }, count, reserve }))
    }

    /// Number of frames, wherever they are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Frames in the reserve.
    pub fn reserved(&self) -> usize {
        self.reserve.len()
    }

    pub(crate) fn take(&self) -> Option<Frame> {
        self.reserve.pop()
    }

    pub(crate) fn put(&self, mut frame: Frame) {
        frame.reset(DATA_OFFSET);
        // The queue has room for every frame of the arena, so a full one means a frame of another arena. It is lost
        // to its own arena rather than mixed into this one.
        if let Err(stranger) = self.reserve.push(frame) {
            debug_assert!(false, "frame {} belongs to another arena", stranger.index());
            std::mem::forget(stranger);
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let mut home = 0;
        while let Some(frame) = self.reserve.pop() {
            std::mem::forget(frame);
            home += 1;
        }
        if home != self.count {
            return;
        }
        match self.memory {
            // SAFETY: allocated in `heap` with this layout; every frame was just taken out of the reserve and
            // forgotten, so nothing points into the memory any more.
            Memory::Heap { base, layout } => unsafe { alloc::dealloc(base.as_ptr(), layout) },
        }
    }
}
