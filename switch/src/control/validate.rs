//! Requests as values: parsed, and refused with every mistake named when they make no sense on this node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use heddle_api::{AddEndpointRequest, UpdateRoutesRequest};
use ipnet::IpNet;

use super::ControlError;
use super::bandwidth;
use super::endpoints::EndpointSpec;
use super::facts::NodeFacts;
use super::ports;
use super::remote::VtepSpec;
use crate::config::{Family, MIN_MTU};
use crate::tables::{AttachMode, Node};
use crate::wire::Mac;

/// Longest id: a container ID is 64 bytes, an interface name 15.
const MAX_ID: usize = 256;

/// What an `UpdateRoutesRequest` asks for, without what is there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RouteRequest {
    pub(super) replace: bool,
    pub(super) set_vteps: BTreeMap<String, VtepSpec>,
    pub(super) set_routes: BTreeMap<IpNet, String>,
    pub(super) remove_vteps: BTreeSet<String>,
    pub(super) remove_routes: BTreeSet<IpNet>,
}

/// Mistakes found so far.
#[derive(Default)]
struct Mistakes(Vec<String>);

impl Mistakes {
    fn note(&mut self, mistake: impl Into<String>) {
        self.0.push(mistake.into());
    }

    /// The value, or `None` and the mistake noted.
    fn take<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|mistake| self.note(mistake)).ok()
    }

    /// The value, or the default and all mistakes noted.
    fn take_all<T: Default>(&mut self, result: Result<T, Vec<String>>) -> T {
        result.unwrap_or_else(|mistakes| {
            self.0.extend(mistakes);
            T::default()
        })
    }

    fn none(self) -> Result<(), ControlError> {
        if self.0.is_empty() { Ok(()) } else { Err(ControlError::Invalid(self.0.join("; "))) }
    }
}

/// Checks a request for an endpoint.
///
/// Addresses have to lie in the node's pod CIDRs: to any other address neither the node nor other nodes have a route to
/// this switch, and taking one would let a pod pose as the node or as another pod.
pub(super) fn endpoint(facts: &NodeFacts, request: AddEndpointRequest) -> Result<EndpointSpec, ControlError> {
    let mut mistakes = Mistakes::default();
    if request.id.is_empty() || request.id.len() > MAX_ID || request.id.chars().any(char::is_control) {
        mistakes.note(format!("id: write \"<containerID>/<ifname>\", at most {MAX_ID} bytes"));
    }
    if let Err(error) = heddle_netdev::check_link_name(&request.host_interface) {
        mistakes.note(format!("host_interface: {error}"));
    }
    let mac = mistakes.take(station_mac("mac", &request.mac));
    if request.addresses.is_empty() {
        mistakes.note("addresses: is empty; give the endpoint at least one address");
    }
    let mut addresses = Vec::new();
    for text in &request.addresses {
        if let Some(address) = mistakes.take(endpoint_address(facts, text)) {
            if addresses.contains(&address) {
                mistakes.note(format!("addresses: {address} is named twice"));
            }
            addresses.push(address);
        }
    }
    let mtu = if request.mtu == 0 { u32::from(facts.pod_mtu) } else { request.mtu };
    // Of every endpoint, as all may get an IPv6 address.
    if !(u32::from(MIN_MTU)..=u32::from(facts.pod_mtu)).contains(&mtu) {
        mistakes.note(format!("mtu: {mtu} is not from {MIN_MTU} to {}, the node's pod MTU", facts.pod_mtu));
    }
    let attach = match request.attach_mode.as_str() {
        "" => Some(facts.attach),
        name => name.parse::<AttachMode>().ok(),
    };
    if attach.is_none() {
        mistakes.note(format!("attach_mode: {:?} is neither \"direct\" nor \"cached\"", request.attach_mode));
    }
    let port_mappings = mistakes.take_all(ports::parse(facts, &request.port_mappings, &addresses));
    let bandwidth = mistakes.take_all(bandwidth::parse(request.bandwidth));
    mistakes.none()?;
    Ok(EndpointSpec {
        id: request.id,
        host_interface: request.host_interface,
        // Present: its absence is a mistake.
        mac: mac.unwrap_or_default(),
        addresses,
        pod_namespace: request.pod_namespace,
        pod_name: request.pod_name,
        mtu: mtu as u16,
        // Present, too.
        attach: attach.unwrap_or(facts.attach),
        port_mappings,
        bandwidth,
    })
}

