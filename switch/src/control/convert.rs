//! From what control knows to the messages of the control socket.

use heddle_api as api;

use super::endpoints::EndpointEntry;
use super::facts::NodeFacts;
use super::remote::VtepSpec;
use crate::stats;
use crate::tables::Node;

/// The only way a pod is attached so far: an AF_XDP socket on its own veth.
pub(super) const ATTACH_MODE: &str = "direct";

pub(super) fn traffic(traffic: &stats::Traffic) -> api::Traffic {
    api::Traffic { packets: traffic.packets.get(), bytes: traffic.bytes.get() }
}

pub(super) fn endpoint(entry: &EndpointEntry) -> api::Endpoint {
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
        attach_mode: ATTACH_MODE.to_owned(),
        rx: Some(traffic(&entry.attached.stats.rx)),
        tx: Some(traffic(&entry.attached.stats.tx)),
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
    }
}
