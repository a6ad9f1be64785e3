//! Stage 4: what the gateway answers itself. Nothing that is addressed to it, or to a group, goes further.

mod arp;
mod echo;
mod neighbor;

use std::net::IpAddr;

use heddle_xsk::Frame;

use super::packet::{Ip, Network, Packet, is_group};
use super::scene::{Scene, Sender};
use crate::DropReason;
use crate::ports::PortId;
use crate::wire::icmp;

/// What became of a packet.
pub(super) enum Answer<'p> {
    /// The frame now holds the answer.
    Sent(PortId),
    /// It is for somebody else.
    NotAsked(&'p Ip),
}

/// Turns a question to the gateway into its answer. Only endpoints may ask.
#[inline]
pub(super) fn answer<'p>(
    scene: &Scene<'_>,
    sender: Sender<'_>,
    frame: &mut Frame,
    packet: &'p Packet,
) -> Result<Answer<'p>, DropReason> {
    let asker = match sender {
        Sender::Endpoint(_, endpoint) => Some(endpoint.port),
        Sender::Vtep(_) | Sender::Switch => None,
    };
    let ip = match &packet.network {
        Network::Ip(ip) => ip,
        Network::Arp(request) => {
            let port = asker.ok_or(DropReason::ArpUnanswered)?;
            arp::answer(scene, frame, packet, request)?;
            return Ok(Answer::Sent(port));
        }
    };
    if is_neighbor_discovery(ip, frame) {
        let port = asker.ok_or(DropReason::NdUnanswered)?;
        neighbor::answer(scene, frame, packet, ip)?;
        return Ok(Answer::Sent(port));
    }
    if packet.destination_mac.is_multicast() || is_group(ip.destination) {
        return Err(DropReason::Multicast);
    }
    if scene.is_gateway(ip.destination) {
        let port = asker.ok_or(DropReason::GatewayUnserved)?;
        echo::answer(scene, frame, packet, ip)?;
        return Ok(Answer::Sent(port));
    }
    Ok(Answer::NotAsked(ip))
}

/// Neighbor discovery never crosses a router, whoever it is addressed to (RFC 4861).
#[inline]
fn is_neighbor_discovery(ip: &Ip, frame: &Frame) -> bool {
    let kind = match ip.source {
        IpAddr::V4(_) => None,
        IpAddr::V6(_) => ip.icmp_kind(frame.bytes()),
    };
    kind.is_some_and(|kind| (icmp::v6::ROUTER_SOLICITATION..=icmp::v6::REDIRECT).contains(&kind))
}
