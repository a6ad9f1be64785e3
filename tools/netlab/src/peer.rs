//! A node that has Linux's own vxlan device instead of Heddle: what the switch's overlay must interoperate with.

use std::net::IpAddr;

use anyhow::{Context, Result};
use heddle_api as api;
use heddle_netdev::{Mac, Netlink, Route, VxlanSpec};
use ipnet::IpNet;

use crate::daemon::UPLINK;
use crate::names::Name;
use crate::namespace::Namespace;
use crate::spec::{LabSpec, Underlay, VNI, VXLAN_PORT, node_addresses, pod_cidrs};
use crate::state::NodeState;
use crate::wire;

const DEVICE: &str = "vxlan0";

/// A node with a kernel vxlan device, and one address per family behind it. It is part of the lab and goes with it.
#[derive(Debug, Clone)]
pub struct LinuxVxlanPeer {
    number: u8,
    underlay: IpAddr,
    mac: Mac,
    /// Where its programs run.
    pub namespace: Namespace,
}

impl LinuxVxlanPeer {
    pub(crate) fn create(number: u8, spec: &LabSpec, nodes: &[(NodeState, api::Vtep)]) -> Result<Self> {
        let name = Name::Peer(number);
        let netns = wire::create_namespace(name)?;
        wire::attach(name, number)?;
        let underlay = node_addresses(number)[usize::from(spec.underlay == Underlay::Ipv6)].addr();
        // Locally administered, with the node's number in it.
        let mac = Mac([0x02, 0x6c, 0x6e, 0x78, 0, number]);
        let peer = Self { number, underlay, mac, namespace: Namespace::of(name) };
        wire::in_namespace(&netns, async |netlink| peer.configure(netlink, nodes).await)?;
        Ok(peer)
    }

    /// Its IPv4 or IPv6 address inside the overlay.
    pub fn address(&self, v6: bool) -> IpAddr {
        let hosts = pod_cidrs(self.number)[usize::from(v6)];
        // The first one after the network's own.
        match hosts {
            IpNet::V4(net) => IpAddr::from(u32::from(net.network()).wrapping_add(1).to_be_bytes()),
            IpNet::V6(net) => IpAddr::from(u128::from(net.network()).wrapping_add(1).to_be_bytes()),
        }
    }

    pub(crate) fn vtep(&self) -> api::Vtep {
        api::Vtep { node: self.node(), address: self.underlay.to_string(), mac: self.mac.to_string() }
    }

    pub(crate) fn routes(&self) -> Vec<api::Route> {
        let route = |prefix: IpNet| api::Route { prefix: prefix.to_string(), node: self.node() };
        pod_cidrs(self.number).map(route).to_vec()
    }

    fn node(&self) -> String {
        Name::Peer(self.number).to_string()
    }

    async fn configure(&self, netlink: &Netlink, nodes: &[(NodeState, api::Vtep)]) -> Result<()> {
        let device = Some(netlink.link(UPLINK).await?.index);
        let spec = VxlanSpec {
            name: DEVICE,
            vni: VNI,
            local: self.underlay,
            remote: None,
            port: VXLAN_PORT,
            device,
            mac: Some(self.mac),
            mtu: None,
            learning: false,
            up: true,
        };
        netlink.create_vxlan(spec).await?;
        let vxlan = netlink.link(DEVICE).await?;
        for v6 in [false, true] {
            netlink.add_address(&vxlan, IpNet::from(self.address(v6))).await?;
        }
        for (node, vtep) in nodes {
            let mac: Mac = vtep.mac.parse()?;
            let address = vtep.address.parse().with_context(|| format!("VTEP address of {}", node.name))?;
            netlink.append_fdb(vxlan.index, mac, address).await?;
            for prefix in &node.pod_cidrs {
                // The prefix's own first address stands for the node: nobody has it, and the neighbor entry is fixed.
                let gateway = prefix.network();
                netlink.set_permanent_neighbor(vxlan.index, gateway, mac).await?;
                netlink.add_route(&Route::via_on_link(*prefix, gateway, vxlan.index)).await?;
            }
        }
        Ok(())
    }
}
