//! Packets to send through a switch.

use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;
use heddle_switch::wire::Mac;

/// Bytes in front of an inner packet in a tunnel: UDP and VXLAN headers (RFC 7348).
const VXLAN_HEADER: usize = 8;

/// A UDP packet of `len` bytes from the Ethernet header on; or the shortest, when that is longer.
///
/// # Panics
///
/// When the addresses are of different families.
pub fn udp(macs: (Mac, Mac), from: SocketAddr, to: SocketAddr, len: usize) -> Vec<u8> {
    let headers = match from.ip() {
        IpAddr::V4(_) => 14 + 20 + 8,
        IpAddr::V6(_) => 14 + 40 + 8,
    };
    udp_with(macs, from, to, &vec![0x5a; len.saturating_sub(headers)])
}

/// An inner packet in a VXLAN tunnel.
///
/// # Panics
///
/// When the addresses are of different families.
pub fn vxlan(macs: (Mac, Mac), from: SocketAddr, to: SocketAddr, vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(VXLAN_HEADER + inner.len());
    payload.extend([0x08, 0, 0, 0]);
    payload.extend((vni << 8).to_be_bytes());
    payload.extend(inner);
    udp_with(macs, from, to, &payload)
}

fn udp_with(macs: (Mac, Mac), from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(macs.0.0, macs.1.0);
    let ip = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("{from} and {to} are of different families"),
    };
    let builder = ip.udp(from.port(), to.port());
    let mut packet = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut packet, payload).expect("writing to memory succeeds");
    packet
}
