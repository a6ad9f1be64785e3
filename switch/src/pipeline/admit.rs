//! Stage 3: is the sender who the packet says it is, and is the packet meant for a router?

use std::net::IpAddr;

use super::packet::{Ip, Packet, is_group, is_reserved};
use super::scene::{Scene, Sender};
use crate::DropReason;
use crate::tables::{Endpoint, HOST, NextHop, VtepNumber};
use crate::wire::Mac;

/// Refuses packets with a source that is not the sender's, or with addresses that nobody has.
#[inline(always)]
pub(super) fn admit(scene: &Scene<'_>, sender: Sender<'_>, packet: &Packet) -> Result<(), DropReason> {
    let ip = &packet.ip;
    match sender {
        // The host forwards for others: neither MAC nor address need be its own.
        Sender::Endpoint(HOST, _) => {
            to_router(scene, packet.destination_mac)?;
            foreign_source(ip)?;
        }
        Sender::Endpoint(_, endpoint) => {
            to_router(scene, packet.destination_mac)?;
            own_mac(endpoint, packet.source_mac)?;
            own_source(scene, endpoint, ip)?;
        }
        Sender::Vtep(peer) => {
            foreign_source(ip)?;
            behind_vtep(scene, peer, ip.source)?;
        }
        Sender::Switch => {}
    }
    if is_reserved(ip.destination) { Err(DropReason::Martian) } else { Ok(()) }
}

/// The switch is a router: what is not addressed to it on layer 2 is somebody else's.
#[inline]
pub(super) fn to_router(scene: &Scene<'_>, destination: Mac) -> Result<(), DropReason> {
    let ours = destination == scene.node().gateway_mac || destination.is_multicast();
    if ours { Ok(()) } else { Err(DropReason::NotForUs) }
}

#[inline]
pub(super) fn own_mac(endpoint: &Endpoint, source: Mac) -> Result<(), DropReason> {
    if source == endpoint.mac { Ok(()) } else { Err(DropReason::SpoofedMac) }
}

#[inline]
fn own_source(scene: &Scene<'_>, endpoint: &Endpoint, ip: &Ip) -> Result<(), DropReason> {
    let is_own = has_address(endpoint, ip.source) || is_link_talk(scene, ip);
    if is_own { Ok(()) } else { Err(DropReason::SpoofedAddress) }
}

/// Families apart, so that an IPv4 address stays in a register: compared as a whole, it is read back from memory wider than
/// it was written, which costs more than all the rest of this stage.
#[inline(always)]
fn has_address(endpoint: &Endpoint, address: IpAddr) -> bool {
    let mut own = endpoint.addresses.iter();
    match address {
        IpAddr::V4(address) => own.any(|own| matches!(own, IpAddr::V4(own) if *own == address)),
        IpAddr::V6(address) => own.any(|own| matches!(own, IpAddr::V6(own) if *own == address)),
    }
}

/// True for what an interface sends before it has an address, and from its IPv6 link-local one: to the gateway or to a
/// group. `answer` lets none of it go further, and what it answers goes back to the same port, so nobody can be fooled.
fn is_link_talk(scene: &Scene<'_>, ip: &Ip) -> bool {
    if ip.source.is_unspecified() {
        return is_group(ip.destination);
    }
    let link_local = matches!(ip.source, IpAddr::V6(source) if source.is_unicast_link_local());
    link_local && (is_group(ip.destination) || scene.is_gateway(ip.destination))
}

/// Of a source that is not compared with a list: that it can be one.
#[inline]
fn foreign_source(ip: &Ip) -> Result<(), DropReason> {
    let speaks_for_nobody = ip.source.is_unspecified() && is_group(ip.destination);
    if (is_reserved(ip.source) && !speaks_for_nobody) || is_group(ip.source) {
        return Err(DropReason::Martian);
    }
    Ok(())
}

/// An inner source must be routed to the VTEP that the packet came from, so that a node speaks only for its own pods
/// and for itself. Sources out in the world, which the default route leads to by way of the host, may come by any node.
#[inline]
fn behind_vtep(scene: &Scene<'_>, peer: VtepNumber, source: IpAddr) -> Result<(), DropReason> {
    match scene.tables.fib.lookup(source) {
        Some(NextHop::Vtep(vtep)) if vtep == peer => Ok(()),
        Some(NextHop::Endpoint(HOST)) if !is_this_node(scene, source) => Ok(()),
        _ => Err(DropReason::TunnelBadSource),
    }
}

/// The node's own addresses are routed to the host as well, and nobody else may use them.
fn is_this_node(scene: &Scene<'_>, address: IpAddr) -> bool {
    let node = scene.node();
    let uplink = node.uplink.as_ref();
    let own = match address {
        IpAddr::V4(address) => {
            address == node.icmp_source_v4 || uplink.and_then(|uplink| uplink.address_v4) == Some(address)
        }
        IpAddr::V6(address) => {
            address == node.icmp_source_v6 || uplink.and_then(|uplink| uplink.address_v6) == Some(address)
        }
    };
    own || scene.is_gateway(address) || scene.tables.is_host(address)
}
