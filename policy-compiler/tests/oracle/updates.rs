//! A change costs what it touches: rulebooks and pages that it does not concern are the same objects in memory afterwards. And the limits
//! are kept.

use std::sync::Arc;

use heddle_image::{Image, PolicyClass};
use heddle_policy::validate::{validate_pod, validate_policy};
use heddle_policy::{Compiler, Enforced, LimitError, Limits, model::ObjectName};
use serde_json::{Value, json};

fn pod(namespace: &str, name: &str, address: &str, labels: &Value) -> heddle_policy::model::Pod {
    let pod = json!({"metadata": {"namespace": namespace, "name": name, "labels": labels}, "spec": {"containers": [], "nodeName": "one"},
                     "status": {"podIP": address}});
    validate_pod(&serde_json::from_value(pod).unwrap()).unwrap()
}

fn policy(namespace: &str, name: &str, spec: &Value) -> heddle_policy::model::Policy {
    let policy = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    validate_policy(&serde_json::from_value(policy).unwrap()).unwrap()
}

/// Ten namespaces of ten pods, each with a policy that allows its own pods of one label.
fn cluster() -> Compiler {
    let mut compiler = Compiler::default();
    for n in 0..10 {
        let namespace = format!("n{n}");
        for p in 0..10 {
            compiler.set_pod(pod(
                &namespace,
                &format!("p{p}"),
                &format!("10.0.{n}.{p}"),
                &json!({"app": format!("a{}", p % 2)}),
            ));
        }
        let from = json!([{"from": [{"podSelector": {"matchLabels": {"app": "a0"}}}]}]);
        compiler.set_policy(policy(
            &namespace,
            "own",
            &json!({"podSelector": {"matchLabels": {"app": "a1"}}, "ingress": from}),
        ));
    }
    compiler
}

fn class<'a>(image: &'a Image, namespace: &str, name: &str) -> &'a Arc<PolicyClass> {
    image.policy_class(image.endpoint(namespace, name).unwrap()).unwrap()
}

/// Namespaces whose policy class of `p1` is not the same object in both images.
fn rebuilt(before: &Image, after: &Image) -> Vec<usize> {
    let same = |n: &usize| {
        let namespace = format!("n{n}");
        Arc::ptr_eq(class(before, &namespace, "p1"), class(after, &namespace, "p1"))
    };
    (0..10).filter(|n| !same(n)).collect()
}

#[test]
fn a_pod_of_a_known_kind_rebuilds_nothing() {
    let mut compiler = cluster();
    let before = compiler.update().unwrap();
    compiler.set_pod(pod("n3", "new", "10.0.3.99", &json!({"app": "a0"})));
    let after = compiler.update().unwrap();
    assert_eq!(rebuilt(&before, &after), [] as [usize; 0]);
    assert_eq!(after.peer_class([10, 0, 3, 99].into()), after.peer_class([10, 0, 3, 0].into()));
    assert_ne!(before.peer_class([10, 0, 3, 99].into()), before.peer_class([10, 0, 3, 0].into()));
    // Gone and come back, as in a rolling restart: the class was kept.
    for p in ["p0", "p2", "p4", "p6", "p8", "new"] {
        compiler.remove_pod(&ObjectName::new("n3", p));
    }
    compiler.update().unwrap();
    compiler.set_pod(pod("n3", "p0", "10.0.3.0", &json!({"app": "a0"})));
    assert_eq!(rebuilt(&before, &compiler.update().unwrap()), [] as [usize; 0]);
}

#[test]
fn a_policy_rebuilds_the_classes_it_selects() {
    let mut compiler = cluster();
    let before = compiler.update().unwrap();
    let spec = json!({"podSelector": {"matchLabels": {"app": "a1"}}, "ingress": [{"ports": [{"port": 80}]}]});
    compiler.set_policy(policy("n3", "own", &spec));
    assert_eq!(rebuilt(&before, &compiler.update().unwrap()), [3]);
    // The same object again is no change.
    let before = compiler.update().unwrap();
    let spec = json!({"podSelector": {"matchLabels": {"app": "a1"}}, "ingress": [{"ports": [{"port": 80}]}]});
    compiler.set_policy(policy("n3", "own", &spec));
    assert_eq!(rebuilt(&before, &compiler.update().unwrap()), [] as [usize; 0]);
}

#[test]
fn numbers_are_used_again() {
    let mut compiler = cluster();
    compiler.update().unwrap();
    let stats = compiler.stats();
    for round in 0..2000 {
        let spec = json!({"ingress": [{"from": [{"podSelector": {"matchLabels": {"round": format!("r{round}")}}}, {"ipBlock": {"cidr": "10.0.0.0/14"}}]}]});
        compiler.set_policy(policy("n0", "churn", &spec));
        compiler.set_pod(pod("n0", "churn", "10.0.0.99", &json!({"round": format!("r{round}")})));
        compiler.update().unwrap();
    }
    compiler.remove_policy(&ObjectName::new("n0", "churn"));
    compiler.remove_pod(&ObjectName::new("n0", "churn"));
    compiler.update().unwrap();
    let after = compiler.stats();
    assert!(after.columns < stats.columns + 400, "{after:?}");
    assert_eq!(
        (after.terms, after.rulebooks, after.policy_classes),
        (stats.terms, stats.rulebooks, stats.policy_classes)
    );
    assert_eq!(
        (after.identities, after.row_bytes, after.peer_classes),
        (stats.identities, stats.row_bytes, stats.peer_classes)
    );
}

