//! A batch through the stages.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayVec;
use heddle_xsk::{BATCH, Frame, Pool};

use super::policy::Judge;
use super::refusal::{Disposition, Refusal};
use super::remember::{Asked, News};
use super::scene::{Ingress, Scene};
use super::tracker::Tracker;
use super::trunk::Tag;
use super::{by_host, conntrack, notice, parse, remember, trunk, walk};
use crate::DropReason;
use crate::ports::{Batch, PortId};
use crate::stats::WorkerStats;
use crate::tables::conntrack::{Change, Connections, Flow, Side};
use crate::tables::{EndpointNumber, Tables};

/// Frames with the ports they leave by, in the order they came.
pub type Outbox = ArrayVec<(PortId, Frame), BATCH>;

/// The stages, with what one worker keeps for them.
#[derive(Debug)]
pub struct Pipeline {
    worker: u16,
    stats: Arc<WorkerStats>,
    notices: notice::Budget,
    tracker: Tracker,
}

impl Pipeline {
    /// For the worker with index `worker`, whose drops are counted in `stats`, with room for `connections` connections.
    pub fn new(worker: u16, stats: Arc<WorkerStats>, connections: usize) -> Self {
        Self { worker, stats, notices: notice::Budget::default(), tracker: Tracker::new(connections) }
    }

    /// Moves the packets of `batch`, which all came by `ingress`, to `outbox`, or drops them and gives their frames to
    /// `pool`. What `outbox` has no room for stays in `batch`; an empty outbox has room for any batch.
    ///
    /// A packet for an endpoint of another worker has yet to [`arrive`](Self::arrive) there.
    pub fn run(
        &mut self,
        now: Instant,
        tables: &Tables,
        ingress: Ingress,
        pool: &mut Pool,
        batch: &mut Batch,
        outbox: &mut Outbox,
    ) {
        let scene = Scene::new(tables, ingress, self.worker);
        self.tracker.set_now(now);
        for mut frame in batch.drain(..batch.len().min(outbox.remaining_capacity())) {
            let left = match ingress {
                Ingress::Trunk => self.pass_from_trunk(now, tables, &mut frame),
                Ingress::Endpoint(_) | Ingress::Uplink => self.pass(now, &scene, &mut frame, None),
            };
            match left {
                Some(port) => outbox.push((port, frame)),
                None => pool.put(frame),
            }
        }
    }

    /// One packet through the stages; returns the port it leaves by, `None` when it was dropped.
    #[inline(always)]
    fn pass(
        &mut self,
        now: Instant,
        scene: &Scene<'_>,
        frame: &mut Frame,
        tag: Option<&Tag>,
    ) -> Option<PortId> {
        let walked = walk(scene, &mut self.tracker, frame);
        let exit = walked.or_else(|refusal| self.refuse(now, scene, frame, refusal)).ok()?;
        if let Some(hop) = exit.hop {
            trunk::address(frame, hop, tag, scene.node().gateway_mac);
        }
        Some(exit.port)
    }

    /// As [`pass`](Self::pass), for a packet that says itself where it is from.
    fn pass_from_trunk(&mut self, now: Instant, tables: &Tables, frame: &mut Frame) -> Option<PortId> {
        match trunk::take_tag(tables, frame) {
            Ok(tag) => self.pass(now, &Scene::of_hop(tables, tag.hop, self.worker), frame, Some(&tag)),
            Err(reason) => {
                self.stats.count_drops(reason, 1);
                None
            }
        }
    }

    /// The last stage for a packet that another worker made ready for an endpoint of this one: what the endpoint's own
    /// connections and policy say. False when it is dropped; that is counted here.
    pub fn arrive(
        &mut self,
        now: Instant,
        tables: &Tables,
        number: EndpointNumber,
        frame: &mut Frame,
    ) -> bool {
        self.tracker.set_now(now);
        let answer = self.judge_arrival(tables, number, frame);
        if let Err(reason) = answer {
            self.stats.count_drops(reason, 1);
        }
        answer.is_ok()
    }

