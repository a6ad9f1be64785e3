//! Stage 4: what the gateway answers itself. Nothing that is addressed to it, or to a group, goes further.

mod echo;
mod neighbor;

use std::net::IpAddr;

use heddle_xsk::Frame;

use super::exit::Exit;
use super::packet::{Ip, Packet, is_group};
use super::scene::{Scene, Sender};
use crate::DropReason;
use crate::wire::icmp;

/// Turns a question to the gateway into its answer and returns how it leaves; `None` when the packet is for
/// somebody else. Only endpoints may ask.
#[inline(always)]
pub(super) fn answer(
    scene: &Scene<'_>,
    sender: Sender<'_>,
    frame: &mut Frame,
    packet: &Packet,
) -> Result<Option<Exit>, DropReason> {
    let ip = &packet.ip;
    let asker = match sender {
        Sender::Endpoint(number, endpoint) => Some((number, endpoint)),
        Sender::Vtep(_) | Sender::Switch => None,
    };
    if is_neighbor_discovery(ip, frame) {
        let (number, endpoint) = asker.ok_or(DropReason::NdUnanswered)?;
        neighbor::answer(scene, frame, packet)?;
        return Exit::to_endpoint(number, endpoint).map(Some);
    }
    if packet.destination_mac.is_multicast() || is_group(ip.destination) {
        return Err(DropReason::Multicast);
    }
    if scene.is_gateway(ip.destination) {
        let (number, endpoint) = asker.ok_or(DropReason::GatewayUnserved)?;
        echo::answer(scene, frame, packet)?;
        return Exit::to_endpoint(number, endpoint).map(Some);
    }
    Ok(None)
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
