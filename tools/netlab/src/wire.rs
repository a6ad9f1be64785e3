//! The segment between the nodes: a bridge in a namespace of its own, with an address as the nodes' gateway and others
//! that stand for the world. No interface of the lab is ever in the machine's own namespace.

use anyhow::{Context, Result};
use heddle_netdev::ethtool::{Offload, set_offload};
use heddle_netdev::sysctl::write_sysctl;
use heddle_netdev::{BridgeSpec, Netlink, Netns, Route, VethEnd, create_named};
use ipnet::IpNet;

use crate::control::runtime;
use crate::daemon::UPLINK;
use crate::names::Name;
use crate::namespace::Namespace;
use crate::spec::{WORLD, node_addresses, wire_addresses};

const BRIDGE: &str = "wire";

/// Makes a namespace with its loopback up, where IPv6 addresses are usable at once.
pub(crate) fn create_namespace(name: Name) -> Result<Netns> {
    let netns = create_named(&name.namespace())?;
    // Duplicate address detection would hold new interfaces' link-local addresses back for a second or two.
    netns.run(|| write_sysctl("net/ipv6/conf/default/accept_dad", "0"))??;
    in_namespace(&netns, async |netlink| Ok(netlink.set_up(&netlink.link("lo").await?).await?))?;
    Ok(netns)
}

/// Makes the wire and the world behind it.
pub(crate) fn create() -> Result<()> {
    let netns = create_namespace(Name::Wire)?;
    in_namespace(&netns, async |netlink| {
        netlink.create_bridge(BridgeSpec { name: BRIDGE, up: true }).await?;
        let bridge = netlink.link(BRIDGE).await?;
        for address in wire_addresses() {
            netlink.add_address(&bridge, address).await?;
        }
        let lo = netlink.link("lo").await?;
        for address in WORLD {
            netlink.add_address(&lo, IpNet::from(address)).await?;
        }
        Ok(())
    })
}

/// Hangs a node on the wire: its namespace must be there, it gets an interface with addresses and default routes.
pub(crate) fn attach(node: Name, number: u8) -> Result<()> {
    let wire = Netns::open(Namespace::of(Name::Wire).path())?;
    let node_netns = Netns::open(Namespace::of(node).path())?;
    let port = node.wire_port();
    in_namespace(&wire, async |netlink| {
        let near = VethEnd { up: true, ..VethEnd::named(&port) };
        let far = VethEnd { up: true, netns: Some(&node_netns), ..VethEnd::named(UPLINK) };
        netlink.create_veth(near, far).await?;
        Ok(netlink.enslave(&netlink.link(&port).await?, &netlink.link(BRIDGE).await?).await?)
    })?;
    in_namespace(&node_netns, async |netlink| {
        let uplink = netlink.link(UPLINK).await?;
        for address in node_addresses(number) {
            netlink.add_address(&uplink, address).await?;
        }
        for gateway in wire_addresses() {
            let any = if gateway.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            let gateway = gateway.addr();
            let route = Route { gateway: Some(gateway), ..Route::on_interface(any.parse()?, uplink.index) };
            netlink.add_route(&route).await.with_context(|| format!("default route of {node}"))?;
        }
        Ok(())
    })?;
    // A cable carries complete packets: none whose checksum or segmentation is left to a device that never comes.
    wire.run(|| complete_packets(&port))?
}

fn complete_packets(interface: &str) -> Result<()> {
    for offload in [Offload::TxChecksum, Offload::Tso] {
        set_offload(interface, offload, false)?;
    }
    Ok(())
}

/// Runs network configuration inside a namespace.
pub(crate) fn in_namespace<T>(netns: &Netns, work: impl AsyncFnOnce(&Netlink) -> Result<T>) -> Result<T> {
    runtime()?.block_on(async { work(&Netlink::open_in(netns)?).await })
}
