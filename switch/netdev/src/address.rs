//! IP addresses of interfaces.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::error::Result;
use crate::link::Link;
use crate::netlink::{Mode, Netlink};

impl Netlink {
    /// Gives the interface an address. An IPv6 one skips duplicate address detection (RFC 4862 5.4): it is usable at
    /// once, and whoever hands addresses out here makes sure they are unique.
    pub async fn add_address(&self, link: &Link, address: IpNet) -> Result<()> {
        let operation = || format!("add address {address} to interface {}", link.name);
        let request = RouteNetlinkMessage::NewAddress(message(link, address));
        self.change(operation, request, Mode::Create).await
    }

    /// Takes an address away; `Ok(false)` when the interface does not have it.
    pub async fn delete_address(&self, link: &Link, address: IpNet) -> Result<bool> {
        let operation = || format!("delete address {address} from interface {}", link.name);
        let request = RouteNetlinkMessage::DelAddress(message(link, address));
        match self.change(operation, request, Mode::Plain).await {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(Errno::EADDRNOTAVAIL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The interface's addresses, link-local ones among them.
    pub async fn addresses(&self, link: &Link) -> Result<Vec<IpNet>> {
        let operation = || format!("list the addresses of interface {}", link.name);
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.list(operation, request).await?;
        Ok(answers.into_iter().filter_map(|answer| parse(answer, link.index)).collect())
    }

    /// IPv6 addresses of any interface that cannot be used yet: duplicate address detection has not let them through.
    pub async fn tentative_addresses(&self) -> Result<Vec<IpAddr>> {
        let operation = || "list the addresses of all interfaces".to_owned();
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        Ok(self.list(operation, request).await?.into_iter().filter_map(tentative).collect())
    }
}

fn tentative(answer: RouteNetlinkMessage) -> Option<IpAddr> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    let is_tentative = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Flags(flags) if flags.contains(AddressFlags::Tentative));
    let waits = message.attributes.iter().any(is_tentative);
    message.attributes.iter().filter(|_| waits).find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    })
}

fn message(link: &Link, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = link.index;
    message.header.prefix_len = address.prefix_len();
    message.header.family = family(address.addr());
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    if address.addr().is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}

fn parse(answer: RouteNetlinkMessage, index: u32) -> Option<IpNet> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    if message.header.index != index {
        return None;
    }
    // On point-to-point links IFA_ADDRESS is the far end and IFA_LOCAL our own; IPv6 often sends only the former.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let other = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNet::new(local.or(other)?, message.header.prefix_len).ok()
}

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
