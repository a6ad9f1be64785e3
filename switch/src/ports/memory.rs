//! Ports in memory: what tests and benchmarks put in place of AF_XDP sockets.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heddle_xsk::{Arena, Frame, HeldFrames, Pool};

use super::{Batch, Port};

/// A port whose other side is a [`MemoryWire`].
#[derive(Debug)]
pub struct MemoryPort(Arc<Link>);

/// The other side of a [`MemoryPort`]: it sends what the port receives and receives what the port sends.
///
/// It plays the kernel's part, with frames of its own from the same arena; so packets are copied once on their way in
/// and once on their way out, as AF_XDP does in copy mode.
#[derive(Debug)]
pub struct MemoryWire {
    link: Arc<Link>,
    pool: Pool,
}

/// Frames under way between a port and its wire. Each side holds the lock once a batch.
#[derive(Debug)]
struct Link {
    arena: Arc<Arena>,
    queues: Mutex<Queues>,
    /// Most frames in each queue, like the size of a ring.
    capacity: usize,
}

#[derive(Debug, Default)]
struct Queues {
    to_port: VecDeque<Frame>,
    to_wire: VecDeque<Frame>,
}

impl MemoryPort {
    /// A port and its wire, with frames of `arena`; either queue between them holds `capacity` frames.
    pub fn new(arena: Arc<Arena>, capacity: usize) -> (Self, MemoryWire) {
        let queues =
            Queues { to_port: VecDeque::with_capacity(capacity), to_wire: VecDeque::with_capacity(capacity) };
        let link = Arc::new(Link { arena: Arc::clone(&arena), queues: Mutex::new(queues), capacity });
        (Self(Arc::clone(&link)), MemoryWire { link, pool: Pool::new(arena) })
    }
}

impl Port for MemoryPort {
    fn receive(&mut self, _pool: &mut Pool, batch: &mut Batch) {
        let mut queues = self.0.lock();
        let n = queues.to_port.len().min(batch.remaining_capacity());
        batch.extend(queues.to_port.drain(..n));
    }

    fn transmit(&mut self, _pool: &mut Pool, batch: &mut Batch) {
        let mut queues = self.0.lock();
        let room = self.0.capacity - queues.to_wire.len();
        queues.to_wire.extend(batch.drain(..batch.len().min(room)));
    }

    /// The wire returns sent frames to the arena by itself.
    fn reap(&mut self, _pool: &mut Pool) {}

    fn has_received(&mut self) -> bool {
        !self.0.lock().to_port.is_empty()
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn frames(&self) -> HeldFrames {
        let queues = self.0.lock();
        HeldFrames { receiving: queues.to_port.len() as u32, sending: queues.to_wire.len() as u32 }
    }
}

impl MemoryWire {
    /// Puts a packet on the wire towards the port. False when the port's queue is full, the arena has no free frame, or
    /// the packet does not fit one.
    pub fn inject(&mut self, packet: &[u8]) -> bool {
        let Some(mut frame) = self.pool.take() else { return false };
        if frame.copy_from(packet) {
            let mut queues = self.link.lock();
            if queues.to_port.len() < self.link.capacity {
                queues.to_port.push_back(frame);
                return true;
            }
        }
        self.pool.put(frame);
        false
    }

    /// Puts as many packets on the wire as there is room and frames for; returns how many.
    pub fn inject_all<'p>(&mut self, packets: impl IntoIterator<Item = &'p [u8]>) -> usize {
        let mut queues = self.link.lock();
        let mut injected = 0;
        for packet in packets.into_iter().take(self.link.capacity - queues.to_port.len()) {
            let Some(mut frame) = self.pool.take() else { break };
            if !frame.copy_from(packet) {
                self.pool.put(frame);
                break;
            }
            queues.to_port.push_back(frame);
            injected += 1;
        }
        injected
    }

    /// Takes the oldest packet that the port sent.
    pub fn collect(&mut self) -> Option<Vec<u8>> {
        let frame = self.link.lock().to_wire.pop_front()?;
        let packet = frame.bytes().to_vec();
        self.pool.put(frame);
        Some(packet)
    }

    /// Takes all packets that the port sent, oldest first, and shows each to `see`; returns how many.
    pub fn collect_all(&mut self, mut see: impl FnMut(&[u8])) -> usize {
        let mut queues = self.link.lock();
        let collected = queues.to_wire.len();
        for frame in queues.to_wire.drain(..) {
            see(frame.bytes());
            self.pool.put(frame);
        }
        collected
    }
}

impl Link {
    /// A thread that panicked with the lock held leaves the queues whole: no operation on them stops half way.
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut pool = Pool::new(Arc::clone(&self.arena));
        let queues = self.queues.get_mut().unwrap_or_else(PoisonError::into_inner);
        queues.to_port.drain(..).chain(queues.to_wire.drain(..)).for_each(|frame| pool.put(frame));
    }
}

#[cfg(test)]
mod tests {
    //! Packets cross unchanged and in order, a full queue refuses, and every frame finds its way back to the arena.
    use super::*;

    #[test]
    fn packets_cross_in_order_both_ways() {
        let arena = Arena::heap(256, 2048).unwrap();
        let mut pool = Pool::new(Arc::clone(&arena));
        let (mut port, mut wire) = MemoryPort::new(Arc::clone(&arena), 4);
        let mut batch = Batch::new();

        assert_eq!(wire.inject_all([&b"one"[..], b"two"]), 2);
        assert!(wire.inject(b"three") && wire.inject(b"four") && !wire.inject(b"five"));
        assert!(port.has_received());
        port.receive(&mut pool, &mut batch);
        assert!(!port.has_received());
        let received: Vec<_> = batch.iter().map(Frame::bytes).collect();
        assert_eq!(received, [&b"one"[..], b"two", b"three", b"four"]);

        port.transmit(&mut pool, &mut batch);
        assert!(batch.is_empty());
        assert_eq!(port.frames(), HeldFrames { receiving: 0, sending: 4 });
        batch.push(pool.take().unwrap());
        port.transmit(&mut pool, &mut batch);
        assert_eq!(batch.len(), 1, "the queue is full");
        assert_eq!(wire.collect().unwrap(), b"one");
        assert_eq!(wire.collect_all(|_| ()), 3);
        batch.drain(..).for_each(|frame| pool.put(frame));
    }

    #[test]
    fn frames_under_way_return_when_both_sides_are_gone() {
        let arena = Arena::heap(16, 2048).unwrap();
        let mut pool = Pool::new(Arc::clone(&arena));
        let (mut port, mut wire) = MemoryPort::new(Arc::clone(&arena), 8);
        let mut batch = Batch::new();
        assert!(wire.inject(b"out") && wire.inject(b"in"));
        port.receive(&mut pool, &mut batch);
        port.transmit(&mut pool, &mut batch);
        assert!(wire.inject(b"stays"));
        drop((port, wire, pool));
        assert_eq!(arena.reserved(), 16);
    }
}
