//! Where Namespaces, Pods and `NetworkPolicy` objects come from.

pub(crate) mod directory;

use heddle_policy::model::{Object, ObjectKey};
use tokio::sync::{mpsc, watch};

/// Something became different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An object is new, or was changed to this.
    Set(Object),
    /// An object is gone.
    Remove(ObjectKey),
}

/// What a source tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// These take effect together.
    Changes(Vec<Change>),
    /// Everything has been told that the source could know when this number was asked. Before the first of these, nobody knows
    /// what is not allowed.
    Settled(u64),
}

/// A source that cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Tells of objects, checked, as they come and go.
pub trait Source: Send + 'static {
    /// Tells all objects there are, that this was all, and then every change, until nobody listens any more. Objects that are wrong
    /// are the source's to report.
    ///
    /// A new number in `asked` is a question: an endpoint has come, and what is known of its pod decides what it may do from its
    /// first packet on. The answer, [`SourceEvent::Settled`] with the number, is on the way of a pod's start.
    fn run(
        self,
        sink: mpsc::Sender<SourceEvent>,
        asked: watch::Receiver<u64>,
    ) -> impl Future<Output = Result<(), SourceError>> + Send;
}