#[test]
fn limits_stop_the_image_and_not_the_compiler() {
    let mut compiler = Compiler::new(Enforced::Cluster, Limits { peer_classes: 8, ..Limits::default() });
    for p in 0..10 {
        compiler.set_pod(pod(
            "n",
            &format!("p{p}"),
            &format!("10.0.0.{p}"),
            &json!({"own": format!("v{p}")}),
        ));
    }
    let peers: Vec<_> =
        (0..10).map(|p| json!({"podSelector": {"matchLabels": {"own": format!("v{p}")}}})).collect();
    compiler.set_policy(policy("n", "wide", &json!({"ingress": [{"from": peers}]})));
    assert!(
        matches!(compiler.update(), Err(LimitError::PeerClasses { count: 11, limit: 8 })),
        "each pod is a class of its own"
    );
    compiler.set_policy(policy("n", "wide", &json!({"ingress": [{"from": [peers[0]]}]})));
    assert!(compiler.update().is_ok(), "two are few enough again");

    let mut compiler = Compiler::new(Enforced::Cluster, Limits { row_bytes: 16, ..Limits::default() });
    compiler.set_pod(pod("n", "p", "10.0.0.1", &json!({})));
    compiler.set_policy(policy("n", "a", &json!({"ingress": [{"ports": [{"port": 1}]}, {"from": [{"podSelector": {}}], "ports": [{"port": 2}]}]})));
    assert!(matches!(compiler.update(), Err(LimitError::RowBytes { limit: 16, .. })));
    assert!(matches!(compiler.update(), Err(LimitError::RowBytes { .. })), "it stays refused");
    compiler.set_policy(policy("n", "a", &json!({})));
    let image = compiler.update().unwrap();
    assert!(!image.allows(
        image.endpoint("n", "p").unwrap(),
        heddle_image::Direction::Ingress,
        image.peer_class([10, 0, 0, 1].into()),
        heddle_image::Protocol::Tcp,
        1
    ));
}

#[test]
fn a_node_enforces_its_own_pods_only() {
    let mut compiler = Compiler::new(Enforced::Node("one".into()), Limits::default());
    let mut elsewhere = pod("n", "elsewhere", "10.0.1.1", &json!({"app": "a"}));
    elsewhere.node = Some("two".into());
    compiler.set_pod(elsewhere);
    compiler.set_pod(pod("n", "here", "10.0.0.1", &json!({})));
    compiler.set_policy(policy(
        "n",
        "a",
        &json!({"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}]}),
    ));
    let image = compiler.update().unwrap();
    assert_eq!(image.endpoint("n", "elsewhere"), None);
    let (class, tcp) = (image.endpoint("n", "here").unwrap(), heddle_image::Protocol::Tcp);
    let ask = |address: [u8; 4]| {
        image.allows(class, heddle_image::Direction::Ingress, image.peer_class(address.into()), tcp, 1)
    };
    assert!(ask([10, 0, 1, 1]) && !ask([10, 0, 0, 1]), "pods elsewhere are peers");
}

#[test]
fn a_class_that_leaves_a_term_as_a_whole_leaves_its_rows() {
    let mut compiler = Compiler::default();
    compiler.set_pod(pod("n", "judged", "10.0.0.1", &json!({"app": "judged"})));
    compiler.set_pod(pod("n", "peer", "10.0.0.2", &json!({"app": "a", "tier": "b"})));
    let rules = json!([{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}], "ports": [{"port": 1}]},
                       {"from": [{"podSelector": {"matchLabels": {"tier": "b"}}}], "ports": [{"port": 2}]}]);
    compiler.set_policy(policy(
        "n",
        "p",
        &json!({"podSelector": {"matchLabels": {"app": "judged"}}, "ingress": rules}),
    ));
    let ask = |image: &Image| {
        let class = image.endpoint("n", "judged").unwrap();
        let peer = image.peer_class([10, 0, 0, 2].into());
        let allows = |port| {
            image.allows(class, heddle_image::Direction::Ingress, peer, heddle_image::Protocol::Tcp, port)
        };
        (peer, [1, 2].map(allows))
    };
    let (before, verdicts) = ask(&compiler.update().unwrap());
    assert_eq!(verdicts, [true, true]);
    compiler.set_pod(pod("n", "peer", "10.0.0.2", &json!({"tier": "b"})));
    assert_eq!(
        ask(&compiler.update().unwrap()),
        (before, [false, true]),
        "the same column, without one of its bits"
    );
}
