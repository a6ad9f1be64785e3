//! Routes of the kernel's main table.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope, RouteType,
};

use crate::address::family;
use crate::error::{Error, Result};
use crate::netlink::{Mode, Netlink};

/// `rtm_protocol` of every route Heddle makes, so that it finds and removes its own and nobody else's. 68, 'D': not
/// taken in include/uapi/linux/rtnetlink.h nor in iproute2's `rt_protos`. `ip route show proto 68` lists them.
pub const ROUTE_PROTOCOL: u8 = 68;

/// A unicast route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination; `0.0.0.0/0` or `::/0` for the default route.
    pub destination: IpNet,
    /// Next hop; absent for what is on the link itself.
    pub gateway: Option<IpAddr>,
    /// Index of the outgoing interface.
    pub interface: u32,
    /// The gateway is reached through the interface although no route says so.
    pub on_link: bool,
    /// Source address of what this host itself sends; the kernel's choice otherwise.
    pub source: Option<IpAddr>,
    /// Who made the route: [`ROUTE_PROTOCOL`] for Heddle's.
    pub protocol: u8,
}

/// Where the kernel would send a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteLookup {
    /// Next hop; absent when the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// Index of the outgoing interface.
    pub interface: u32,
    /// Source address the kernel would choose.
    pub source: Option<IpAddr>,
    /// The destination is this host itself.
    pub local: bool,
}

impl Route {
    /// A route to what is on the link.
    pub fn on_interface(destination: IpNet, interface: u32) -> Self {
        Self { destination, gateway: None, interface, on_link: false, source: None, protocol: ROUTE_PROTOCOL }
    }

    /// A route through a gateway that is on the link, whatever other routes say.
    pub fn via_on_link(destination: IpNet, gateway: IpAddr, interface: u32) -> Self {
        Self { gateway: Some(gateway), on_link: true, ..Self::on_interface(destination, interface) }
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = family(self.destination.addr());
        header.destination_prefix_length = self.destination.prefix_len();
        header.table = RouteHeader::RT_TABLE_MAIN;
        header.protocol = self.protocol.into();
        header.kind = RouteType::Unicast;
        // IPv6 knows no scopes. For IPv4 a route without gateway has link scope, which is also what makes a gateway
        // behind it acceptable to fib_check_nh (net/ipv4/fib_semantics.c).
        let link_scope = self.gateway.is_none() && self.destination.addr().is_ipv4();
        header.scope = if link_scope { RouteScope::Link } else { RouteScope::Universe };
        if self.on_link {
            header.flags = RouteFlags::Onlink;
        }
        message.attributes.push(RouteAttribute::Destination(self.destination.network().into()));
        message.attributes.push(RouteAttribute::Oif(self.interface));
        message.attributes.extend(self.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
        message.attributes.extend(self.source.map(|source| RouteAttribute::PrefSource(source.into())));
        message
    }

    fn name(&self) -> String {
        let via = self.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        format!("route to {}{via} on interface number {}", self.destination, self.interface)
    }
}

impl Netlink {
    /// Adds a route; an error when there is one to the same destination with the same metric.
    pub async fn add_route(&self, route: &Route) -> Result<()> {
        let operation = || format!("add the {}", route.name());
        self.change(operation, RouteNetlinkMessage::NewRoute(route.message()), Mode::Create).await
    }

    /// Adds a route, or puts it in the place of the one to the same destination.
    pub async fn replace_route(&self, route: &Route) -> Result<()> {
        let operation = || format!("set the {}", route.name());
        self.change(operation, RouteNetlinkMessage::NewRoute(route.message()), Mode::Replace).await
    }

    /// Removes a route; `Ok(false)` when it is not there.
    pub async fn delete_route(&self, route: &Route) -> Result<bool> {
        let operation = || format!("delete the {}", route.name());
        match self.change(operation, RouteNetlinkMessage::DelRoute(route.message()), Mode::Plain).await {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.errno(), Some(Errno::ESRCH | Errno::ENODEV)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The unicast routes of the main table, both families.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for address in [IpAddr::from([0; 4]), IpAddr::from([0; 16])] {
            let mut message = RouteMessage::default();
            message.header.address_family = family(address);
            let answers =
                self.list(|| "list routes".to_owned(), RouteNetlinkMessage::GetRoute(message)).await?;
            routes.extend(answers.into_iter().filter_map(parse_route));
        }
        Ok(routes)
    }

    /// Asks the kernel where a packet to `destination` would go (`ip route get`).
    pub async fn lookup_route(&self, destination: IpAddr) -> Result<RouteLookup> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(destination.into()));
        let operation = || format!("look up the route to {destination}");
        let answer = self.get(operation, RouteNetlinkMessage::GetRoute(message)).await?;
        let lookup = answer.and_then(parse_lookup);
        lookup.ok_or_else(|| Error::Exchange {
            operation: operation(),
            reason: "the kernel named no interface; add a route to it".to_owned(),
        })
    }
}

fn parse_route(answer: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
    let header = &message.header;
    if header.kind != RouteType::Unicast || header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let any = IpAddr::from([0; 4]);
    let any = if header.address_family == family(any) { any } else { IpAddr::from([0; 16]) };
    let found = Attributes::of(&message);
    Some(Route {
        destination: IpNet::new(found.destination.unwrap_or(any), header.destination_prefix_length).ok()?,
        gateway: found.gateway,
        interface: found.interface?,
        on_link: header.flags.contains(RouteFlags::Onlink),
        source: found.source,
        protocol: header.protocol.into(),
    })
}

fn parse_lookup(answer: RouteNetlinkMessage) -> Option<RouteLookup> {
    let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
    let found = Attributes::of(&message);
    Some(RouteLookup {
        gateway: found.gateway,
        interface: found.interface?,
        source: found.source,
        local: message.header.kind == RouteType::Local,
    })
}

#[derive(Default)]
struct Attributes {
    destination: Option<IpAddr>,
    gateway: Option<IpAddr>,
    interface: Option<u32>,
    source: Option<IpAddr>,
}

impl Attributes {
    fn of(message: &RouteMessage) -> Self {
        let mut found = Self::default();
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => found.destination = to_ip(address),
                RouteAttribute::Gateway(address) => found.gateway = to_ip(address),
                RouteAttribute::PrefSource(address) => found.source = to_ip(address),
                RouteAttribute::Oif(index) => found.interface = Some(*index),
                _ => {}
            }
        }
        found
    }
}

fn to_ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
