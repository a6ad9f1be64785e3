//! What control needs of the part of the switch that touches packets.

use std::net::IpAddr;
use std::sync::Arc;

use heddle_netdev::Shape;

use super::ControlError;
use super::ports::Forward;
use crate::DropReason;
use crate::ports::PortId;
use crate::stats::PortStats;
use crate::tables::conntrack::Flow;
use crate::tables::{AttachMode, Delivery, EndpointNumber, NextHop, Tables};

/// A port that is in a worker's hands.
#[derive(Debug, Clone)]
pub struct Attached {
    /// Its name for the tables.
    pub port: PortId,
    /// Its counters.
    pub stats: Arc<PortStats>,
    /// What the flow cache forwarded for it, if it is cached.
    pub cached: Option<Arc<PortStats>>,
    /// If it is limited: the index of the interface that what it sends comes in by, and where the kernel delivers to.
    pub detour: Option<(u32, Delivery)>,
}

/// The limits of an endpoint, in the kernel's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shapes {
    /// Of what the pod receives.
    pub ingress: Option<Shape>,
    /// Of what it sends.
    pub egress: Option<Shape>,
}

impl Shapes {
    /// True when there is no limit.
    pub fn is_none(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

/// Ports, workers and published tables. Calls wait for the workers, which answer within microseconds.
pub trait Dataplane: Send {
    /// Index of an interface, `None` when there is none of this name.
    fn interface_index(&self, name: &str) -> Option<u32>;

    /// Takes an interface over for endpoint `number`. When it fails, nothing is left behind.
    fn attach(
        &mut self,
        interface: &str,
        number: EndpointNumber,
        mode: AttachMode,
        limits: Shapes,
    ) -> Result<Attached, ControlError>;

    /// Gives an endpoint's interface up, which may be gone already.
    fn detach(&mut self, number: EndpointNumber) -> Result<(), ControlError>;

    /// Lets the node's network reach a pod's addresses, in routed mode. When it fails, nothing is left behind.
    fn announce(&mut self, addresses: &[IpAddr]) -> Result<(), ControlError>;

    /// Ends that.
    fn withdraw(&mut self, addresses: &[IpAddr]);

    /// Lets ports of the node lead to a pod. When it fails, none does.
    fn map_ports(&mut self, forwards: &[Forward]) -> Result<(), ControlError>;

    /// Ends that, and whatever goes on by it.
    fn unmap_ports(&mut self, forwards: &[Forward]);

    /// Makes `tables` what the workers use, and returns their generation once all of them do. `touched` are the next hops that
    /// were taken from some prefix: what was routed to them may go elsewhere now.
    fn publish(&mut self, tables: Tables, touched: &[NextHop]) -> Result<u64, ControlError>;

    /// Generation of what was published last.
    fn generation(&self) -> u64;

    /// The workers, with their counters.
    fn workers(&self) -> Vec<heddle_api::Worker>;

    /// The connections that the workers remember.
    fn flows(&self) -> Result<Vec<Flow>, ControlError>;

    /// The flow cache, if any endpoint is cached.
    fn flow_cache(&self) -> Option<heddle_api::FlowCache>;

    /// Where the frames are.
    fn census(&self) -> Result<heddle_api::FrameCensus, ControlError>;

    /// Drops of all workers for one reason.
    fn drops(&self, reason: DropReason) -> u64;
}
