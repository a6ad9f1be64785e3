//! One round of a worker: frames come in, go through the pipeline, and leave.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heddle_xsk::{BATCH, Pool};

use super::command::{Attach, Detach, FlowsPart, Report, Settle};
use super::handoff::Handoff;
use super::port_list::PortList;
use super::residents::Residents;
use super::slot::Slot;
use crate::DropReason;
use crate::flow_cache::{FlowMap, Link};
use crate::pipeline::{Ingress, Outbox, Pipeline, Request, addressee};
use crate::ports::{Batch, PortDrops};
use crate::stats::WorkerStats;
use crate::tables::{EndpointNumber, HopKind, Tables};

/// Ports that are received from before what they brought is sent: bounds how long a frame waits for the ports polled
/// after its own.
const PORTS_A_FLUSH: usize = 16;

/// How long a worker sleeps at most when it owns ports that cannot wake it.
const UNWATCHED_TICK: Duration = Duration::from_millis(1);

/// What a worker moves frames with.
pub(super) struct Forwarder {
    worker: u16,
    stats: Arc<WorkerStats>,
    pipeline: Pipeline,
    pool: Pool,
    ports: PortList,
    handoff: Handoff,
    batch: Batch,
    outbox: Outbox,
    /// The line to the flow cache, where there is one.
    link: Option<Link>,
    /// How often the kernel's own drop counters are read and connections age, and how long a worker sleeps at most.
    tick: Duration,
    next_tick: Instant,
}

impl Forwarder {
    pub(super) fn new(
        worker: u16,
        stats: Arc<WorkerStats>,
        pipeline: Pipeline,
        pool: Pool,
        handoff: Handoff,
        bell: BorrowedFd<'_>,
        tick: Duration,
    ) -> rustix::io::Result<Self> {
        Ok(Self {
            worker,
            stats,
            pipeline,
            pool,
            ports: PortList::new(bell)?,
            handoff,
            batch: Batch::new(),
            outbox: Outbox::new(),
            link: None,
            tick,
            next_tick: Instant::now(),
        })
    }

    /// With a line to the flow cache.
    pub(super) fn with_link(self, link: Option<Link>) -> Self {
        Self { link, ..self }
    }

    /// Receives from every polled port and from the other workers, and sends what came of it. Returns the number of
    /// frames that were moved.
    pub(super) fn round(&mut self, now: Instant, tables: &Tables) -> usize {
        let mut moved = 0;
        self.hear();
        self.ports.look_around(now);
        // Sending may add ports to the list; they are polled in the next round.
        let polled = self.ports.polled();
        for first in (0..polled).step_by(PORTS_A_FLUSH) {
            for place in first..polled.min(first + PORTS_A_FLUSH) {
                moved += self.receive(place, now, tables);
            }
            self.flush(tables);
        }
        moved += self.take_over(now, tables);
        self.ports.retire_silent(now);
        if now >= self.next_tick {
            self.next_tick = now + self.tick;
            self.ports.count_port_drops(&self.stats);
            self.pipeline.tick(now);
        }
        self.pipeline.sweep(tables);
        self.ask(tables);
        moved
    }

    /// Hears some of what the flow cache has to tell.
    fn hear(&mut self) {
        let Some(link) = &mut self.link else { return };
        link.catch_up();
        for news in link.news().into_iter().flatten() {
            self.pipeline.hear(&news);
        }
    }

    /// Tells the flow cache what has changed.
    fn ask(&mut self, tables: &Tables) {
        match &mut self.link {
            Some(link) => self.pipeline.ask(tables, link),
            None => self.pipeline.ask(tables, &mut |request| matches!(request, Request::Recall(_))),
        }
    }

    pub(super) fn set_map(&mut self, map: Box<dyn FlowMap>) {
        if let Some(link) = &mut self.link {
            link.set_map(map);
        }
    }

    /// Takes one batch from a port through the pipeline.
    fn receive(&mut self, place: usize, now: Instant, tables: &Tables) -> usize {
        let Some(slot) = self.ports.polled_mut(place) else { return 0 };
        slot.receive(&mut self.pool, &mut self.batch, &self.stats);
        let received = self.batch.len();
        if received > 0 {
            slot.last_used = now;
            let ingress = slot.ingress;
            self.pipeline.run(now, tables, ingress, &mut self.pool, &mut self.batch, &mut self.outbox);
            self.dispatch(now);
        }
        received
    }

    /// Brings the frames of the outbox to their ports, or to the workers that own them.
    fn dispatch(&mut self, now: Instant) {
        let Self { worker, stats, pool, ports, handoff, outbox, .. } = self;
        for (port, frame) in outbox.drain(..) {
            if port.worker == *worker {
                ports.enqueue(port, frame, now, pool, stats);
            } else if let Err(frame) = handoff.push(port, frame) {
                stats.count_drops(DropReason::HandoffFull, 1);
                pool.put(frame);
            }
        }
    }