    fn judge_arrival(
        &mut self,
        tables: &Tables,
        number: EndpointNumber,
        frame: &mut Frame,
    ) -> Result<(), DropReason> {
        let endpoint = tables.endpoints.get(number).ok_or(DropReason::UnknownEndpoint)?;
        let from_host = by_host::take_mark(frame, tables.node.gateway_mac);
        let Some(judge) = Judge::of(tables, (number, endpoint), Side::Ingress)? else { return Ok(()) };
        let packet = parse::parse(frame)?;
        conntrack::arrive(&mut self.tracker, &judge.of_packet(from_host), frame, &packet.ip)
    }

    /// Counts the drop. With a notice the frame goes out again, as the notice; the dropped packet stays dropped.
    #[cold]
    fn refuse(
        &mut self,
        now: Instant,
        scene: &Scene<'_>,
        frame: &mut Frame,
        refusal: Refusal,
    ) -> Disposition {
        self.stats.count_drops(refusal.reason, 1);
        let notice = refusal.notice.ok_or(refusal)?;
        let exit = notice::send(&mut self.notices, now, scene, frame, notice).ok_or(refusal)?;
        self.stats.icmp_errors.add(1);
        Ok(exit)
    }

    /// Looks after what is remembered: forgets connections that are idle for too long. Wants to be called ten times a
    /// second.
    pub fn tick(&mut self, now: Instant) {
        self.tracker.set_now(now);
        self.tracker.age();
    }

    /// An endpoint with this number is about to send and receive.
    pub fn welcome(&mut self, endpoint: EndpointNumber) {
        self.tracker.welcome(endpoint);
    }

    /// The endpoint is gone. Its connections go bit by bit, with every call of [`sweep`](Self::sweep).
    pub fn forget(&mut self, endpoint: EndpointNumber) {
        self.tracker.forget(endpoint);
    }

    /// Goes on removing connections of endpoints that are gone, and judging cached flows again after policy has changed.
    #[inline]
    pub fn sweep(&mut self, tables: &Tables) {
        self.tracker.sweep();
        self.tracker.review(tables);
    }

    /// True while there is something to [`sweep`](Self::sweep).
    pub fn is_sweeping(&self) -> bool {
        self.tracker.is_sweeping() || self.tracker.is_reviewing()
    }

    /// Tells what is to be done about cached flows since the last call, before what came out of the stages is sent. `tables` are
    /// those of all calls since then.
    pub fn ask(&mut self, tables: &Tables, asked: &mut impl Asked) {
        if !self.tracker.connections.changes().is_empty() {
            self.ask_about_changes(tables, asked);
        }
    }

    #[cold]
    fn ask_about_changes(&mut self, tables: &Tables, asked: &mut impl Asked) {
        let (now, connections) = (self.tracker.now, &mut self.tracker.connections);
        let mut changes = std::mem::take(connections.changes());
        let mut rest = changes.as_slice();
        while let Some((change, others)) = rest.split_first() {
            let (beginning, offers) = remember::beginning(tables, rest);
            if beginning > 0 {
                let (of_it, others) = rest.split_at(beginning);
                rest = others;
                if offers.is_some_and(|offers| asked.begin(offers)) {
                    for change in of_it {
                        connections.begin_unseen(now, change.end());
                    }
                }
                continue;
            }
            rest = others;
            let taken = remember::request(tables, change).is_some_and(|request| asked.ask(request));
            if let (false, Change::Offloaded(end)) = (taken, change) {
                connections.take_back(end);
            }
        }
        // Their memory is used again. What was added meanwhile waits for the next call.
        changes.clear();
        changes.append(connections.changes());
        *connections.changes() = changes;
    }

    /// The flow cache tells of one end of a flow.
    pub fn hear(&mut self, news: &News) {
        let (now, connections) = (self.tracker.now, &mut self.tracker.connections);
        match news {
            News::Used(end, unseen) => connections.note_unseen(now, end, unseen),
            News::Dropped(end, unseen) => connections.note_dropped(now, end, unseen),
            News::Found(end, unseen) => {
                connections.adopt_offloaded(now, end, unseen);
                self.tracker.review_all();
            }
        }
    }

    /// The connections in a range of slots, which count from 0 to the capacity.
    pub fn flows(&self, slots: Range<usize>) -> Vec<Flow> {
        self.tracker.connections.flows(self.tracker.now, slots).collect()
    }

    /// The connections of this worker's endpoints.
    pub fn connections(&self) -> &Connections {
        &self.tracker.connections
    }
}
