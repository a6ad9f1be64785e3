//! The host's own port: a veth pair whose one end Linux has, and whose other end is endpoint 0 of the switch.
//!
//! Linux needs no address on its end: it routes the cluster's prefixes through the gateway, which the switch answers
//! for, and sends from the node's own address.

use heddle_netdev::ethtool::{Offload, set_offload};
use heddle_netdev::sysctl::{set_ipv6_enabled, write_sysctl};
use heddle_netdev::{Errno, Link, Netlink, ROUTE_PROTOCOL, Route};
use std::path::Path;

use super::error::StartError;
use super::facts::NodeFacts;
use super::pair;
use crate::config::Family;
use crate::tables::{AttachMode, Node};

/// Linux's end.
pub(super) const LINUX_SIDE: &str = "heddle0";
/// The switch's end.
pub(super) const SWITCH_SIDE: &str = "heddle0-sw";

/// Makes the pair, or takes over the one that is there, with everything set as it has to be. Returns Linux's end.
pub(super) async fn set_up(netlink: &Netlink, facts: &NodeFacts) -> Result<Link, StartError> {
    let mtu = u32::from(facts.pod_mtu);
    let [link, switch_side] = pair::ensure(netlink, [LINUX_SIDE, SWITCH_SIDE], mtu).await?;
    if facts.attach == AttachMode::Direct {
        // The switch sees what Linux hands to the veth: without this, checksums nobody has filled in yet.
        set_offload(LINUX_SIDE, Offload::TxChecksum, false)?;
        netlink.set_queueing(&link).await?;
    }
    if has_ipv6() {
        set_ipv6_enabled(SWITCH_SIDE, false)?;
        set_ipv6_enabled(LINUX_SIDE, true)?;
        // Nobody else is on this link, so the link-local address need not be defended for a second first.
        write_sysctl(&format!("net/ipv6/conf/{LINUX_SIDE}/accept_dad"), "0")?;
    }
    // The switch reports errors about the host's packets from the node's own address.
    write_sysctl(&format!("net/ipv4/conf/{LINUX_SIDE}/accept_local"), "1")?;
    // What the node sends to a port mapping from 127.0.0.1 leaves by here, translated, and its answer comes back. Nobody but the
    // switch is on the other side, and it drops what comes from or goes to loopback addresses.
    write_sysctl(&format!("net/ipv4/conf/{LINUX_SIDE}/route_localnet"), "1")?;
    netlink.set_up(&switch_side).await?;
    netlink.set_up(&link).await?;
    route(netlink, facts, &link).await?;
    Ok(link)
}

/// Lets Linux leave checksums and segmentation to the cached port: what goes up is made whole on the trunk, and what does not need
/// not be. Only once nothing of a direct port is left on the switch's end, whose XDP program forbids it.
pub(super) fn offload() -> heddle_netdev::Result<()> {
    set_offload(LINUX_SIDE, Offload::TxChecksum, true)?;
    set_offload(LINUX_SIDE, Offload::Tso, true)
}

/// False on a kernel without IPv6.
pub(super) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Routes the cluster's prefixes to the switch, and removes routes of ours that are no longer wanted.
///
/// In routed mode there is a route for each pod instead, which is the segment's business.
async fn route(netlink: &Netlink, facts: &NodeFacts, link: &Link) -> Result<(), StartError> {
    if facts.segment.is_some() {
        return Ok(());
    }
    let gateway = Node::default();
    let there = netlink.routes().await?;
    let mut wanted = Vec::new();
    for cidr in &facts.cluster_cidrs {
        let family = Family::of(cidr.addr());
        let via = match family {
            Family::Ipv4 => gateway.gateway_v4.into(),
            Family::Ipv6 if has_ipv6() => gateway.gateway_v6.into(),
            Family::Ipv6 => continue,
        };
        if let Some(other) = there.iter().find(|r| r.destination == *cidr && r.protocol != ROUTE_PROTOCOL) {
            let problem = format!(
                "there is a route to {cidr} that is not Heddle's (protocol {}); remove it (ip route del {cidr} proto {}), or write other cluster_cidrs",
                other.protocol, other.protocol
            );
            return Err(StartError::Setting { key: "cluster_cidrs", problem });
        }
        let mut route = Route::via_on_link(*cidr, via, link.index);
        route.source = facts.address(family);
        match netlink.replace_route(&route).await {
            // The address is not usable as a source (any more): the kernel then picks one.
            Err(error) if route.source.is_some() && error.errno() == Some(Errno::EINVAL) => {
                route.source = None;
                netlink.replace_route(&route).await?;
            }
            result => result?,
        }
        wanted.push(*cidr);
    }
    let ours = |route: &&Route| route.protocol == ROUTE_PROTOCOL && route.interface == link.index;
    for stale in there.iter().filter(ours).filter(|route| !wanted.contains(&route.destination)) {
        netlink.delete_route(stale).await?;
    }
    Ok(())
}
