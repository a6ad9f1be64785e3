//! A pod's interface is made for the mode that was asked for, and the switch is told the same; what nobody can mean makes
//! nothing.

use serde_json::{Value, json};

use crate::fake_switch::Mood;
use crate::node::{Outcome, Place, TestNode};

/// What makes the difference, as the kernel has it.
#[derive(Debug, PartialEq, Eq)]
struct Interface {
    complete_packets: bool,
    queue: bool,
}

const DIRECT: Interface = Interface { complete_packets: true, queue: true };
const CACHED: Interface = Interface { complete_packets: false, queue: false };

fn interface(pod: &Place) -> Interface {
    let features = pod.exec("ethtool -k eth0");
    let is = |feature: &str, state: &str| features.contains(&format!("{feature}: {state}"));
    let moved = ["tx-checksumming", "tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation"];
    let all = |state| moved.iter().all(|feature| is(feature, state));
    assert!(all("on") || all("off"), "half of it: {features}");
    assert!(is("generic-segmentation-offload", "on") && is("scatter-gather", "on"), "{features}");
    let queue = pod.exec("tc qdisc show dev eth0 root");
    Interface { complete_packets: all("off"), queue: !queue.contains("noqueue") }
}

fn annotated(mode: &str) -> Value {
    json!({
        "capabilities": { "io.kubernetes.cri.pod-annotations": true },
        "runtimeConfig": {
            "io.kubernetes.cri.pod-annotations": { "heddle.io/attach": mode, "other.example/key": "x" },
        },
    })
}

fn add(node: &TestNode, pod: &Place, arguments: &str, fields: &Value) -> Outcome {
    node.attachment_with("ADD", "c1", &pod.path(), arguments, fields)
}

fn told(node: &TestNode) -> String {
    node.state().lock().unwrap().endpoints[0].attach_mode.clone()
}

#[test]
fn the_node_decides_where_nobody_else_does() {
    for (mode, made) in [("direct", DIRECT), ("cached", CACHED)] {
        let (node, pod) = (TestNode::new(), Place::new());
        node.state().lock().unwrap().node.attach_mode = mode.to_owned();
        node.add("c1", &pod).succeeds();
        assert_eq!((interface(&pod), told(&node).as_str()), (made, mode));
        // Everything else is there in both.
        assert!(pod.exec("ip route").contains("default via 169.254.1.1 dev eth0"));
        assert!(pod.exec("ip -6 addr show dev eth0").contains("fd00:10:244:1::1/128"));
        node.del("c1", &pod).succeeds();
        node.assert_clean();
    }
}

#[test]
fn arguments_win_over_the_annotation_and_that_over_the_node() {
    let argument = |mode: &str| json!({ "args": { "cni": { "attach": mode } } });
    let both = |argument: Value, mut fields: Value| {
        fields["args"] = argument["args"].clone();
        fields
    };
    for (node_mode, arguments, fields, mode, made) in [
        ("direct", "", annotated("cached"), "cached", CACHED),
        ("cached", "", annotated("direct"), "direct", DIRECT),
        ("direct", "", argument("cached"), "cached", CACHED),
        ("direct", "HEDDLE_ATTACH=cached", Value::Null, "cached", CACHED),
        ("cached", "HEDDLE_ATTACH=direct", annotated("cached"), "direct", DIRECT),
        ("direct", "", both(argument("cached"), annotated("direct")), "cached", CACHED),
        ("direct", "HEDDLE_ATTACH=cached", both(argument("direct"), annotated("direct")), "cached", CACHED),
    ] {
        let (node, pod) = (TestNode::new(), Place::new());
        node.state().lock().unwrap().node.attach_mode = node_mode.to_owned();
        add(&node, &pod, arguments, &fields).succeeds();
        let found = (interface(&pod), told(&node));
        assert_eq!(found, (made, mode.to_owned()), "node {node_mode}, {arguments}, {fields}");
    }
}

#[test]
fn a_wrong_value_is_an_error_before_anything_is_made_and_no_hindrance_for_del() {
    let (node, pod) = (TestNode::new(), Place::new());
    for (arguments, fields, code, named) in [
        ("", annotated("Direct"), 7, "the pod's annotation heddle.io/attach is \"Direct\""),
        ("HEDDLE_ATTACH=fast", Value::Null, 4, "HEDDLE_ATTACH is \"fast\""),
        ("", json!({ "args": { "cni": { "attach": ["cached"] } } }), 7, "args.cni.attach"),
        // The argument would have won; the annotation is a mistake all the same.
        ("HEDDLE_ATTACH=cached", annotated(""), 7, "heddle.io/attach"),
    ] {
        let details = add(&node, &pod, arguments, &fields).fails_with(code);
        assert!(details.contains(named) && details.contains("\"direct\" or \"cached\""), "{details}");
        assert!(!node.directory.path().join("state").exists(), "state was made");
        assert_eq!(pod.interfaces(), Vec::<String>::new());
        // As a runtime does after an ADD that failed, with the same input.
        node.attachment_with("DEL", "c1", &pod.path(), arguments, &fields).succeeds();
        node.assert_clean();
    }
}

#[test]
fn a_switch_that_attaches_otherwise_gets_no_pod() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.state().lock().unwrap().mood = Mood::KnowsNoModes;
    let details = add(&node, &pod, "", &annotated("cached")).fails_with(105);
    assert!(details.contains("'direct' although mode 'cached'") && details.contains("version"), "{details}");
    assert_eq!(node.state().lock().unwrap().removals, ["c1/eth0"]);
    assert_eq!(pod.interfaces(), Vec::<String>::new());
    node.assert_clean();
}

#[test]
fn check_notices_incomplete_packets_where_they_matter() {
    for (mode, code) in [("direct", Some(109)), ("cached", None)] {
        let (node, pod) = (TestNode::new(), Place::new());
        let result = add(&node, &pod, "", &annotated(mode)).succeeds();
        pod.exec("ethtool -K eth0 tx on");
        let checked = node.attachment_with("CHECK", "c1", &pod.path(), "", &json!({ "prevResult": result }));
        match code {
            Some(code) => {
                let details = checked.fails_with(code);
                assert!(details.contains("checksum offload") && details.contains("eth0"), "{details}");
            }
            None => drop(checked.succeeds()),
        }
    }
}
