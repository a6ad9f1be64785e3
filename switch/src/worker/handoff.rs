//! Frames on their way to another worker: one bounded ring for each ordered pair of workers.
//!
//! A flow's frames take one ring, so they stay in order. A full ring drops: a worker that waited for another one would
//! stop serving its own ports, and two that waited for each other would stop for good.

use heddle_xsk::Frame;
use heddle_xsk::spsc::{Consumer, Producer, ring};

use super::wake::Waker;
use crate::ports::PortId;

/// Frames a ring holds: enough for the batches that come while the other worker is on one long round.
const RING: usize = 512;

/// A frame and the port it leaves by.
type Parcel = (PortId, Frame);

/// One worker's ends of the rings.
pub(super) struct Handoff {
    /// By worker; none to itself.
    to: Vec<Option<(Producer<Parcel>, Waker)>>,
    from: Vec<Consumer<Parcel>>,
    /// Workers that got something since they were last woken, one bit each.
    unannounced: u64,
}

/// Connects all workers with each other, each woken by its waker.
pub(super) fn connect(wakers: &[Waker]) -> Vec<Handoff> {
    debug_assert!(wakers.len() <= 64, "`unannounced` has a bit a worker");
    let mut ends: Vec<_> =
        wakers.iter().map(|_| Handoff { to: Vec::new(), from: Vec::new(), unannounced: 0 }).collect();
    for sender in 0..wakers.len() {
        for (receiver, waker) in wakers.iter().enumerate() {
            let producer = (sender != receiver).then(|| {
                let (producer, consumer) = ring(RING);
                ends[receiver].from.push(consumer);
                (producer, waker.clone())
            });
            ends[sender].to.push(producer);
        }
    }
    ends
}

impl Handoff {
    /// Sends a frame to the worker that owns `port`; gives it back when the ring is full.
    #[inline]
    pub(super) fn push(&mut self, port: PortId, frame: Frame) -> Result<(), Frame> {
        match self.to.get_mut(usize::from(port.worker)) {
            Some(Some((ring, _))) => ring.push((port, frame)).map_err(|(_, frame)| frame)?,
            _ => return Err(frame),
        }
        self.unannounced |= 1 << port.worker;
        Ok(())
    }

    /// Wakes the workers that got something, if they sleep.
    #[inline]
    pub(super) fn announce(&mut self) {
        while self.unannounced != 0 {
            let worker = self.unannounced.trailing_zeros();
            self.unannounced &= self.unannounced - 1;
            if let Some(Some((_, waker))) = self.to.get(worker as usize) {
                waker.wake();
            }
        }
    }

    /// Number of workers that send here.
    pub(super) fn senders(&self) -> usize {
        self.from.len()
    }

    /// The oldest frame from one of the workers that send here.
    #[inline]
    pub(super) fn pop(&mut self, sender: usize) -> Option<Parcel> {
        self.from.get_mut(sender)?.pop()
    }

    /// Frames that wait to be taken here.
    pub(super) fn waiting(&self) -> usize {
        self.from.iter().map(Consumer::len).sum()
    }
}
