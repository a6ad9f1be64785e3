//! Stage 5: forwarding costs one hop.

use std::net::IpAddr;

use heddle_xsk::Frame;

use super::notice::Notice;
use super::packet::Ip;
use super::refusal::Refusal;
use crate::DropReason;
use crate::wire::{ethernet, ipv4, ipv6};

/// Refuses a packet that has no hop left to spend.
#[inline(always)]
pub(super) fn check(ip: &Ip) -> Result<(), Refusal> {
    if ip.hop_limit <= 1 {
        return Err(Refusal::told(DropReason::HopLimitExceeded, Notice::TimeExceeded));
    }
    Ok(())
}

/// Spends the hop. Done last, so that a notice quotes the packet as its sender knows it.
#[inline(always)]
pub(super) fn spend(frame: &mut Frame, ip: &Ip) {
    let bytes = frame.bytes_mut().get_mut(ethernet::HEADER..).unwrap_or_default();
    match ip.source {
        IpAddr::V4(_) => bytes.first_chunk_mut().map(ipv4::decrement_ttl),
        IpAddr::V6(_) => bytes.first_chunk_mut().map(ipv6::decrement_hop_limit),
    };
}