/// Checks a request for routes, as far as that goes without knowing what is there.
///
/// A route must not take from this node what is its own: a prefix inside its pod CIDRs, an address of its own, the
/// default route, or addresses that never leave a link. A shorter prefix around those is fine, because longer ones win.
/// VTEP addresses may be routed: outer packets follow the kernel's routes, so a route cannot turn them back into the overlay.
pub(super) fn routes(facts: &NodeFacts, request: UpdateRoutesRequest) -> Result<RouteRequest, ControlError> {
    let mut mistakes = Mistakes::default();
    let mut parsed = RouteRequest { replace: request.replace, ..RouteRequest::default() };
    if request.replace && !(request.remove_vteps.is_empty() && request.remove_routes.is_empty()) {
        mistakes.note("remove_vteps and remove_routes make no sense with replace; leave them empty");
    }
    for vtep in request.set_vteps {
        let node = vtep.node.clone();
        if let Some(spec) = mistakes.take(vtep_spec(facts, &vtep))
            && parsed.set_vteps.insert(node.clone(), spec).is_some()
        {
            mistakes.note(format!("set_vteps: node {node} is named twice"));
        }
    }
    for route in request.set_routes {
        if let Some(prefix) = mistakes.take(remote_prefix(facts, &route.prefix))
            && let Some(other) = parsed.set_routes.insert(prefix, route.node.clone())
            && other != route.node
        {
            mistakes.note(format!("set_routes: {prefix} is set twice, to {other} and {}", route.node));
        }
    }
    for text in &request.remove_routes {
        if let Some(prefix) = mistakes.take(prefix("remove_routes", text)) {
            if parsed.set_routes.contains_key(&prefix) {
                mistakes.note(format!("{prefix} is in set_routes and in remove_routes; leave it out of one"));
            }
            parsed.remove_routes.insert(prefix);
        }
    }
    for node in request.remove_vteps {
        if parsed.set_vteps.contains_key(&node) {
            mistakes.note(format!("node {node} is in set_vteps and in remove_vteps; leave it out of one"));
        }
        parsed.remove_vteps.insert(node);
    }
    mistakes.none()?;
    if facts.uplink.is_none() && !(parsed.set_vteps.is_empty() && parsed.set_routes.is_empty()) {
        let problem =
            "this switch has no uplink; add [uplink] to its configuration and restart it".to_owned();
        return Err(ControlError::Precondition(problem));
    }
    Ok(parsed)
}

fn vtep_spec(facts: &NodeFacts, vtep: &heddle_api::Vtep) -> Result<VtepSpec, String> {
    let who = format!("set_vteps: node \"{}\"", vtep.node);
    if vtep.node.is_empty() || vtep.node == facts.name {
        return Err(format!("{who}: write the name of another node"));
    }
    let address = address(&vtep.address).map_err(|problem| format!("{who}: {problem}"))?;
    if facts.addresses.contains(&address) {
        return Err(format!("{who}: {address} is this node's own address"));
    }
    if let Some(uplink) = &facts.uplink
        && uplink.underlay != Family::of(address)
    {
        return Err(format!("{who}: {address} is not of the underlay's family"));
    }
    let mac = station_mac("mac", &vtep.mac).map_err(|problem| format!("{who}: {problem}"))?;
    Ok(VtepSpec { address, mac })
}

fn remote_prefix(facts: &NodeFacts, text: &str) -> Result<IpNet, String> {
    let prefix = prefix("set_routes", text)?;
    let refuse = |why: &str| Err(format!("set_routes: {prefix} {why}"));
    if prefix.prefix_len() == 0 {
        return refuse("is the default route, which is the host's");
    }
    if usable(prefix.network()).is_err() {
        return refuse("is reserved, it never leaves a link");
    }
    if let Some(own) = facts.pod_cidrs.iter().find(|own| own.contains(&prefix)) {
        return refuse(&format!("lies in this node's pod CIDR {own}"));
    }
    if facts.addresses.iter().any(|own| prefix == IpNet::from(*own)) {
        return refuse("is an address of this node");
    }
    Ok(prefix)
}

fn prefix(field: &str, text: &str) -> Result<IpNet, String> {
    let prefix: IpNet =
        text.parse().map_err(|_| format!("{field}: \"{text}\" is no prefix; write 10.244.2.0/24"))?;
    if prefix == prefix.trunc() {
        Ok(prefix)
    } else {
        Err(format!("{field}: \"{text}\" has host bits set; write {}", prefix.trunc()))
    }
}

fn endpoint_address(facts: &NodeFacts, text: &str) -> Result<IpAddr, String> {
    let address = address(text).map_err(|problem| format!("addresses: {problem}"))?;
    if facts.addresses.contains(&address) {
        return Err(format!("addresses: {address} is the node's own"));
    }
    if facts.pod_cidrs.iter().any(|cidr| cidr.contains(&address)) {
        return Ok(address);
    }
    let cidrs = facts.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(format!("addresses: {address} is outside this node's pod CIDRs; take one of {cidrs}"))
}

fn address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("\"{text}\" is no IP address"))?;
    usable(address).map_err(|problem| format!("{address} is {problem}"))?;
    Ok(address)
}

/// Refuses what never is the address of one interface somewhere in a network.
fn usable(address: IpAddr) -> Result<(), &'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    match address {
        _ if address.is_unspecified() => Err("unspecified"),
        _ if address.is_loopback() => Err("a loopback address"),
        _ if address.is_multicast() => Err("a multicast address"),
        _ if link_local => Err("a link-local address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Err("the broadcast address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err("an IPv4 address in disguise"),
        _ => Ok(()),
    }
}

/// The MAC of one interface that is not the gateway.
fn station_mac(field: &str, text: &str) -> Result<Mac, String> {
    let mac: Mac = text.parse().map_err(|error| format!("{field}: {error}"))?;
    if mac.is_multicast() || mac == Mac::default() {
        return Err(format!("{field}: {mac} is not the address of one interface"));
    }
    if mac == Node::default().gateway_mac {
        return Err(format!("{field}: {mac} is the gateway's"));
    }
    Ok(mac)
}
