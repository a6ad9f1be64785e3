//! The interfaces that cached endpoints need: a trunk for each worker, and Linux's vxlan device.
//!
//! A trunk is a veth pair. What comes up leaves Linux by its near end, whole and with checksums, because that end offers
//! nothing that would let the kernel put either off; the worker has a socket on the far end.

use heddle_netdev::ethtool::{Offload, set_offload};
use heddle_netdev::sysctl::set_ipv6_enabled;
use heddle_netdev::{ExternalVxlanSpec, Link, Netlink};

use super::super::host::has_ipv6;
use super::super::pair;
use crate::wire::Mac;

/// Linux's tunnel end.
pub(in super::super) const VXLAN: &str = "heddle-vx";
const TRUNK: &str = "heddle-t";

/// The kernel's end of a worker's trunk.
pub(super) fn near_end(worker: u16) -> String {
    format!("{TRUNK}{worker}")
}

/// The worker's end.
pub(super) fn far_end(worker: u16) -> String {
    format!("{TRUNK}{worker}-sw")
}

/// Makes a worker's trunk, or takes over the one that is there. Returns the near end.
pub(super) async fn set_up(netlink: &Netlink, worker: u16, mtu: u32) -> heddle_netdev::Result<Link> {
    let (near, far) = (near_end(worker), far_end(worker));
    let [near_link, far_link] = pair::ensure(netlink, [&near, &far], mtu).await?;
    for link in [&far_link, &near_link] {
        if has_ipv6() {
            set_ipv6_enabled(&link.name, false)?;
        }
        netlink.set_up(link).await?;
    }
    set_offload(&near, Offload::TxChecksum, false)?;
    // A super-packet becomes more segments than the veth's ring holds.
    netlink.set_queueing(&near_link).await?;
    Ok(near_link)
}

/// Makes the vxlan device, or takes over the one that is there: the flows in the cache know it.
pub(super) async fn set_up_vxlan(
    netlink: &Netlink,
    port: u16,
    mac: Mac,
    mtu: u32,
) -> heddle_netdev::Result<Link> {
    let there = netlink.find_link(VXLAN).await?;
    if there.as_ref().is_none_or(|link| link.external_vxlan_port != Some(port)) {
        netlink.delete_link(VXLAN).await?;
        netlink.create_external_vxlan(ExternalVxlanSpec { name: VXLAN, port, mac, mtu }).await?;
    }
    let link = netlink.link(VXLAN).await?;
    if link.mac != Some(mac) {
        netlink.set_mac(&link, mac).await?;
    }
    if link.mtu != mtu {
        netlink.set_mtu(&link, mtu).await?;
    }
    if has_ipv6() {
        set_ipv6_enabled(VXLAN, false)?;
    }
    netlink.set_up(&link).await?;
    Ok(link)
}

/// Removes the trunks of workers from `first` on, and with `vxlan` the vxlan device.
pub(in super::super) async fn tear_down(
    netlink: &Netlink,
    first: u16,
    vxlan: bool,
) -> heddle_netdev::Result<()> {
    for link in netlink.links().await? {
        let is_trunk = worker_of(&link.name).is_some_and(|worker| worker >= first);
        if is_trunk || (vxlan && link.name == VXLAN) {
            // The other end may have taken it along.
            netlink.delete_link(&link.name).await?;
        }
    }
    Ok(())
}

/// True for the name of any interface made here.
pub(in super::super) fn is_ours(name: &str) -> bool {
    name == VXLAN || worker_of(name).is_some()
}

/// The worker whose trunk has an end of this name.
fn worker_of(name: &str) -> Option<u16> {
    let rest = name.strip_prefix(TRUNK)?;
    rest.strip_suffix("-sw").unwrap_or(rest).parse().ok()
}
