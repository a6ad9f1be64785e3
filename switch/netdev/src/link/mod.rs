//! Interfaces: reading and changing them. How each kind is made is in the files beside this one.

mod create;
mod read;

pub use create::{BridgeSpec, ExternalVxlanSpec, VethEnd, VxlanSpec};
pub use read::Link;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use crate::error::{Error, Result};
use crate::mac::Mac;
use crate::netlink::{Mode, Netlink};

/// Longest interface name: IFNAMSIZ of include/uapi/linux/if.h less the closing zero.
const MAX_NAME: usize = 15;

/// Refuses what the kernel's `dev_valid_name` (net/core/dev.c) refuses.
pub fn check_link_name(name: &str) -> Result<()> {
    let bad = name.is_empty()
        || name.len() > MAX_NAME
        || name == "."
        || name == ".."
        || name.chars().any(|c| c == '/' || c == ':' || c == '\0' || c.is_whitespace());
    if bad { Err(Error::BadLinkName { name: name.to_owned() }) } else { Ok(()) }
}

impl Netlink {
    /// Sets the interface up (admin state).
    pub async fn set_up(&self, link: &Link) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.change_link(link, "set up", message).await
    }

    /// Sets an interface up that nobody has read before: one request less for the kernel, which answers them one at a time.
    pub async fn set_up_named(&self, name: &str) -> Result<()> {
        check_link_name(name)?;
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let operation = || format!("set up interface {name}");
        self.change(operation, RouteNetlinkMessage::NewLink(message), Mode::Plain).await
    }

    /// Sets the interface down.
    pub async fn set_down(&self, link: &Link) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.change_mask = LinkFlags::Up;
        self.change_link(link, "set down", message).await
    }

    /// Sets the MTU, in bytes of IP packet.
    pub async fn set_mtu(&self, link: &Link, mtu: u32) -> Result<()> {
        self.change_attribute(link, "set the MTU of", LinkAttribute::Mtu(mtu)).await
    }

    /// Sets the MAC.
    pub async fn set_mac(&self, link: &Link, mac: Mac) -> Result<()> {
        self.change_attribute(link, "set the MAC of", LinkAttribute::Address(mac.0.to_vec())).await
    }

    /// Renames the interface, which must be down on kernels before 6.2.
    pub async fn rename(&self, link: &Link, name: &str) -> Result<()> {
        check_link_name(name)?;
        self.change_attribute(link, "rename", LinkAttribute::IfName(name.to_owned())).await
    }

    /// Makes the interface a port of a bridge.
    pub async fn enslave(&self, link: &Link, bridge: &Link) -> Result<()> {
        self.change_attribute(link, "enslave", LinkAttribute::Controller(bridge.index)).await
    }

    /// Deletes an interface by name (with its peer, for a veth). `Ok(false)` when there is none.
    pub async fn delete_link(&self, name: &str) -> Result<bool> {
        check_link_name(name)?;
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let operation = || format!("delete interface {name}");
        match self.change(operation, RouteNetlinkMessage::DelLink(message), Mode::Plain).await {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(nix::errno::Errno::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn change_attribute(&self, link: &Link, verb: &str, attribute: LinkAttribute) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(attribute);
        self.change_link(link, verb, message).await
    }

    async fn change_link(&self, link: &Link, verb: &str, mut message: LinkMessage) -> Result<()> {
        message.header.index = link.index;
        let operation = || format!("{verb} interface {}", link.name);
        self.change(operation, RouteNetlinkMessage::NewLink(message), Mode::Plain).await
    }
}
