//! CHECK: is what ADD made still as it was made?
//!
//! Only this plugin's own part is looked at: what later plugins of the chain added, to the pod or to prevResult, is theirs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use heddle_api::Endpoint;
use heddle_netdev::ethtool::{Offload, offload};
use heddle_netdev::{Link, Netlink};
use rscni_types::types::CNIResult;

use crate::attach::AttachMode;
use crate::attachment::{Attachment, pod_mac};
use crate::config::Config;
use crate::error::{CniError, Result, code};
use crate::ipam::Ipam;
use crate::node::Node;
use crate::pod::Pod;
use crate::switch::{PATIENCE, Switch};

/// Compares the address state, the kernel and the switch with prevResult; all differences come back as one error.
pub(crate) async fn run(config: &Config, attachment: &Attachment, netns: &Path) -> Result<()> {
    let previous = config.previous.as_ref().ok_or_else(|| {
        CniError::new(code::CONFIG, "prevResult is missing; the runtime hands it to CHECK as ADD returned it")
    })?;
    let addresses: BTreeSet<IpAddr> = Ipam::new(&config.state_dir)
        .list()?
        .into_iter()
        .filter_map(|(address, entry)| (entry.owner == attachment.owner()).then_some(address))
        .collect();
    let mut wrong = Vec::new();
    if addresses.is_empty() {
        wrong.push("no address is allocated to the attachment".to_owned());
    }
    compare_result(previous, attachment, &addresses, &mut wrong);
    let mut switch = Switch::connect(&config.socket, PATIENCE).await?;
    let node = Node::try_from(switch.describe().await?)?;
    let pod = Pod::open(netns)?;
    compare_pod(&pod, attachment, &addresses, &node, &mut wrong).await?;
    let host = Netlink::open()?.find_link(&attachment.host_interface()).await?;
    if !host.is_some_and(|link| link.up) {
        wrong.push(format!("the host's interface {} is gone or down", attachment.host_interface()));
    }
    let endpoint = switch.endpoints().await?.into_iter().find(|endpoint| endpoint.id == attachment.id());
    compare_endpoint(endpoint.as_ref(), attachment, &addresses, &mut wrong);
    compare_offloads(&pod, attachment, endpoint.as_ref(), &mut wrong)?;
    if wrong.is_empty() { Ok(()) } else { Err(CniError::new(code::CHANGED, wrong.join("; "))) }
}

fn compare_result(
    previous: &CNIResult,
    attachment: &Attachment,
    addresses: &BTreeSet<IpAddr>,
    wrong: &mut Vec<String>,
) {
    let named = |name: &str| previous.interfaces.iter().any(|interface| interface.name == name);
    for name in [attachment.ifname.clone(), attachment.host_interface()] {
        if !named(&name) {
            wrong.push(format!("prevResult does not name interface {name}"));
        }
    }
    for address in addresses {
        if !previous.ips.iter().any(|ip| ip.address.addr() == *address) {
            wrong.push(format!("prevResult does not name address {address}"));
        }
    }
}

async fn compare_pod(
    pod: &Pod,
    attachment: &Attachment,
    addresses: &BTreeSet<IpAddr>,
    node: &Node,
    wrong: &mut Vec<String>,
) -> Result<()> {
    let Some(link) = pod.netlink().find_link(&attachment.ifname).await? else {
        wrong.push(format!("the pod has no interface {}", attachment.ifname));
        return Ok(());
    };
    compare_link(&link, addresses, wrong);
    let there = pod.netlink().addresses(&link).await?;
    let routes = pod.netlink().routes().await?;
    for address in addresses {
        if !there.iter().any(|net| net.addr() == *address) {
            wrong.push(format!("the pod's interface has lost address {address}"));
        }
        let gateway = node.gateway_for(*address)?;
        let default = |route: &heddle_netdev::Route| {
            route.destination.prefix_len() == 0
                && route.gateway == Some(gateway)
                && route.interface == link.index
        };
        if !routes.iter().any(default) {
            wrong.push(format!("the pod has lost its default route via {gateway}"));
        }
    }
    Ok(())
}

fn compare_link(link: &Link, addresses: &BTreeSet<IpAddr>, wrong: &mut Vec<String>) {
    if !link.up {
        wrong.push(format!("the pod's interface {} is down", link.name));
    }
    let mac = pod_mac(&addresses.iter().copied().collect::<Vec<_>>());
    if link.mac != Some(mac) {
        wrong.push(format!("the MAC of the pod's interface {} is not {mac} any more", link.name));
    }
}

fn compare_endpoint(
    endpoint: Option<&Endpoint>,
    attachment: &Attachment,
    addresses: &BTreeSet<IpAddr>,
    wrong: &mut Vec<String>,
) {
    let Some(endpoint) = endpoint else {
        wrong.push("heddle-switch does not know the endpoint".to_owned());
        return;
    };
    let known: BTreeSet<IpAddr> = endpoint.addresses.iter().filter_map(|text| text.parse().ok()).collect();
    if known != *addresses || endpoint.host_interface != attachment.host_interface() {
        wrong.push("heddle-switch knows the endpoint with other addresses or another interface".to_owned());
    }
}

/// In direct mode packets must leave the pod complete (`pod::settings`); in cached mode every setting will do.
fn compare_offloads(
    pod: &Pod,
    attachment: &Attachment,
    endpoint: Option<&Endpoint>,
    wrong: &mut Vec<String>,
) -> Result<()> {
    let ifname = &attachment.ifname;
    let direct = endpoint.is_some_and(|endpoint| endpoint.attach_mode == AttachMode::Direct.name());
    // An interface that is gone has been told of.
    if direct && pod.netns.run(|| offload(ifname, Offload::TxChecksum))?.unwrap_or(false) {
        wrong.push(format!("checksum offload was switched on at the pod's interface {ifname}"));
    }
    Ok(())
}
