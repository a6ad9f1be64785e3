//! What the flow cache's maps hold, and how it is written there: `c/flow_cache.h`.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// `HEDDLE_FLOW_CACHE_FORMAT`
pub(crate) const FORMAT: u32 = 1;
/// `HEDDLE_HOPS`
pub(crate) const HOPS: u32 = 65_536;
/// `HEDDLE_TRUNKS`
pub(crate) const TRUNKS: u32 = 256;

/// The number of VTEP 0 among the hops. Endpoint n is hop n, so there is room for this many of each.
pub const FIRST_VTEP_HOP: u32 = 0x8000;
/// What the tag of a packet says that came from a VTEP which is no peer.
pub const UNKNOWN_HOP: u32 = 0xffff_ffff;
/// The first two octets of a MAC that is a tag with a hop, and four octets of its number.
pub const TAG_HOP: [u8; 2] = [0x02, 0x4d];
/// The first two octets of a MAC that is a tag with a fence, and two octets each of its number and the packet's.
pub const TAG_FENCE: [u8; 2] = [0x02, 0x4e];
/// As [`TAG_HOP`], of a packet whose own source MAC was not the endpoint's.
pub const TAG_SPOOFED: [u8; 2] = [0x02, 0x4f];

/// A MAC address.
pub type Mac = [u8; 6];

/// What all programs need to know about the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The gateway's MAC: endpoints send to it, and packets for them come from it.
    pub gateway_mac: Mac,
    /// The inner MAC of this node's VTEP.
    pub vtep_mac: Mac,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// Index of the vxlan device, if there is one.
    pub vxlan: Option<u32>,
    /// The address tunnels come from. Without one, or to a VTEP of the other family, routing chooses.
    pub local: Option<IpAddr>,
    /// How many trunks there are, numbered from 0.
    pub trunks: u32,
}

/// What packets come from and go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// A pod's interface.
    Endpoint {
        /// Index of the host end of its veth.
        ifindex: u32,
        /// Largest IP packet it takes, in bytes.
        mtu: u32,
        /// Its MAC.
        mac: Mac,
    },
    /// The node's own stack.
    Host {
        /// Index of the interface that it receives by.
        ifindex: u32,
        /// Largest IP packet it takes, in bytes.
        mtu: u32,
        /// That interface's MAC.
        mac: Mac,
    },
    /// Another node.
    Vtep {
        /// Where the tunnel goes.
        address: IpAddr,
        /// Largest IP packet the tunnel takes, in bytes.
        mtu: u32,
        /// Its inner MAC.
        mac: Mac,
    },
}

/// Who is behind an interface that packets come in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Its hop.
    pub hop: u32,
    /// Index of the trunk that its packets go up by.
    pub trunk: u32,
    /// Its MAC, which its packets have to come from. `None`: any.
    pub mac: Option<Mac>,
}

/// What tells a flow from others: TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Source address. Both addresses are of one family.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// 6 or 17.
    pub protocol: u8,
    /// The interface its packets come in by: host end of a veth, or the vxlan device.
    pub ifindex: u32,
}

/// One end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Party {
    /// Its hop.
    pub hop: u32,
    /// The hop's generation that the flow was judged at.
    pub generation: u32,
}

/// An address and port to put in place of a packet's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    /// Which of the packet's.
    pub side: Side,
    /// The new address, of the packet's family.
    pub address: IpAddr,
    /// The new port.
    pub port: u16,
}

/// An end of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// What was judged about a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Who sends.
    pub from: Party,
    /// Who receives.
    pub to: Party,
    /// It goes the way the connection was opened. The programs do not care.
    pub original: bool,
    /// What is changed on the way.
    pub rewrite: Option<Rewrite>,
    /// The fence that keeps its first packets in order.
    pub fence: u16,
    /// How long the fence may at most send packets up, from the insertion on.
    pub pending_for: Duration,
}

/// How much a flow was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Use {
    /// Packets forwarded, as on the wire: every segment of a super-packet is one.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
    /// When the last was forwarded, by `CLOCK_MONOTONIC` and to some milliseconds. Zero: never.
    pub last_seen: Duration,
    /// Packets are forwarded; else they go up until the fence opens.
    pub open: bool,
}

