//! What the kernel says about an interface.

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use super::check_link_name;
use crate::error::{Error, Result};
use crate::mac::Mac;
use crate::netlink::Netlink;

/// An interface as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number, unique in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC; absent for kinds without Ethernet addresses.
    pub mac: Option<Mac>,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Admin state.
    pub up: bool,
    /// True when the far end is up as well.
    pub carrier: bool,
    /// "veth", "bridge", "vxlan" and so on; absent for hardware and loopback.
    pub kind: Option<String>,
    /// Index of the other end of a veth, in the namespace that end is in.
    pub peer_index: Option<u32>,
    /// Index of the bridge it is a port of.
    pub bridge: Option<u32>,
    /// Number of transmit queues.
    pub tx_queues: u32,
    /// Number of receive queues.
    pub rx_queues: u32,
    /// UDP port of a vxlan device in external mode; nothing for all others.
    pub external_vxlan_port: Option<u16>,
}

impl Netlink {
    /// Reads one interface; `Ok(None)` when the namespace has none of that name.
    pub async fn find_link(&self, name: &str) -> Result<Option<Link>> {
        check_link_name(name)?;
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.read_link(message, || format!("read interface {name}")).await
    }

    /// Reads one interface that must be there.
    pub async fn link(&self, name: &str) -> Result<Link> {
        self.find_link(name).await?.ok_or_else(|| Error::NoLink { name: name.to_owned() })
    }

    /// Reads one interface by its index.
    pub async fn find_link_by_index(&self, index: u32) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.read_link(message, || format!("read interface number {index}")).await
    }

    /// Every interface of the namespace.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.list(|| "list interfaces".to_owned(), request).await?;
        Ok(answers.into_iter().filter_map(parse).collect())
    }

    async fn read_link(
        &self,
        message: LinkMessage,
        operation: impl FnOnce() -> String,
    ) -> Result<Option<Link>> {
        Ok(self.get(operation, RouteNetlinkMessage::GetLink(message)).await?.and_then(parse))
    }
}

fn parse(answer: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = answer else { return None };
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        kind: None,
        peer_index: None,
        bridge: None,
        tx_queues: 1,
        rx_queues: 1,
        external_vxlan_port: None,
    };
    let mut lower = None;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = <[u8; 6]>::try_from(bytes).ok().map(Mac),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Link(index) => lower = Some(index),
            LinkAttribute::Controller(index) => link.bridge = Some(index),
            LinkAttribute::NumTxQueues(count) => link.tx_queues = count,
            LinkAttribute::NumRxQueues(count) => link.rx_queues = count,
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
                link.external_vxlan_port = infos.iter().find_map(external_vxlan_port);
            }
            _ => {}
        }
    }
    // IFLA_LINK is the peer for a veth only; for a vxlan it is the device underneath.
    link.peer_index = lower.filter(|index| *index != 0 && link.kind.as_deref() == Some("veth"));
    Some(link)
}

fn external_vxlan_port(info: &LinkInfo) -> Option<u16> {
    let LinkInfo::Data(InfoData::Vxlan(settings)) = info else { return None };
    let external = settings.contains(&InfoVxlan::CollectMetadata(true));
    let port = settings.iter().find_map(|setting| match setting {
        InfoVxlan::Port(port) => Some(*port),
        _ => None,
    });
    port.filter(|_| external)
}
