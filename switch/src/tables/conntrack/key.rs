//! What tells flows apart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::EndpointNumber;
use crate::wire::protocol;

/// Where at an endpoint a packet is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// Leaving the endpoint.
    Egress,
    /// Entering the endpoint.
    Ingress,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Egress => Self::Ingress,
            Self::Ingress => Self::Egress,
        }
    }
}

/// Which way of its connection a packet goes; an index into what is kept per direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// As the packet that opened the connection.
    Original,
    /// Against it.
    Reply,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// Whether a packet says by itself which way of its connection it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It does not: either end may have opened the connection.
    Any,
    /// It asks (ICMP echo request). Two hosts that ask each other with one identifier have two connections.
    Query,
    /// It answers.
    Answer,
}

/// Addresses, protocol and ports of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Address it comes from.
    pub source: IpAddr,
    /// Address it goes to.
    pub destination: IpAddr,
    /// Port it comes from. The identifier, both here and in `destination_port`, for ICMP; 0 for what has none.
    pub source_port: u16,
    /// Port it goes to.
    pub destination_port: u16,
    /// What the layer above IP is.
    pub protocol: u8,
    /// Anything but [`Role::Any`] for ICMP only.
    pub role: Role,
}

const _: () = assert!(size_of::<FlowKey>() == 40);

impl FlowKey {
    /// Reads the ports, or the identifier of an ICMP query, from the start of the layer above IP. Eight bytes are
    /// enough, as an ICMP error quotes them (RFC 792).
    ///
    /// Nothing when they are cut off, and for ICMP that neither asks nor answers: errors (see
    /// [`Connections::related`](super::Connections::related)), neighbor discovery and the like belong to no connection of
    /// their own. A later fragment has no such bytes: see [`Fragments`](super::Fragments).
    #[inline]
    pub fn parse(source: IpAddr, destination: IpAddr, protocol: u8, transport: &[u8]) -> Option<Self> {
        let key = |source_port, destination_port, role| {
            Some(Self { source, destination, source_port, destination_port, protocol, role })
        };
        match protocol {
            protocol::TCP | protocol::UDP | protocol::SCTP => {
                let &[a, b, c, d] = transport.first_chunk()?;
                key(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), Role::Any)
            }
            protocol::ICMP | protocol::ICMPV6 => {
                let &[kind, _, _, _, a, b] = transport.first_chunk()?;
                let identifier = u16::from_be_bytes([a, b]);
                key(identifier, identifier, icmp_role(protocol, kind)?)
            }
            _ => key(0, 0, Role::Any),
        }
    }

    /// The key of a packet the other way.
    #[must_use]
    pub const fn reverse(self) -> Self {
        let role = match self.role {
            Role::Any => Role::Any,
            Role::Query => Role::Answer,
            Role::Answer => Role::Query,
        };
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
            role,
        }
    }
}

/// The message types that are asked and answered: echo, timestamp, information and address mask (RFC 792, RFC 950), and
/// echo of `ICMPv6` (RFC 4443).
const fn icmp_role(protocol: u8, kind: u8) -> Option<Role> {
    match (protocol, kind) {
        (protocol::ICMP, 8 | 13 | 15 | 17) | (protocol::ICMPV6, 128) => Some(Role::Query),
        (protocol::ICMP, 0 | 14 | 16 | 18) | (protocol::ICMPV6, 129) => Some(Role::Answer),
        _ => None,
    }
}

/// A flow key as the endpoint sees it, the same for both directions.
///
/// Kept in the words that it is hashed and compared by: a processor does not forward narrow stores to wider loads, and a
/// key is looked up as soon as it is made. Packed, because an entry's first cache line has 44 bytes for it.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(4))]
pub(super) struct Key {
    /// Local address, remote address (two words each, an IPv4 one in the second), and in the last the local port, the
    /// remote port and the endpoint.
    words: [u64; 5],
    /// The protocol, with [`shape`].
    rest: u32,
}

/// Bits beside the protocol in the last word.
mod shape {
    pub(super) const LOCAL_V6: u32 = 1 << 8;
    pub(super) const REMOTE_V6: u32 = 1 << 9;
    pub(super) const LOCAL_ASKS: u32 = 1 << 10;
    pub(super) const REMOTE_ASKS: u32 = 1 << 11;
    pub(super) const INGRESS: u32 = 1 << 12;
}

