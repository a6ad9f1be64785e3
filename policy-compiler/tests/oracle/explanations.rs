//! Explanations of random clusters: their verdict is the oracle's, and each rule they name, put alone into a policy of its own, allows
//! the packet by itself.

use crate::clusters::{Cluster, PROBES, namespace, pod, policy};
use heddle_policy::Compiler;
use heddle_policy::explain::{ExplainError, Place, Port, Reason, RuleReference};
use heddle_policy::model::ObjectName;
use heddle_policy::reference::{Packet, Reference};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;

/// The policy reduced to one rule with one peer and one port.
fn alone(policy: &NetworkPolicy, reference: &RuleReference, direction: &str) -> NetworkPolicy {
    let mut value = serde_json::to_value(policy).unwrap();
    let (list, peers) = if direction == "Egress" { ("egress", "to") } else { ("ingress", "from") };
    let mut rule = value["spec"][list][reference.rule].clone();
    rule[peers] =
        reference.peer.map_or_else(|| serde_json::json!([]), |peer| serde_json::json!([rule[peers][peer]]));
    rule["ports"] =
        reference.port.map_or_else(|| serde_json::json!([]), |port| serde_json::json!([rule["ports"][port]]));
    value["spec"]["ingress"] = serde_json::json!([]);
    value["spec"]["egress"] = serde_json::json!([]);
    value["spec"][list] = serde_json::json!([rule]);
    value["spec"]["policyTypes"] = serde_json::json!([direction]);
    serde_json::from_value(value).unwrap()
}

fn check_side(
    cluster: &Cluster,
    reason: &Reason,
    direction: &str,
    packet: Packet,
    expected: bool,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(reason.allows(), expected, "{} {:?}: {:?}", direction, packet, reason);
    let Reason::Rules { rules } = reason else { return Ok(()) };
    prop_assert!(!rules.is_empty());
    let namespaces: Vec<_> = cluster.namespaces.values().cloned().collect();
    let pods: Vec<_> = cluster.pods.values().cloned().collect();
    for reference in rules {
        let policies = [alone(&cluster.policies[&reference.policy.to_string()], reference, direction)];
        let oracle = Reference { namespaces: &namespaces, pods: &pods, policies: &policies };
        let side =
            if direction == "Egress" { oracle.egress_allows(packet) } else { oracle.ingress_allows(packet) };
        prop_assert!(side, "{:?} does not allow {:?}", reference, packet);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn agree_with_the_oracle(namespaces in prop::collection::vec(namespace(), 1..4), pods in prop::collection::vec(pod(), 2..5),
                             policies in prop::collection::vec(policy(), 1..5)) {
        let (cluster, mut compiler) = Cluster::build(namespaces, pods, policies);
        let namespaces: Vec<Namespace> = cluster.namespaces.values().cloned().collect();
        let pods: Vec<Pod> = cluster.pods.values().cloned().collect();
        let policies: Vec<NetworkPolicy> = cluster.policies.values().cloned().collect();
        let oracle = Reference { namespaces: &namespaces, pods: &pods, policies: &policies };
        let mut places: Vec<Place> = cluster.pods.keys().map(|name| name.parse().unwrap()).collect();
        places.push("10.0.0.21".parse().unwrap());
        for (from, to) in places.iter().flat_map(|from| places.iter().map(move |to| (from, to))) {
            for (protocol, number) in PROBES {
                let explanation = match compiler.explain(from, to, Port { protocol, number }) {
                    Ok(explanation) => explanation,
                    Err(ExplainError::Finished(_) | ExplainError::NoCommonFamily) => continue,
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                };
                for path in explanation.paths {
                    let (Some(source), Some(destination)) = (path.source, path.destination) else { continue };
                    // A pod that lost its address to a younger one is explained by its own policies; the oracle sees the younger.
                    let has = |place: &Place, address| match place {
                        Place::Pod(name) => oracle.pod_at(address).is_none_or(|pod| pod.metadata.name.as_ref() == Some(&name.name)
                            && pod.metadata.namespace.as_ref() == Some(&name.namespace)),
                        Place::Address(_) => true,
                    };
                    if !has(from, source) || !has(to, destination) || from == to || source == destination {
                        continue;
                    }
                    let packet = Packet { from: source, to: destination, protocol, port: number };
                    check_side(&cluster, &path.egress, "Egress", packet, oracle.egress_allows(packet))?;
                    check_side(&cluster, &path.ingress, "Ingress", packet, oracle.ingress_allows(packet))?;
                    prop_assert_eq!(path.allowed, oracle.allows(packet));
                }
            }
        }
    }
}

#[test]
fn ends_that_cannot_be_explained_are_named() {
    let mut compiler = Compiler::default();
    let unknown = Place::Pod(ObjectName::new("a", "b"));
    let address = Place::Address([10, 0, 0, 1].into());
    let port = "tcp/80".parse().unwrap();
    assert_eq!(
        compiler.explain(&unknown, &address, port),
        Err(ExplainError::UnknownPod(ObjectName::new("a", "b")))
    );
    let other_family = "fd00::1".parse().unwrap();
    assert_eq!(compiler.explain(&address, &other_family, port), Err(ExplainError::NoCommonFamily));
}
