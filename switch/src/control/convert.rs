//! From what control knows to the messages of the control socket.

use heddle_api as api;

use super::dataplane::Attached;
use super::endpoints::EndpointEntry;
use super::facts::NodeFacts;
use super::ports::PortMapping;
use super::remote::VtepSpec;
use crate::stats::{self, PortStats};
use crate::tables::conntrack::{Direction, Flow, Side};
use crate::tables::{EndpointPolicy, Node};
use crate::worker::Report;

pub(super) fn traffic(traffic: &stats::Traffic) -> api::Traffic {
    api::Traffic { packets: traffic.packets.get(), bytes: traffic.bytes.get() }
}

/// What the switch forwarded of an endpoint and what the flow cache did.
pub(super) fn total(attached: &Attached, of: fn(&PortStats) -> &stats::Traffic) -> api::Traffic {
    let (seen, unseen) = (traffic(of(&attached.stats)), cached(attached, of).unwrap_or_default());
    api::Traffic { packets: seen.packets + unseen.packets, bytes: seen.bytes + unseen.bytes }
}

/// What the flow cache forwarded of an endpoint.
pub(super) fn cached(attached: &Attached, of: fn(&PortStats) -> &stats::Traffic) -> Option<api::Traffic> {
    attached.cached.as_ref().map(|stats| traffic(of(stats)))
}

pub(super) fn policy(policy: EndpointPolicy) -> String {
    match policy {
        EndpointPolicy::Open => "open".to_owned(),
        EndpointPolicy::Closed => "closed".to_owned(),
        EndpointPolicy::Class(class) => format!("class {}", class.0),
    }
}

pub(super) fn endpoint(entry: &EndpointEntry, judged_by: EndpointPolicy) -> api::Endpoint {
    let spec = &entry.spec;
    api::Endpoint {
        id: spec.id.clone(),
        number: entry.number,
        host_interface: spec.host_interface.clone(),
        mac: spec.mac.to_string(),
        addresses: spec.addresses.iter().map(ToString::to_string).collect(),
        pod_namespace: spec.pod_namespace.clone(),
        pod_name: spec.pod_name.clone(),
        mtu: spec.mtu.into(),
        worker: entry.attached.port.worker.into(),
        attach_mode: spec.attach.name().to_owned(),
        policy: policy(judged_by),
        rx: Some(total(&entry.attached, |stats| &stats.rx)),
        tx: Some(total(&entry.attached, |stats| &stats.tx)),
        cached_rx: cached(&entry.attached, |stats| &stats.rx),
        cached_tx: cached(&entry.attached, |stats| &stats.tx),
        bandwidth: spec.bandwidth.to_message(),
        port_mappings: spec.port_mappings.iter().map(PortMapping::to_message).collect(),
    }
}

pub(super) fn flow(endpoint: &str, flow: &Flow) -> api::Flow {
    let side = match flow.side {
        Side::Egress => "egress",
        Side::Ingress => "ingress",
    };
    let traffic = |direction: Direction| api::Traffic {
        packets: flow.packets[direction as usize],
        bytes: flow.bytes[direction as usize],
    };
    api::Flow {
        endpoint: endpoint.to_owned(),
        side: side.to_owned(),
        protocol: flow.key.protocol.into(),
        source: flow.key.source.to_string(),
        source_port: flow.key.source_port.into(),
        destination: flow.key.destination.to_string(),
        destination_port: flow.key.destination_port.into(),
        state: flow.state.name().to_owned(),
        idle_milliseconds: flow.idle.as_millis() as u64,
        judged_at: flow.judged_at,
        original: Some(traffic(Direction::Original)),
        reply: Some(traffic(Direction::Reply)),
        offloaded: flow.offloaded,
    }
}

pub(super) fn connections(report: &Report) -> api::Connections {
    let counters = &report.counters;
    api::Connections {
        count: report.connections as u64,
        capacity: report.capacity as u64,
        opened: counters.opened,
        expired: counters.expired,
        evicted: counters.evicted.iter().sum::<u64>() + counters.collided,
        removed: counters.removed,
    }
}

pub(super) fn vtep(node: &str, vtep: &VtepSpec) -> api::Vtep {
    api::Vtep { node: node.to_owned(), address: vtep.address.to_string(), mac: vtep.mac.to_string() }
}

pub(super) fn node(facts: &NodeFacts) -> api::Node {
    let gateway = Node::default();
    let own_vtep = facts.uplink.as_ref().and_then(|uplink| {
        let spec = VtepSpec { address: uplink.vtep_address()?, mac: uplink.vtep_mac() };
        Some(vtep(&facts.name, &spec))
    });
    api::Node {
        name: facts.name.clone(),
        pod_cidrs: facts.pod_cidrs.iter().map(ToString::to_string).collect(),
        gateways: vec![gateway.gateway_v4.to_string(), gateway.gateway_v6.to_string()],
        gateway_mac: gateway.gateway_mac.to_string(),
        pod_mtu: facts.pod_mtu.into(),
        vtep: own_vtep,
        attach_mode: facts.attach.name().to_owned(),
    }
}
