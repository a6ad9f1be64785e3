//! A port in the hands of its worker.

use std::sync::Arc;
use std::time::Instant;

use heddle_xsk::Pool;

use super::residents::{Addressed, Residents};
use crate::DropReason;
use crate::pipeline::Ingress;
use crate::ports::{Batch, Port, PortDrops, PortId};
use crate::stats::{PortStats, WorkerStats};

/// A port, what it is, and what waits to leave by it.
pub(super) struct Slot {
    pub(super) id: PortId,
    pub(super) ingress: Ingress,
    pub(super) port: Box<dyn Port>,
    pub(super) stats: Arc<PortStats>,
    /// Frames of this round that leave by the port.
    pub(super) outgoing: Batch,
    /// What of the port's drops was counted already.
    pub(super) counted: PortDrops,
    /// When something last came or left by the port.
    pub(super) last_used: Instant,
    /// Whether it is in the list of polled ports.
    pub(super) polled: bool,
    /// Who shares it, if it is a trunk.
    pub(super) residents: Residents,
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
            if self.ingress == Ingress::Trunk {
                self.residents.count_received(batch);
            }
        }
    }

    /// Sends what waits. What the port does not take is dropped: waiting for a slow receiver would hold up all others.
    pub(super) fn send(&mut self, pool: &mut Pool, worker: &WorkerStats) {
        let bytes = |batch: &Batch| batch.iter().map(heddle_xsk::Frame::len).sum::<usize>();
        let (packets, total) = (self.outgoing.len(), bytes(&self.outgoing));
        let is_trunk = self.ingress == Ingress::Trunk;
        let addressed = if is_trunk { Residents::note(&self.outgoing) } else { Addressed::new() };
        self.port.transmit(pool, &mut self.outgoing);
        let (left, left_bytes) = (self.outgoing.len(), bytes(&self.outgoing));
        self.stats.tx.count_batch(packets - left, total - left_bytes);
        worker.ports.tx.count_batch(packets - left, total - left_bytes);
        self.residents.count_sent(addressed.get(..packets - left).unwrap_or_default());
        if left > 0 {
            worker.count_drops(DropReason::TxRingFull, left as u64);
            self.outgoing.drain(..).for_each(|frame| pool.put(frame));
        }
    }

    /// Adds what the kernel and the port dropped since the last call to the worker's drops.
    pub(super) fn count_port_drops(&mut self, worker: &WorkerStats) {
        let (now, before) = (self.port.drops(), self.counted);
        let reasons = [
            (DropReason::KernelRxRingFull, now.rx_ring_full, before.rx_ring_full),
            (DropReason::KernelNoFrame, now.no_frame, before.no_frame),
            (DropReason::KernelRxInvalid, now.invalid, before.invalid),
            (DropReason::Unsendable, now.unsendable, before.unsendable),
        ];
        for (reason, now, before) in reasons {
            worker.count_drops(reason, now.saturating_sub(before));
        }
        self.counted = now;
    }
}

#[cfg(test)]
mod tests {
    //! What a port reports as a running total is counted once, under its reason.
    use std::os::fd::BorrowedFd;

    use heddle_xsk::HeldFrames;

    use super::*;

    /// A port that only has totals.
    struct Totals(PortDrops);

    impl Port for Totals {
        fn receive(&mut self, _: &mut Pool, _: &mut Batch) {}
        fn transmit(&mut self, _: &mut Pool, _: &mut Batch) {}
        fn reap(&mut self, _: &mut Pool) {}
        fn has_received(&mut self) -> bool {
            false
        }
        fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }
        fn frames(&self) -> HeldFrames {
            HeldFrames::default()
        }
        fn drops(&self) -> PortDrops {
            self.0
        }
    }

    #[test]
    fn totals_are_counted_once() {
        let mut slot = Slot {
            id: PortId { worker: 0, slot: 0, serial: 0 },
            ingress: Ingress::Uplink,
            port: Box::new(Totals(PortDrops::default())),
            stats: Arc::default(),
            outgoing: Batch::new(),
            counted: PortDrops::default(),
            last_used: Instant::now(),
            polled: false,
            residents: Residents::default(),
        };
        let worker = WorkerStats::default();
        for (total, expected) in [(1, [1, 2, 3, 4]), (1, [1, 2, 3, 4]), (10, [10, 20, 30, 40])] {
            let drops = PortDrops {
                rx_ring_full: total,
                no_frame: 2 * total,
                invalid: 3 * total,
                unsendable: 4 * total,
            };
            slot.port = Box::new(Totals(drops));
            slot.count_port_drops(&worker);
            let reasons = [
                DropReason::KernelRxRingFull,
                DropReason::KernelNoFrame,
                DropReason::KernelRxInvalid,
                DropReason::Unsendable,
            ];
            assert_eq!(reasons.map(|reason| worker.drops(reason)), expected);
            let all: u64 = DropReason::ALL.iter().map(|reason| worker.drops(*reason)).sum();
            assert_eq!(all, expected.iter().sum::<u64>(), "and nothing else");
        }
    }
}
