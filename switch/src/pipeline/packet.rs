//! What `parse` learned of a packet, for the stages behind it.

use std::net::IpAddr;

use crate::wire::{Fragment, Mac, flow, protocol};

/// Hops that packets of the switch's own may take: what the hosts of today send with.
pub(super) const HOP_LIMIT: u8 = 64;

/// The headers of an IP packet that starts with Ethernet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet {
    pub(super) destination_mac: Mac,
    pub(super) source_mac: Mac,
    pub(super) ip: Ip,
}

/// An IP packet of either family. Offsets count from the start of the Ethernet header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ip {
    /// Of the same family as `destination`.
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Length without the Ethernet header.
    pub(super) len: u16,
    /// Where the layer above IP starts; in a later fragment there is no header at that place.
    pub(super) transport: u16,
    /// What the layer above IP is.
    pub(super) protocol: u8,
    pub(super) hop_limit: u8,
    pub(super) traffic_class: u8,
    pub(super) fragment: Fragment,
}

impl Ip {
    /// What the layer above IP starts with; nothing in a later fragment.
    #[inline]
    pub(super) fn transport<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        match self.fragment {
            Fragment::Later => &[],
            Fragment::Whole | Fragment::First => bytes.get(usize::from(self.transport)..).unwrap_or_default(),
        }
    }

    /// The message type, when it is ICMP of the packet's own family.
    #[inline]
    pub(super) fn icmp_kind(&self, bytes: &[u8]) -> Option<u8> {
        let icmp = match self.source {
            IpAddr::V4(_) => protocol::ICMP,
            IpAddr::V6(_) => protocol::ICMPV6,
        };
        if self.protocol == icmp { self.transport(bytes).first().copied() } else { None }
    }

    /// See [`flow::hash`].
    #[inline]
    pub(super) fn flow_hash(&self, bytes: &[u8]) -> u64 {
        let has_ports = matches!(self.protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
        let ports = match self.fragment {
            Fragment::Whole if has_ports => flow::ports(self.transport(bytes)),
            _ => 0,
        };
        flow::hash(self.source, self.destination, self.protocol, ports)
    }
}

/// True for multicast and broadcast addresses.
#[inline]
pub(super) fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// True for what is no address of anybody: "this network" and loopback (RFC 1122, section 3.2.1.3), class E
/// (RFC 1112, section 4), and the IPv6 addresses that stand for IPv4 ones or for none (RFC 4291, section 2.5). Groups
/// are not among them.
#[inline]
pub(super) fn is_reserved(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, ..] = address.octets();
            matches!(first, 0 | 127 | 240..) && !address.is_broadcast()
        }
        IpAddr::V6(address) => matches!(u128::from(address) >> 32, 0 | 0xffff),
    }
}
