//! A batch through the stages.

use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayVec;
use heddle_xsk::{BATCH, Frame, Pool};

use super::refusal::{Disposition, Refusal};
use super::scene::{Ingress, Scene};
use super::{notice, walk};
use crate::ports::{Batch, PortId};
use crate::stats::WorkerStats;
use crate::tables::Tables;

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
        let port = notice::send(&mut self.notices, now, scene, frame, notice).ok_or(refusal)?;
        self.stats.icmp_errors.add(1);
        Ok(port)
    }
}
