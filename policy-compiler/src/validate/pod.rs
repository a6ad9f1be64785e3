//! Pods.

use std::net::IpAddr;

use heddle_image::Protocol;
use k8s_openapi::api::core::v1 as core;

use super::{Problems, Refusal, object_name};
use crate::model::{NamedPort, Pod};

/// Checks a Pod.
pub fn validate_pod(pod: &core::Pod) -> Result<Pod, Refusal> {
    let mut problems = Problems::default();
    let name = object_name(&pod.metadata, &mut problems);
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    problems.labels("metadata.labels", &labels);
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let model = Pod {
        name: name.clone(),
        labels,
        ports: pod.spec.as_ref().map(|spec| ports(spec, &mut problems)).unwrap_or_default(),
        addresses: pod.status.as_ref().map(|status| addresses(status, &mut problems)).unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty()),
        host_network: pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false),
        finished: matches!(phase, Some("Succeeded" | "Failed")),
        created: pod.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
    };
    problems.finish("Pod", name, model)
}

/// The named ports of the containers, and of the init containers that go on running beside them (sidecars).
fn ports(spec: &core::PodSpec, problems: &mut Problems) -> Vec<NamedPort> {
    let containers =
        spec.containers.iter().enumerate().map(|(index, container)| ("containers", index, container));
    let init = spec.init_containers.iter().flatten().enumerate();
    let sidecars = init
        .filter(|(_, container)| container.restart_policy.as_deref() == Some("Always"))
        .map(|(index, container)| ("initContainers", index, container));
    let mut ports = Vec::new();
    for (list, index, container) in containers.chain(sidecars) {
        for (number, port) in container.ports.iter().flatten().enumerate() {
            let field = format!("spec.{list}[{index}].ports[{number}]");
            ports.extend(named_port(port, &field, problems));
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn named_port(port: &core::ContainerPort, field: &str, problems: &mut Problems) -> Option<NamedPort> {
    let protocol = super::policy::protocol(port.protocol.as_deref(), &format!("{field}.protocol"), problems);
    let number = u16::try_from(port.container_port).ok().filter(|number| *number > 0);
    if number.is_none() {
        problems.add(
            format!("{field}.containerPort"),
            format!("{} is not a port: 1 to 65535", port.container_port),
        );
    }
    let name = port.name.clone().filter(|name| !name.is_empty())?;
    if !super::syntax::is_port_name(&name) {
        problems.add(
            format!("{field}.name"),
            format!("{name:?} is not a port's name: {}", super::syntax::PORT_NAME),
        );
    }
    Some(NamedPort { name, protocol: protocol.unwrap_or(Protocol::Tcp), number: number? })
}

/// `podIPs`, or `podIP` where only that is set.
fn addresses(status: &core::PodStatus, problems: &mut Problems) -> Vec<IpAddr> {
    let listed = status.pod_ips.iter().flatten().enumerate();
    let mut texts: Vec<_> =
        listed.map(|(index, ip)| (format!("status.podIPs[{index}].ip"), ip.ip.as_str())).collect();
    if let (true, Some(only)) = (texts.is_empty(), &status.pod_ip) {
        texts.push(("status.podIP".into(), only));
    }
    let mut addresses = Vec::new();
    for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        match text.parse::<IpAddr>() {
            Ok(address) => addresses.push(address.to_canonical()),
            Err(_) => problems.add(field, format!("{text:?} is not an IP address")),
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
