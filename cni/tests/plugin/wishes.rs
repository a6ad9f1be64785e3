//! Addresses, a MAC, ports and limits that are asked for are given, or refused before anything is made.

use serde_json::{Value, json};

use crate::fake_switch::Mood;
use crate::node::{Outcome, Place, TestNode};

fn add(node: &TestNode, id: &str, pod: &Place, arguments: &str, fields: &Value) -> Outcome {
    node.attachment_with("ADD", id, &pod.path(), arguments, fields)
}

fn refused(node: &TestNode, pod: &Place, arguments: &str, fields: &Value, code: u32) -> String {
    let details = add(node, "refused", pod, arguments, fields).fails_with(code);
    assert_eq!(pod.interfaces(), Vec::<String>::new());
    // As a runtime does, with the same input.
    node.attachment_with("DEL", "refused", &pod.path(), arguments, fields).succeeds();
    details
}

#[test]
fn addresses_and_mac() {
    for (arguments, fields) in [
        (
            "",
            json!({ "runtimeConfig": { "ips": ["10.244.1.77/24", "fd00:10:244:1::77/64"], "mac": "0A:11:22:33:44:55" } }),
        ),
        (
            "IP=10.244.1.77;MAC=0a:11:22:33:44:55",
            json!({ "args": { "cni": { "ips": ["fd00:10:244:1::77"] } } }),
        ),
    ] {
        let (node, pod) = (TestNode::new(), Place::new());
        let result = add(&node, "c1", &pod, arguments, &fields).succeeds();
        assert_eq!(result["ips"][0]["address"], "10.244.1.77/32");
        assert_eq!(result["interfaces"][1]["mac"], "0a:11:22:33:44:55");
        let shown = pod.exec("ip addr show dev eth0");
        for expected in ["10.244.1.77/32", "fd00:10:244:1::77/128", "0a:11:22:33:44:55"] {
            assert!(shown.contains(expected), "{expected} is not in {shown}");
        }
        let told = node.state().lock().unwrap().endpoints[0].clone();
        assert_eq!((told.mac.as_str(), told.addresses[0].as_str()), ("0a:11:22:33:44:55", "10.244.1.77"));
        let mut checked = fields.clone();
        checked["prevResult"] = result;
        node.attachment_with("CHECK", "c1", &pod.path(), arguments, &checked).succeeds();
        node.attachment_with("DEL", "c1", &pod.path(), arguments, &fields).succeeds();
        node.assert_clean();
        // Whoever asks for it again need not wait until it has rested.
        add(&node, "c2", &pod, arguments, &fields).succeeds();
    }
}

#[test]
fn addresses_that_cannot_be_given() {
    let (node, first, pod) = (TestNode::new(), Place::new(), Place::new());
    node.add("c1", &first).succeeds();
    let ips = |ips: Value| json!({ "runtimeConfig": { "ips": ips } });
    for (wanted, code, why) in [
        (json!(["10.244.1.1"]), 110, "taken by container c1"),
        (json!(["192.0.2.1"]), 110, "ask for one of 10.244.1.0/24"),
        (json!(["10.244.1.255"]), 110, "reserved"),
        (json!(["10.244.1.5", "10.244.1.6"]), 7, "second one of its family"),
        (json!("10.244.1.5"), 7, "runtimeConfig.ips is no list"),
    ] {
        let details = refused(&node, &pod, "", &ips(wanted), code);
        assert!(details.contains(why), "{details}");
    }
    assert!(refused(&node, &pod, "IP=pod;MAC=pod", &Value::Null, 4).contains("MAC is \"pod\""));
    // One more on a node without that family.
    node.state().lock().unwrap().node.pod_cidrs.truncate(1);
    assert!(refused(&node, &pod, "IP=fd00:10:244:1::5", &Value::Null, 110).contains("none of this node's"));
    assert_eq!(node.allocated().len(), 2);
}

fn ports_and_limits() -> Value {
    json!({
        "capabilities": { "portMappings": true, "bandwidth": true },
        "runtimeConfig": {
            "portMappings": [
                { "hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "" },
                { "hostPort": 0, "containerPort": 81, "protocol": "tcp", "hostIP": "" },
            ],
            "bandwidth": { "ingressRate": 1_000_000, "ingressBurst": 2_147_483_647, "egressRate": 0, "egressBurst": 0 },
        },
    })
}

#[test]
fn ports_and_limits_reach_the_switch() {
    let (node, pod) = (TestNode::new(), Place::new());
    let result = add(&node, "c1", &pod, "", &ports_and_limits()).succeeds();
    let told = node.state().lock().unwrap().endpoints[0].clone();
    let ports: Vec<_> = told.port_mappings.iter().map(|port| (port.host_port, port.pod_port)).collect();
    assert_eq!(ports, [(8080, 80)]);
    let limits = told.bandwidth.unwrap();
    assert_eq!(
        (limits.ingress_rate, limits.ingress_burst, limits.egress_rate),
        (1_000_000, 2_147_483_647, 0)
    );
    let mut fields = ports_and_limits();
    fields["prevResult"] = result;
    let check = |fields: &Value| node.attachment_with("CHECK", "c1", &pod.path(), "", fields);
    check(&fields).succeeds();
    node.state().lock().unwrap().endpoints[0].port_mappings.clear();
    assert!(check(&fields).fails_with(109).contains("other port mappings"));
}

#[test]
fn a_switch_that_does_not_know_them_gets_no_pod() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.state().lock().unwrap().mood = Mood::KnowsNoModes;
    let details = add(&node, "c1", &pod, "", &ports_and_limits()).fails_with(105);
    for expected in ["did not take the pod's port mappings", "bandwidth limits", "of one version"] {
        assert!(details.contains(expected), "{details}");
    }
    assert_eq!(pod.interfaces(), Vec::<String>::new());
    node.assert_clean();
}

#[test]
fn wrong_ones_are_told_all_at_once() {
    let (node, pod) = (TestNode::new(), Place::new());
    let fields = json!({ "runtimeConfig": {
        "portMappings": [{ "hostPort": 80, "containerPort": 70_000 }, { "hostPort": "x" }],
        "bandwidth": { "ingressRate": -1 },
        "mac": "multicast",
    } });
    let details = refused(&node, &pod, "", &fields, 7);
    for expected in
        ["portMappings[0].containerPort", "portMappings[1].hostPort", "bandwidth.ingressRate", "mac"]
    {
        assert!(details.contains(expected), "{expected} is not in {details}");
    }
    assert!(!node.directory.path().join("state").exists());
}

#[test]
fn what_kubernetes_says_of_the_pod_is_kept() {
    let (node, pod) = (TestNode::new(), Place::new());
    let arguments = "K8S_POD_UID=7c1b;K8S_POD_INFRA_CONTAINER_ID=c1";
    add(&node, "c1", &pod, arguments, &Value::Null).succeeds();
    let record = std::fs::read_to_string(node.directory.path().join("state/ipam/10.244.1.1")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    for (key, value) in [
        ("network", "heddle"),
        ("podNamespace", "shop"),
        ("podName", "web-0"),
        ("podUID", "7c1b"),
        ("infraContainerID", "c1"),
    ] {
        assert_eq!(record[key], value, "{record}");
    }
}
