//! What a lab is to look like, and whether that is possible.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
pub use heddle_api::AttachMode;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Most nodes a lab can have.
pub const MAX_NODES: u8 = 16;
/// Most pods that `up` makes on a node.
pub const MAX_PODS_PER_NODE: u16 = 100;

/// Address family of the wire between the nodes, so of the outer headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Underlay {
    /// IPv4.
    #[default]
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What a lab is to look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabSpec {
    /// Number of nodes, 1 to [`MAX_NODES`].
    pub nodes: u8,
    /// Pods on each node, up to [`MAX_PODS_PER_NODE`].
    pub pods_per_node: u16,
    /// Family of the outer headers; pods always have both.
    pub underlay: Underlay,
    /// Worker threads of each switch.
    pub workers: u16,
    /// Directory of manifests that the agents watch; without one the lab makes its own.
    pub manifests: Option<PathBuf>,
    /// How pods are attached that do not say otherwise by their annotation; nothing leaves it to the switch's own default.
    pub mode: Option<AttachMode>,
    /// Pods have addresses of the wire itself, and nothing is encapsulated.
    #[serde(default)]
    pub routed: bool,
}

/// Most nodes of a routed lab: each has a thirty-second part of the wire's addresses, besides the nodes' own.
const MAX_ROUTED_NODES: u8 = 6;

impl LabSpec {
    /// A lab of this many nodes and pods, everything else as it is by default.
    pub fn new(nodes: u8, pods_per_node: u16) -> Self {
        let underlay = Underlay::Ipv4;
        Self { nodes, pods_per_node, underlay, workers: 1, manifests: None, mode: None, routed: false }
    }

    /// Says what is wrong with it.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            (1..=MAX_NODES).contains(&self.nodes),
            "a lab has 1 to {MAX_NODES} nodes, not {}",
            self.nodes
        );
        ensure!(
            self.pods_per_node <= MAX_PODS_PER_NODE,
            "a lab's node has at most {MAX_PODS_PER_NODE} pods, not {}",
            self.pods_per_node
        );
        ensure!(
            !self.routed || self.nodes <= MAX_ROUTED_NODES,
            "a routed lab has at most {MAX_ROUTED_NODES} nodes, not {}",
            self.nodes
        );
        if let Some(dir) = &self.manifests {
            ensure!(dir.is_dir(), "{} is not a directory of manifests", dir.display());
        }
        ensure!((1..=64).contains(&self.workers), "a switch has 1 to 64 workers, not {}", self.workers);
        Ok(())
    }

    /// Prefixes that node `n`'s pods are in, in this lab.
    pub(crate) fn pod_cidrs(&self, n: u8) -> [IpNet; 2] {
        if !self.routed {
            return pod_cidrs(n);
        }
        let v6 = [0xfd00, 0x172, 0x31, 0, 0, 0, decimal_as_hex(n), 0];
        [net4(Ipv4Addr::new(172, 31, 0, 32 * n), 27), net6(v6, 112)]
    }

    /// Prefixes that all pods are in.
    pub(crate) fn cluster_cidrs(&self) -> [IpNet; 2] {
        if self.routed { wire_addresses().map(|address| address.trunc()) } else { cluster_cidrs() }
    }
}

/// VNI and UDP port of the lab's overlay.
pub(crate) const VNI: u32 = 1;
pub(crate) const VXLAN_PORT: u16 = 4789;

/// Prefixes that all pods of the lab are in.
pub(crate) fn cluster_cidrs() -> [IpNet; 2] {
    [net4(Ipv4Addr::new(10, 244, 0, 0), 16), net6([0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0], 48)]
}

/// Prefixes that node `n`'s pods are in.
pub(crate) fn pod_cidrs(n: u8) -> [IpNet; 2] {
    let v6_subnet = decimal_as_hex(n);
    [net4(Ipv4Addr::new(10, 244, n, 0), 24), net6([0xfd00, 0x10, 0x244, v6_subnet, 0, 0, 0, 0], 64)]
}

/// Addresses of node `n` on the wire, with the wire's prefix lengths.
pub(crate) fn node_addresses(n: u8) -> [IpNet; 2] {
    let host = decimal_as_hex(n);
    [net4(Ipv4Addr::new(172, 31, 0, n), 24), net6([0xfd00, 0x172, 0x31, 0, 0, 0, 0, host], 64)]
}

/// Addresses of the wire itself: the nodes' default gateway.
pub(crate) fn wire_addresses() -> [IpNet; 2] {
    node_addresses(254)
}

/// Addresses outside the cluster and off the wire, answered by the wire's namespace: the world (RFC 5737, RFC 3849).
pub const WORLD: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// The `n` in 10.244.n.0 is written in decimal, so `fd00:10:244:n::` is to read the same: 12 becomes 0x12.
fn decimal_as_hex(n: u8) -> u16 {
    let n = u16::from(n);
    n % 10 + ((n / 10 % 10) << 4) + ((n / 100) << 8)
}

fn net4(address: Ipv4Addr, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, length))
}

fn net6(segments: [u16; 8], length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(segments.into(), length))
}

/// The one of the two addresses that is of this family.
pub(crate) fn of_family(addresses: &[IpAddr], v6: bool) -> Result<IpAddr> {
    addresses
        .iter()
        .copied()
        .find(|a| a.is_ipv6() == v6)
        .with_context(|| format!("no IPv{} address among {addresses:?}", if v6 { 6 } else { 4 }))
}

#[cfg(test)]
mod tests {
    //! The address plan of the documentation, and the limits.
    use super::*;

    #[test]
    fn addresses_read_alike_in_both_families() {
        assert_eq!(pod_cidrs(12).map(|n| n.to_string()), ["10.244.12.0/24", "fd00:10:244:12::/64"]);
        assert_eq!(node_addresses(3).map(|n| n.to_string()), ["172.31.0.3/24", "fd00:172:31::3/64"]);
        assert_eq!(wire_addresses().map(|n| n.to_string()), ["172.31.0.254/24", "fd00:172:31::254/64"]);
    }

    #[test]
    fn every_node_is_inside_the_cluster() {
        let [v4, v6] = cluster_cidrs();
        for node in 1..=MAX_NODES {
            let [pods4, pods6] = pod_cidrs(node);
            assert!(v4.contains(&pods4) && v6.contains(&pods6), "{node}");
        }
    }

    #[test]
    fn limits_hold() {
        assert!(LabSpec::new(1, 0).validate().is_ok());
        assert!(LabSpec::new(16, 100).validate().is_ok());
        for (nodes, pods) in [(0, 1), (17, 1), (1, 101)] {
            assert!(LabSpec::new(nodes, pods).validate().is_err(), "{nodes} {pods}");
        }
    }

    #[test]
    fn modes_are_written_as_the_switch_writes_them() {
        for mode in AttachMode::ALL {
            assert_eq!(mode.to_string().parse::<AttachMode>().unwrap(), mode);
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.name());
        }
        let error = "Direct".parse::<AttachMode>().unwrap_err().to_string();
        assert!(error.contains("'Direct'") && error.contains("direct or cached"), "{error}");
    }
}