impl Key {
    /// Equal to no packet's key: the last word of those has its upper half clear.
    pub(super) const FREE: Self = Self { words: [u64::MAX; 5], rest: u32::MAX };

    #[inline]
    pub(super) fn new(endpoint: EndpointNumber, seen: Side, flow: &FlowKey) -> Self {
        let asks = match (flow.role, seen) {
            (Role::Any, _) => 0,
            (Role::Query, Side::Egress) | (Role::Answer, Side::Ingress) => shape::LOCAL_ASKS,
            (Role::Query, Side::Ingress) | (Role::Answer, Side::Egress) => shape::REMOTE_ASKS,
        };
        let (local, remote, local_port, remote_port) = match seen {
            Side::Egress => (flow.source, flow.destination, flow.source_port, flow.destination_port),
            Side::Ingress => (flow.destination, flow.source, flow.destination_port, flow.source_port),
        };
        let ports = u32::from(local_port) << 16 | u32::from(remote_port);
        Self::pack(local, remote, ports, endpoint, u32::from(flow.protocol) | asks)
    }

    /// The key of a packet's fragments. They go one way, so the side is part of it.
    pub(super) fn of_fragment(
        endpoint: EndpointNumber,
        seen: Side,
        addresses: [IpAddr; 2],
        protocol: u8,
        identification: u32,
    ) -> Self {
        let side = if seen == Side::Ingress { shape::INGRESS } else { 0 };
        Self::pack(addresses[0], addresses[1], identification, endpoint, u32::from(protocol) | side)
    }

    #[inline]
    fn pack(local: IpAddr, remote: IpAddr, ports: u32, endpoint: EndpointNumber, rest: u32) -> Self {
        // An IPv4 address and the IPv6 address that maps it must not meet in one key.
        let families = if local.is_ipv6() { shape::LOCAL_V6 } else { 0 }
            | if remote.is_ipv6() { shape::REMOTE_V6 } else { 0 };
        let ([local_high, local_low], [remote_high, remote_low]) = (words(local), words(remote));
        let others = u64::from(ports) << 32 | u64::from(endpoint);
        Self { words: [local_high, local_low, remote_high, remote_low, others], rest: rest | families }
    }

    #[inline]
    pub(super) const fn protocol(self) -> u8 {
        self.rest as u8
    }

    pub(super) const fn endpoint(self) -> EndpointNumber {
        self.words[4] as u32
    }

    pub(super) fn is_free(self) -> bool {
        self == Self::FREE
    }

    /// The flow key of a packet of this flow seen on the given side.
    pub(super) fn flow(self, seen: Side) -> FlowKey {
        let Self { words: [local_high, local_low, remote_high, remote_low, others], rest } = self;
        let ports = (others >> 32) as u32;
        let asks_when_leaving = match rest & (shape::LOCAL_ASKS | shape::REMOTE_ASKS) {
            0 => Role::Any,
            shape::LOCAL_ASKS => Role::Query,
            _ => Role::Answer,
        };
        let leaving = FlowKey {
            source: address([local_high, local_low], rest & shape::LOCAL_V6 != 0),
            destination: address([remote_high, remote_low], rest & shape::REMOTE_V6 != 0),
            source_port: (ports >> 16) as u16,
            destination_port: ports as u16,
            protocol: self.protocol(),
            role: asks_when_leaving,
        };
        match seen {
            Side::Egress => leaving,
            Side::Ingress => leaving.reverse(),
        }
    }

    /// Feeds the key to a hasher.
    #[inline(always)]
    pub(super) fn hash(&self, hasher: &mut impl std::hash::Hasher) {
        for word in self.words {
            hasher.write_u64(word);
        }
        hasher.write_u64(self.rest.into());
    }
}

impl PartialEq for Key {
    /// Without a branch for each word: a lookup nearly always compares what is equal.
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.words, other.words);
        let words = ours.iter().zip(theirs).fold(0, |difference, (our, their)| difference | (our ^ their));
        words | u64::from(self.rest ^ other.rest) == 0
    }
}

impl Eq for Key {}

#[inline(always)]
const fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => [0, address.to_bits() as u64],
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            [(bits >> 64) as u64, bits as u64]
        }
    }
}

fn address([high, low]: [u64; 2], v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)))
    } else {
        IpAddr::V4(Ipv4Addr::from_bits(low as u32))
    }
}
