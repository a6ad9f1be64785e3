//! The veth pairs between Linux and the switch: the host's port, and the workers' trunks.

use heddle_netdev::{Link, Netlink, VethEnd};

/// Makes a pair, or takes over the one that is there; what is left of a broken one is removed. Returns both ends, which are as
/// they were but for their MTU.
pub(super) async fn ensure(
    netlink: &Netlink,
    [linux, switch]: [&str; 2],
    mtu: u32,
) -> heddle_netdev::Result<[Link; 2]> {
    match (netlink.find_link(linux).await?, netlink.find_link(switch).await?) {
        (Some(linux), Some(switch)) if linux.peer_index == Some(switch.index) => {}
        (None, None) => create(netlink, [linux, switch], mtu).await?,
        _ => {
            remove(netlink, [linux, switch]).await?;
            create(netlink, [linux, switch], mtu).await?;
        }
    }
    let ends = [netlink.link(linux).await?, netlink.link(switch).await?];
    // While the MTU grows the peer's comes first, and the other way round; so both are set whatever they were.
    for end in &ends {
        if end.mtu != mtu {
            netlink.set_mtu(end, mtu).await?;
        }
    }
    Ok(ends)
}

/// Removes a pair, or what is there of it.
pub(super) async fn remove(netlink: &Netlink, ends: [&str; 2]) -> heddle_netdev::Result<()> {
    for end in ends {
        // The first end has taken the other along, as a rule.
        netlink.delete_link(end).await?;
    }
    Ok(())
}

async fn create(netlink: &Netlink, ends: [&str; 2], mtu: u32) -> heddle_netdev::Result<()> {
    let [linux, switch] = ends.map(|name| VethEnd { mtu: Some(mtu), ..VethEnd::named(name) });
    netlink.create_veth(linux, switch).await
}
