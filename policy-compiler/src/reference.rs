//! The oracle: `NetworkPolicy` v1 as its API text reads, one packet at a time, by going through everything. Slow and obvious.
//!
//! It shares nothing with the compiler: it reads the API's own objects, which must be valid, and has its own label matching, so that
//! a mistake would have to be made twice to go unnoticed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use heddle_image::Protocol;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Container, Namespace, Pod};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The objects of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Reference<'a> {
    /// All namespaces.
    pub namespaces: &'a [Namespace],
    /// All pods.
    pub pods: &'a [Pod],
    /// All policies; all valid.
    pub policies: &'a [NetworkPolicy],
}

/// A packet that opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub from: IpAddr,
    /// Destination address.
    pub to: IpAddr,
    /// Protocol.
    pub protocol: Protocol,
    /// Destination port; without meaning for [`Protocol::Other`].
    pub port: u16,
}

impl<'a> Reference<'a> {
    /// True when both the source's egress and the destination's ingress allow the packet.
    pub fn allows(&self, packet: Packet) -> bool {
        self.egress_allows(packet) && self.ingress_allows(packet)
    }

    /// "If no policies select a pod for egress, everything may leave. Otherwise what at least one rule of at least one of those
    /// policies allows."
    pub fn egress_allows(&self, packet: Packet) -> bool {
        let Some(source) = self.pod_at(packet.from) else { return true };
        let selecting: Vec<_> = self.selecting(source).filter(|policy| has_type(policy, "Egress")).collect();
        let rules = |policy: &&'a NetworkPolicy| {
            policy.spec.iter().flat_map(|spec| spec.egress.iter().flatten()).collect::<Vec<_>>()
        };
        selecting.is_empty()
            || selecting.iter().any(|policy| {
                rules(policy).into_iter().any(|rule| {
                    self.peer_matches(policy, rule.to.as_deref(), packet.to)
                        && ports_match(rule.ports.as_deref(), packet, self.pod_at(packet.to))
                })
            })
    }

    /// As [`Self::egress_allows`], seen from the destination.
    pub fn ingress_allows(&self, packet: Packet) -> bool {
        let Some(destination) = self.pod_at(packet.to) else { return true };
        let selecting: Vec<_> =
            self.selecting(destination).filter(|policy| has_type(policy, "Ingress")).collect();
        let rules = |policy: &&'a NetworkPolicy| {
            policy.spec.iter().flat_map(|spec| spec.ingress.iter().flatten()).collect::<Vec<_>>()
        };
        selecting.is_empty()
            || selecting.iter().any(|policy| {
                rules(policy).into_iter().any(|rule| {
                    self.peer_matches(policy, rule.from.as_deref(), packet.from)
                        && ports_match(rule.ports.as_deref(), packet, Some(destination))
                })
            })
    }

    /// The pod that has the address: running, with a network of its own; the youngest, should several claim it.
    pub fn pod_at(&self, address: IpAddr) -> Option<&'a Pod> {
        let pods = self.pods.iter().filter(|pod| takes_part(pod) && addresses(pod).contains(&address));
        pods.max_by_key(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
            (created, &pod.metadata.namespace, &pod.metadata.name)
        })
    }

    fn selecting(&self, pod: &'a Pod) -> impl Iterator<Item = &'a NetworkPolicy> {
        let policies =
            self.policies.iter().filter(|policy| policy.metadata.namespace == pod.metadata.namespace);
        policies.filter(|policy| {
            let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
            selector.is_none_or(|selector| selects(selector, pod.metadata.labels.as_ref()))
        })
    }

    /// "If empty or missing, the rule matches all sources (destinations)."
    fn peer_matches(
        &self,
        policy: &NetworkPolicy,
        peers: Option<&[NetworkPolicyPeer]>,
        address: IpAddr,
    ) -> bool {
        let peers = peers.unwrap_or_default();
        peers.is_empty()
            || peers.iter().any(|peer| match &peer.ip_block {
                Some(block) => {
                    in_prefix(&block.cidr, address)
                        && !block.except.iter().flatten().any(|except| in_prefix(except, address))
                }
                None => self.pod_at(address).is_some_and(|pod| self.selectors_match(policy, peer, pod)),
            })
    }

    fn selectors_match(&self, policy: &NetworkPolicy, peer: &NetworkPolicyPeer, pod: &Pod) -> bool {
        let namespace_fits = match &peer.namespace_selector {
            None => pod.metadata.namespace == policy.metadata.namespace,
            Some(selector) => {
                let namespace = self
                    .namespaces
                    .iter()
                    .find(|namespace| namespace.metadata.name == pod.metadata.namespace);
                namespace.is_some_and(|namespace| selects(selector, namespace.metadata.labels.as_ref()))
            }
        };
        let pod_fits =
            peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, pod.metadata.labels.as_ref()));
        namespace_fits && pod_fits
    }
}

