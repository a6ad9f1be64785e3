//! How the switch and the kernel's programs speak on a trunk: by the addresses in the Ethernet header, which carry no
//! information there (`switch/bpf/c/deliver.h` has the other end).
//!
//! Up, the source says which hop a packet is from. Down, the destination says which it is for. A packet whose flow is about to
//! be handed over to the flow cache comes with a *fence* in its destination, which goes down again in its source, so that the
//! kernel sees when the last packet of the flow has passed the switch.

use heddle_xsk::Frame;

use super::by_host;
use crate::DropReason;
use crate::tables::{Hop, HopKind, Tables};
use crate::wire::Mac;
use crate::wire::ethernet::{self, Ethernet};

/// First octets of an address that names a hop; its number follows in four. Locally administered, as all of these.
const HOP: [u8; 2] = [0x02, 0x4d];
/// The same, where the packet's own source was not the endpoint's.
const FOREIGN: [u8; 2] = [0x02, 0x4f];
/// First octets of a fence; what follows is the kernel's.
const FENCE: [u8; 2] = [0x02, 0x4e];

/// What the addresses of a packet that came up said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    pub(super) hop: Hop,
    fence: Option<Mac>,
}

/// Reads the tag, and gives the packet back the addresses that it stands for: what follows sees it as if it had come by a port
/// of its own. A foreign source stays as it is: it is nobody's.
#[inline]
pub(super) fn take_tag(tables: &Tables, frame: &mut Frame) -> Result<Tag, DropReason> {
    let ethernet = Ethernet::parse(frame.bytes()).map_err(|_| DropReason::Truncated)?;
    let (source, destination) = (ethernet.source(), ethernet.destination());
    let [a, b, number @ ..] = source.0;
    let is_own = [a, b] == HOP;
    if !is_own && [a, b] != FOREIGN {
        return Err(DropReason::TrunkTag);
    }
    let hop = Hop::numbered(u32::from_be_bytes(number)).ok_or(DropReason::TunnelUnknownPeer)?;
    let fence = destination.0.starts_with(&FENCE).then_some(destination);
    // The hop's own address, and that of the router it sends to.
    let (own, router) = match hop.kind() {
        HopKind::Endpoint(number) => {
            let endpoint = tables.endpoints.get(number).ok_or(DropReason::UnknownEndpoint)?;
            (endpoint.mac, tables.node.gateway_mac)
        }
        HopKind::Vtep(number) => {
            let vtep = tables.vteps.get(number).ok_or(DropReason::TunnelUnknownPeer)?;
            let uplink = tables.node.uplink.as_ref().ok_or(DropReason::NoUplink)?;
            (vtep.mac, uplink.vtep_mac)
        }
    };
    let header = frame.bytes_mut().first_chunk_mut().ok_or(DropReason::Truncated)?;
    let destination = if fence.is_some() { router } else { destination };
    ethernet::rewrite(header, destination, if is_own { own } else { source });
    Ok(Tag { hop, fence })
}

/// Addresses a frame that leaves by a trunk to `hop`. `came` is the tag that it came up with, if it did.
#[inline]
pub(super) fn address(frame: &mut Frame, hop: Hop, came: Option<&Tag>, gateway: Mac) {
    let [a, b, c, d] = hop.number().to_be_bytes();
    let destination = Mac([HOP[0], HOP[1], a, b, c, d]);
    let marked = by_host::is_marked(frame);
    // What leaves has been through `emit` or is an answer: its header is whole.
    let Some(header) = frame.bytes_mut().first_chunk_mut() else { return };
    match came.and_then(|tag| tag.fence) {
        Some(fence) => ethernet::rewrite(header, destination, fence),
        // The mark stays for whoever is asked about the packet next.
        None if marked => ethernet::set_destination(header, destination),
        None => ethernet::rewrite(header, destination, gateway),
    }
}

/// Whom a frame that came up by a trunk is from.
#[inline]
pub(crate) fn sender(frame: &Frame) -> Option<HopKind> {
    let [_, _, number @ ..] = Ethernet::parse(frame.bytes()).ok()?.source().0;
    Hop::numbered(u32::from_be_bytes(number)).map(Hop::kind)
}

/// Whom a frame that waits to leave by a trunk is addressed to.
#[inline]
pub(crate) fn addressee(frame: &Frame) -> Option<HopKind> {
    let [a, b, number @ ..] = Ethernet::parse(frame.bytes()).ok()?.destination().0;
    if [a, b] != HOP {
        return None;
    }
    Hop::numbered(u32::from_be_bytes(number)).map(Hop::kind)
}
