//! Stage 1: which packet is it? Every length is checked here, once.

use heddle_xsk::Frame;

use super::packet::{Ip, Packet};
use crate::DropReason;
use crate::wire::ethernet::{self, Ethernet, ether_type};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::{Defect, ipv6};

/// Reads the headers of the packet in `frame` and cuts off what layer 2 padded it with.
#[inline(always)]
pub(super) fn parse(frame: &mut Frame) -> Result<Packet, DropReason> {
    let ethernet = Ethernet::parse(frame.bytes()).map_err(ip_defect)?;
    let (destination_mac, source_mac) = (ethernet.destination(), ethernet.source());
    let ip = match ethernet.ether_type() {
        ether_type::IPV4 => ipv4(ethernet.payload).map_err(ip_defect)?,
        ether_type::IPV6 => ipv6(ethernet.payload).map_err(ip_defect)?,
        // What an endpoint asked was answered before.
        ether_type::ARP => return Err(DropReason::ArpUnanswered),
        _ => return Err(DropReason::UnknownEtherType),
    };
    frame.set_len(ethernet::HEADER + usize::from(ip.len));
    Ok(Packet { destination_mac, source_mac, ip })
}

#[inline(always)]
fn ipv4(bytes: &[u8]) -> Result<Ip, Defect> {
    let packet = Ipv4::parse(bytes)?;
    Ok(Ip {
        source: packet.source().into(),
        destination: packet.destination().into(),
        len: packet.len() as u16,
        transport: (ethernet::HEADER + packet.header_len()) as u16,
        protocol: packet.protocol(),
        hop_limit: packet.ttl(),
        traffic_class: packet.traffic_class(),
        fragment: packet.fragment(),
    })
}

#[inline(always)]
fn ipv6(bytes: &[u8]) -> Result<Ip, Defect> {
    let packet = Ipv6::parse(bytes)?;
    let ipv6::UpperLayer { protocol, offset, fragment, .. } = packet.upper_layer()?;
    Ok(Ip {
        source: packet.source().into(),
        destination: packet.destination().into(),
        len: packet.len() as u16,
        transport: (ethernet::HEADER + offset) as u16,
        protocol,
        hop_limit: packet.hop_limit(),
        traffic_class: packet.traffic_class(),
        fragment,
    })
}

fn ip_defect(defect: Defect) -> DropReason {
    match defect {
        Defect::Truncated => DropReason::Truncated,
        Defect::Malformed => DropReason::MalformedIp,
    }
}
