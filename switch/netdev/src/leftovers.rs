//! What is recognised by its protocol number alone, in whatever table it is: routes and rules, to remove all that somebody made.

use std::net::IpAddr;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};

use crate::address::family;
use crate::error::Result;
use crate::netlink::{Mode, Netlink};

const FAMILIES: [IpAddr; 2] =
    [IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)];

impl Netlink {
    /// Removes every route of this protocol; returns what it removed, as people write it.
    pub async fn remove_routes_of(&self, protocol: u8) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for any in FAMILIES {
            let mut request = RouteMessage::default();
            request.header.address_family = family(any);
            let list = || "list routes".to_owned();
            for answer in self.list(list, RouteNetlinkMessage::GetRoute(request)).await? {
                let RouteNetlinkMessage::NewRoute(route) = answer else { continue };
                // Those that the kernel learned by itself, redirects for one, are in the same list.
                if u8::from(route.header.protocol) != protocol {
                    continue;
                }
                let name = route_name(&route, any);
                let delete = || format!("delete the route {name}");
                self.change(delete, RouteNetlinkMessage::DelRoute(route), Mode::Plain).await?;
                removed.push(name);
            }
        }
        Ok(removed)
    }

    /// Removes every policy routing rule of this protocol; returns what it removed, as people write it.
    pub async fn remove_rules_of(&self, protocol: u8) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for any in FAMILIES {
            let mut request = RuleMessage::default();
            request.header.family = family(any);
            let list = || "list rules".to_owned();
            for answer in self.list(list, RouteNetlinkMessage::GetRule(request)).await? {
                let RouteNetlinkMessage::NewRule(rule) = answer else { continue };
                let is_ours = |attribute: &RuleAttribute| matches!(attribute, RuleAttribute::Protocol(found) if u8::from(*found) == protocol);
                if !rule.attributes.iter().any(is_ours) {
                    continue;
                }
                let name = rule_name(&rule);
                let delete = || format!("delete the rule {name}");
                self.change(delete, RouteNetlinkMessage::DelRule(rule), Mode::Plain).await?;
                removed.push(name);
            }
        }
        Ok(removed)
    }
}

fn route_name(route: &RouteMessage, any: IpAddr) -> String {
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let table = table.unwrap_or_else(|| route.header.table.into());
    let name = format!("{}/{}", destination.unwrap_or(any), route.header.destination_prefix_length);
    if table == u32::from(RouteHeader::RT_TABLE_MAIN) { name } else { format!("{name} in table {table}") }
}

fn rule_name(rule: &RuleMessage) -> String {
    let priority = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Priority(priority) => Some(*priority),
        _ => None,
    });
    format!("{} of {:?}", priority.unwrap_or(0), rule.header.family)
}