    /// Sends what other workers handed over, at most a batch from each. What is for an endpoint is judged for it first.
    fn take_over(&mut self, now: Instant, tables: &Tables) -> usize {
        let mut taken = 0;
        for sender in 0..self.handoff.senders() {
            for _ in 0..BATCH {
                let Some((port, mut frame)) = self.handoff.pop(sender) else { break };
                taken += 1;
                let entered = match self.ports.ingress(port) {
                    Some(Ingress::Endpoint(number)) => Some(number),
                    Some(Ingress::Trunk) => match addressee(&frame) {
                        Some(HopKind::Endpoint(number)) => Some(number),
                        Some(HopKind::Vtep(_)) | None => None,
                    },
                    Some(Ingress::Uplink) | None => None,
                };
                // A packet for another node was judged, as a whole, where it came from.
                let may_enter =
                    entered.is_none_or(|number| self.pipeline.arrive(now, tables, number, &mut frame));
                if may_enter {
                    self.ports.enqueue(port, frame, now, &mut self.pool, &self.stats);
                } else {
                    self.pool.put(frame);
                }
            }
        }
        if taken > 0 {
            self.flush(tables);
        }
        taken
    }

    /// Sends what came out of the stages. Flows that begin with it are in the flow cache before.
    fn flush(&mut self, tables: &Tables) {
        self.ask(tables);
        self.ports.flush(&mut self.pool, &self.stats);
        self.handoff.announce();
    }

    /// True when there is something to do that nobody will ring for.
    pub(super) fn has_work(&mut self) -> bool {
        self.handoff.waiting() > 0
            || self.pipeline.is_sweeping()
            || self.link.as_ref().is_some_and(Link::is_busy)
            || self.ports.has_received()
    }

    /// Sleeps until a port has something, the bell rings, or the next tick is due. True when the bell rang.
    pub(super) fn wait(&mut self) -> bool {
        let longest = if self.ports.has_unwatched() { UNWATCHED_TICK } else { self.tick };
        self.ports.wait(Instant::now(), longest)
    }

    pub(super) fn attach(&mut self, attach: Attach) {
        let Attach { id, ingress, port, stats, done } = attach;
        let counted = PortDrops::default();
        if let Ingress::Endpoint(number) = ingress {
            self.pipeline.welcome(number);
        }
        let (last_used, outgoing) = (Instant::now(), Batch::new());
        let residents = Residents::default();
        let slot = Slot { id, ingress, port, stats, outgoing, counted, last_used, polled: false, residents };
        done.answer(self.ports.insert(slot));
    }

    pub(super) fn detach(&mut self, detach: Detach) {
        let slot = self.ports.remove(detach.id, &mut self.pool, &self.stats);
        if let Some(Ingress::Endpoint(number)) = slot.as_ref().map(|slot| slot.ingress) {
            self.pipeline.forget(number);
        }
        detach.done.answer(slot.map(|slot| slot.port));
    }

    pub(super) fn settle(&mut self, settle: Settle) {
        let Settle { number, stats, done } = settle;
        self.pipeline.welcome(number);
        if let Some(residents) = self.ports.residents() {
            residents.settle(number, stats);
        }
        done.answer(());
    }

    pub(super) fn leave(&mut self, number: EndpointNumber) {
        if let Some(residents) = self.ports.residents() {
            residents.leave(number);
        }
        self.pipeline.forget(number);
    }

    pub(super) fn flows(&self, slots: Range<usize>) -> FlowsPart {
        FlowsPart { flows: self.pipeline.flows(slots), capacity: self.pipeline.connections().capacity() }
    }

    pub(super) fn report(&self) -> Report {
        let connections = self.pipeline.connections();
        Report {
            ports: self.ports.len(),
            polled: self.ports.polled(),
            free: self.pool.len(),
            held: self.ports.frames(),
            handoff: self.handoff.waiting(),
            connections: connections.len(),
            capacity: connections.capacity(),
            counters: connections.counters().clone(),
        }
    }

    /// Closes all ports. Nothing goes to other workers after this.
    pub(super) fn stop_sending(&mut self) {
        for id in self.ports.ids() {
            drop(self.ports.remove(id, &mut self.pool, &self.stats));
        }
    }

    /// Takes home what other workers had sent before they stopped.
    pub(super) fn put_away(&mut self) {
        for sender in 0..self.handoff.senders() {
            while let Some((_, frame)) = self.handoff.pop(sender) {
                self.stats.count_drops(DropReason::PortGone, 1);
                self.pool.put(frame);
            }
        }
    }
}
