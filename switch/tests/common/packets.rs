//! Packets, built by etherparse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, IpHeaders, Ipv4Extensions, Ipv4Header, Ipv6Extensions,
    Ipv6Header, PacketBuilder, TcpHeader,
};
use heddle_switch::tables::conntrack::flags;
use heddle_switch::wire::Mac;
use heddle_switch::wire::checksum::Sum;

/// What an IP packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upper {
    Udp,
    Tcp,
    /// TCP as it is written here: [`flags`](heddle_switch::tables::conntrack::flags), sequence and acknowledgement numbers.
    Segment(u8, u32, u32),
    /// An echo request of the packet's family.
    Echo,
    EchoReply,
    /// An ICMP error of the packet's family: destination unreachable.
    Error,
}

/// An IP packet to build.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) source_mac: Mac,
    pub(crate) destination_mac: Mac,
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) hop_limit: u8,
    pub(crate) traffic_class: u8,
    pub(crate) upper: Upper,
    /// Bytes behind the header of the upper layer.
    pub(crate) payload: usize,
    pub(crate) ports: (u16, u16),
}

impl Spec {
    /// A small UDP packet.
    pub(crate) fn new(macs: (Mac, Mac), from: IpAddr, to: IpAddr) -> Self {
        Self {
            source_mac: macs.0,
            destination_mac: macs.1,
            from,
            to,
            hop_limit: 64,
            traffic_class: 0,
            upper: Upper::Udp,
            payload: 32,
            ports: (40_000, 53),
        }
    }

    /// The packet.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let payload: Vec<u8> = (0..self.payload).map(|i| i as u8).collect();
        let builder = PacketBuilder::ethernet2(self.source_mac.0, self.destination_mac.0).ip(self.ip());
        let v4 = self.from.is_ipv4();
        let mut bytes = Vec::new();
        match self.upper {
            Upper::Udp => builder.udp(self.ports.0, self.ports.1).write(&mut bytes, &payload),
            Upper::Tcp => builder.tcp(self.ports.0, self.ports.1, 1, 1000).ack(7).write(&mut bytes, &payload),
            Upper::Segment(bits, sequence, acknowledgement) => {
                let header = TcpHeader {
                    syn: bits & flags::SYN != 0,
                    ack: bits & flags::ACK != 0,
                    fin: bits & flags::FIN != 0,
                    rst: bits & flags::RST != 0,
                    acknowledgment_number: acknowledgement,
                    ..TcpHeader::new(self.ports.0, self.ports.1, sequence, 1000)
                };
                builder.tcp_header(header).write(&mut bytes, &payload)
            }
            Upper::Echo if v4 => builder.icmpv4_echo_request(7, 1).write(&mut bytes, &payload),
            Upper::Echo => builder.icmpv6_echo_request(7, 1).write(&mut bytes, &payload),
            Upper::EchoReply if v4 => builder.icmpv4_echo_reply(7, 1).write(&mut bytes, &payload),
            Upper::EchoReply => builder.icmpv6_echo_reply(7, 1).write(&mut bytes, &payload),
            Upper::Error if v4 => builder.icmpv4_raw(3, 3, [0; 4]).write(&mut bytes, &payload),
            Upper::Error => builder.icmpv6_raw(1, 4, [0; 4]).write(&mut bytes, &payload),
        }
        .unwrap();
        bytes
    }

    fn ip(&self) -> IpHeaders {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let header = Ipv4Header {
                    dscp: (self.traffic_class >> 2).try_into().unwrap(),
                    ecn: (self.traffic_class & 3).try_into().unwrap(),
                    time_to_live: self.hop_limit,
                    dont_fragment: true,
                    source: from.octets(),
                    destination: to.octets(),
                    ..Ipv4Header::default()
                };
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let header = Ipv6Header {
                    traffic_class: self.traffic_class,
                    hop_limit: self.hop_limit,
                    source: from.octets(),
                    destination: to.octets(),
                    ..Ipv6Header::default()
                };
                IpHeaders::Ipv6(header, Ipv6Extensions::default())
            }
            _ => panic!("{} and {} are of different families", self.from, self.to),
        }
    }
}

