//! What the switch is told of an endpoint, and whether it took it so.

use heddle_api::{AddEndpointRequest, Bandwidth, Endpoint, PortMapping};

use crate::attachment::Attachment;
use crate::error::{CniError, Result, code};
use crate::result::Made;
use crate::wishes::{AttachMode, Wanted};

/// The request for what was made.
pub(super) fn request(
    attachment: &Attachment,
    made: &Made<'_>,
    attach: AttachMode,
    wanted: &Wanted,
) -> AddEndpointRequest {
    AddEndpointRequest {
        id: attachment.id(),
        host_interface: attachment.host_interface(),
        mac: made.mac.to_string(),
        addresses: made.addresses.iter().map(ToString::to_string).collect(),
        pod_namespace: attachment.pod.namespace.clone(),
        pod_name: attachment.pod.name.clone(),
        mtu: made.node.mtu,
        // Said even where it is the node's: the interface is made for it by now, and the node's may change any moment.
        attach_mode: attach.name().to_owned(),
        port_mappings: wanted.port_mappings.clone(),
        bandwidth: wanted.bandwidth,
    }
}

/// A switch from before there was a field does not know it, and says nothing of it. A pod's packets would arrive broken, a port
/// lead nowhere, a limit not hold.
pub(super) fn check_answer(request: &AddEndpointRequest, answer: &Endpoint) -> Result<()> {
    let mut ignored = Vec::new();
    if answer.attach_mode != request.attach_mode {
        ignored.push(format!(
            "attached the pod in mode '{}' although mode '{}' was asked for",
            answer.attach_mode, request.attach_mode
        ));
    }
    if !same_ports(&request.port_mappings, &answer.port_mappings) {
        ignored.push("did not take the pod's port mappings".to_owned());
    }
    if !same_limits(request.bandwidth.as_ref(), answer.bandwidth.as_ref()) {
        ignored.push("did not take the pod's bandwidth limits".to_owned());
    }
    if ignored.is_empty() {
        return Ok(());
    }
    let ignored = ignored.join(", ");
    let details = format!("heddle-switch {ignored}: heddle-cni and heddle-switch must be of one version");
    Err(CniError::new(code::SWITCH, details))
}

/// In any order.
pub(super) fn same_ports(asked: &[PortMapping], there: &[PortMapping]) -> bool {
    asked.len() == there.len() && asked.iter().all(|mapping| there.contains(mapping))
}

/// A burst that was not asked for is the switch's choice.
pub(super) fn same_limits(asked: Option<&Bandwidth>, there: Option<&Bandwidth>) -> bool {
    let none = Bandwidth::default();
    let (asked, there) = (asked.unwrap_or(&none), there.unwrap_or(&none));
    let burst = |asked: u64, there: u64| asked == 0 || asked == there;
    asked.ingress_rate == there.ingress_rate
        && asked.egress_rate == there.egress_rate
        && burst(asked.ingress_burst, there.ingress_burst)
        && burst(asked.egress_burst, there.egress_burst)
}

#[cfg(test)]
mod tests {
    //! What a switch does not take is noticed, and what it may choose is not held against it.
    use super::*;

    #[test]
    fn what_was_not_taken_is_told() {
        let mapping = |host_port| PortMapping { host_port, pod_port: 80, ..PortMapping::default() };
        let bandwidth =
            Bandwidth { ingress_rate: 8, egress_rate: 9, egress_burst: 7, ..Bandwidth::default() };
        let request = AddEndpointRequest {
            attach_mode: "cached".to_owned(),
            port_mappings: vec![mapping(1), mapping(2)],
            bandwidth: Some(bandwidth),
            ..AddEndpointRequest::default()
        };
        let good = Endpoint {
            attach_mode: "cached".to_owned(),
            port_mappings: vec![mapping(2), mapping(1)],
            bandwidth: Some(Bandwidth { ingress_burst: 5, ..bandwidth }),
            ..Endpoint::default()
        };
        assert_eq!(check_answer(&request, &good), Ok(()));
        let error = check_answer(&request, &Endpoint::default()).unwrap_err();
        for what in ["mode 'cached'", "port mappings", "bandwidth"] {
            assert!(error.details.contains(what), "{error}");
        }
        let fewer = Endpoint { port_mappings: vec![mapping(1)], ..good.clone() };
        assert!(check_answer(&request, &fewer).unwrap_err().details.contains("port mappings"));
        let slower = Bandwidth { egress_burst: 6, ..bandwidth };
        assert!(check_answer(&request, &Endpoint { bandwidth: Some(slower), ..good }).is_err());
    }
}
