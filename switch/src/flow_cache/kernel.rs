//! What the keeper needs of the kernel's map.

use std::fmt::Debug;
use std::time::Duration;

use crate::pipeline::Party;
use crate::tables::conntrack::FlowKey;

/// What finds a flow: of its packets, and where they come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapKey {
    /// Addresses, ports and protocol of its packets.
    pub flow: FlowKey,
    /// Index of the interface they come in by.
    pub interface: u32,
}

/// The fence of flows that begin when they are written: nobody ever waits there.
pub const NO_FENCE: u16 = u16::MAX;

/// A flow as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedFlow {
    /// Where its packets are from.
    pub from: Party,
    /// Where they go.
    pub to: Party,
    /// Whether they go the way that the connection was opened.
    pub original: bool,
    /// The fence that its packets pass until it is handed over; [`NO_FENCE`] if it is from the start.
    pub fence: u16,
}

/// What the kernel has forwarded of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Packets as they would be on a wire: segments of super-packets count one by one.
    pub packets: u64,
    /// Of the IP packets, headers of all segments included.
    pub bytes: u64,
    /// `CLOCK_MONOTONIC` at the last one; when the flow was written, if there was none.
    pub last_seen: Duration,
}

/// What became of a flow to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is in the map.
    New,
    /// There is one with its key already.
    Exists,
    /// The map is full.
    Full,
}

/// The kernel did not do as it was asked.
#[derive(Debug, thiserror::Error)]
#[error("flow cache: {0}")]
pub struct MapError(pub String);

/// The kernel's map of judged flows. The keeper writes it; a worker only adds flows that begin.
pub trait FlowMap: Send + Debug {
    /// Writes flows; says for each, in order, what became of it.
    fn insert(&mut self, flows: &[(MapKey, CachedFlow)]) -> Result<Vec<Written>, MapError>;

    /// Removes flows; says for each, in order, what it was used for. `None` for one that was not there.
    fn remove(&mut self, keys: &[MapKey]) -> Result<Vec<Option<Usage>>, MapError>;

    /// Shows every flow in the map.
    fn scan(&mut self, visit: &mut dyn FnMut(MapKey, CachedFlow, Usage)) -> Result<(), MapError>;

    /// The time that [`Usage::last_seen`] is of.
    fn now(&self) -> Duration;
}
