//! What the control thread asks of a worker. Commands are carried out between two rounds, so they see no frame on its way.

use std::ops::Range;
use std::sync::Arc;

use crossbeam::channel::Sender;
use heddle_xsk::HeldFrames;

use crate::flow_cache::FlowMap;
use crate::pipeline::Ingress;
use crate::ports::{Port, PortId};
use crate::stats::PortStats;
use crate::tables::EndpointNumber;
use crate::tables::conntrack::{Counters, Flow};

/// Where an answer goes.
pub(super) struct Answer<T>(Sender<T>);

impl<T> Answer<T> {
    pub(super) fn new(sender: Sender<T>) -> Self {
        Self(sender)
    }

    /// Answers. A control thread that does not wait any more is not the worker's concern.
    pub(super) fn answer(self, value: T) {
        let _ = self.0.send(value);
    }
}

/// A request.
pub(super) enum Command {
    /// Own this port from now on.
    Attach(Attach),
    /// Give up a port.
    Detach(Detach),
    /// An endpoint shares the trunk from now on.
    Settle(Settle),
    /// There is a flow cache: this is its map.
    Map(Box<dyn FlowMap>, Answer<()>),
    /// It does not any more.
    Leave(EndpointNumber, Answer<()>),
    /// Say where the frames are.
    Report(Answer<Report>),
    /// List the connections in a range of slots.
    Flows(Range<usize>, Answer<FlowsPart>),
    /// End.
    Stop,
}

pub(super) struct Attach {
    pub(super) id: PortId,
    pub(super) ingress: Ingress,
    pub(super) port: Box<dyn Port>,
    pub(super) stats: Arc<PortStats>,
    /// What the kernel says to watching it.
    pub(super) done: Answer<Result<(), rustix::io::Errno>>,
}

pub(super) struct Detach {
    pub(super) id: PortId,
    /// The port, to be closed outside of the worker: closing a socket takes the kernel milliseconds.
    pub(super) done: Answer<Option<Box<dyn Port>>>,
}

pub(super) struct Settle {
    pub(super) number: EndpointNumber,
    pub(super) stats: Arc<PortStats>,
    pub(super) done: Answer<()>,
}

/// Some of a worker's connections.
pub(super) struct FlowsPart {
    pub(super) flows: Vec<Flow>,
    /// Slots there are.
    pub(super) capacity: usize,
}

/// What a worker holds, between two rounds.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Ports the worker owns.
    pub ports: usize,
    /// Of them, those it polls at the moment.
    pub polled: usize,
    /// Frames in its pool.
    pub free: usize,
    /// Frames its ports hold.
    pub held: HeldFrames,
    /// Frames that wait in the rings to it.
    pub handoff: usize,
    /// Connections it remembers.
    pub connections: usize,
    /// Connections it can remember.
    pub capacity: usize,
    /// What became of connections so far.
    pub counters: Counters,
}
