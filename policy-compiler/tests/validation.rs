//! Invalid objects are refused with every field that is wrong, one by one, and nothing else of them.
#![allow(clippy::unwrap_used)]

use heddle_policy::validate::{Problem, read_strictly, validate_namespace, validate_pod, validate_policy};
use serde_json::{Value, json};

/// The fields that are wrong in a policy with this spec.
fn wrong_fields(spec: &Value) -> Vec<String> {
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                        "metadata": {"name": "p", "namespace": "n"}, "spec": spec});
    fields(validate_policy(&serde_json::from_value(policy).unwrap()).err().map(|refusal| refusal.problems))
}

fn fields(problems: Option<Vec<Problem>>) -> Vec<String> {
    problems.unwrap_or_default().into_iter().map(|problem| problem.field).collect()
}

#[test]
fn valid_policies_pass() {
    let valid = [
        json!({}),
        json!({"podSelector": {}, "policyTypes": []}),
        json!({"podSelector": {}, "ingress": [{}], "egress": [{"to": [], "ports": []}]}),
        json!({"ingress": [{"ports": [{"port": 1, "endPort": 65535}, {"protocol": "SCTP"}, {"port": "a-1"}, {"port": 5, "endPort": 5}]}]}),
        json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.1.2.3/8", "except": ["10.0.0.0/9"]}}, {"ipBlock": {"cidr": "::/0"}}]}]}),
    ];
    for spec in valid {
        assert_eq!(wrong_fields(&spec), [] as [&str; 0], "{spec}");
    }
}

#[test]
fn ports_are_checked() {
    let ports = json!([{"port": 0}, {"port": 65536}, {"port": 80, "endPort": 79}, {"port": 80, "endPort": 65536}, {"endPort": 1},
                       {"port": "web", "endPort": 9}, {"port": "80"}, {"protocol": "tcp"}, {"port": -1, "protocol": "ICMP"}]);
    let expected = [
        "0].port",
        "1].port",
        "2].endPort",
        "3].endPort",
        "4].endPort",
        "5].endPort",
        "6].port",
        "7].protocol",
        "8].protocol",
        "8].port",
    ];
    let expected = expected.map(|end| format!("spec.ingress[0].ports[{end}"));
    assert_eq!(wrong_fields(&json!({"ingress": [{"ports": ports}]})), expected);
}

#[test]
fn peers_are_checked() {
    let peers = json!([{}, {"ipBlock": {"cidr": "10.0.0.0"}}, {"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}},
                       {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8", "10.0.0.0/9", "11.0.0.0/9", "fd00::/9", "x"]}},
                       {"ipBlock": {"cidr": "::ffff:10.0.0.0/104"}}, {"ipBlock": {"cidr": "10.0.0.0/33"}}]);
    let expected = [
        "0]",
        "1].ipBlock.cidr",
        "2].ipBlock",
        "3].ipBlock.except[0]",
        "3].ipBlock.except[2]",
        "3].ipBlock.except[3]",
        "3].ipBlock.except[4]",
        "4].ipBlock.cidr",
        "5].ipBlock.cidr",
    ];
    let expected = expected.map(|end| format!("spec.egress[0].to[{end}"));
    assert_eq!(wrong_fields(&json!({"egress": [{"to": peers}]})), expected);
}

#[test]
fn selectors_are_checked() {
    let expressions = json!([{"key": "", "operator": "Exists"}, {"key": "a", "operator": "In"}, {"key": "a", "operator": "NotIn", "values": []},
                             {"key": "a", "operator": "Exists", "values": ["x"]}, {"key": "a", "operator": "Gt", "values": ["1"]},
                             {"key": "a", "operator": "In", "values": ["fine", "not fine"]}]);
    let expected = [
        "matchLabels",
        "matchExpressions[0].key",
        "matchExpressions[1].values",
        "matchExpressions[2].values",
        "matchExpressions[3].values",
        "matchExpressions[4].operator",
        "matchExpressions[5].values[1]",
    ];
    let expected = expected.map(|end| format!("spec.podSelector.{end}"));
    assert_eq!(
        wrong_fields(
            &json!({"podSelector": {"matchLabels": {"a/b/c": "x"}, "matchExpressions": expressions}})
        ),
        expected
    );
}

#[test]
fn types_are_checked_and_ignored_rules_too() {
    assert_eq!(wrong_fields(&json!({"policyTypes": ["Ingress", "egress"]})), ["spec.policyTypes[1]"]);
    assert_eq!(wrong_fields(&json!({"policyTypes": ["Ingress", "Egress", "Ingress"]})), ["spec.policyTypes"]);
    // Not in force, but the API server would not take it either.
    assert_eq!(
        wrong_fields(&json!({"policyTypes": ["Ingress"], "egress": [{"to": [{}]}]})),
        ["spec.egress[0].to[0]"]
    );
}

#[test]
fn names_labels_and_pods_are_checked() {
    let policy = json!({"metadata": {"name": "Upper", "namespace": "a.b"}});
    let refusal = validate_policy(&serde_json::from_value(policy).unwrap()).unwrap_err();
    assert_eq!(fields(Some(refusal.problems.clone())), ["metadata.namespace", "metadata.name"]);
    assert!(
        refusal.to_string().starts_with("NetworkPolicy a.b/Upper: metadata.namespace: \"a.b\" is not"),
        "{refusal}"
    );

    let namespace = json!({"metadata": {"name": "n", "labels": {"a": "-"}}});
    assert_eq!(
        fields(validate_namespace(&serde_json::from_value(namespace).unwrap()).err().map(|r| r.problems)),
        ["metadata.labels[a]"]
    );

    let pod = json!({"metadata": {"name": "p"}, "status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0"}]},
                     "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 0, "name": "web"}, {"containerPort": 1, "name": "_"}]}]}});
    let expected = [
        "spec.containers[0].ports[0].containerPort",
        "spec.containers[0].ports[1].name",
        "status.podIPs[1].ip",
    ];
    assert_eq!(
        fields(validate_pod(&serde_json::from_value(pod).unwrap()).err().map(|r| r.problems)),
        expected
    );
}

#[test]
fn reading_strictly_names_fields_that_do_not_exist() {
    type Policy = k8s_openapi::api::networking::v1::NetworkPolicy;
    let read = |spec: Value| {
        let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": spec});
        fields(Some(match read_strictly::<Policy>(&policy) {
            Ok((_, unknown)) => unknown,
            Err(problem) => vec![problem],
        }))
    };
    let typos = json!({"podselector": {}, "ingress": [{"from": [{"podSelector": {"matchlabels": {"a": "b"}}}]}, {"form": []}]});
    assert_eq!(
        read(typos),
        ["spec.ingress[0].from[0].podSelector.matchlabels", "spec.ingress[1].form", "spec.podselector"]
    );
    assert_eq!(
        read(json!({"ingress": [{"ports": [{"port": 80}, {"port": true}]}]})),
        ["spec.ingress[0].ports[1].port"]
    );
    assert_eq!(
        read(json!({"podSelector": {"matchLabels": {}}, "egress": [], "policyTypes": null})),
        [] as [&str; 0]
    );
}
