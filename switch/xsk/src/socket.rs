//! An AF_XDP socket: frames in, frames out.

use std::array;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use arrayvec::ArrayVec;
use xsk_rs::FrameDesc;
use xsk_rs::config::{BindFlags, LibxdpFlags, SocketConfig};

use crate::arena::DATA_OFFSET;
use crate::bind::Queues;
use crate::lent::Lent;
use crate::options::{self, Options};
use crate::umem::{RING, Umem, power_of_two};
use crate::{Arena, BATCH, Frame, Pool, SocketError};

/// Shortest packet the kernel is given to send: an Ethernet header (`ETH_HLEN`, `include/uapi/linux/if_ether.h`). It does
/// not check, and takes no empty descriptors.
const MIN_PACKET: usize = 14;

/// Packets the kernel sends per system call unless told otherwise (`TX_BATCH_SIZE`, `net/xdp/xsk.c`).
const DEFAULT_TX_BUDGET: u32 = 32;

/// Where the frames that a socket, or another port, holds are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeldFrames {
    /// Given to the kernel to receive into, or received and not yet read.
    pub receiving: u32,
    /// Given to the kernel to send and not yet completed.
    pub sending: u32,
}

/// What a socket met on its way that should not be there, since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketFaults {
    /// Descriptors from the kernel that name no frame lent to it, or a packet that does not fit its frame. Ignored.
    pub bad_descriptors: u64,
    /// Packets too short or too long to send, or in a frame of another arena. Dropped.
    pub unsendable: u64,
    /// System calls to send that failed for another reason than being busy or down.
    pub failed_kicks: u64,
}

/// An AF_XDP socket on one queue of one interface.
///
/// It belongs to one thread at a time. Dropping it closes it and sends the frames the kernel still has to the arena's
/// quarantine; that takes milliseconds in the kernel, so better not on a worker. Packets arrive once an XDP program
/// redirects them to the socket's file descriptor (heddle-bpf).
#[derive(Debug)]
pub struct Socket {
    // Dropped first, in the order of declaration: the frames leave for quarantine when the socket is closed.
    queues: Queues,
    receiving: Lent,
    sending: Lent,
    arena: Arc<Arena>,
    receive_frames: u32,
    /// Size of the transmit ring.
    tx_ring: u32,
    /// System calls it takes to send all of the transmit ring.
    kicks: u32,
    /// The kernel left packets in the transmit ring at the last kick.
    stalled: bool,
    faults: SocketFaults,
    /// Descriptors on their way from or to a ring.
    scratch: [FrameDesc; BATCH],
}

