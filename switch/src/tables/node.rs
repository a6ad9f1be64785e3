//! The node itself, and its port towards the others.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::ports::PortId;
use crate::wire::Mac;

/// The node's own addresses and settings that packets are judged and built with.
#[derive(Debug, Clone)]
pub struct Node {
    /// The gateway that pods have as their default route.
    pub gateway_v4: Ipv4Addr,
    /// As `gateway_v4`, link-local.
    pub gateway_v6: Ipv6Addr,
    /// MAC of the gateway, the same on every port.
    pub gateway_mac: Mac,
    /// Source of the ICMP errors the switch sends: an address of the node.
    pub icmp_source_v4: Ipv4Addr,
    /// As `icmp_source_v4`, for ICMP over IPv6: an address of the node.
    pub icmp_source_v6: Ipv6Addr,
    /// The overlay's identifier, 24 bits (RFC 7348).
    pub vni: u32,
    /// UDP destination port of encapsulated packets.
    pub vxlan_port: u16,
    /// The port packets to other nodes leave by, if there is one.
    pub uplink: Option<Uplink>,
}

/// Who puts packets into the tunnel and takes them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// The switch: the uplink's ports are sockets on the NIC.
    Switch,
    /// Linux's vxlan device: the uplink's ports are the trunks, and inner packets pass them.
    Kernel {
        /// Index of the device.
        interface: u32,
    },
}

/// The port towards other nodes.
#[derive(Debug, Clone)]
pub struct Uplink {
    /// Who puts packets into the tunnel.
    pub tunnel: Tunnel,
    /// One port a worker, by worker index, so that an encapsulated packet never changes worker. Empty entries are not
    /// allowed: with fewer queues than workers, entries repeat.
    pub ports: Vec<PortId>,
    /// MAC of the NIC, the source of outer Ethernet headers.
    pub mac: Mac,
    /// Outer source address over IPv4, if the underlay has one.
    pub address_v4: Option<Ipv4Addr>,
    /// Outer source address over IPv6, if the underlay has one.
    pub address_v6: Option<Ipv6Addr>,
    /// Inner destination MAC this node accepts on the overlay.
    pub vtep_mac: Mac,
    /// Largest outer IP packet in bytes.
    pub mtu: u16,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            gateway_v4: DEFAULT_GATEWAY_V4,
            gateway_v6: DEFAULT_GATEWAY_V6,
            gateway_mac: DEFAULT_GATEWAY_MAC,
            icmp_source_v4: DEFAULT_GATEWAY_V4,
            icmp_source_v6: DEFAULT_GATEWAY_V6,
            vni: 1,
            vxlan_port: VXLAN_PORT,
            uplink: None,
        }
    }
}

/// Link-local (RFC 3927), so that it needs no address of the cluster and is the same on every node.
const DEFAULT_GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Link-local (RFC 4291).
const DEFAULT_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Locally administered; "hd" in ASCII behind the flag octet.
const DEFAULT_GATEWAY_MAC: Mac = Mac([0x02, 0x68, 0x64, 0, 0, 1]);
/// Assigned by IANA for VXLAN (RFC 7348, section 8).
const VXLAN_PORT: u16 = 4789;
