//! The pod interfaces of this node, and the host's.

use std::net::IpAddr;

pub use heddle_api::AttachMode;
use heddle_image::PolicyClassNumber;

use super::Paged;
use crate::ports::PortId;
use crate::wire::Mac;

/// Number of an endpoint on its node: an index into [`Endpoints`], reused only after the endpoint is gone.
pub type EndpointNumber = u32;

/// The host is an endpoint too, always this one.
pub const HOST: EndpointNumber = 0;

/// One pod interface, or the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Source addresses accepted from it. Not asked for the host, which forwards for others.
    pub addresses: Vec<IpAddr>,
    /// Its interface's MAC.
    pub mac: Mac,
    /// Where it is attached: a port of its own, or its worker's trunk.
    pub port: PortId,
    /// How it is attached.
    pub attach: AttachMode,
    /// Index of the interface that what it sends comes in by.
    pub interface: u32,
    /// Where the flow cache delivers to.
    pub delivery: Delivery,
    /// Largest IP packet it takes, in bytes.
    pub mtu: u16,
    /// What its connections are judged by.
    pub policy: EndpointPolicy,
    /// Protocols (IANA's numbers) and ports that ports of the node lead to, by way of the host.
    pub mapped: Vec<(u8, u16)>,
}

/// Where the kernel delivers to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivery {
    /// Index of the host end of its veth.
    pub interface: u32,
    /// Packets wait in that interface's queue, which limits them, instead of going straight into the pod.
    pub queued: bool,
}

/// What an endpoint's connections are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointPolicy {
    /// Nothing: it is the host, or the node enforces no policy.
    Open,
    /// No image has named it yet, so nobody knows what it may do: it may do nothing.
    Closed,
    /// A policy class of the image published with it.
    Class(PolicyClassNumber),
}

/// Endpoints by number.
pub type Endpoints = Paged<Endpoint>;
