//! Stage 6: where does it go?

use std::net::IpAddr;

use super::notice::Notice;
use super::packet::Ip;
use super::refusal::Refusal;
use super::scene::{Scene, Sender};
use crate::DropReason;
use crate::tables::{Endpoint, EndpointNumber, HOST, NextHop, Uplink, Vtep, VtepNumber};

/// A next hop found: an adjacency.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next<'t> {
    Endpoint(EndpointNumber, &'t Endpoint),
    /// Another node's VTEP, by way of the uplink.
    Vtep(VtepNumber, &'t Vtep, &'t Uplink),
}

/// Looks the destination up and finds out how to get there.
#[inline(always)]
pub(super) fn route<'t>(scene: &Scene<'t>, sender: Sender<'_>, ip: &Ip) -> Result<Next<'t>, Refusal> {
    if is_link_local(ip.source) || is_link_local(ip.destination) {
        return Err(DropReason::LinkLocal.into());
    }
    match (scene.tables.fib.lookup(ip.destination), sender) {
        // The host's own table sent the packet here; giving it back would let it go in circles.
        (None, _) | (Some(NextHop::Endpoint(HOST)), Sender::Endpoint(HOST, _)) => Err(no_route()),
        (Some(NextHop::Endpoint(number)), _) => {
            let endpoint = scene.tables.endpoints.get(number).ok_or_else(no_route)?;
            Ok(Next::Endpoint(number, endpoint))
        }
        (Some(NextHop::Vtep(_)), Sender::Vtep(_)) => Err(DropReason::Transit.into()),
        (Some(NextHop::Vtep(number)), _) => remote(scene, number),
        (Some(NextHop::Unreachable), _) => Err(Refusal::told(DropReason::Unreachable, Notice::Unreachable)),
    }
}

fn no_route() -> Refusal {
    Refusal::told(DropReason::NoRoute, Notice::NoRoute)
}

#[inline]
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

#[inline]
fn remote<'t>(scene: &Scene<'t>, number: VtepNumber) -> Result<Next<'t>, Refusal> {
    let vtep = scene.tables.vteps.get(number).ok_or_else(no_route)?;
    let uplink = scene.node().uplink.as_ref().ok_or(DropReason::NoUplink)?;
    Ok(Next::Vtep(number, vtep, uplink))
}
