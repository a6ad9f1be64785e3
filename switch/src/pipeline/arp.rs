//! ARP never goes further than this: the gateway has the gateway's MAC, on every port, and nobody else is asked for.

use std::net::IpAddr;

use heddle_xsk::Frame;

use super::admit::{own_mac, to_router};
use super::exit::Exit;
use super::refusal::Disposition;
use super::scene::{Origin, Scene};
use crate::DropReason;
use crate::tables::{Endpoint, HOST};
use crate::wire::arp::{Arp, MESSAGE, Operation};
use crate::wire::ethernet::{self, Ethernet, ether_type};
use crate::wire::{Defect, Mac};

/// True when `frame` holds an ARP message.
#[inline(always)]
pub(super) fn is_arp(frame: &Frame) -> bool {
    Ethernet::parse(frame.bytes()).is_ok_and(|ethernet| ethernet.ether_type() == ether_type::ARP)
}

/// Turns a request for the gateway into the reply. A probe (RFC 5227) is answered like any request: the address is taken.
#[cold]
pub(super) fn answer(scene: &Scene<'_>, frame: &mut Frame) -> Disposition {
    let Origin::Endpoint(number, endpoint) = scene.origin? else {
        return Err(DropReason::TunnelMalformed.into());
    };
    let ethernet = Ethernet::parse(frame.bytes()).map_err(defect)?;
    let asker = ethernet.source();
    to_router(scene, ethernet.destination())?;
    if number != HOST {
        own_mac(endpoint, asker)?;
    }
    let request = Arp::parse(ethernet.payload).map_err(defect)?;
    if number != HOST {
        speaks_for_itself(endpoint, &request)?;
    }
    if request.operation != Operation::Request || request.target != scene.node().gateway_v4 {
        return Err(DropReason::ArpUnanswered.into());
    }
    write_reply(frame, scene.node().gateway_mac, asker, &request)?;
    Ok(Exit::to_endpoint(number, endpoint)?)
}

/// The message speaks for its sender, or for nobody: a probe.
fn speaks_for_itself(endpoint: &Endpoint, arp: &Arp) -> Result<(), DropReason> {
    own_mac(endpoint, arp.sender_mac)?;
    let own = arp.sender.is_unspecified() || endpoint.addresses.contains(&IpAddr::V4(arp.sender));
    if own { Ok(()) } else { Err(DropReason::SpoofedAddress) }
}

fn write_reply(frame: &mut Frame, gateway: Mac, asker: Mac, request: &Arp) -> Result<(), DropReason> {
    let reply = Arp {
        operation: Operation::Reply,
        sender_mac: gateway,
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
    };
    frame.set_len(ethernet::HEADER + MESSAGE);
    let (header, rest) = frame.bytes_mut().split_first_chunk_mut().ok_or(DropReason::Truncated)?;
    ethernet::write(header, asker, gateway, ether_type::ARP);
    reply.write(rest.first_chunk_mut().ok_or(DropReason::Truncated)?);
    Ok(())
}

fn defect(defect: Defect) -> DropReason {
    match defect {
        Defect::Truncated => DropReason::Truncated,
        Defect::Malformed => DropReason::ArpUnanswered,
    }
}
