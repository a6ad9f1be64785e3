//! `NetworkPolicy` objects.

use heddle_image::Protocol;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::syntax::{LABEL_KEY, LABEL_VALUE, PORT_NAME, is_label_key, is_label_value, is_port_name};
use super::{Problems, Refusal, object_name};
use crate::model::{Block, Peer, Policy, PortMatch, PortNumbers, Rule};
use crate::selector::{Condition, Requirement, Selector};

/// Checks a `NetworkPolicy`. Rules of a direction that policyTypes leaves out are checked and have no effect, as in the API.
pub fn validate_policy(policy: &api::NetworkPolicy) -> Result<Policy, Refusal> {
    let mut problems = Problems::default();
    let name = object_name(&policy.metadata, &mut problems);
    let spec = policy.spec.clone().unwrap_or_default();
    let pods = spec.pod_selector.unwrap_or_default();
    let pods = selector(&pods, "spec.podSelector", &mut problems);
    let [ingress_applies, egress_applies] =
        policy_types(spec.policy_types.as_deref(), spec.egress.as_deref(), &mut problems);
    let mut rules = Vec::new();
    for (index, item) in spec.ingress.iter().flatten().enumerate() {
        rules.push(rule(
            item.from.as_deref(),
            item.ports.as_deref(),
            &format!("spec.ingress[{index}]"),
            "from",
            &mut problems,
        ));
    }
    let ingress = std::mem::take(&mut rules);
    for (index, item) in spec.egress.iter().flatten().enumerate() {
        rules.push(rule(
            item.to.as_deref(),
            item.ports.as_deref(),
            &format!("spec.egress[{index}]"),
            "to",
            &mut problems,
        ));
    }
    let model = Policy {
        name: name.clone(),
        pods,
        ingress: ingress_applies.then_some(ingress),
        egress: egress_applies.then_some(rules),
    };
    problems.finish("NetworkPolicy", name, model)
}

/// Whether the policy is about ingress and about egress. Unset: always ingress, and egress if there is an egress rule.
fn policy_types(
    types: Option<&[String]>,
    egress: Option<&[api::NetworkPolicyEgressRule]>,
    problems: &mut Problems,
) -> [bool; 2] {
    let types = types.unwrap_or_default();
    if types.is_empty() {
        return [true, egress.is_some_and(|rules| !rules.is_empty())];
    }
    if types.len() > 2 {
        problems.add("spec.policyTypes", "more than two entries");
    }
    for (index, name) in types.iter().enumerate() {
        if name != "Ingress" && name != "Egress" {
            problems.add(
                format!("spec.policyTypes[{index}]"),
                format!("{name:?} is neither \"Ingress\" nor \"Egress\""),
            );
        }
    }
    ["Ingress", "Egress"].map(|wanted| types.iter().any(|name| name == wanted))
}

fn rule(
    peers: Option<&[api::NetworkPolicyPeer]>,
    ports: Option<&[api::NetworkPolicyPort]>,
    field: &str,
    list: &str,
    problems: &mut Problems,
) -> Rule {
    let peers = peers.filter(|peers| !peers.is_empty()).map(|peers| {
        let checked = peers
            .iter()
            .enumerate()
            .map(|(index, item)| peer(item, &format!("{field}.{list}[{index}]"), problems));
        checked.collect::<Vec<_>>().into_iter().flatten().collect()
    });
    let ports = ports.filter(|ports| !ports.is_empty()).map(|ports| {
        let checked = ports
            .iter()
            .enumerate()
            .map(|(index, item)| port(item, &format!("{field}.ports[{index}]"), problems));
        checked.collect::<Vec<_>>().into_iter().flatten().collect()
    });
    Rule { peers, ports }
}

fn peer(item: &api::NetworkPolicyPeer, field: &str, problems: &mut Problems) -> Option<Peer> {
    let namespaces = item.namespace_selector.as_ref();
    let namespaces = namespaces.map(|item| selector(item, &format!("{field}.namespaceSelector"), problems));
    let pods =
        item.pod_selector.as_ref().map(|item| selector(item, &format!("{field}.podSelector"), problems));
    let block = item.ip_block.as_ref().map(|item| block(item, &format!("{field}.ipBlock"), problems));
    match (namespaces, pods, block) {
        (None, None, None) => {
            problems.add(field, "an empty peer: give podSelector, namespaceSelector or ipBlock, or drop the list to allow everyone");
            None
        }
        (None, None, Some(block)) => block.map(Peer::Block),
        (_, _, Some(_)) => {
            problems.add(
                format!("{field}.ipBlock"),
                "may not stand beside podSelector or namespaceSelector: make it a peer of its own",
            );
            None
        }
        // A namespaceSelector alone means all pods of those namespaces, a podSelector alone those of the policy's own namespace.
        (namespaces, pods, None) => Some(Peer::Pods { namespaces, pods: pods.unwrap_or_default() }),
    }
}

