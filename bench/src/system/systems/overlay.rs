//! Two nodes with the bridge plugin and a kernel vxlan device, as Flannel sets it up: one device per node that learns
//! nothing, and for every other node a route, a neighbor entry and a bridge table entry. The baseline across nodes.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use heddle_netdev::ethtool::Offload;
use heddle_netdev::{BridgeSpec, Mac, Netns, Route, VethEnd, VxlanSpec};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::System;
use super::plugin::BridgePlugin;
use crate::system::ground::{Ground, create_namespace, in_namespace, switch_off};
use crate::system::place::Place;
use crate::system::scenario::{Reach, SystemName};

const WIRE_BRIDGE: &str = "wire";
const UPLINK: &str = "eth0";
const DEVICE: &str = "flannel.1";
/// As Flannel's, on the port that it uses.
const VNI: u32 = 1;
const PORT: u16 = 8472;
/// The wire's 1500 bytes less outer IPv4, UDP, VXLAN and inner Ethernet headers (RFC 7348 section 4.3).
const MTU: u32 = 1450;

#[derive(Debug)]
pub(crate) struct Overlay {
    pods: [Place; 2],
}

/// A node, 1 or 2.
#[derive(Debug, Clone, Copy)]
struct Node(u8);

impl Overlay {
    pub(crate) fn raise(ground: &Ground) -> Result<Self> {
        let wire = create_namespace("vxlan-wire")?;
        in_namespace(&wire, async |netlink| {
            Ok(netlink.create_bridge(BridgeSpec { name: WIRE_BRIDGE, up: true }).await?)
        })?;
        let raise = |node: Node, other: Node| -> Result<Place> {
            let netns = node.hang_on(&wire)?;
            let state = ground.directory(&format!("ipam-{}", node.name()))?;
            let pod =
                BridgePlugin::on(&netns, &state, &node.subnets(), MTU).add(&format!("{}-p1", node.name()))?;
            node.connect_to(other, &netns)?;
            Ok(pod)
        };
        Ok(Self { pods: [raise(Node(1), Node(2))?, raise(Node(2), Node(1))?] })
    }
}

impl Node {
    fn name(self) -> String {
        format!("vxlan-n{}", self.0)
    }

    /// On the wire.
    fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, 0, self.0)
    }

    fn mac(self) -> Mac {
        // Locally administered.
        Mac([0x02, 0x66, 0x6c, 0, 0, self.0])
    }

    /// Of its pods.
    fn subnets(self) -> [IpNet; 2] {
        let v6 = [0xfd00, 0x10, 0x246, u16::from(self.0), 0, 0, 0, 0];
        [
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 246, self.0, 0), 24)),
            IpNet::V6(Ipv6Net::new_assert(v6.into(), 64)),
        ]
    }

    /// Makes the node's namespace and a cable like those of Heddle's lab: it carries complete packets, none whose
    /// checksum or segmentation is left to a device that never comes.
    fn hang_on(self, wire: &Netns) -> Result<Netns> {
        let netns = create_namespace(&self.name())?;
        let port = format!("to-n{}", self.0);
        in_namespace(wire, async |netlink| {
            let near = VethEnd { up: true, ..VethEnd::named(&port) };
            let far = VethEnd { up: true, netns: Some(&netns), ..VethEnd::named(UPLINK) };
            netlink.create_veth(near, far).await?;
            Ok(netlink.enslave(&netlink.link(&port).await?, &netlink.link(WIRE_BRIDGE).await?).await?)
        })?;
        in_namespace(&netns, async |netlink| {
            let address = IpNet::V4(Ipv4Net::new(self.address(), 24)?);
            Ok(netlink.add_address(&netlink.link(UPLINK).await?, address).await?)
        })?;
        switch_off(wire, &port, &[Offload::TxChecksum, Offload::Tso])?;
        Ok(netns)
    }

    fn connect_to(self, other: Self, netns: &Netns) -> Result<()> {
        in_namespace(netns, async |netlink| {
            let spec = VxlanSpec {
                name: DEVICE,
                vni: VNI,
                local: IpAddr::V4(self.address()),
                remote: None,
                port: PORT,
                device: Some(netlink.link(UPLINK).await?.index),
                mac: Some(self.mac()),
                mtu: Some(MTU),
                learning: false,
                up: true,
            };
            netlink.create_vxlan(spec).await?;
            let device = netlink.link(DEVICE).await?;
            for subnet in self.subnets() {
                // The subnet's own first address is the device's, and stands for the node.
                netlink.add_address(&device, IpNet::from(subnet.network())).await?;
            }
            netlink.append_fdb(device.index, other.mac(), IpAddr::V4(other.address())).await?;
            for subnet in other.subnets() {
                netlink.set_permanent_neighbor(device.index, subnet.network(), other.mac()).await?;
                netlink.add_route(&Route::via_on_link(subnet, subnet.network(), device.index)).await?;
            }
            Ok(())
        })
    }
}

impl System for Overlay {
    fn name(&self) -> SystemName {
        SystemName::BridgeVxlan
    }

    fn ends(&self, reach: Reach) -> Option<[&Place; 2]> {
        (reach == Reach::AcrossNodes).then(|| self.pods.each_ref())
    }
}
