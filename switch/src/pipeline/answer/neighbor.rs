//! Neighbor discovery (RFC 4861): the gateway has the gateway's MAC, on every port.

use std::net::{IpAddr, Ipv6Addr};

use heddle_xsk::Frame;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetAddress, Icmpv6Packet, Icmpv6Repr, NdiscNeighborFlags, NdiscRepr};

use super::super::packet::{Ip, Packet};
use super::super::scene::Scene;
use crate::DropReason;
use crate::wire::ethernet::{self, ether_type};
use crate::wire::{Fragment, Mac, ipv6, protocol};

/// Proves that a message was not forwarded by a router (section 7.1.1).
const HOP_LIMIT: u8 = 255;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The group above on Ethernet (RFC 2464, section 7).
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

/// Solicited-node groups: this prefix and the last three octets of an address (RFC 4291, section 2.7.1).
const SOLICITED_NODE: [u8; 13] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];

/// Turns a solicitation for the gateway into the advertisement.
pub(super) fn answer(scene: &Scene<'_>, frame: &mut Frame, packet: &Packet) -> Result<(), DropReason> {
    let node = scene.node();
    let gateway = node.gateway_v6;
    let asker = asks_for(gateway, frame, &packet.ip).ok_or(DropReason::NdUnanswered)?;
    // Who asks without an address wants to take the gateway's: all have to hear that it is taken (section 7.2.4).
    let solicited = !asker.is_unspecified();
    let (to, to_mac) = if solicited { (asker, packet.source_mac) } else { (ALL_NODES, ALL_NODES_MAC) };
    let mut flags = NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::OVERRIDE;
    flags.set(NdiscNeighborFlags::SOLICITED, solicited);
    let advertisement = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags,
        target_addr: gateway,
        lladdr: Some(EthernetAddress(node.gateway_mac.0).into()),
    });

    let payload_len = advertisement.buffer_len();
    if !frame.set_len(ethernet::HEADER + ipv6::HEADER + payload_len) {
        return Err(DropReason::NoHeadroom);
    }
    let (header, rest) = frame.bytes_mut().split_first_chunk_mut().ok_or(DropReason::Truncated)?;
    ethernet::write(header, to_mac, node.gateway_mac, ether_type::IPV6);
    let (header, rest) = rest.split_first_chunk_mut().ok_or(DropReason::Truncated)?;
    let ip = ipv6::Header {
        source: gateway,
        destination: to,
        protocol: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        traffic_class: 0,
        payload_len,
    };
    ip.write(header);
    let mut message = Icmpv6Packet::new_unchecked(rest);
    advertisement.emit(&gateway, &to, &mut message, &ChecksumCapabilities::default());
    Ok(())
}

/// Who solicits `gateway`; `None` when the packet is something else, or breaks a rule of section 7.1.1.
fn asks_for(gateway: Ipv6Addr, frame: &Frame, ip: &Ip) -> Option<Ipv6Addr> {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (ip.source, ip.destination) else { return None };
    if ip.hop_limit != HOP_LIMIT || ip.fragment != Fragment::Whole {
        return None;
    }
    let message = Icmpv6Packet::new_checked(ip.transport(frame.bytes())).ok()?;
    let parsed = Icmpv6Repr::parse(&source, &destination, &message, &ChecksumCapabilities::default()).ok()?;
    let Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, lladdr }) = parsed else { return None };
    let probe_is_valid = lladdr.is_none() && destination.octets().starts_with(&SOLICITED_NODE);
    let valid = message.msg_code() == 0 && (!source.is_unspecified() || probe_is_valid);
    (valid && target_addr == gateway).then_some(source)
}
