//! CHECK: is what ADD made still as it was made?
//!
//! Only this plugin's own part is looked at: what later plugins of the chain added, to the pod or to prevResult, is theirs.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::Path;

use heddle_api::Endpoint;
use heddle_netdev::ethtool::{Offload, offload};
use heddle_netdev::{Link, Mac, Netlink};
use rscni_types::types::CNIResult;

use super::register;
use crate::attachment::Attachment;
use crate::config::Config;
use crate::delegate::Delegate;
use crate::error::{CniError, Result, code};
use crate::node::Node;
use crate::pod::Pod;
use crate::state::State;
use crate::switch::{PATIENCE, Switch};
use crate::wishes::{AttachMode, Wanted};

/// Compares the state, the kernel and the switch with prevResult; all differences come back as one error.
pub(crate) async fn run(
    config: &Config,
    attachment: &Attachment,
    netns: &Path,
    path: &OsStr,
    wanted: &Wanted,
) -> Result<()> {
    let previous = config.previous.as_ref().ok_or_else(|| {
        CniError::new(code::CONFIG, "prevResult is missing; the runtime hands it to CHECK as ADD returned it")
    })?;
    let record = State::new(&config.state_dir, config.address_rest).find(attachment)?;
    if let Some(name) = &config.ipam {
        let given = record.as_ref().map_or(&[][..], |record| &record.given);
        Delegate::find(name, path, &config.input)?.check(given)?;
    }
    let addresses: BTreeSet<IpAddr> = record.into_iter().flat_map(|record| record.addresses).collect();
    let mut wrong = Vec::new();
    if addresses.is_empty() {
        wrong.push("no address is allocated to the attachment".to_owned());
    }
    compare_result(previous, attachment, &addresses, &mut wrong);
    let mut switch = Switch::connect(&config.socket, PATIENCE).await?;
    let node = Node::try_from(switch.describe().await?)?;
    let pod = Pod::open(netns)?;
    let link = compare_pod(&pod, attachment, &addresses, &node, &mut wrong).await?;
    let host = Netlink::open()?.find_link(&attachment.host_interface()).await?;
    if !host.is_some_and(|link| link.up) {
        wrong.push(format!("the host's interface {} is gone or down", attachment.host_interface()));
    }
    let endpoint = switch.endpoints().await?.into_iter().find(|endpoint| endpoint.id == attachment.id());
    if let Some(link) = &link {
        compare_macs(previous, link, endpoint.as_ref(), &mut wrong);
    }
    compare_endpoint(endpoint.as_ref(), attachment, &addresses, wanted, &mut wrong);
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
) -> Result<Option<Link>> {
    let Some(link) = pod.netlink().find_link(&attachment.ifname).await? else {
        wrong.push(format!("the pod has no interface {}", attachment.ifname));
        return Ok(None);
    };
    if !link.up {
        wrong.push(format!("the pod's interface {} is down", link.name));
    }
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
    Ok(Some(link))
}

/// A later plugin may have changed the MAC and prevResult with it, as tuning does; the switch has not followed then.
fn compare_macs(previous: &CNIResult, link: &Link, endpoint: Option<&Endpoint>, wrong: &mut Vec<String>) {
    let is = link.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
    let same = |text: &str| text.to_ascii_lowercase().parse::<Mac>().ok() == link.mac;
    let inside = previous.interfaces.iter().filter(|interface| interface.sandbox.is_some());
    for interface in inside.filter(|interface| interface.name == link.name && !same(&interface.mac)) {
        wrong.push(format!("the MAC of the pod's interface {} is {is}, not {}", link.name, interface.mac));
    }
    if let Some(endpoint) = endpoint.filter(|endpoint| !same(&endpoint.mac)) {
        wrong.push(format!(
            "heddle-switch takes packets from MAC {} only, and the pod's is {is}",
            endpoint.mac
        ));
    }
}

fn compare_endpoint(
    endpoint: Option<&Endpoint>,
    attachment: &Attachment,
    addresses: &BTreeSet<IpAddr>,
    wanted: &Wanted,
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
    // A runtime may leave out of CHECK what it said for ADD.
    if !wanted.port_mappings.is_empty()
        && !register::same_ports(&wanted.port_mappings, &endpoint.port_mappings)
    {
        wrong.push("heddle-switch has other port mappings for the endpoint".to_owned());
    }
    if wanted.bandwidth.is_some()
        && !register::same_limits(wanted.bandwidth.as_ref(), endpoint.bandwidth.as_ref())
    {
        wrong.push("heddle-switch has other bandwidth limits for the endpoint".to_owned());
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
