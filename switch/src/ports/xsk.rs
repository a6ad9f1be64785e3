//! Ports over AF_XDP sockets.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};

use heddle_xsk::{HeldFrames, Pool, Socket};

use super::{Batch, Port, PortDrops};

/// A port whose other side is an interface of the kernel: a pod's veth, the host's, or the uplink.
#[derive(Debug)]
pub struct XskPort {
    socket: Socket,
    /// What the kernel told last, should it not answer.
    drops: Cell<PortDrops>,
}

impl XskPort {
    /// A port over `socket`.
    pub fn new(socket: Socket) -> Self {
        Self { socket, drops: Cell::default() }
    }

    /// The socket, as the steering programs take it.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Port for XskPort {
    #[inline]
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) {
        self.socket.receive(pool, batch);
    }

    #[inline]
    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) {
        self.socket.transmit(pool, batch);
    }

    #[inline]
    fn reap(&mut self, pool: &mut Pool) {
        self.socket.reap(pool);
    }

    #[inline]
    fn has_received(&mut self) -> bool {
        self.socket.has_received()
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn frames(&self) -> HeldFrames {
        self.socket.frames()
    }

    fn drops(&self) -> PortDrops {
        if let Ok(statistics) = self.socket.statistics() {
            self.drops.set(PortDrops {
                rx_ring_full: statistics.rx_ring_full,
                no_frame: statistics.rx_no_frame,
                invalid: statistics.rx_dropped + statistics.rx_invalid,
                unsendable: 0,
            });
        }
        PortDrops { unsendable: self.socket.faults().unsendable, ..self.drops.get() }
    }
}
