//! ARP: the gateway has the gateway's MAC, on every port.

use heddle_xsk::Frame;

use super::super::packet::Packet;
use super::super::scene::Scene;
use crate::DropReason;
use crate::wire::arp::{Arp, MESSAGE, Operation};
use crate::wire::ethernet;
use crate::wire::ethernet::ether_type;

/// Turns a request for the gateway into the reply. A probe (RFC 5227) is answered like any request: the address is taken.
pub(super) fn answer(
    scene: &Scene<'_>,
    frame: &mut Frame,
    packet: &Packet,
    request: &Arp,
) -> Result<(), DropReason> {
    let node = scene.node();
    if request.operation != Operation::Request || request.target != node.gateway_v4 {
        return Err(DropReason::ArpUnanswered);
    }
    let reply = Arp {
        operation: Operation::Reply,
        sender_mac: node.gateway_mac,
        sender: node.gateway_v4,
        target_mac: request.sender_mac,
        target: request.sender,
    };
    frame.set_len(ethernet::HEADER + MESSAGE);
    let (header, rest) = frame.bytes_mut().split_first_chunk_mut().ok_or(DropReason::Truncated)?;
    ethernet::write(header, packet.source_mac, node.gateway_mac, ether_type::ARP);
    reply.write(rest.first_chunk_mut().ok_or(DropReason::Truncated)?);
    Ok(())
}
