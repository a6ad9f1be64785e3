//! Echo (RFC 792, RFC 4443): the gateway can be pinged.

use std::net::IpAddr;

use heddle_xsk::Frame;

use super::super::packet::{HOP_LIMIT, Packet};
use super::super::scene::Scene;
use crate::DropReason;
use crate::wire::{Fragment, ethernet, icmp, ipv4, ipv6};

/// Turns an echo request to the gateway into the reply, in place; everything else the gateway has no service for.
///
/// The checksums are adapted, not made anew: a request that was damaged stays damaged. A fragmented request is not put
/// together, and one with options or extension headers is not answered, because what it asks for on the way is lost.
pub(super) fn answer(scene: &Scene<'_>, frame: &mut Frame, packet: &Packet) -> Result<(), DropReason> {
    let ip = &packet.ip;
    let (request, reply, header_len) = match ip.source {
        IpAddr::V4(_) => (icmp::v4::ECHO_REQUEST, icmp::v4::ECHO_REPLY, ipv4::HEADER),
        IpAddr::V6(_) => (icmp::v6::ECHO_REQUEST, icmp::v6::ECHO_REPLY, ipv6::HEADER),
    };
    let plain = ip.fragment == Fragment::Whole && usize::from(ip.transport) == ethernet::HEADER + header_len;
    if !plain || ip.icmp_kind(frame.bytes()) != Some(request) {
        return Err(DropReason::GatewayUnserved);
    }
    let (header, rest) = frame.bytes_mut().split_first_chunk_mut().ok_or(DropReason::Truncated)?;
    let (network, transport) = rest.split_at_mut_checked(header_len).ok_or(DropReason::Truncated)?;
    let message = transport.first_chunk_mut().ok_or(DropReason::GatewayUnserved)?;
    ethernet::rewrite(header, packet.source_mac, scene.node().gateway_mac);
    match ip.source {
        IpAddr::V4(_) => {
            ipv4::turn_around(network.first_chunk_mut().ok_or(DropReason::Truncated)?, HOP_LIMIT);
        }
        IpAddr::V6(_) => {
            ipv6::turn_around(network.first_chunk_mut().ok_or(DropReason::Truncated)?, HOP_LIMIT);
        }
    }
    icmp::set_kind(message, reply);
    Ok(())
}
