//! The kernel's neighbor tables: which MAC an address on a link has, and the bridge table of a VXLAN device.

use std::net::IpAddr;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use nix::errno::Errno;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::address::family;
use crate::error::{Error, Result};
use crate::mac::Mac;
use crate::netlink::{Driver, Mode, Netlink};
use crate::netns::Netns;
use crate::route::ROUTE_PROTOCOL;

/// An entry of the neighbor table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbor {
    /// Index of the interface it is on.
    pub interface: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC, while the kernel holds it usable.
    pub mac: Option<Mac>,
    /// The kernel asked and got no answer.
    pub failed: bool,
}

/// A change of the neighbor tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighborEvent {
    /// The entry is new, or its MAC or state changed.
    Changed(Neighbor),
    /// The entry is gone.
    Removed(Neighbor),
    /// Events were lost because they came faster than they were read: list the table again.
    Lost,
}

/// The changes of all neighbor tables of one namespace, as they happen.
pub struct NeighborEvents {
    events: BoxStream<'static, NeighborEvent>,
    _driver: Driver,
}

impl NeighborEvents {
    /// Watches the calling thread's namespace. Needs a tokio runtime, as [`Netlink`] does.
    pub fn open() -> Result<Self> {
        let opened = rtnetlink::new_multicast_connection(&[MulticastGroup::Neigh]);
        let (connection, handle, messages) = opened.map_err(|e| Error::io("watch the neighbor table", e))?;
        // The connection ends when nobody can ask it anything any more.
        let events = messages.filter_map(move |(message, _)| {
            let _alive = &handle;
            std::future::ready(match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => {
                    parse(&message).map(NeighborEvent::Changed)
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(message)) => {
                    parse(&message).map(NeighborEvent::Removed)
                }
                NetlinkPayload::Overrun(_) => Some(NeighborEvent::Lost),
                _ => None,
            })
        });
        Ok(Self { events: events.boxed(), _driver: Driver::start(connection) })
    }

    /// Watches another namespace.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.open_inside(Self::open)
    }

    /// The next change; `None` when the socket died.
    pub async fn next(&mut self) -> Option<NeighborEvent> {
        self.events.next().await
    }
}

impl Netlink {
    /// Writes an entry that neither ages nor is asked for again.
    pub async fn set_permanent_neighbor(&self, interface: u32, address: IpAddr, mac: Mac) -> Result<()> {
        let mut message = message(interface, address);
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        let operation = || format!("set neighbor {address} on interface number {interface}");
        self.change(operation, RouteNetlinkMessage::NewNeighbour(message), Mode::Replace).await
    }

    /// Makes the kernel find out the neighbor's MAC, or confirm it, as if it had a packet to send there. The answer
    /// arrives later, as a [`NeighborEvent`].
    pub async fn resolve_neighbor(&self, interface: u32, address: IpAddr) -> Result<()> {
        let mut message = message(interface, address);
        // NTF_USE: neigh_add (net/core/neighbour.c) starts resolution and leaves the state alone.
        message.header.flags = NeighbourFlags::Use;
        message.header.state = NeighbourState::None;
        let operation = || format!("resolve neighbor {address} on interface number {interface}");
        self.change(operation, RouteNetlinkMessage::NewNeighbour(message), Mode::Replace).await
    }

    /// Answers for an address on an interface, as if it were the host's own (`ip neigh add proxy`), under Heddle's protocol number. One
    /// that is there is fine.
    pub async fn add_proxy(&self, interface: u32, address: IpAddr) -> Result<()> {
        let mut message = message(interface, address);
        message.header.flags = NeighbourFlags::Proxy;
        message.attributes.push(NeighbourAttribute::Protocol(ROUTE_PROTOCOL.into()));
        let operation = || format!("answer for {address} on interface number {interface}");
        self.change(operation, RouteNetlinkMessage::NewNeighbour(message), Mode::Replace).await
    }

