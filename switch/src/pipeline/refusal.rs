//! What becomes of a packet.

use super::exit::Exit;
use super::notice::Notice;
use crate::DropReason;

/// A frame's fate: how it leaves, or why its packet goes nowhere.
pub(super) type Disposition = Result<Exit, Refusal>;

/// The packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: DropReason,
    /// What the sender is told.
    pub(super) notice: Option<Notice>,
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
