//! Linux network devices, addresses, routes, neighbors, queueing disciplines, offloads and network namespaces: what the
//! switch, the CNI plugin and the lab set up in the kernel.
//!
//! [`Netlink`] is a conversation with one network namespace and carries every operation that goes over netlink, sorted
//! into one file per topic. What does not go over netlink ([`ethtool`], [`sysctl`]) acts on the calling thread's
//! namespace and is wrapped in [`Netns::run`] for another one.
#![deny(unsafe_code)]

mod address;
pub mod conntrack;
mod error;
// One ioctl that no safe crate wraps; see there.
#[allow(unsafe_code, reason = "SIOCETHTOOL takes a pointer")]
pub mod ethtool;
mod leftovers;
mod link;
mod mac;
mod neighbor;
mod netlink;
mod netns;
mod qdisc;
mod route;
pub mod sysctl;

pub use error::{Error, Result};
pub use link::{BridgeSpec, ExternalVxlanSpec, Link, VethEnd, VxlanSpec, check_link_name};
pub use mac::{Mac, ParseMacError};
pub use neighbor::{Neighbor, NeighborEvent, NeighborEvents};
pub use netlink::Netlink;
pub use netns::{NETNS_DIR, Netns, create_named, delete_named, list_named};
pub use nix::errno::Errno;
pub use qdisc::Shape;
pub use route::{ROUTE_PROTOCOL, Route, RouteLookup};
