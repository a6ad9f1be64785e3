//! How it is written in the maps: `c/flow_cache.h`.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::types::{Flow, FlowKey, Hop, Party, Port, Rewrite, Settings, Side, Use};

/// `HEDDLE_FLOW_CACHE_FORMAT`
pub(crate) const FORMAT: u32 = 2;
/// `HEDDLE_HOPS`
pub(crate) const HOPS: u32 = 65_536;
/// `HEDDLE_TRUNKS`
pub(crate) const TRUNKS: u32 = 256;

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
const HOP_QUEUED: u16 = 1;
pub(crate) const HOP_SIZE: usize = 40;

pub(crate) fn hop_to_bytes(generation: u32, hop: Option<Hop>) -> [u8; HOP_SIZE] {
    let queued = matches!(hop, Some(Hop::Endpoint { queued: true, .. }));
    let (kind, ifindex, mtu, mac, address) = match hop {
        None => (0, 0, 0, [0; 6], None),
        Some(Hop::Endpoint { ifindex, mtu, mac, .. }) => (HOP_ENDPOINT, ifindex, mtu, mac, None),
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
        .put(&if queued { HOP_QUEUED } else { 0 }.to_ne_bytes())
        .put(&address.map_or([0; 16], octets))
        .done()
}

pub(crate) fn hop_from_bytes(bytes: &[u8]) -> (u32, Option<Hop>) {
    let mut reader = Reader(bytes);
    let generation = reader.number();
    let [kind, family, _, _] = reader.take();
    let (ifindex, mtu) = (reader.number(), reader.number());
    let mac = reader.take();
    let queued = u16::from_ne_bytes(reader.take()) & HOP_QUEUED != 0;
    let address = reader.address(family);
    let hop = match kind {
        HOP_ENDPOINT => Some(Hop::Endpoint { ifindex, queued, mtu, mac }),
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

pub(crate) const FLOW_SIZE: usize = 96;

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
            .put(&[if self.pending_for.is_zero() { STATE_OPEN } else { 0 }, flags])
            .put(&self.rewrite.map_or(0, |rewrite| rewrite.port).to_be_bytes())
            .number(self.fence.into())
            .put(&self.rewrite.map_or([0; 16], |rewrite| octets(rewrite.address)))
            .long(until)
            .pad(8)
            .pad(8)
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
