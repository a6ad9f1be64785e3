//! What becomes of a packet.

use std::time::Instant;

use heddle_xsk::Frame;

use super::notice::Notice;
use super::scene::Scene;
use super::{Pipeline, notice};
use crate::DropReason;
use crate::ports::PortId;

/// A frame's fate: the port it leaves by, or why its packet goes nowhere.
pub(super) type Disposition = Result<PortId, Refusal>;

/// The packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    reason: DropReason,
    /// What the sender is told.
    notice: Option<Notice>,
}

impl Refusal {
    /// Dropped, and the sender told.
    pub(super) fn told(reason: DropReason, notice: Notice) -> Self {
        Self { reason, notice: Some(notice) }
    }
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self { reason, notice: None }
    }
}

impl Pipeline {
    /// Counts the drop. With a notice the frame goes out again, as the notice; the dropped packet stays dropped.
    #[cold]
    pub(super) fn refuse(
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
