//! What frames enter and leave by.
//!
//! The worker knows ports only by this trait, so that the same loop and the same pipeline run over AF_XDP sockets and
//! over memory.

mod memory;
mod xsk;

use std::os::fd::BorrowedFd;

use arrayvec::ArrayVec;
use heddle_xsk::{BATCH, Frame, HeldFrames, Pool};

pub use memory::{MemoryPort, MemoryWire};
pub use xsk::XskPort;

/// Frames handled together.
pub type Batch = ArrayVec<Frame, BATCH>;

/// Names a port for good: the worker that owns it, its slot there, and a serial number that is never used again, so
/// that a frame meant for a detached port cannot leave by its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortId {
    /// Index of the owning worker.
    pub worker: u16,
    /// Slot in that worker's list of ports.
    pub slot: u16,
    /// Unique since the switch started.
    pub serial: u32,
}

/// Packets dropped outside of the worker's sight since the port was opened: by the kernel, before the port could receive
/// them, and by the port itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortDrops {
    /// The receive ring was full.
    pub rx_ring_full: u64,
    /// There was no frame to receive into.
    pub no_frame: u64,
    /// The packet did not fit a frame, or could not be received for another reason.
    pub invalid: u64,
    /// `transmit` took them, but they were too short or too long to send.
    pub unsendable: u64,
}

/// Something frames enter or leave by.
pub trait Port: Send {
    /// Moves received frames into `batch` until it is full or there are no more, and gives the port free frames from
    /// `pool` to receive the next into.
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch);

    /// Sends the frames of `batch`, in order. What is left in it could not be taken, because the port was full.
    /// Sent frames return to `pool` once the other side is through with them.
    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch);

    /// Takes back frames whose sending completed.
    fn reap(&mut self, pool: &mut Pool);

    /// True when a call of `receive` would find something. Asked after arming and before sleeping.
    fn has_received(&mut self) -> bool;

    /// Becomes readable when there is something to receive; `None` for ports nothing has to wait for.
    fn wait_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Frames the port holds.
    fn frames(&self) -> HeldFrames;

    /// What was dropped so far; nothing for ports the kernel has no part in. A system call for others.
    fn drops(&self) -> PortDrops {
        PortDrops::default()
    }
}
