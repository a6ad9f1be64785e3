//! What connection tracking has to know of a packet.

use heddle_xsk::Frame;

use super::packet::Ip;
use crate::DropReason;
use crate::tables::conntrack::{FlowKey, FragmentKey, Packet, Role, Segment};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::{Fragment, ethernet, icmp, protocol};

/// A packet as connection tracking sees it.
#[derive(Debug)]
pub(super) enum Subject {
    /// Of the flow with this key.
    Flow(FlowKey, Packet),
    /// An ICMP error, and the key of the packet it quotes, as far as that can be read.
    Error(Option<FlowKey>),
    /// Of no flow: ICMP that neither asks nor answers, and every later fragment.
    Other,
}

/// The key of the packet's flow, if it belongs to one.
#[inline(always)]
pub(super) fn flow(ip: &Ip, transport: &[u8]) -> Option<FlowKey> {
    FlowKey::parse(ip.source, ip.destination, ip.protocol, transport)
}

/// What a flow's packet tells about its connection.
#[inline(always)]
pub(super) fn packet(ip: &Ip, transport: &[u8]) -> Result<Packet, DropReason> {
    let segment = match ip.protocol {
        protocol::TCP => {
            let len = usize::from(ip.len) + ethernet::HEADER - usize::from(ip.transport);
            Some(Segment::parse(transport, len).ok_or(DropReason::TcpMalformed)?)
        }
        _ => None,
    };
    Ok(Packet { bytes: ip.len.into(), segment })
}

/// Reads the header above IP, of whatever kind.
pub(super) fn of(frame: &Frame, ip: &Ip) -> Result<Subject, DropReason> {
    let transport = ip.transport(frame.bytes());
    if let Some(flow) = flow(ip, transport) {
        return Ok(Subject::Flow(flow, packet(ip, transport)?));
    }
    if ip.fragment == Fragment::Later {
        return Ok(Subject::Other);
    }
    let (is_error, redirect): (fn(u8) -> bool, u8) = match ip.protocol {
        protocol::ICMP => (icmp::v4::is_error, icmp::v4::REDIRECT),
        protocol::ICMPV6 => (icmp::v6::is_error, icmp::v6::REDIRECT),
        // Ports that are cut off.
        _ => return Err(DropReason::Truncated),
    };
    let kind = *transport.first().ok_or(DropReason::Truncated)?;
    // A redirect is for the next router's link alone, and no part of a connection.
    if is_error(kind) && kind != redirect {
        Ok(Subject::Error(quoted(transport, ip)))
    } else {
        Ok(Subject::Other)
    }
}

/// The key of the packet that an ICMP error is about. Only whole packets and first fragments can be told apart.
fn quoted(message: &[u8], ip: &Ip) -> Option<FlowKey> {
    let bytes = message.get(icmp::HEADER..)?;
    if ip.source.is_ipv4() {
        let inner = Ipv4::parse_quoted(bytes).ok()?;
        let transport = if inner.fragment() == Fragment::Later { return None } else { inner.payload };
        FlowKey::parse(inner.source().into(), inner.destination().into(), inner.protocol(), transport)
    } else {
        let inner = Ipv6::parse_quoted(bytes).ok()?;
        let upper = inner.upper_layer().ok()?;
        if upper.fragment == Fragment::Later {
            return None;
        }
        let transport = bytes.get(upper.offset..)?;
        FlowKey::parse(inner.source().into(), inner.destination().into(), upper.protocol, transport)
    }
}

/// The key to judge a packet by that has no flow: addresses and protocol.
pub(super) fn without_ports(ip: &Ip) -> FlowKey {
    FlowKey {
        source: ip.source,
        destination: ip.destination,
        source_port: 0,
        destination_port: 0,
        protocol: ip.protocol,
        role: Role::Any,
    }
}

/// What the fragments of the packet have in common.
pub(super) fn fragment_key(frame: &Frame, ip: &Ip) -> Result<FragmentKey, DropReason> {
    let bytes = frame.bytes().get(ethernet::HEADER..).unwrap_or_default();
    // Over IPv6 the protocol is none of it (RFC 8200, section 4.5): what a later fragment names may be an extension header.
    let (protocol, identification) = if ip.source.is_ipv4() {
        (ip.protocol, Ipv4::parse(bytes).ok().map(|packet| packet.identification().into()))
    } else {
        let upper = Ipv6::parse(bytes).and_then(|packet| packet.upper_layer());
        (0, upper.ok().map(|upper| upper.identification))
    };
    Ok(FragmentKey {
        source: ip.source,
        destination: ip.destination,
        protocol,
        identification: identification.ok_or(DropReason::MalformedIp)?,
    })
}