    /// Ends that; `Ok(false)` when nobody answers for it.
    pub async fn delete_proxy(&self, interface: u32, address: IpAddr) -> Result<bool> {
        let mut message = message(interface, address);
        message.header.flags = NeighbourFlags::Proxy;
        let operation = || format!("no longer answer for {address} on interface number {interface}");
        match self.change(operation, RouteNetlinkMessage::DelNeighbour(message), Mode::Plain).await {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What Heddle answers for: interfaces and addresses.
    pub async fn proxies(&self) -> Result<Vec<(u32, IpAddr)>> {
        let mut proxies = Vec::new();
        // Proxies are listed by family only (neigh_dump_info, net/core/neighbour.c).
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            message.header.flags = NeighbourFlags::Proxy;
            let request = RouteNetlinkMessage::GetNeighbour(message);
            for answer in self.list(|| "list whom this host answers for".to_owned(), request).await? {
                let RouteNetlinkMessage::NewNeighbour(message) = answer else { continue };
                let ours = message.attributes.contains(&NeighbourAttribute::Protocol(ROUTE_PROTOCOL.into()));
                if ours && let Some(neighbor) = parse(&message) {
                    proxies.push((neighbor.interface, neighbor.address));
                }
            }
        }
        Ok(proxies)
    }

    /// Removes an entry; `Ok(false)` when there is none.
    pub async fn delete_neighbor(&self, interface: u32, address: IpAddr) -> Result<bool> {
        let operation = || format!("delete neighbor {address} on interface number {interface}");
        let request = RouteNetlinkMessage::DelNeighbour(message(interface, address));
        match self.change(operation, request, Mode::Plain).await {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One entry, if there is one.
    pub async fn find_neighbor(&self, interface: u32, address: IpAddr) -> Result<Option<Neighbor>> {
        let operation = || format!("read neighbor {address} on interface number {interface}");
        let request = RouteNetlinkMessage::GetNeighbour(message(interface, address));
        Ok(self.get(operation, request).await?.as_ref().and_then(parse_answer))
    }

    /// Every entry, of all interfaces and both families.
    pub async fn neighbors(&self) -> Result<Vec<Neighbor>> {
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let answers = self.list(|| "list neighbors".to_owned(), request).await?;
        Ok(answers.iter().filter_map(parse_answer).collect())
    }

    /// Tells a VXLAN device which VTEP a MAC is behind (`bridge fdb append`). The all-zero MAC stands for all that
    /// have no entry of their own and may be given several VTEPs.
    pub async fn append_fdb(&self, interface: u32, mac: Mac, vtep: IpAddr) -> Result<()> {
        let mut message = message(interface, vtep);
        message.header.family = AddressFamily::Bridge;
        message.header.flags = NeighbourFlags::Own;
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        let operation = || format!("put {mac} behind VTEP {vtep} on interface number {interface}");
        self.change(operation, RouteNetlinkMessage::NewNeighbour(message), Mode::Append).await
    }
}

fn message(interface: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = interface;
    message.attributes.push(NeighbourAttribute::Destination(match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    }));
    message
}

fn parse_answer(answer: &RouteNetlinkMessage) -> Option<Neighbor> {
    let RouteNetlinkMessage::NewNeighbour(message) = answer else { return None };
    parse(message)
}

fn parse(message: &NeighbourMessage) -> Option<Neighbor> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
            }
            _ => {}
        }
    }
    let state = message.header.state;
    // NUD_VALID of include/net/neighbour.h, less NOARP: those entries have no MAC of a neighbor.
    let usable = matches!(
        state,
        NeighbourState::Permanent
            | NeighbourState::Reachable
            | NeighbourState::Probe
            | NeighbourState::Stale
            | NeighbourState::Delay
    );
    Some(Neighbor {
        interface: message.header.ifindex,
        address: address?,
        mac: mac.filter(|_| usable),
        failed: state == NeighbourState::Failed,
    })
}
