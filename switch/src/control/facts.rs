//! What the node is: fixed by configuration and kernel when the switch starts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::config::Family;
use crate::tables::{AttachMode, HOST, NextHop, Node};
use crate::wire::Mac;

/// The node, as its configuration and its interfaces make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Where its pods have their addresses from.
    pub pod_cidrs: Vec<IpNet>,
    /// Where all pods have their addresses from.
    pub cluster_cidrs: Vec<IpNet>,
    /// Addresses of the node itself.
    pub addresses: Vec<IpAddr>,
    /// Largest IP packet of a pod.
    pub pod_mtu: u16,
    /// How pods are attached that do not say otherwise.
    pub attach: AttachMode,
    /// The way to other nodes by the overlay.
    pub uplink: Option<UplinkFacts>,
    /// The uplink in routed mode, when the pods' addresses are of its network.
    pub segment: Option<UplinkFacts>,
}

/// The uplink, as it was when the switch started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkFacts {
    /// Its interface.
    pub interface: String,
    /// Index of the interface.
    pub index: u32,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u16,
    /// The family of the underlay.
    pub underlay: Family,
    /// Its IPv4 address, if it has one.
    pub address_v4: Option<Ipv4Addr>,
    /// Its IPv6 address, if it has one that is not link-local.
    pub address_v6: Option<Ipv6Addr>,
    /// The overlay's identifier.
    pub vni: u32,
    /// UDP port of the overlay.
    pub port: u16,
    /// "native" or "generic".
    pub xdp: &'static str,
}

impl UplinkFacts {
    /// Where other nodes send to.
    pub fn vtep_address(&self) -> Option<IpAddr> {
        match self.underlay {
            Family::Ipv4 => self.address_v4.map(IpAddr::V4),
            Family::Ipv6 => self.address_v6.map(IpAddr::V6),
        }
    }

    /// The inner destination MAC of packets to this node. It follows from the address, so it stays the same across
    /// restarts, and other nodes may go on using it.
    pub fn vtep_mac(&self) -> Mac {
        self.vtep_address().map_or(Mac([0x02, 0, 0, 0, 0, 1]), vtep_mac)
    }
}

/// Locally administered unicast (IEEE 802: bit 1 set, bit 0 clear), "v" for VTEP, then what tells addresses apart: all
/// four octets of an IPv4 address, or a 32-bit digest (FNV-1a) of an IPv6 address.
fn vtep_mac(address: IpAddr) -> Mac {
    let [a, b, c, d] = match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let fnv = |digest: u32, octet: &u8| (digest ^ u32::from(*octet)).wrapping_mul(0x0100_0193);
            v6.octets().iter().fold(0x811c_9dc5, fnv).to_be_bytes()
        }
    };
    Mac([0x02, 0x76, a, b, c, d])
}

impl NodeFacts {
    /// The node's own address of a family, which it sends from.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        let from_uplink = self.uplink.as_ref().or(self.segment.as_ref()).and_then(|uplink| match family {
            Family::Ipv4 => uplink.address_v4.map(IpAddr::V4),
            Family::Ipv6 => uplink.address_v6.map(IpAddr::V6),
        });
        from_uplink.or_else(|| self.addresses.iter().copied().find(|address| Family::of(*address) == family))
    }

    /// Routes that are there whatever the cluster looks like. Longer prefixes win, so:
    /// - what is nowhere in the cluster goes to the host, and through it to the world;
    /// - what the cluster's prefixes hold and nobody has is unreachable. The host routes those prefixes to the switch,
    ///   so sending such packets to the host would have them run in circles;
    /// - in routed mode the host has no such routes, and finds others of the cluster on its segment;
    /// - the node's own addresses are the host's, even where they lie inside the cluster's prefixes.
    pub(crate) fn base_routes(&self) -> Vec<(IpNet, NextHop)> {
        let everything = [IpNet::from(ipnet::Ipv4Net::default()), IpNet::from(ipnet::Ipv6Net::default())];
        let host = NextHop::Endpoint(HOST);
        let own = self.addresses.iter().map(|address| (IpNet::from(*address), host));
        let cluster = if self.segment.is_none() { self.cluster_cidrs.as_slice() } else { &[] };
        let cluster = cluster.iter().chain(&self.pod_cidrs).map(|cidr| (*cidr, NextHop::Unreachable));
        everything.into_iter().map(|all| (all, host)).chain(cluster).chain(own).collect()
    }

    /// The next hop of exactly this prefix, if it is one of the base routes.
    pub(crate) fn base_route(&self, prefix: IpNet) -> Option<NextHop> {
        self.base_routes().into_iter().rev().find(|(base, _)| *base == prefix).map(|(_, next_hop)| next_hop)
    }

    /// The node as the pipeline wants it, without its uplink's ports.
    pub(crate) fn node(&self) -> Node {
        let mut node = Node::default();
        if let Some(IpAddr::V4(address)) = self.address(Family::Ipv4) {
            node.icmp_source_v4 = address;
        }
        if let Some(IpAddr::V6(address)) = self.address(Family::Ipv6) {
            node.icmp_source_v6 = address;
        }
        if let Some(uplink) = &self.uplink {
            node.vni = uplink.vni;
            node.vxlan_port = uplink.port;
        }
        node
    }
}

