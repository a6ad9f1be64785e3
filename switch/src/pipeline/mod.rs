//! What happens to a packet, stage by stage, in this order.
//!
//! A batch runs to completion packet by packet (docs/adr/0002-run-to-completion.md). A stage either lets the packet
//! pass or refuses it with a reason, which is counted here and nowhere else. A refusal may come with a notice: the
//! ICMP error that goes to the sender in place of the packet.
#![deny(clippy::indexing_slicing)]

mod admit;
mod answer;
mod decap;
mod emit;
mod encap;
mod fit;
mod hop_limit;
mod notice;
mod packet;
mod parse;
mod refusal;
mod route;
mod scene;

use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayVec;
use heddle_xsk::{BATCH, Frame, Pool};

use crate::ports::{Batch, PortId};
use crate::stats::WorkerStats;
use crate::tables::Tables;
use refusal::Disposition;
pub use scene::Ingress;
use scene::Scene;

/// Frames with the ports they leave by, in the order they came.
pub type Outbox = ArrayVec<(PortId, Frame), BATCH>;

/// The stages, with what one worker keeps for them.
#[derive(Debug)]
pub struct Pipeline {
    worker: u16,
    stats: Arc<WorkerStats>,
    notices: notice::Budget,
}

impl Pipeline {
    /// For the worker with index `worker`, whose drops are counted in `stats`.
    pub fn new(worker: u16, stats: Arc<WorkerStats>) -> Self {
        Self { worker, stats, notices: notice::Budget::default() }
    }

    /// Moves the packets of `batch`, which all came by `ingress`, to `outbox`, or drops them and gives their frames to
    /// `pool`. What `outbox` has no room for stays in `batch`; an empty outbox has room for any batch.
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
        for mut frame in batch.drain(..batch.len().min(outbox.remaining_capacity())) {
            match walk(&scene, &mut frame).or_else(|refusal| self.refuse(now, &scene, &mut frame, refusal)) {
                Ok(port) => outbox.push((port, frame)),
                Err(_) => pool.put(frame),
            }
        }
    }
}

/// One packet's way.
#[inline]
fn walk(scene: &Scene<'_>, frame: &mut Frame) -> Disposition {
    let packet = parse::parse(frame)?;
    let (packet, sender) = decap::decap(scene, frame, packet)?;
    admit::admit(scene, sender, &packet)?;
    let ip = match answer::answer(scene, sender, frame, &packet)? {
        answer::Answer::Sent(port) => return Ok(port),
        answer::Answer::NotAsked(ip) => ip,
    };
    hop_limit::check(ip)?;
    let next = route::route(scene, sender, ip)?;
    fit::fit(ip, &next)?;
    hop_limit::spend(frame, ip);
    emit::emit(scene, frame, ip, &next)
}