impl Socket {
    /// Opens a socket on `queue` of `interface`, in the calling thread's network namespace. Waits up to half a second
    /// for a queue that another socket is about to leave.
    pub fn bind(
        arena: &Arc<Arena>,
        interface: &str,
        queue: u32,
        options: Options,
    ) -> Result<Self, SocketError> {
        options.check()?;
        let umem = arena.as_umem().ok_or(SocketError::HeapArena)?;
        // The flags are the anchor's, see `umem`.
        let config = SocketConfig::builder()
            .rx_queue_size(power_of_two(options.rx_ring))
            .tx_queue_size(power_of_two(options.tx_ring))
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::empty())
            .build();
        let queues = umem.bind(interface, queue, config)?;
        let tx_ring = options.tx_ring;
        let mut socket = Self {
            queues,
            receiving: Lent::new(arena),
            sending: Lent::new(arena),
            arena: Arc::clone(arena),
            receive_frames: options.receive_frames,
            tx_ring,
            kicks: tx_ring.div_ceil(DEFAULT_TX_BUDGET),
            stalled: false,
            faults: SocketFaults::default(),
            scratch: array::from_fn(|_| FrameDesc::default()),
        };
        options::tune(socket.as_fd());
        if options::raise_tx_budget(socket.as_fd(), tx_ring) {
            socket.kicks = 1;
        }
        Ok(socket)
    }

    /// Moves received packets into `batch` until it is full or there are no more, and gives the kernel frames of `pool`
    /// to receive the next into.
    #[inline]
    pub fn receive(&mut self, pool: &mut Pool, batch: &mut ArrayVec<Frame, BATCH>) {
        let room = batch.remaining_capacity();
        // SAFETY: the frames are of the UMEM the ring belongs to, the only one there is.
        let received = unsafe { self.queues.rx.consume(&mut self.scratch[..room]) };
        for descriptor in &self.scratch[..received] {
            let Some((mut frame, start)) = self.receiving.take_back(descriptor.addr()) else {
                self.faults.bad_descriptors += 1;
                continue;
            };
            if frame.set_packet(start, descriptor.lengths().data()) {
                batch.push(frame);
            } else {
                self.faults.bad_descriptors += 1;
                pool.put(frame);
            }
        }
        self.refill(pool);
    }

    /// Sends the packets of `batch`, in order. What is left in it did not fit the transmit ring. Completed frames go to
    /// `pool` first.
    #[inline]
    pub fn transmit(&mut self, pool: &mut Pool, batch: &mut ArrayVec<Frame, BATCH>) {
        self.take_completed(pool);
        let Some(umem) = self.arena.as_umem() else { return };
        // Every frame on its way needs a place in the completion ring in the end.
        let free = self.queues.tx.nb_free(BATCH as u32).min(RING.saturating_sub(self.sending.len()));
        let mut filled = 0;
        for frame in batch.drain(..(free as usize).min(batch.len())) {
            match sendable(umem, &mut self.sending, frame) {
                Ok(descriptor) => {
                    self.scratch[filled] = descriptor;
                    filled += 1;
                }
                Err(frame) => {
                    self.faults.unsendable += 1;
                    pool.put(frame);
                }
            }
        }
        // SAFETY: the frames are of the UMEM the ring belongs to, and were given up to `sending` just now.
        let sent = unsafe { self.queues.tx.produce(&self.scratch[..filled]) };
        debug_assert_eq!(sent, filled, "room was checked");
        if filled > 0 || self.stalled {
            self.kick();
        }
    }

    /// Takes back frames whose sending completed, and reminds the kernel of packets it left behind.
    #[inline]
    pub fn reap(&mut self, pool: &mut Pool) {
        self.take_completed(pool);
        if self.stalled {
            self.kick();
        }
    }

    /// True when there is something to receive.
    #[inline]
    pub fn has_received(&mut self) -> bool {
        self.queues.rx.nb_avail(1) > 0
    }

    /// Frames the socket holds.
    pub fn frames(&self) -> HeldFrames {
        HeldFrames { receiving: self.receiving.len(), sending: self.sending.len() }
    }

    /// What went wrong on this side.
    pub fn faults(&self) -> SocketFaults {
        self.faults
    }

    #[inline]
    fn take_completed(&mut self, pool: &mut Pool) {
        while self.sending.len() > 0 {
            // SAFETY: the frames are of the UMEM the ring belongs to, the only one there is.
            let completed = unsafe { self.queues.completion.consume(&mut self.scratch) };
            for descriptor in &self.scratch[..completed] {
                match self.sending.take_back(descriptor.addr()) {
                    Some((frame, _)) => pool.put(frame),
                    None => self.faults.bad_descriptors += 1,
                }
            }
            if completed < BATCH {
                return;
            }
        }
    }

    /// Brings the frames for receiving up to their number, in batches.
    #[inline]
    fn refill(&mut self, pool: &mut Pool) {
        let Some(umem) = self.arena.as_umem() else { return };
        loop {
            let missing = self.receive_frames.saturating_sub(self.receiving.len());
            // A few missing frames are not worth a ring operation, unless they are all there should be.
            if missing == 0 || (missing < self.receive_frames.min(BATCH as u32) / 2) {
                return;
            }
            let want = missing.min(BATCH as u32).min(self.queues.fill.nb_free(missing));
            let mut filled = 0;
            while filled < want as usize
                && let Some(frame) = pool.take()
            {
                match self.receiving.lend(frame) {
                    Ok(index) => {
                        self.scratch[filled] = umem.descriptor(index);
                        filled += 1;
                    }
                    // A pool of another arena: nothing for us in it.
                    Err(frame) => {
                        pool.put(frame);
                        break;
                    }
                }
            }
            // SAFETY: the frames are of the UMEM the ring belongs to, and were given up to `receiving` just now.
            let given = unsafe { self.queues.fill.produce(&self.scratch[..filled]) };
            debug_assert_eq!(given, filled, "room was checked");
            if filled < BATCH {
                return;
            }
        }
    }

    /// Makes the kernel send what is in the transmit ring. In copy mode nothing else does.
    fn kick(&mut self) {
        let mut free = self.queues.tx.nb_free_exact();
        for _ in 0..self.kicks {
            // Busy, out of buffers and down are fine here: the packets stay in the ring for the next kick.
            if self.queues.tx.wakeup().is_err() {
                self.faults.failed_kicks += 1;
            }
            let before = std::mem::replace(&mut free, self.queues.tx.nb_free_exact());
            if free == self.tx_ring || free == before {
                break;
            }
        }
        self.stalled = free < self.tx_ring;
    }

    pub(crate) fn xdp_statistics(&self) -> std::io::Result<xsk_rs::socket::XdpStatistics> {
        self.queues.rx.fd().xdp_statistics()
    }
}

impl AsFd for Socket {
    /// Readable when there is something to receive; also what an XDP program's map of sockets takes.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the queues keep the socket open as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.queues.rx.fd().as_raw_fd()) }
    }
}

/// Lends `frame` for sending and describes its packet, which is moved to where it can be sent from. A frame that cannot
/// be sent comes back.
#[inline]
fn sendable(umem: &Umem, sending: &mut Lent, mut frame: Frame) -> Result<FrameDesc, Frame> {
    let len = frame.len();
    if len < MIN_PACKET || !frame.move_to(DATA_OFFSET) {
        return Err(frame);
    }
    let index = sending.lend(frame)?;
    // SAFETY: the frame was given up to `sending` just now, and the kernel does not have it yet.
    Ok(unsafe { umem.packet_descriptor(index, len) })
}
