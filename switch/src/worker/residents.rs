//! The endpoints that share a trunk: whose traffic is which.

use std::sync::Arc;

use arrayvec::ArrayVec;
use heddle_xsk::{BATCH, Frame};

use crate::pipeline::{addressee, sender};
use crate::stats::PortStats;
use crate::tables::{EndpointNumber, HopKind};

/// Counters of the endpoints behind a trunk, by number.
#[derive(Debug, Default)]
pub(super) struct Residents(Vec<Option<Arc<PortStats>>>);

/// Whom the frames of a batch are for, with their lengths: noted before they are sent, counted once it is known how many were.
pub(super) type Addressed = ArrayVec<(EndpointNumber, usize), BATCH>;

impl Residents {
    pub(super) fn settle(&mut self, number: EndpointNumber, stats: Arc<PortStats>) {
        let place = number as usize;
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        self.0[place] = Some(stats);
    }

    pub(super) fn leave(&mut self, number: EndpointNumber) {
        if let Some(place) = self.0.get_mut(number as usize) {
            *place = None;
        }
    }

    /// Counts what came up.
    pub(super) fn count_received(&self, frames: &[Frame]) {
        for frame in frames {
            if let Some(HopKind::Endpoint(number)) = sender(frame)
                && let Some(stats) = self.get(number)
            {
                stats.rx.count(frame.len());
            }
        }
    }

    /// Notes what is about to go down.
    pub(super) fn note(frames: &[Frame]) -> Addressed {
        // Another node's frames count for no endpoint; an impossible number stands for them.
        let number = |frame: &Frame| match addressee(frame) {
            Some(HopKind::Endpoint(number)) => number,
            Some(HopKind::Vtep(_)) | None => EndpointNumber::MAX,
        };
        frames.iter().map(|frame| (number(frame), frame.len())).collect()
    }

    /// Counts what went down: the first so many of what was noted.
    pub(super) fn count_sent(&self, addressed: &[(EndpointNumber, usize)]) {
        for (number, len) in addressed {
            if let Some(stats) = self.get(*number) {
                stats.tx.count(*len);
            }
        }
    }

    fn get(&self, number: EndpointNumber) -> Option<&PortStats> {
        self.0.get(number as usize)?.as_deref()
    }
}
