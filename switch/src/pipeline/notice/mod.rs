//! ICMP errors: what the sender of a dropped packet is told (RFC 792, RFC 1812, RFC 4443).

mod budget;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use heddle_xsk::Frame;

pub(super) use self::budget::Budget;
use self::budget::Who;
use super::exit::Exit;
use super::packet::{HOP_LIMIT, Ip, is_group, is_reserved};
use super::parse::parse;
use super::scene::{Origin, Scene, Sender};
use super::{emit, fit, route};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, ether_type};
use crate::wire::icmp::{self, v4, v6};
use crate::wire::{Fragment, Mac, ipv4, ipv6, protocol};

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// The hop limit ran out.
    TimeExceeded,
    /// The packet is larger than the next hop takes.
    TooBig { mtu: u16 },
    /// Nobody knows the way.
    NoRoute,
    /// The destination is known to be away.
    Unreachable,
}

/// Precedence of internetwork control, which RFC 1812 (section 4.3.2.5) gives to errors.
const TRAFFIC_CLASS: u8 = 0xc0;

/// Largest error over IPv4 (RFC 1812, section 4.3.2.3).
const MAX_LEN_V4: usize = 576;

/// Largest error over IPv6: the smallest MTU there is (RFC 4443, section 2.4 c).
const MAX_LEN_V6: usize = 1280;

/// Makes the notice out of the packet it is about and sends it on its way: how it leaves, or `None` when no
/// notice may be sent. It is routed like any packet, since it may have to go back through a tunnel.
pub(super) fn send(
    budget: &mut Budget,
    now: Instant,
    scene: &Scene<'_>,
    frame: &mut Frame,
    notice: Notice,
) -> Option<Exit> {
    let about = parse(frame).ok()?.ip;
    let who = match scene.origin {
        Ok(Origin::Endpoint(number, _)) => Who::Endpoint(number),
        _ => Who::Remote(about.source),
    };
    if !may_tell(&about, frame) || !budget.spend(now, who) {
        return None;
    }
    frame.strip(ethernet::HEADER);
    match about.source {
        IpAddr::V4(sender) => write_v4(frame, notice, scene.node().icmp_source_v4, sender)?,
        IpAddr::V6(sender) => write_v6(frame, notice, scene.node().icmp_source_v6, sender)?,
    }
    let ip = parse(frame).ok()?.ip;
    let next = route::route(scene, Sender::Switch, &ip).ok()?;
    fit::fit(&ip, &next).ok()?;
    emit::emit(scene, frame, &ip, &next).ok()
}

/// The rules that keep errors from multiplying (RFC 1122, section 3.2.2; RFC 4443, section 2.4 e). Packets to a group,
/// on either layer, never get as far as a notice.
fn may_tell(about: &Ip, frame: &Frame) -> bool {
    if about.fragment == Fragment::Later || is_group(about.source) || is_reserved(about.source) {
        return false;
    }
    let is_error = match about.source {
        IpAddr::V4(_) => v4::is_error,
        IpAddr::V6(_) => v6::is_error,
    };
    let is_icmp = matches!(
        (about.source, about.protocol),
        (IpAddr::V4(_), protocol::ICMP) | (IpAddr::V6(_), protocol::ICMPV6)
    );
    // ICMP whose type cannot be read may be an error as well.
    !is_icmp || about.icmp_kind(frame.bytes()).is_some_and(|kind| !is_error(kind))
}

/// Type, code and the four bytes behind the checksum.
fn message_v4(notice: Notice) -> (u8, u8, u32) {
    match notice {
        Notice::TimeExceeded => (v4::TIME_EXCEEDED, 0, 0),
        // Code 4, fragmentation needed; the MTU in the low half (RFC 1191, section 4).
        Notice::TooBig { mtu } => (v4::DESTINATION_UNREACHABLE, 4, mtu.into()),
        // Code 0, net unreachable.
        Notice::NoRoute => (v4::DESTINATION_UNREACHABLE, 0, 0),
        // Code 1, host unreachable.
        Notice::Unreachable => (v4::DESTINATION_UNREACHABLE, 1, 0),
    }
}

/// As [`message_v4`].
fn message_v6(notice: Notice) -> (u8, u8, u32) {
    match notice {
        Notice::TimeExceeded => (v6::TIME_EXCEEDED, 0, 0),
        Notice::TooBig { mtu } => (v6::PACKET_TOO_BIG, 0, mtu.into()),
        // Code 0, no route to destination.
        Notice::NoRoute => (v6::DESTINATION_UNREACHABLE, 0, 0),
        // Code 3, address unreachable.
        Notice::Unreachable => (v6::DESTINATION_UNREACHABLE, 3, 0),
    }
}

/// Puts the headers in front of as much of the IP packet in `frame` as an error may quote.
fn write_v4(frame: &mut Frame, notice: Notice, source: Ipv4Addr, destination: Ipv4Addr) -> Option<()> {
    frame.set_len(frame.len().min(MAX_LEN_V4 - ipv4::HEADER - icmp::HEADER));
    let payload_len = icmp::HEADER + frame.len();
    let bytes = frame.prepend(ethernet::HEADER + ipv4::HEADER + icmp::HEADER)?;
    let (header, rest) = bytes.split_first_chunk_mut()?;
    // `emit` knows the MACs.
    ethernet::write(header, Mac::default(), Mac::default(), ether_type::IPV4);
    let (header, message) = rest.split_first_chunk_mut()?;
    ipv4::Header {
        source,
        destination,
        protocol: protocol::ICMP,
        ttl: HOP_LIMIT,
        traffic_class: TRAFFIC_CLASS,
        payload_len,
    }
    .write(header);
    let (kind, code, rest) = message_v4(notice);
    icmp::write(message.first_chunk_mut()?, kind, code, rest);
    let checksum = Sum::new().with(message).finish();
    icmp::set_checksum(message.first_chunk_mut()?, checksum);
    Some(())
}

/// As [`write_v4`].
fn write_v6(frame: &mut Frame, notice: Notice, source: Ipv6Addr, destination: Ipv6Addr) -> Option<()> {
    frame.set_len(frame.len().min(MAX_LEN_V6 - ipv6::HEADER - icmp::HEADER));
    let payload_len = icmp::HEADER + frame.len();
    let bytes = frame.prepend(ethernet::HEADER + ipv6::HEADER + icmp::HEADER)?;
    let (header, rest) = bytes.split_first_chunk_mut()?;
    ethernet::write(header, Mac::default(), Mac::default(), ether_type::IPV6);
    let (header, message) = rest.split_first_chunk_mut()?;
    ipv6::Header {
        source,
        destination,
        protocol: protocol::ICMPV6,
        hop_limit: HOP_LIMIT,
        traffic_class: TRAFFIC_CLASS,
        payload_len,
    }
    .write(header);
    let (kind, code, rest) = message_v6(notice);
    icmp::write(message.first_chunk_mut()?, kind, code, rest);
    let pseudo = Sum::pseudo_header(source.into(), destination.into(), protocol::ICMPV6, payload_len as u32);
    let checksum = pseudo.with(message).finish();
    icmp::set_checksum(message.first_chunk_mut()?, checksum);
    Some(())
}