/// "If this field is not specified, it will default based on the existence of ingress or egress rules; policies that contain an
/// egress section are assumed to affect egress, and all policies (whether or not they contain an ingress section) are assumed to
/// affect ingress." What counts as an egress section is a rule in it (`SetDefaults_NetworkPolicy`).
fn has_type(policy: &NetworkPolicy, wanted: &str) -> bool {
    let Some(spec) = &policy.spec else { return wanted == "Ingress" };
    match spec.policy_types.as_deref() {
        None | Some([]) => wanted == "Ingress" || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
        Some(types) => types.iter().any(|name| name == wanted),
    }
}

/// "If this field is empty or missing, this rule matches all ports (traffic not restricted by port)."
fn ports_match(ports: Option<&[NetworkPolicyPort]>, packet: Packet, destination: Option<&Pod>) -> bool {
    let ports = ports.unwrap_or_default();
    ports.is_empty() || ports.iter().any(|port| port_matches(port, packet, destination))
}

fn port_matches(item: &NetworkPolicyPort, packet: Packet, destination: Option<&Pod>) -> bool {
    if protocol(item.protocol.as_deref()) != packet.protocol {
        return false;
    }
    let port = i32::from(packet.port);
    match &item.port {
        None => true,
        Some(IntOrString::Int(first)) => (*first..=item.end_port.unwrap_or(*first)).contains(&port),
        Some(IntOrString::String(name)) => destination.is_some_and(|pod| {
            running_containers(pod).iter().flat_map(|container| container.ports.iter().flatten()).any(
                |candidate| {
                    candidate.name.as_ref() == Some(name)
                        && protocol(candidate.protocol.as_deref()) == packet.protocol
                        && candidate.container_port == port
                },
            )
        }),
    }
}

fn running_containers(pod: &Pod) -> Vec<&Container> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten();
    let sidecars = init.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers.iter().chain(sidecars).collect()
}

fn takes_part(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    !host_network && phase != Some("Succeeded") && phase != Some("Failed")
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let mut texts: Vec<_> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    if texts.is_empty() {
        texts.extend(status.pod_ip.as_deref());
    }
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}

fn protocol(name: Option<&str>) -> Protocol {
    match name {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) => Protocol::Other,
    }
}

fn in_prefix(prefix: &str, address: IpAddr) -> bool {
    prefix.parse::<IpNet>().is_ok_and(|prefix| prefix.contains(&address))
}

/// "The result of matchLabels and matchExpressions are `ANDed`. An empty label selector matches all objects."
fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &String| labels.and_then(|labels| labels.get(key));
    let equal = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted));
    let expressions = selector.match_expressions.iter().flatten().all(|expression| {
        let listed = |value: &String| expression.values.iter().flatten().any(|listed| listed == value);
        match (expression.operator.as_str(), value(&expression.key)) {
            ("In", Some(value)) => listed(value),
            ("NotIn", Some(value)) => !listed(value),
            ("NotIn" | "DoesNotExist", None) | ("Exists", Some(_)) => true,
            _ => false,
        }
    });
    equal && expressions
}
