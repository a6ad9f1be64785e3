//! The pod interfaces of this node, and the host's.

use std::net::IpAddr;

use heddle_image::PolicyClassNumber;
use serde::{Deserialize, Serialize};

use super::Paged;
use crate::ports::PortId;
use crate::wire::Mac;

/// Number of an endpoint on its node: an index into [`Endpoints`], reused only after the endpoint is gone.
pub type EndpointNumber = u32;

/// The host is an endpoint too, always this one.
pub const HOST: EndpointNumber = 0;

/// How an endpoint is attached to the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// By a port of its own: every packet passes the switch.
    #[default]
    Direct,
    /// By the trunk: packets of flows that are in the flow cache stay in the kernel.
    Cached,
}

impl AttachMode {
    /// As it is written in configuration and requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Cached => "cached",
        }
    }

    /// The mode of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Direct, Self::Cached].into_iter().find(|mode| mode.name() == name)
    }
}

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
    /// Largest IP packet it takes, in bytes.
    pub mtu: u16,
    /// What its connections are judged by.
    pub policy: EndpointPolicy,
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
