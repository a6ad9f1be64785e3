//! Making interfaces, each in one message, so that an interface is never seen half configured.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};

use super::check_link_name;
use crate::error::Result;
use crate::mac::Mac;
use crate::netlink::{Mode, Netlink};
use crate::netns::Netns;

/// One end of a veth pair to make. One queue each way: native XDP refuses a veth whose peer has more transmit queues
/// than it has receive queues (`veth_xdp_set`, drivers/net/veth.c), and a socket serves one queue.
#[derive(Debug, Clone, Copy)]
pub struct VethEnd<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its MAC; the kernel picks one otherwise.
    pub mac: Option<Mac>,
    /// Its MTU; 1500 otherwise.
    pub mtu: Option<u32>,
    /// The namespace it appears in; the socket's own otherwise.
    pub netns: Option<&'a Netns>,
    /// Whether it comes up at once.
    pub up: bool,
}

impl<'a> VethEnd<'a> {
    /// An end with the kernel's defaults, down, in the socket's own namespace.
    pub fn named(name: &'a str) -> Self {
        Self { name, mac: None, mtu: None, netns: None, up: false }
    }

    fn message(&self) -> Result<LinkMessage> {
        check_link_name(self.name)?;
        let mut message = new_message(self.name, self.up);
        message.attributes.push(LinkAttribute::NumTxQueues(1));
        message.attributes.push(LinkAttribute::NumRxQueues(1));
        message.attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        message.attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        message.attributes.extend(self.netns.map(|netns| LinkAttribute::NetNsFd(netns.as_raw_fd())));
        Ok(message)
    }
}

/// A bridge to make.
#[derive(Debug, Clone, Copy)]
pub struct BridgeSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it comes up at once.
    pub up: bool,
}

/// A kernel VXLAN device to make: the far end in interoperability tests.
#[derive(Debug, Clone, Copy)]
pub struct VxlanSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Network identifier, 24 bits.
    pub vni: u32,
    /// Outer source address.
    pub local: IpAddr,
    /// Outer destination when the bridge table names none.
    pub remote: Option<IpAddr>,
    /// UDP port it listens on and sends to.
    pub port: u16,
    /// Index of the underlay interface.
    pub device: Option<u32>,
    /// Inner MAC of the device.
    pub mac: Option<Mac>,
    /// MTU; the underlay's less the encapsulation otherwise.
    pub mtu: Option<u32>,
    /// Learn MAC to VTEP bindings from what arrives (Linux' default; Heddle never needs it).
    pub learning: bool,
    /// Whether it comes up at once.
    pub up: bool,
}

/// A kernel VXLAN device in external mode to make: whoever sends by it says for each packet which tunnel it takes, and
/// learns of each that arrives which one it came by. One device serves all tunnels, over both families.
#[derive(Debug, Clone, Copy)]
pub struct ExternalVxlanSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// UDP port it listens on and sends to.
    pub port: u16,
    /// Inner MAC of the device.
    pub mac: Mac,
    /// Largest inner IP packet.
    pub mtu: u32,
}

impl Netlink {
    /// Makes a veth pair; the ends may be in different namespaces from the start. Nothing is left of it on an error.
    pub async fn create_veth(&self, near: VethEnd<'_>, far: VethEnd<'_>) -> Result<()> {
        let mut message = near.message()?;
        // The kernel configures the far end before it joins the two, and an end without a peer cannot come up
        // (veth_newlink and veth_open, drivers/net/veth.c).
        let peer = VethEnd { up: false, ..far }.message()?;
        message.attributes.push(info(InfoKind::Veth, Some(InfoData::Veth(InfoVeth::Peer(peer)))));
        self.create(message, || format!("create veth pair {} and {}", near.name, far.name)).await?;
        if !far.up {
            return Ok(());
        }
        let raised = self.raise(far).await;
        if raised.is_err() {
            // The first error is the one to tell; either end takes the other with it.
            let _ = match near.netns {
                Some(netns) => Self::open_in(netns)?.delete_link(near.name).await,
                None => self.delete_link(near.name).await,
            };
        }
        raised
    }

    async fn raise(&self, end: VethEnd<'_>) -> Result<()> {
        let inside = end.netns.map(Self::open_in).transpose()?;
        let netlink = inside.as_ref().unwrap_or(self);
        netlink.set_up(&netlink.link(end.name).await?).await
    }

    /// Makes a bridge that forwards at once (no spanning tree, no forward delay).
    pub async fn create_bridge(&self, spec: BridgeSpec<'_>) -> Result<()> {
        check_link_name(spec.name)?;
        let mut message = new_message(spec.name, spec.up);
        let data = InfoData::Bridge(vec![
            InfoBridge::StpState(BridgeStpState::Disabled),
            InfoBridge::ForwardDelay(0),
        ]);
        message.attributes.push(info(InfoKind::Bridge, Some(data)));
        self.create(message, || format!("create bridge {}", spec.name)).await
    }

    /// Makes a VXLAN device.
    pub async fn create_vxlan(&self, spec: VxlanSpec<'_>) -> Result<()> {
        check_link_name(spec.name)?;
        let mut data =
            vec![InfoVxlan::Id(spec.vni), InfoVxlan::Port(spec.port), InfoVxlan::Learning(spec.learning)];
        data.push(match spec.local {
            IpAddr::V4(address) => InfoVxlan::Local(address),
            IpAddr::V6(address) => InfoVxlan::Local6(address),
        });
        data.extend(spec.remote.map(|remote| match remote {
            IpAddr::V4(address) => InfoVxlan::Group(address),
            IpAddr::V6(address) => InfoVxlan::Group6(address),
        }));
        data.extend(spec.device.map(InfoVxlan::Link));
        let mut message = new_message(spec.name, spec.up);
        message.attributes.extend(spec.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        message.attributes.extend(spec.mtu.map(LinkAttribute::Mtu));
        message.attributes.push(info(InfoKind::Vxlan, Some(InfoData::Vxlan(data))));
        self.create(message, || format!("create vxlan device {}", spec.name)).await
    }

    /// Makes a VXLAN device in external mode, down.
    pub async fn create_external_vxlan(&self, spec: ExternalVxlanSpec<'_>) -> Result<()> {
        check_link_name(spec.name)?;
        let data =
            vec![InfoVxlan::CollectMetadata(true), InfoVxlan::Port(spec.port), InfoVxlan::Learning(false)];
        let mut message = new_message(spec.name, false);
        message.attributes.push(LinkAttribute::Address(spec.mac.0.to_vec()));
        message.attributes.push(LinkAttribute::Mtu(spec.mtu));
        message.attributes.push(info(InfoKind::Vxlan, Some(InfoData::Vxlan(data))));
        self.create(message, || format!("create vxlan device {}", spec.name)).await
    }

    async fn create(&self, message: LinkMessage, operation: impl FnOnce() -> String) -> Result<()> {
        self.change(operation, RouteNetlinkMessage::NewLink(message), Mode::Create).await
    }
}

fn new_message(name: &str, up: bool) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    if up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    message
}

fn info(kind: InfoKind, data: Option<InfoData>) -> LinkAttribute {
    let mut infos = vec![LinkInfo::Kind(kind)];
    infos.extend(data.map(LinkInfo::Data));
    LinkAttribute::LinkInfo(infos)
}
