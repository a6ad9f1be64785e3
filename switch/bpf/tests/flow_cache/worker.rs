//! What the tests' worker does with a packet: little.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, PacketHeaders, SlicedPacket, TransportHeader, TransportSlice};
use heddle_bpf::{Side, UNKNOWN_HOP};

use crate::bench::tag;
use crate::node::{Route, Routes};
use crate::sample::read;

/// The packet as it goes down, or none if there is no route for it or it is from nobody known.
pub(crate) fn forward(routes: &Routes, mut packet: Vec<u8>) -> Option<Vec<u8>> {
    if packet[8..12] == UNKNOWN_HOP.to_be_bytes() {
        return None;
    }
    let (source, destination) = ends(&packet)?;
    // Everything that comes up is complete: nothing is left to the hardware.
    read(&packet);
    let route = match routes.rewrites.get(&(source, destination)) {
        Some(route) => *route,
        None => Route { hop: *routes.by_destination.get(&destination.ip())?, rewrite: None },
    };
    assert_eq!(packet[6..8], [0x02, 0x4d], "a hop's tag");
    let fence: [u8; 6] = packet[..6].try_into().unwrap();
    if let Some((side, to)) = route.rewrite {
        packet = rewrite(&packet, side, to);
    }
    packet[..6].copy_from_slice(&tag(0x4d, route.hop));
    packet[6..12].copy_from_slice(if fence[..2] == [0x02, 0x4e] { &fence } else { &[0; 6] });
    Some(packet)
}

/// Source and destination of a packet with ports.
pub(crate) fn ends(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let sliced = SlicedPacket::from_ethernet(packet).ok()?;
    let (source, destination): (IpAddr, IpAddr) = match sliced.net? {
        NetSlice::Ipv4(ip) => (ip.header().source().into(), ip.header().destination().into()),
        NetSlice::Ipv6(ip) => (ip.header().source().into(), ip.header().destination().into()),
        NetSlice::Arp(_) => return None,
    };
    let ports = match sliced.transport? {
        TransportSlice::Tcp(tcp) => (tcp.source_port(), tcp.destination_port()),
        TransportSlice::Udp(udp) => (udp.source_port(), udp.destination_port()),
        _ => return None,
    };
    Some((SocketAddr::new(source, ports.0), SocketAddr::new(destination, ports.1)))
}

/// The slow way: headers taken apart and written anew.
fn rewrite(packet: &[u8], side: Side, to: SocketAddr) -> Vec<u8> {
    let headers = PacketHeaders::from_ethernet_slice(packet).unwrap();
    let payload = headers.payload.slice();
    let mut net = headers.net.unwrap();
    let mut transport = headers.transport.unwrap();
    match (&mut net, side, to.ip()) {
        (etherparse::NetHeaders::Ipv4(ip, _), Side::Source, IpAddr::V4(v4)) => ip.source = v4.octets(),
        (etherparse::NetHeaders::Ipv4(ip, _), Side::Destination, IpAddr::V4(v4)) => {
            ip.destination = v4.octets();
        }
        (etherparse::NetHeaders::Ipv6(ip, _), Side::Source, IpAddr::V6(v6)) => ip.source = v6.octets(),
        (etherparse::NetHeaders::Ipv6(ip, _), Side::Destination, IpAddr::V6(v6)) => {
            ip.destination = v6.octets();
        }
        _ => unreachable!("families differ"),
    }
    match (&mut transport, side) {
        (TransportHeader::Tcp(tcp), Side::Source) => tcp.source_port = to.port(),
        (TransportHeader::Tcp(tcp), Side::Destination) => tcp.destination_port = to.port(),
        (TransportHeader::Udp(udp), Side::Source) => udp.source_port = to.port(),
        (TransportHeader::Udp(udp), Side::Destination) => udp.destination_port = to.port(),
        _ => unreachable!("only flows are rewritten"),
    }
    let mut out = packet[..14].to_vec();
    match &mut net {
        etherparse::NetHeaders::Ipv4(ip, _) => {
            ip.header_checksum = ip.calc_header_checksum();
            transport.update_checksum_ipv4(ip, payload).unwrap();
            ip.write(&mut out).unwrap();
        }
        etherparse::NetHeaders::Ipv6(ip, _) => {
            transport.update_checksum_ipv6(ip, payload).unwrap();
            ip.write(&mut out).unwrap();
        }
        etherparse::NetHeaders::Arp(_) => unreachable!("only flows are rewritten"),
    }
    transport.write(&mut out).unwrap();
    out.extend(payload);
    out
}