fn block(item: &api::IPBlock, field: &str, problems: &mut Problems) -> Option<Block> {
    let cidr = prefix(&item.cidr, &format!("{field}.cidr"), problems);
    let mut except = Vec::new();
    for (index, text) in item.except.iter().flatten().enumerate() {
        let field = format!("{field}.except[{index}]");
        let Some(inner) = prefix(text, &field, problems) else { continue };
        if let Some(cidr) = cidr.filter(|cidr| !cidr.contains(&inner) || *cidr == inner) {
            problems.add(field, format!("{inner} is not a strict part of {cidr}"));
        }
        except.push(inner);
    }
    except.sort_unstable();
    except.dedup();
    Some(Block { cidr: cidr?, except })
}

/// A prefix; host bits are ignored, as the API server does.
fn prefix(text: &str, field: &str, problems: &mut Problems) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        // Go reads these as IPv4, others do not: nobody means to write one.
        Ok(IpNet::V6(net)) if net.addr().to_ipv4_mapped().is_some() => {
            problems.add(field, format!("{text:?} is IPv4 written as IPv6: write it as IPv4"));
            None
        }
        Ok(net) => Some(net.trunc()),
        Err(_) => {
            problems.add(field, format!("{text:?} is not a prefix such as 10.0.0.0/8 or fd00::/8"));
            None
        }
    }
}

fn port(item: &api::NetworkPolicyPort, field: &str, problems: &mut Problems) -> Option<PortMatch> {
    let protocol = protocol(item.protocol.as_deref(), &format!("{field}.protocol"), problems);
    let numbers = match &item.port {
        None if item.end_port.is_some() => {
            problems.add(format!("{field}.endPort"), "needs port beside it");
            None
        }
        None => Some(PortNumbers::All),
        Some(IntOrString::String(name)) => Some(named(name, item.end_port, field, problems)),
        Some(IntOrString::Int(first)) => range(*first, item.end_port, field, problems),
    };
    Some(PortMatch { protocol: protocol?, numbers: numbers? })
}

fn named(name: &str, end: Option<i32>, field: &str, problems: &mut Problems) -> PortNumbers {
    if !is_port_name(name) {
        problems.add(
            format!("{field}.port"),
            format!("{name:?} is neither a number nor a port's name: {PORT_NAME}"),
        );
    }
    if end.is_some() {
        problems.add(format!("{field}.endPort"), "may not stand beside a named port");
    }
    PortNumbers::Named(name.to_owned())
}

fn range(first: i32, end: Option<i32>, field: &str, problems: &mut Problems) -> Option<PortNumbers> {
    let number = |value: i32| u16::try_from(value).ok().filter(|number| *number > 0);
    if number(first).is_none() {
        problems.add(format!("{field}.port"), format!("{first} is not a port: 1 to 65535"));
    }
    let end = end.unwrap_or(first);
    if number(end).is_none() && end != first {
        problems.add(format!("{field}.endPort"), format!("{end} is not a port: 1 to 65535"));
    } else if end < first {
        problems.add(format!("{field}.endPort"), format!("{end} is below port, which is {first}"));
    }
    Some(PortNumbers::Range(number(first)?, number(end)?))
}

/// The protocol of a port; TCP where none is given.
pub(super) fn protocol(name: Option<&str>, field: &str, problems: &mut Problems) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        other => {
            problems.add(field, format!("{other:?} is none of TCP, UDP and SCTP"));
            None
        }
    }
}

fn selector(item: &LabelSelector, field: &str, problems: &mut Problems) -> Selector {
    let labels = item.match_labels.clone().unwrap_or_default();
    problems.labels(&format!("{field}.matchLabels"), &labels);
    let equal =
        labels.into_iter().map(|(key, value)| Requirement { key, condition: Condition::In(vec![value]) });
    let mut requirements: Vec<_> = equal.collect();
    for (index, expression) in item.match_expressions.iter().flatten().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        requirements.extend(requirement(expression, &field, problems));
    }
    Selector::new(requirements)
}

fn requirement(item: &LabelSelectorRequirement, field: &str, problems: &mut Problems) -> Option<Requirement> {
    if !is_label_key(&item.key) {
        problems.add(format!("{field}.key"), format!("{:?} is not a label's key: {LABEL_KEY}", item.key));
    }
    let values = item.values.clone().unwrap_or_default();
    let takes_values = matches!(item.operator.as_str(), "In" | "NotIn");
    if takes_values && values.is_empty() {
        problems.add(format!("{field}.values"), format!("{} needs at least one value", item.operator));
    }
    for (index, value) in values.iter().enumerate().filter(|(_, value)| !is_label_value(value)) {
        problems.add(
            format!("{field}.values[{index}]"),
            format!("{value:?} is not a label's value: {LABEL_VALUE}"),
        );
    }
    let condition = match item.operator.as_str() {
        "In" => Condition::In(values),
        "NotIn" => Condition::NotIn(values),
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            problems.add(format!("{field}.values"), format!("{} takes no values", item.operator));
            return None;
        }
        "Exists" => Condition::Exists,
        "DoesNotExist" => Condition::DoesNotExist,
        other => {
            problems.add(
                format!("{field}.operator"),
                format!("{other:?} is none of In, NotIn, Exists and DoesNotExist"),
            );
            return None;
        }
    };
    Some(Requirement { key: item.key.clone(), condition })
}
