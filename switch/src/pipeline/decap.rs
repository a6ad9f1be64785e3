//! Stage 2: packets from the uplink are taken out of their tunnel (RFC 7348). All others pass.

use std::net::IpAddr;

use heddle_xsk::Frame;

use super::packet::{Ip, Packet};
use super::parse::parse;
use super::scene::{Origin, Scene, Sender};
use crate::DropReason;
use crate::tables::{Uplink, VtepNumber};
use crate::wire::checksum::Sum;
use crate::wire::udp::Udp;
use crate::wire::vxlan::Vxlan;
use crate::wire::{Fragment, ethernet, ipv4, ipv6, protocol, udp, vxlan};

/// Makes `packet`, and what is in `frame`, the packet to go on with, and returns who sent it.
#[inline(always)]
pub(super) fn decap<'t>(
    scene: &Scene<'t>,
    frame: &mut Frame,
    packet: &mut Packet,
) -> Result<Sender<'t>, DropReason> {
    match scene.origin? {
        Origin::Endpoint(number, endpoint) => Ok(Sender::Endpoint(number, endpoint)),
        Origin::Uplink(uplink) => open(scene, frame, uplink, packet).map(Sender::Vtep),
        Origin::Vtep(number, uplink) if packet.destination_mac == uplink.vtep_mac => Ok(Sender::Vtep(number)),
        Origin::Vtep(..) => Err(DropReason::NotForUs),
    }
}

/// Takes the inner packet out of its tunnel and returns the peer that sent it.
fn open(
    scene: &Scene<'_>,
    frame: &mut Frame,
    uplink: &Uplink,
    packet: &mut Packet,
) -> Result<VtepNumber, DropReason> {
    let outer = &packet.ip;
    if packet.destination_mac != uplink.mac || !is_ours(uplink, outer.destination) {
        return Err(DropReason::NotForUs);
    }
    let (peer, inner_len) = check_tunnel(scene, frame, outer)?;
    let headers = usize::from(outer.transport) + udp::HEADER + vxlan::HEADER;
    let congestion = outer.traffic_class;
    // Both succeed: `check_tunnel` saw these bytes. What follows the UDP datagram is no part of the inner packet.
    frame.set_len(headers + inner_len);
    frame.strip(headers);
    *packet = parse(frame)?;
    if packet.destination_mac != uplink.vtep_mac {
        return Err(DropReason::NotForUs);
    }
    carry_congestion(frame, &mut packet.ip, congestion)?;
    Ok(peer)
}

/// Checks everything between the outer IP header and the inner packet; returns the peer and the inner packet's length.
#[inline]
fn check_tunnel(scene: &Scene<'_>, frame: &Frame, outer: &Ip) -> Result<(VtepNumber, usize), DropReason> {
    if outer.protocol != protocol::UDP || outer.fragment != Fragment::Whole {
        return Err(DropReason::TunnelMalformed);
    }
    let udp = Udp::parse(outer.transport(frame.bytes())).map_err(|_| DropReason::TunnelMalformed)?;
    let vxlan = Vxlan::parse(udp.payload).map_err(|_| DropReason::TunnelMalformed)?;
    if udp.destination_port() != scene.node().vxlan_port || vxlan.vni() != scene.node().vni {
        return Err(DropReason::TunnelMalformed);
    }
    let peer = scene.tables.vteps.by_address(outer.source).ok_or(DropReason::TunnelUnknownPeer)?;
    if !has_right_checksum(outer, &udp) {
        return Err(DropReason::TunnelChecksum);
    }
    Ok((peer, vxlan.payload.len()))
}

/// Over IPv4 a tunnel may go without a checksum (RFC 7348, section 5). Over IPv6 nothing else protects the addresses,
/// and peers are not asked to take the precautions that RFC 6936 wants of those who leave it out.
#[inline]
fn has_right_checksum(outer: &Ip, udp: &Udp<'_>) -> bool {
    if udp.checksum() == 0 {
        return outer.source.is_ipv4();
    }
    let len = udp.datagram.len() as u32;
    let sum = Sum::pseudo_header(outer.source, outer.destination, protocol::UDP, len);
    sum.with(udp.datagram).finish() == 0
}

#[inline]
fn is_ours(uplink: &Uplink, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => uplink.address_v4 == Some(address),
        IpAddr::V6(address) => uplink.address_v6 == Some(address),
    }
}

/// The ECN field: the low two bits of the traffic class (RFC 3168, section 5).
pub(super) const ECN: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const CONGESTED: u8 = 0b11;

/// What the inner ECN field becomes (RFC 6040, section 4.2, figure 4); `None` where the packet must be dropped.
fn inner_ecn(inner: u8, outer: u8) -> Option<u8> {
    match (inner & ECN, outer & ECN) {
        (NOT_ECT, CONGESTED) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (_, CONGESTED) | (CONGESTED, _) => Some(CONGESTED),
        (_, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

/// Carries what the underlay marked on the outer header over to the inner one.
#[inline]
fn carry_congestion(frame: &mut Frame, inner: &mut Ip, outer: u8) -> Result<(), DropReason> {
    let ecn = inner_ecn(inner.traffic_class, outer).ok_or(DropReason::TunnelEcn)?;
    let traffic_class = (inner.traffic_class & !ECN) | ecn;
    if traffic_class == inner.traffic_class {
        return Ok(());
    }
    inner.traffic_class = traffic_class;
    let bytes = frame.bytes_mut().get_mut(ethernet::HEADER..).unwrap_or_default();
    match inner.source {
        IpAddr::V4(_) => {
            let header = bytes.first_chunk_mut().ok_or(DropReason::Truncated)?;
            ipv4::set_traffic_class(header, traffic_class);
        }
        IpAddr::V6(_) => {
            let header = bytes.first_chunk_mut().ok_or(DropReason::Truncated)?;
            ipv6::set_traffic_class(header, traffic_class);
        }
    }
    Ok(())
}
