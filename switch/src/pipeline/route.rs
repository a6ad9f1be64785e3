//! Stage 6: where does it go?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::notice::Notice;
use super::packet::Ip;
use super::refusal::Refusal;
use super::scene::{Scene, Sender};
use crate::DropReason;
use crate::ports::PortId;
use crate::tables::{Endpoint, HOST, NextHop, VtepNumber};
use crate::wire::Mac;

/// A next hop with all that is needed to send to it: an adjacency.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next<'t> {
    Endpoint(&'t Endpoint),
    Tunnel(Tunnel),
}

/// The way to another node's VTEP.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tunnel {
    pub(super) port: PortId,
    pub(super) outer: Outer,
    /// Outer MACs.
    pub(super) neighbor: Mac,
    pub(super) nic: Mac,
    /// Inner MACs.
    pub(super) peer: Mac,
    pub(super) own: Mac,
    /// Largest outer packet.
    pub(super) mtu: u16,
}

/// Outer source and destination address.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outer {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// Looks the destination up and finds out how to get there.
#[inline]
pub(super) fn route<'t>(scene: &Scene<'t>, sender: Sender<'_>, ip: &Ip) -> Result<Next<'t>, Refusal> {
    if is_link_local(ip.source) || is_link_local(ip.destination) {
        return Err(DropReason::LinkLocal.into());
    }
    match (scene.tables.fib.lookup(ip.destination), sender) {
        // The host's own table sent the packet here; giving it back would let it go in circles.
        (None, _) | (Some(NextHop::Endpoint(HOST)), Sender::Endpoint(HOST, _)) => Err(no_route()),
        (Some(NextHop::Endpoint(number)), _) => {
            scene.tables.endpoints.get(number).map(Next::Endpoint).ok_or_else(no_route)
        }
        (Some(NextHop::Vtep(_)), Sender::Vtep(_)) => Err(DropReason::Transit.into()),
        (Some(NextHop::Vtep(number)), _) => tunnel(scene, number),
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
fn tunnel<'t>(scene: &Scene<'t>, number: VtepNumber) -> Result<Next<'t>, Refusal> {
    let vtep = scene.tables.vteps.get(number).ok_or_else(no_route)?;
    let uplink = scene.node().uplink.as_ref().ok_or(DropReason::NoUplink)?;
    let outer = match (vtep.address, uplink.address_v4, uplink.address_v6) {
        (IpAddr::V4(destination), Some(source), _) => Outer::V4(source, destination),
        (IpAddr::V6(destination), _, Some(source)) => Outer::V6(source, destination),
        _ => return Err(DropReason::NoUplink.into()),
    };
    Ok(Next::Tunnel(Tunnel {
        port: *uplink.ports.get(usize::from(scene.worker)).ok_or(DropReason::NoUplink)?,
        outer,
        neighbor: vtep.neighbor.ok_or(DropReason::NoNeighbor)?,
        nic: uplink.mac,
        peer: vtep.mac,
        own: uplink.vtep_mac,
        mtu: uplink.mtu,
    }))
}
