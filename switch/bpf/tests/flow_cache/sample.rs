//! Packets of flows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use heddle_bpf::{FlowKey, Mac};

use crate::bench::{GATEWAY_MAC, POD_MACS};

pub(crate) const V4: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 244, 1, 1), Ipv4Addr::new(10, 244, 1, 2)];
pub(crate) const V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, 1), Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, 2)];
pub(crate) const ETHERNET: usize = 14;

/// A flow from pod 1 to pod 2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) v6: bool,
    pub(crate) tcp: bool,
}

pub(crate) const SAMPLES: [Sample; 4] = [
    Sample { v6: false, tcp: true },
    Sample { v6: false, tcp: false },
    Sample { v6: true, tcp: true },
    Sample { v6: true, tcp: false },
];

impl Sample {
    pub(crate) fn addresses(self) -> [IpAddr; 2] {
        if self.v6 { V6.map(Into::into) } else { V4.map(Into::into) }
    }

    pub(crate) fn key(self, ifindex: u32) -> FlowKey {
        let [source, destination] = self.addresses();
        let protocol = if self.tcp { 6 } else { 17 };
        FlowKey { source, destination, source_port: 40_000, destination_port: 80, protocol, ifindex }
    }

    /// Octets of IP header.
    pub(crate) fn ip_header(self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    /// Where the transport header is.
    pub(crate) fn transport(self) -> usize {
        ETHERNET + self.ip_header()
    }

    /// Where the payload is.
    pub(crate) fn payload(self) -> usize {
        self.transport() + if self.tcp { 20 } else { 8 }
    }

    /// Where the checksum of the transport is.
    pub(crate) fn checksum(self) -> usize {
        self.transport() + if self.tcp { 16 } else { 6 }
    }

    pub(crate) fn packet(self, payload: usize) -> Vec<u8> {
        self.packet_with(payload, 64)
    }

    /// A packet from pod 1 to the gateway.
    pub(crate) fn packet_with(self, payload: usize, hop_limit: u8) -> Vec<u8> {
        let payload: Vec<u8> = (0..payload).map(|at| (at * 7) as u8).collect();
        let mut packet = Vec::new();
        let builder = PacketBuilder::ethernet2(POD_MACS[0], GATEWAY_MAC);
        let builder = if self.v6 {
            builder.ipv6(V6[0].octets(), V6[1].octets(), hop_limit)
        } else {
            builder.ipv4(V4[0].octets(), V4[1].octets(), hop_limit)
        };
        if self.tcp {
            builder.tcp(40_000, 80, 1000, 512).ack(77).write(&mut packet, &payload).unwrap();
        } else {
            builder.udp(40_000, 80).write(&mut packet, &payload).unwrap();
        }
        packet
    }
}

/// What a packet says, once all its checksums are found right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) destination_mac: Mac,
    pub(crate) source_mac: Mac,
    pub(crate) source: (IpAddr, u16),
    pub(crate) destination: (IpAddr, u16),
    pub(crate) hop_limit: u8,
    pub(crate) payload: Vec<u8>,
}

/// Reads a packet and checks its checksums; a UDP checksum may be missing.
pub(crate) fn read(packet: &[u8]) -> Read {
    let sliced = SlicedPacket::from_ethernet(packet).unwrap();
    let (source, destination, hop_limit) = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            assert_eq!(
                header.to_header().calc_header_checksum(),
                header.header_checksum(),
                "IPv4 header checksum"
            );
            (IpAddr::from(header.source()), IpAddr::from(header.destination()), header.ttl())
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            (IpAddr::from(header.source()), IpAddr::from(header.destination()), header.hop_limit())
        }
        NetSlice::Arp(_) => panic!("not IP"),
    };
    let (ports, given, right, payload) = match sliced.transport.as_ref().unwrap() {
        TransportSlice::Tcp(tcp) => {
            let right = match (source, destination) {
                (IpAddr::V4(s), IpAddr::V4(d)) => tcp.calc_checksum_ipv4(s.octets(), d.octets()),
                (IpAddr::V6(s), IpAddr::V6(d)) => tcp.calc_checksum_ipv6(s.octets(), d.octets()),
                _ => unreachable!(),
            };
            ((tcp.source_port(), tcp.destination_port()), tcp.checksum(), right.unwrap(), tcp.payload())
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let right = match (source, destination) {
                (IpAddr::V4(s), IpAddr::V4(d)) => {
                    header.calc_checksum_ipv4_raw(s.octets(), d.octets(), udp.payload())
                }
                (IpAddr::V6(s), IpAddr::V6(d)) => {
                    header.calc_checksum_ipv6_raw(s.octets(), d.octets(), udp.payload())
                }
                _ => unreachable!(),
            };
            let right = if udp.checksum() == 0 { 0 } else { right.unwrap() };
            ((udp.source_port(), udp.destination_port()), udp.checksum(), right, udp.payload())
        }
        other => panic!("neither TCP nor UDP: {other:?}"),
    };
    // Both are zero to who adds up (RFC 1071), and Linux writes either.
    let as_sum = |checksum: u16| if checksum == u16::MAX { 0 } else { checksum };
    assert_eq!(as_sum(given), as_sum(right), "transport checksum");
    Read {
        destination_mac: packet[..6].try_into().unwrap(),
        source_mac: packet[6..12].try_into().unwrap(),
        source: (source, ports.0),
        destination: (destination, ports.1),
        hop_limit,
        payload: payload.to_vec(),
    }
}
