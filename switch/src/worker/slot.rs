//! A port in the hands of its worker.

use std::sync::Arc;
use std::time::Instant;

use heddle_xsk::Pool;

use crate::DropReason;
use crate::pipeline::Ingress;
use crate::ports::{Batch, KernelDrops, Port, PortId};
use crate::stats::{PortStats, WorkerStats};

/// A port, what it is, and what waits to leave by it.
pub(super) struct Slot {
    pub(super) id: PortId,
    pub(super) ingress: Ingress,
    pub(super) port: Box<dyn Port>,
    pub(super) stats: Arc<PortStats>,
    /// Frames of this round that leave by the port.
    pub(super) outgoing: Batch,
    /// What of the kernel's drops was counted already.
    pub(super) counted: KernelDrops,
    /// When something last came or left by the port.
    pub(super) last_used: Instant,
    /// Whether it is in the list of polled ports.
    pub(super) polled: bool,
}

impl Slot {
    /// Fills `batch` from the port and counts what came.
    pub(super) fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, worker: &WorkerStats) {
        if self.port.frames().sending > 0 {
            self.port.reap(pool);
        }
        self.port.receive(pool, batch);
        if !batch.is_empty() {
            let bytes = batch.iter().map(heddle_xsk::Frame::len).sum();
            self.stats.rx.count_batch(batch.len(), bytes);
            worker.ports.rx.count_batch(batch.len(), bytes);
        }
    }

    /// Sends what waits. What the port does not take is dropped: waiting for a slow receiver would hold up all others.
    pub(super) fn send(&mut self, pool: &mut Pool, worker: &WorkerStats) {
        let bytes = |batch: &Batch| batch.iter().map(heddle_xsk::Frame::len).sum::<usize>();
        let (packets, total) = (self.outgoing.len(), bytes(&self.outgoing));
        self.port.transmit(pool, &mut self.outgoing);
        let (left, left_bytes) = (self.outgoing.len(), bytes(&self.outgoing));
        self.stats.tx.count_batch(packets - left, total - left_bytes);
        worker.ports.tx.count_batch(packets - left, total - left_bytes);
        if left > 0 {
            worker.count_drops(DropReason::TxRingFull, left as u64);
            self.outgoing.drain(..).for_each(|frame| pool.put(frame));
        }
    }

    /// Adds what the kernel dropped since the last call to the worker's drops.
    pub(super) fn count_kernel_drops(&mut self, worker: &WorkerStats) {
        let (now, before) = (self.port.kernel_drops(), self.counted);
        let reasons = [
            (DropReason::KernelRxRingFull, now.rx_ring_full, before.rx_ring_full),
            (DropReason::KernelNoFrame, now.no_frame, before.no_frame),
            (DropReason::KernelRxInvalid, now.invalid, before.invalid),
        ];
        for (reason, now, before) in reasons {
            worker.count_drops(reason, now.saturating_sub(before));
        }
        self.counted = now;
    }
}