/// An ARP message.
pub(crate) fn arp(operation: ArpOperation, macs: (Mac, Mac), sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let target_mac = if operation == ArpOperation::REQUEST { [0; 6] } else { macs.1.0 };
    let message = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &macs.0.0,
        &sender.octets(),
        &target_mac,
        &target.octets(),
    )
    .unwrap();
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0.0, macs.1.0).arp(message).write(&mut bytes).unwrap();
    bytes
}

/// A neighbor solicitation for `target`, with the source's MAC as option unless the source is unspecified.
pub(crate) fn solicitation(macs: (Mac, Mac), from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut body = target.octets().to_vec();
    if !from.is_unspecified() {
        body.extend([1, 1]);
        body.extend(macs.0.0);
    }
    neighbor_discovery(macs, from, to, 135, &body)
}

/// A neighbor discovery message: everything behind the four reserved bytes is `body`.
pub(crate) fn neighbor_discovery(
    macs: (Mac, Mac),
    from: Ipv6Addr,
    to: Ipv6Addr,
    kind: u8,
    body: &[u8],
) -> Vec<u8> {
    let spec = Spec { hop_limit: 255, ..Spec::new(macs, from.into(), to.into()) };
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0.0, macs.1.0)
        .ip(spec.ip())
        .icmpv6_raw(kind, 0, [0; 4])
        .write(&mut bytes, body)
        .unwrap();
    bytes
}

/// `inner` in a VXLAN tunnel, with a UDP checksum.
pub(crate) fn vxlan(outer: &Spec, vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0];
    payload.extend((vni << 8).to_be_bytes());
    payload.extend(inner);
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(outer.source_mac.0, outer.destination_mac.0)
        .ip(outer.ip())
        .udp(outer.ports.0, outer.ports.1)
        .write(&mut bytes, &payload)
        .unwrap();
    bytes
}

/// Changes bytes at `offset`.
pub(crate) fn patch(mut packet: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    packet[offset..offset + bytes.len()].copy_from_slice(bytes);
    packet
}

/// Changes bytes of the IPv4 header at `offset` from its start, and makes its checksum right again.
pub(crate) fn patch_ipv4(packet: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    let packet = patch(patch(packet, 14 + offset, bytes), 14 + 10, &[0, 0]);
    let header_len = usize::from(packet[14] & 0xf) * 4;
    let checksum = Sum::new().with(&packet[14..14 + header_len]).finish();
    patch(packet, 14 + 10, &checksum.to_be_bytes())
}

/// A piece of `packet`, which is not fragmented: 16 bytes of what is above IP, from `offset` in units of 8 bytes on.
pub(crate) fn fragment(packet: &[u8], identification: u16, offset: u16, more: bool) -> Vec<u8> {
    let is_v4 = packet[14] >> 4 == 4;
    let upper = &packet[14 + if is_v4 { 20 } else { 40 }..];
    let piece = &upper[usize::from(offset) * 8..][..16];
    if is_v4 {
        let field = offset | if more { 0x2000 } else { 0 };
        let bytes = [&packet[..34], piece].concat();
        let bytes = patch_ipv4(bytes, 2, &36_u16.to_be_bytes());
        let bytes = patch_ipv4(bytes, 4, &identification.to_be_bytes());
        return patch_ipv4(bytes, 6, &field.to_be_bytes());
    }
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    let [id_high, id_low] = identification.to_be_bytes();
    let extension = [packet[20], 0, high, low, 0, 0, id_high, id_low];
    let bytes = [&packet[..54], &extension, piece].concat();
    patch(patch(bytes, 18, &24_u16.to_be_bytes()), 20, &[44])
}

/// "Port unreachable" of either family, about the IP packet that `quoted` is the start of.
pub(crate) fn icmp_error(macs: (Mac, Mac), from: IpAddr, to: IpAddr, quoted: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0.0, macs.1.0).ip(Spec::new(macs, from, to).ip());
    let mut bytes = Vec::new();
    match from {
        IpAddr::V4(_) => builder.icmpv4_raw(3, 3, [0; 4]).write(&mut bytes, quoted),
        IpAddr::V6(_) => builder.icmpv6_raw(1, 4, [0; 4]).write(&mut bytes, quoted),
    }
    .unwrap();
    bytes
}
