//! The inside of a pod: its namespace, and what its interface is given.

use std::net::IpAddr;
use std::path::Path;

use heddle_netdev::ethtool::{Offload, set_offload};
use heddle_netdev::sysctl::{set_ipv6_enabled, write_sysctl};
use heddle_netdev::{Errno, Netlink, Netns, Route};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{CniError, Result, code};
use crate::node::Node;
use crate::result::Made;
use crate::wishes::AttachMode;

/// A pod's network namespace with a conversation open in it.
pub(crate) struct Pod {
    /// The namespace.
    pub(crate) netns: Netns,
    netlink: Netlink,
}

impl Pod {
    /// Opens the namespace, which must not be the host's own.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let netns = Netns::open(path).map_err(|error| {
            let gone = matches!(error.errno(), Some(Errno::ENOENT | Errno::ESRCH));
            CniError::new(
                if gone { code::CONTAINER } else { code::ENVIRONMENT },
                format!("CNI_NETNS: {error}"),
            )
        })?;
        if netns.is_same(&Netns::current()?)? {
            let details = format!(
                "CNI_NETNS: {} is the host's own network namespace; a pod in it needs no network plugin",
                path.display()
            );
            return Err(CniError::new(code::ENVIRONMENT, details));
        }
        let netlink = Netlink::open_in(&netns).map_err(|error| {
            // A namespace of another kind (setns(2)).
            let wrong_kind = error.errno() == Some(Errno::EINVAL);
            if wrong_kind {
                CniError::new(code::ENVIRONMENT, format!("CNI_NETNS: {error}"))
            } else {
                error.into()
            }
        })?;
        Ok(Self { netns, netlink })
    }

    /// Makes sure ADD has a free place to work in: no interface of that name.
    pub(crate) async fn check_free(&self, ifname: &str) -> Result<()> {
        if self.netlink.find_link(ifname).await?.is_none() {
            return Ok(());
        }
        let details =
            format!("the pod already has an interface {ifname}; call DEL first or choose another CNI_IFNAME");
        Err(CniError::new(code::INTERFACE_EXISTS, details))
    }

    /// Makes sure no default route is there that ours would compete with, as after another plugin in the chain.
    pub(crate) async fn check_no_default_route(&self, node: &Node) -> Result<()> {
        for route in self.netlink.routes().await? {
            let ours_too =
                node.ranges.iter().any(|range| range.is_ipv4() == route.destination.addr().is_ipv4());
            if route.destination.prefix_len() == 0 && ours_too {
                let via = route.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
                let details = format!(
                    "another plugin gave the pod a default route{via} on interface number {}; heddle-cni must be the \
                     one that does: put it first in the chain and keep others from setting one",
                    route.interface
                );
                return Err(CniError::new(code::DEFAULT_ROUTE, details));
            }
        }
        Ok(())
    }

    /// Gives the interface, which is there and down, everything the pod needs to send and receive.
    pub(crate) async fn configure(&self, made: &Made<'_>, attach: AttachMode) -> Result<()> {
        let Made { addresses, node, .. } = *made;
        let ifname = &made.attachment.ifname;
        let ipv6 = addresses.iter().any(IpAddr::is_ipv6);
        self.netns.run(|| settings(ifname, ipv6, attach))??;
        let netlink = &self.netlink;
        netlink.set_up_named("lo").await?;
        let link = netlink.link(ifname).await?;
        if attach == AttachMode::Direct {
            // With XDP at its far end a veth holds what it has not delivered in a ring of 256 packets, and drops what does not
            // fit, unless the sender has a queue to wait in (veth_xmit, drivers/net/veth.c). Without XDP, as in cached mode, there
            // is no ring to be full: packets go into the CPU's backlog, which no queue in front of it would relieve.
            netlink.set_queueing(&link).await?;
        }
        for address in addresses {
            netlink.add_address(&link, IpNet::from(*address)).await?;
        }
        netlink.set_up(&link).await?;
        for address in addresses {
            let gateway = node.gateway_for(*address)?;
            netlink.add_route(&Route::on_interface(IpNet::from(gateway), link.index)).await?;
            let default = default_prefix(gateway);
            netlink.add_route(&Route::via_on_link(default, gateway, link.index)).await?;
        }
        for &destination in made.routes {
            let gateway = node.gateway_for(destination.addr())?;
            netlink.add_route(&Route::via_on_link(destination, gateway, link.index)).await?;
        }
        Ok(())
    }

    /// The conversation, for looking around.
    pub(crate) fn netlink(&self) -> &Netlink {
        &self.netlink
    }
}

/// 0.0.0.0/0 or `::/0`, whichever is of the gateway's family.
pub(crate) fn default_prefix(gateway: IpAddr) -> IpNet {
    match gateway {
        IpAddr::V4(_) => Ipv4Net::default().into(),
        IpAddr::V6(_) => Ipv6Net::default().into(),
    }
}

/// Runs inside the namespace. In direct mode the switch reads what the pod sends, so packets have to be complete: with
/// checksum offload on, it would see TCP and UDP with only half a checksum, and nothing in the packet says so; segmentation
/// stays with the pod's own kernel, late (GSO). In cached mode all offloads stay as the kernel set them: super-packets
/// pass from pod to pod whole, and the trunk completes those that go up to the switch.
fn settings(ifname: &str, ipv6: bool, attach: AttachMode) -> heddle_netdev::Result<()> {
    if attach == AttachMode::Direct {
        set_offload(ifname, Offload::TxChecksum, false)?;
        set_offload(ifname, Offload::Tso, false)?;
    }
    if ipv6 {
        // Some runtimes switch IPv6 off in new namespaces.
        set_ipv6_enabled(ifname, true)?;
        // The switch hands out every address there is, answers for the only router, and advertises nothing: waiting for
        // somebody to object (RFC 4862 5.4) or for a router to speak up would only delay the pod.
        write_sysctl(&format!("net/ipv6/conf/{ifname}/accept_dad"), "0")?;
        write_sysctl(&format!("net/ipv6/conf/{ifname}/accept_ra"), "0")?;
    }
    Ok(())
}
