//! A switch with one worker over ports in memory, that tells exactly what it did with a packet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heddle_switch::DropReason;
use heddle_switch::pipeline::{Ingress, Outbox, Pipeline};
use heddle_switch::ports::{Batch, MemoryPort, MemoryWire, Port};
use heddle_switch::stats::WorkerStats;
use heddle_switch::tables::Tables;
use heddle_xsk::{Arena, Pool};

use super::cluster::{UPLINK_SLOT, port, tables};

const FRAMES: u32 = 1024;
const CONNECTIONS: usize = 256;

/// What became of the packets sent in one go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What left, with the slot of the port it left by.
    pub(crate) sent: Vec<(u16, Vec<u8>)>,
    /// Drops by reason; reasons without any are left out.
    pub(crate) drops: BTreeMap<DropReason, u64>,
    pub(crate) icmp_errors: u64,
}

impl Outcome {
    /// One packet left, and no counter moved.
    pub(crate) fn forwarded(slot: u16, packet: Vec<u8>) -> Self {
        Self { sent: vec![(slot, packet)], ..Self::default() }
    }

    /// One packet was dropped for `reason`, and no other counter moved.
    pub(crate) fn dropped(reason: DropReason) -> Self {
        Self { drops: [(reason, 1)].into(), ..Self::default() }
    }

    /// The only packet that left, and by which slot.
    pub(crate) fn only_sent(&self) -> (u16, &[u8]) {
        let [(slot, packet)] = self.sent.as_slice() else { panic!("not one packet: {self:?}") };
        (*slot, packet)
    }
}

/// A node's switch.
pub(crate) struct Switch {
    pub(crate) tables: Tables,
    /// The clock of the pipeline: it stands still unless a test moves it.
    pub(crate) now: Instant,
    pipeline: Pipeline,
    stats: Arc<WorkerStats>,
    pool: Pool,
    /// By slot.
    ports: Vec<(MemoryPort, MemoryWire)>,
}

impl Switch {
    pub(crate) fn new(tables: Tables) -> Self {
        let arena = Arena::heap(FRAMES, 2048).unwrap();
        let stats = Arc::new(WorkerStats::default());
        Self {
            tables,
            now: Instant::now() + Duration::from_mins(1),
            pipeline: Pipeline::new(0, Arc::clone(&stats), CONNECTIONS),
            stats,
            pool: Pool::new(Arc::clone(&arena)),
            ports: (0..=UPLINK_SLOT).map(|_| MemoryPort::new(Arc::clone(&arena), 64)).collect(),
        }
    }

    /// Node 1 of a cluster whose tunnels go over `underlay`.
    pub(crate) fn node_1(underlay: usize) -> Self {
        Self::new(tables(1, 2, underlay))
    }

    /// The peer of [`Self::node_1`].
    pub(crate) fn node_2(underlay: usize) -> Self {
        Self::new(tables(2, 1, underlay))
    }

    /// Sends a packet in by `ingress`.
    pub(crate) fn pass(&mut self, ingress: Ingress, packet: &[u8]) -> Outcome {
        self.pass_all(ingress, &[packet])
    }

    /// Sends packets in by `ingress`, as one batch.
    pub(crate) fn pass_all(&mut self, ingress: Ingress, packets: &[impl AsRef<[u8]>]) -> Outcome {
        let slot = match ingress {
            Ingress::Endpoint(number) => number as usize,
            Ingress::Uplink | Ingress::Trunk => usize::from(UPLINK_SLOT),
        };
        // An endpoint that is gone has no port here; any will do to receive by.
        let slot = slot.min(usize::from(UPLINK_SLOT));
        let (port, wire) = &mut self.ports[slot];
        let injected = wire.inject_all(packets.iter().map(AsRef::as_ref));
        assert_eq!(injected, packets.len(), "the test sends more than a port holds");
        let mut batch = Batch::new();
        port.receive(&mut self.pool, &mut batch);
        self.run(ingress, &mut batch)
    }