#[cfg(test)]
mod tests {
    //! VTEP MACs are legal and tell nodes apart; base routes never send cluster traffic in circles.
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn vtep_macs_are_local_unicast_and_distinct() {
        let v4 = (1..=250u8).map(|n| IpAddr::from([172, 31, 0, n]));
        let v6 = (1..=250u16).map(|n| IpAddr::from([0xfd00, 0x172, 0x31, 0, 0, 0, 0, n]));
        let macs: BTreeSet<_> = v4.chain(v6).map(vtep_mac).collect();
        assert_eq!(macs.len(), 500);
        assert!(macs.iter().all(|mac| !mac.is_multicast() && mac.0[0] & 2 == 2));
    }

    #[test]
    fn a_segment_s_others_are_the_host_s_to_find() {
        let uplink = UplinkFacts {
            interface: "eth0".into(),
            index: 2,
            mac: Mac::default(),
            mtu: 1500,
            underlay: Family::Ipv4,
            address_v4: Some([172, 31, 0, 1].into()),
            address_v6: None,
            vni: 1,
            port: 4789,
            xdp: "native",
        };
        let facts = NodeFacts {
            name: "n1".into(),
            pod_cidrs: vec!["172.31.0.32/27".parse().unwrap()],
            cluster_cidrs: vec!["172.31.0.0/24".parse().unwrap()],
            addresses: vec!["10.0.0.1".parse().unwrap(), "172.31.0.1".parse().unwrap()],
            pod_mtu: 1500,
            attach: AttachMode::Cached,
            uplink: None,
            segment: Some(uplink),
        };
        let mut fib = crate::tables::Fib::default();
        for (prefix, next_hop) in facts.base_routes() {
            fib.insert(prefix, next_hop);
        }
        let lookup = |address: &str| fib.lookup(address.parse().unwrap());
        assert_eq!(lookup("172.31.0.9"), Some(NextHop::Endpoint(HOST)));
        assert_eq!(
            lookup("172.31.0.33"),
            Some(NextHop::Unreachable),
            "nobody else has an address of this node's pods"
        );
        assert_eq!(facts.address(Family::Ipv4), Some([172, 31, 0, 1].into()), "what the segment knows it by");
    }

    #[test]
    fn an_own_address_inside_the_cluster_is_the_hosts() {
        let facts = NodeFacts {
            name: "n1".into(),
            pod_cidrs: vec!["10.1.0.0/24".parse().unwrap()],
            cluster_cidrs: vec!["10.0.0.0/8".parse().unwrap()],
            addresses: vec!["10.9.0.1".parse().unwrap()],
            pod_mtu: 1500,
            attach: AttachMode::Direct,
            uplink: None,
            segment: None,
        };
        let mut fib = crate::tables::Fib::default();
        for (prefix, next_hop) in facts.base_routes() {
            fib.insert(prefix, next_hop);
        }
        let lookup = |address: &str| fib.lookup(address.parse().unwrap());
        assert_eq!(lookup("10.9.0.1"), Some(NextHop::Endpoint(HOST)));
        assert_eq!(lookup("10.9.0.2"), Some(NextHop::Unreachable));
        assert_eq!(lookup("10.1.0.9"), Some(NextHop::Unreachable));
        assert_eq!(lookup("1.1.1.1"), Some(NextHop::Endpoint(HOST)));
        assert_eq!(lookup("2001:db8::1"), Some(NextHop::Endpoint(HOST)));
    }
}
