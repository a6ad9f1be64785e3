//! What the workers look things up in: data only, no packets and no I/O.
//!
//! [`Tables`] is one consistent state of all of it. The control thread changes its own copy and publishes it as a
//! [snapshot](publish); cloning is cheap because every table shares its unchanged parts with the copy before.

pub mod conntrack;
mod endpoints;
mod fib;
mod hops;
mod node;
pub mod publish;
mod vteps;

use std::net::IpAddr;

pub use endpoints::{AttachMode, Delivery, Endpoint, EndpointNumber, EndpointPolicy, Endpoints, HOST};
pub use fib::{Fib, NextHop};
pub use heddle_paged::Paged;
pub use hops::{Hop, HopGenerations, HopKind};
pub use node::{Node, Tunnel, Uplink};
pub use vteps::{Vtep, VtepNumber, Vteps};

/// All tables as published at one moment.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// Number of the snapshot.
    pub generation: u64,
    /// Destination prefix to next hop.
    pub fib: Fib,
    /// The endpoints of this node by number.
    pub endpoints: Endpoints,
    /// The other nodes' tunnel ends.
    pub vteps: Vteps,
    /// What endpoints with a policy class are judged by.
    pub policy: Policy,
    /// What the node itself is.
    pub node: Node,
    /// What tells cached flows of today from those of yesterday.
    pub hop_generations: HopGenerations,
}

impl Tables {
    /// True for the addresses of the node itself.
    pub fn is_host(&self, address: IpAddr) -> bool {
        self.endpoints.get(HOST).is_some_and(|host| host.addresses.contains(&address))
    }
}

/// The policy image in force.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Bitmaps and classifiers.
    pub image: heddle_image::Image,
    /// Changes with every image. A connection judged at another generation is judged again at its next packet.
    pub generation: u32,
}