    /// Runs the pipeline over `batch`.
    pub(crate) fn run(&mut self, ingress: Ingress, batch: &mut Batch) -> Outcome {
        let (drops, icmp_errors) = (self.drops(), self.stats.icmp_errors.get());
        let mut outbox = Outbox::new();
        self.pipeline.run(self.now, &self.tables, ingress, &mut self.pool, batch, &mut outbox);
        assert!(batch.is_empty());

        let mut outcome =
            Outcome { icmp_errors: self.stats.icmp_errors.get() - icmp_errors, ..Outcome::default() };
        for (to, frame) in outbox.drain(..) {
            assert_eq!(to, port(to.slot), "a port nobody knows");
            let (port, wire) = &mut self.ports[usize::from(to.slot)];
            batch.push(frame);
            port.transmit(&mut self.pool, batch);
            outcome.sent.push((to.slot, wire.collect().unwrap()));
        }
        for (reason, count) in self.drops() {
            let moved = count - drops[&reason];
            if moved > 0 {
                outcome.drops.insert(reason, moved);
            }
        }
        outcome
    }

    /// Looks after what is remembered, as between two batches.
    pub(crate) fn sweep(&mut self) {
        self.pipeline.sweep(&self.tables);
    }

    /// The stages, to look at what they remember.
    pub(crate) fn pipeline(&mut self) -> &mut Pipeline {
        &mut self.pipeline
    }

    /// Sends a packet in by `ingress` that is to leave by a port of worker 1; returns how many frames go there.
    pub(crate) fn pass_to_worker_1(&mut self, ingress: Ingress, packet: &[u8]) -> usize {
        self.handed_over(ingress, packet).len()
    }

    /// The same; returns the frames.
    pub(crate) fn handed_over(&mut self, ingress: Ingress, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut frame = self.pool.take().unwrap();
        assert!(frame.copy_from(packet));
        let (mut batch, mut outbox) = (Batch::from_iter([frame]), Outbox::new());
        self.pipeline.run(self.now, &self.tables, ingress, &mut self.pool, &mut batch, &mut outbox);
        let frames = outbox.drain(..).map(|(to, frame)| {
            assert_eq!(to.worker, 1);
            let bytes = frame.bytes().to_vec();
            self.pool.put(frame);
            bytes
        });
        frames.collect()
    }

    /// Lets a packet arrive that another worker made ready for endpoint `number`; what enters, if it may.
    pub(crate) fn arrives_as(&mut self, number: u32, packet: &[u8]) -> Option<Vec<u8>> {
        let mut frame = self.pool.take().unwrap();
        assert!(frame.copy_from(packet));
        let may_enter = self.pipeline.arrive(self.now, &self.tables, number, &mut frame);
        let bytes = frame.bytes().to_vec();
        self.pool.put(frame);
        may_enter.then_some(bytes)
    }

    /// Lets a packet arrive that another worker made ready for endpoint `number`; true when it may enter.
    pub(crate) fn arrive(&mut self, number: u32, packet: &[u8]) -> bool {
        let mut frame = self.pool.take().unwrap();
        assert!(frame.copy_from(packet));
        let may_enter = self.pipeline.arrive(self.now, &self.tables, number, &mut frame);
        assert_eq!(frame.bytes(), packet, "judging changes nothing");
        self.pool.put(frame);
        may_enter
    }

    /// Room to build a batch in.
    pub(crate) fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn drops(&self) -> BTreeMap<DropReason, u64> {
        DropReason::ALL.iter().map(|reason| (*reason, self.stats.drops(*reason))).collect()
    }

    /// Ends the switch and returns how many of its frames are missing.
    pub(crate) fn missing_frames(self) -> u32 {
        let arena = Arc::clone(self.pool.arena());
        drop((self.ports, self.pool));
        FRAMES - arena.reserved() as u32
    }
}
