//! Stage 7: does it fit?

use super::encap;
use super::notice::Notice;
use super::packet::Ip;
use super::refusal::Refusal;
use super::route::Next;
use crate::DropReason;

/// Refuses what is larger than the next hop's MTU, and tells the sender that MTU: RFC 1191 for IPv4, RFC 8201 for IPv6.
///
/// An IPv4 packet without DF is refused as well. A router may fragment it (RFC 1812, section 4.2.2.7), but here one
/// frame in is at most one frame out: that bounds the work of a batch and the frames it needs. Pods have the overlay's
/// MTU, so what is too large comes from the world, by way of the host, whose kernel learns from the notice and
/// fragments for itself.
#[inline(always)]
pub(super) fn fit(ip: &Ip, next: &Next<'_>) -> Result<(), Refusal> {
    let mtu = match next {
        Next::Endpoint(_, endpoint) => endpoint.mtu,
        Next::Vtep(_, vtep, uplink) => uplink.mtu.saturating_sub(encap::overhead(vtep.address)),
    };
    if ip.len > mtu {
        return Err(Refusal::told(DropReason::TooBig, Notice::TooBig { mtu }));
    }
    Ok(())
}
