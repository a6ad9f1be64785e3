//! Pods that are attached again, with more than the plugin asked for.
#![allow(dead_code, reason = "every test binary uses a part")]

use heddle_api::{AddEndpointRequest, Endpoint};
use heddle_netlab::{Control, Lab};

/// The pod's endpoint, as its switch lists it.
pub(crate) fn endpoint(control: &mut Control, pod: &str) -> Endpoint {
    control.endpoints().unwrap().into_iter().find(|endpoint| endpoint.pod_name == pod).unwrap()
}

/// The request that an endpoint was added by.
pub(crate) fn request(endpoint: &Endpoint) -> AddEndpointRequest {
    AddEndpointRequest {
        id: endpoint.id.clone(),
        host_interface: endpoint.host_interface.clone(),
        mac: endpoint.mac.clone(),
        addresses: endpoint.addresses.clone(),
        pod_namespace: endpoint.pod_namespace.clone(),
        pod_name: endpoint.pod_name.clone(),
        mtu: endpoint.mtu,
        attach_mode: endpoint.attach_mode.clone(),
        port_mappings: endpoint.port_mappings.clone(),
        bandwidth: endpoint.bandwidth,
    }
}

/// Takes the pod of node `node` away from its switch and attaches it again, with the request changed.
pub(crate) fn attach_again(
    lab: &Lab,
    node: &str,
    pod: &str,
    change: impl FnOnce(&mut AddEndpointRequest),
) -> Endpoint {
    let mut control = lab.node(node).unwrap().control().unwrap();
    let endpoint = endpoint(&mut control, pod);
    let mut request = request(&endpoint);
    change(&mut request);
    assert!(control.remove_endpoint(&endpoint.id).unwrap());
    control.add_endpoint(request).unwrap()
}