const STATE_OPEN: u8 = 1;
const ORIGINAL: u8 = 1;
const REWRITE_SOURCE: u8 = 2;
const REWRITE_DESTINATION: u8 = 4;

/// Writes fields one after the other, as C lays them out; the shapes leave no gaps but those named `pad`.
struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    fn put(mut self, field: &[u8]) -> Self {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
        self
    }

    fn number(self, field: u32) -> Self {
        self.put(&field.to_ne_bytes())
    }

    fn long(self, field: u64) -> Self {
        self.put(&field.to_ne_bytes())
    }

    fn pad(self, octets: usize) -> Self {
        self.put(&[0; 8][..octets])
    }

    fn done(self) -> [u8; N] {
        debug_assert_eq!(self.at, N, "the shape has fields that are not written");
        self.bytes
    }
}

/// Reads fields one after the other.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *field
    }

    fn number(&mut self) -> u32 {
        u32::from_ne_bytes(self.take())
    }

    fn port(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn long(&mut self) -> u64 {
        u64::from_ne_bytes(self.take())
    }

    fn address(&mut self, family: u8) -> IpAddr {
        let address = Ipv6Addr::from(self.take::<16>());
        match (family, address.to_ipv4_mapped()) {
            (4, Some(v4)) => v4.into(),
            _ => address.into(),
        }
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

/// An address as the maps have it: IPv4 is IPv4-mapped.
pub(crate) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
    .octets()
}

/// Undoes [`octets`].
pub(crate) fn address_from_octets(bytes: &[u8]) -> IpAddr {
    let address = Ipv6Addr::from(Reader(bytes).take::<16>());
    address.to_ipv4_mapped().map_or(address.into(), Into::into)
}

pub(crate) const SETTINGS_SIZE: usize = 48;

impl Settings {
    pub(crate) fn to_bytes(&self) -> [u8; SETTINGS_SIZE] {
        Writer::new()
            .number(FORMAT)
            .number(self.vni)
            .number(self.vxlan.unwrap_or(0))
            .number(self.trunks)
            .put(&self.gateway_mac)
            .put(&self.vtep_mac)
            .put(&[self.local.map_or(0, family)])
            .pad(3)
            .put(&self.local.map_or([0; 16], octets))
            .done()
    }
}

const HOP_ENDPOINT: u8 = 1;
const HOP_HOST: u8 = 2;
const HOP_VTEP: u8 = 3;
pub(crate) const HOP_SIZE: usize = 40;

pub(crate) fn hop_to_bytes(generation: u32, hop: Option<Hop>) -> [u8; HOP_SIZE] {
    let (kind, ifindex, mtu, mac, address) = match hop {
        None => (0, 0, 0, [0; 6], None),
        Some(Hop::Endpoint { ifindex, mtu, mac }) => (HOP_ENDPOINT, ifindex, mtu, mac, None),
        Some(Hop::Host { ifindex, mtu, mac }) => (HOP_HOST, ifindex, mtu, mac, None),
        Some(Hop::Vtep { address, mtu, mac }) => (HOP_VTEP, 0, mtu, mac, Some(address)),
    };
    Writer::new()
        .number(generation)
        .put(&[kind, address.map_or(0, family)])
        .pad(2)
        .number(ifindex)
        .number(mtu)
        .put(&mac)
        .pad(2)
        .put(&address.map_or([0; 16], octets))
        .done()
}

pub(crate) fn hop_from_bytes(bytes: &[u8]) -> (u32, Option<Hop>) {
    let mut reader = Reader(bytes);
    let generation = reader.number();
    let [kind, family, _, _] = reader.take();
    let (ifindex, mtu) = (reader.number(), reader.number());
    let [mac @ .., _, _]: [u8; 8] = reader.take();
    let address = reader.address(family);
    let hop = match kind {
        HOP_ENDPOINT => Some(Hop::Endpoint { ifindex, mtu, mac }),
        HOP_HOST => Some(Hop::Host { ifindex, mtu, mac }),
        HOP_VTEP => Some(Hop::Vtep { address, mtu, mac }),
        _ => None,
    };
    (generation, hop)
}

pub(crate) const PORT_SIZE: usize = 16;

impl Port {
    pub(crate) fn to_bytes(self) -> [u8; PORT_SIZE] {
        Writer::new().number(self.hop).number(self.trunk).put(&self.mac.unwrap_or([0; 6])).pad(2).done()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut reader = Reader(bytes);
        let (hop, trunk) = (reader.number(), reader.number());
        let [mac @ .., _, _]: [u8; 8] = reader.take();
        Self { hop, trunk, mac: (mac != [0; 6]).then_some(mac) }
    }
}

pub(crate) const FLOW_KEY_SIZE: usize = 44;

impl FlowKey {
    pub(crate) fn to_bytes(self) -> [u8; FLOW_KEY_SIZE] {
        Writer::new()
            .put(&octets(self.source))
            .put(&octets(self.destination))
            .put(&self.source_port.to_be_bytes())
            .put(&self.destination_port.to_be_bytes())
            .number(self.ifindex)
            .put(&[self.protocol, family(self.source)])
            .pad(2)
            .done()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut reader = Reader(bytes);
        let (source, destination): ([u8; 16], [u8; 16]) = (reader.take(), reader.take());
        let (source_port, destination_port) = (reader.port(), reader.port());
        let ifindex = reader.number();
        let [protocol, family] = reader.take();
        Self {
            source: Reader(&source).address(family),
            destination: Reader(&destination).address(family),
            source_port,
            destination_port,
            protocol,
            ifindex,
        }
    }
}

pub(crate) const FLOW_SIZE: usize = 80;

impl Flow {
    /// The value for `key`, to be written at `now` by `CLOCK_MONOTONIC`.
    pub(crate) fn to_bytes(self, key: &FlowKey, now: Duration) -> [u8; FLOW_SIZE] {
        let mut flags = if self.original { ORIGINAL } else { 0 };
        flags |= match self.rewrite.map(|rewrite| rewrite.side) {
            None => 0,
            Some(Side::Source) => REWRITE_SOURCE,
            Some(Side::Destination) => REWRITE_DESTINATION,
        };
        let until = u64::try_from((now + self.pending_for).as_nanos()).unwrap_or(u64::MAX);
        Writer::new()
            .put(&key.source_port.to_be_bytes())
            .put(&key.destination_port.to_be_bytes())
            .put(&octets(key.destination)[12..])
            .number(self.from.hop)
            .number(self.to.hop)
            .number(self.from.generation)
            .number(self.to.generation)
            .put(&[0, flags])
            .put(&self.rewrite.map_or(0, |rewrite| rewrite.port).to_be_bytes())
            .number(self.fence.into())
            .put(&self.rewrite.map_or([0; 16], |rewrite| octets(rewrite.address)))
            .long(until)
            .pad(8)
            .pad(8)
            .pad(8)
            .done()
    }

    /// The flow as it was judged, with nothing left of the fence's time, and its use.
    pub(crate) fn from_bytes(key: &FlowKey, bytes: &[u8]) -> (Self, Use) {
        let mut reader = Reader(bytes);
        let _identity: [u8; 8] = reader.take();
        let [from, to, from_generation, to_generation] = [(); 4].map(|()| reader.number());
        let [state, flags] = reader.take();
        let port = reader.port();
        let fence = reader.number() as u16;
        let address = reader.address(family(key.source));
        let _until = reader.long();
        let rewrite = |side| Some(Rewrite { side, address, port });
        let flow = Self {
            from: Party { hop: from, generation: from_generation },
            to: Party { hop: to, generation: to_generation },
            original: flags & ORIGINAL != 0,
            rewrite: match flags & (REWRITE_SOURCE | REWRITE_DESTINATION) {
                REWRITE_SOURCE => rewrite(Side::Source),
                REWRITE_DESTINATION => rewrite(Side::Destination),
                _ => None,
            },
            fence,
            pending_for: Duration::ZERO,
        };
        let used = Use {
            packets: reader.long(),
            bytes: reader.long(),
            last_seen: Duration::from_nanos(reader.long()),
            open: state == STATE_OPEN,
        };
        (flow, used)
    }
}
