//! Stage 9 for packets to another node: into the tunnel (RFC 7348).

use std::net::IpAddr;

use heddle_xsk::Frame;

use super::decap::ECN;
use super::packet::{HOP_LIMIT, Ip};
use super::scene::Scene;
use crate::DropReason;
use crate::tables::{Uplink, Vtep};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, ether_type};
use crate::wire::{Mac, ipv4, ipv6, protocol, udp, vxlan};

/// First of the dynamic ports (RFC 6335); RFC 7348 (section 5) wants the flow's hash spread over them.
const FIRST_DYNAMIC_PORT: u16 = 49152;

/// Bytes by which an outer IP packet to `peer` is longer than the inner one.
#[inline]
pub(super) fn overhead(peer: IpAddr) -> u16 {
    vxlan::overhead(match peer {
        IpAddr::V4(_) => ipv4::HEADER,
        IpAddr::V6(_) => ipv6::HEADER,
    })
}

/// Puts the tunnel's headers in front of the packet.
///
/// Of the traffic class only ECN goes outside (RFC 6040, section 4.1): a pod's DSCP claims nothing on the underlay. The
/// outer UDP checksum is left out over IPv4, as RFC 7348 advises; the inner packet has its own.
#[inline]
pub(super) fn encap(
    scene: &Scene<'_>,
    frame: &mut Frame,
    ip: &Ip,
    vtep: &Vtep,
    uplink: &Uplink,
) -> Result<(), DropReason> {
    let neighbor = vtep.neighbor.ok_or(DropReason::NoNeighbor)?;
    let source_port = FIRST_DYNAMIC_PORT | (ip.flow_hash(frame.bytes()) as u16 & !FIRST_DYNAMIC_PORT);
    let inner_len = frame.len();
    // The inner packet keeps its Ethernet header, so as many bytes are new as the outer IP packet is longer.
    let bytes = frame.prepend(overhead(vtep.address).into()).ok_or(DropReason::NoHeadroom)?;
    let (header, rest) = bytes.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
    let payload_len = udp::HEADER + vxlan::HEADER + inner_len;
    let traffic_class = ip.traffic_class & ECN;
    match vtep.address {
        IpAddr::V4(destination) => {
            let source = uplink.address_v4.ok_or(DropReason::NoUplink)?;
            ethernet::write(header, neighbor, uplink.mac, ether_type::IPV4);
            let (header, datagram) = rest.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
            ipv4::Header {
                source,
                destination,
                protocol: protocol::UDP,
                ttl: HOP_LIMIT,
                traffic_class,
                payload_len,
            }
            .write(header);
            write_datagram(scene, (vtep.mac, uplink.vtep_mac), datagram, source_port)
        }
        IpAddr::V6(destination) => {
            let source = uplink.address_v6.ok_or(DropReason::NoUplink)?;
            ethernet::write(header, neighbor, uplink.mac, ether_type::IPV6);
            let (header, datagram) = rest.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
            ipv6::Header {
                source,
                destination,
                protocol: protocol::UDP,
                hop_limit: HOP_LIMIT,
                traffic_class,
                payload_len,
            }
            .write(header);
            write_datagram(scene, (vtep.mac, uplink.vtep_mac), datagram, source_port)?;
            let sum =
                Sum::pseudo_header(source.into(), destination.into(), protocol::UDP, payload_len as u32);
            let checksum = sum.with(datagram).finish();
            udp::set_checksum(datagram.first_chunk_mut().ok_or(DropReason::NoHeadroom)?, checksum);
            Ok(())
        }
    }
}

/// UDP and VXLAN headers, and the inner MACs: destination and source.
#[inline]
fn write_datagram(
    scene: &Scene<'_>,
    (destination, source): (Mac, Mac),
    datagram: &mut [u8],
    source_port: u16,
) -> Result<(), DropReason> {
    let (header, rest) = datagram.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
    udp::write(header, source_port, scene.node().vxlan_port, rest.len());
    let (header, rest) = rest.split_first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
    vxlan::write(header, scene.node().vni);
    let header = rest.first_chunk_mut().ok_or(DropReason::NoHeadroom)?;
    ethernet::rewrite(header, destination, source);
    Ok(())
}
