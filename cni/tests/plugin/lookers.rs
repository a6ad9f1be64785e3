//! CHECK and STATUS look and touch nothing.

use serde_json::{Value, json};

use crate::node::{Outcome, Place, TestNode};

fn check(node: &TestNode, pod: &Place, previous: &Value) -> Outcome {
    let mut config = node.config("1.1.0");
    config["prevResult"] = previous.clone();
    let path = pod.path();
    node.call("CHECK", &[("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", &path)], &config)
}

#[test]
fn check_passes_while_everything_is_as_made() {
    let (node, pod) = (TestNode::new(), Place::new());
    let mut result = node.add("c1", &pod).succeeds();
    check(&node, &pod, &result).succeeds();
    // A later plugin of the chain added its own.
    result["interfaces"].as_array_mut().unwrap().push(json!({ "name": "later0" }));
    result["ips"].as_array_mut().unwrap().push(json!({ "address": "192.0.2.1/24", "interface": 2 }));
    pod.exec("ip addr add 192.0.2.1/24 dev eth0");
    check(&node, &pod, &result).succeeds();
}

#[test]
fn check_names_every_difference() {
    let (node, pod) = (TestNode::new(), Place::new());
    let result = node.add("c1", &pod).succeeds();
    pod.exec("ip addr del fd00:10:244:1::1/128 dev eth0");
    pod.exec("ip route del default");
    node.state().lock().unwrap().endpoints.clear();
    let details = check(&node, &pod, &result).fails_with(109);
    for expected in ["fd00:10:244:1::1", "via 169.254.1.1", "does not know the endpoint"] {
        assert!(details.contains(expected), "{expected} is not in {details}");
    }
    assert!(!details.contains("prevResult"), "{details}");
    let details = check(&node, &pod, &json!({ "interfaces": [{ "name": "eth0" }] })).fails_with(109);
    assert!(details.contains("prevResult does not name address 10.244.1.1"), "{details}");
    pod.exec("ip link del eth0");
    assert!(check(&node, &pod, &result).fails_with(109).contains("no interface eth0"));
}

#[test]
fn check_needs_what_add_returned_and_a_switch() {
    let (mut node, pod) = (TestNode::new(), Place::new());
    let result = node.add("c1", &pod).succeeds();
    check(&node, &pod, &Value::Null).fails_with(7);
    node.stop_switch();
    check(&node, &pod, &result).fails_with(11);
}

#[test]
fn status_tells_ready_from_full_from_down() {
    let mut node = TestNode::new();
    node.call("STATUS", &[], &node.config("1.1.0")).succeeds();
    assert!(!node.directory.path().join("state").exists(), "STATUS made state");
    node.state().lock().unwrap().node.pod_cidrs = vec!["10.9.0.7/32".to_owned()];
    node.call("STATUS", &[], &node.config("1.1.0")).succeeds();
    let pod = Place::new();
    node.add("c1", &pod).succeeds();
    let details = node.call("STATUS", &[], &node.config("1.1.0")).fails_with(50);
    assert!(details.contains("10.9.0.7/32"), "{details}");
    node.del("c1", &pod).succeeds();
    node.call("STATUS", &[], &node.config("1.1.0")).succeeds();
    node.stop_switch();
    node.call("STATUS", &[], &node.config("1.1.0")).fails_with(51);
}
