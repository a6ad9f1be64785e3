//! GC frees exactly what is of its network and not on the runtime's list.

use serde_json::{Value, json};

use crate::node::{Place, TestNode};

fn endpoints(node: &TestNode) -> Vec<String> {
    let state = node.state();
    let mut ids: Vec<_> =
        state.lock().unwrap().endpoints.iter().map(|endpoint| endpoint.id.clone()).collect();
    ids.sort();
    ids
}

/// Pods c0, c1 and so on, each in a network of that name.
fn pods(node: &TestNode, networks: &[&str]) -> Vec<Place> {
    let add = |(number, network): (usize, &&str)| {
        let pod = Place::new();
        let fields = json!({ "name": network });
        node.attachment_with("ADD", &format!("c{number}"), &pod.path(), "", &fields).succeeds();
        pod
    };
    networks.iter().enumerate().map(add).collect()
}

#[test]
fn what_is_not_listed_goes_and_other_networks_stay() {
    let node = TestNode::new();
    let pods = pods(&node, &["heddle", "heddle", "other", "heddle"]);
    assert!(node.gc("heddle", &["c1", "c2", "c9"], &Value::Null).succeeds().is_null());
    assert_eq!(endpoints(&node), ["c1/eth0", "c2/eth0"]);
    assert_eq!(node.allocated(), ["10.244.1.2", "10.244.1.3", "fd00:10:244:1::2", "fd00:10:244:1::3"]);
    assert_eq!((node.host.interfaces().len(), node.records().len()), (2, 2));
    let left = |pod: &Place| pod.interfaces().len();
    assert_eq!(pods.iter().map(left).collect::<Vec<_>>(), [0, 1, 1, 0]);
    // Another interface of a container that stays is another attachment.
    let config = json!({ "cni.dev/valid-attachments": [{ "containerID": "c1", "ifname": "eth1" }] });
    node.gc("heddle", &[], &config).succeeds();
    assert_eq!(endpoints(&node), ["c2/eth0"]);
    node.gc("other", &[], &Value::Null).succeeds();
    node.assert_clean();
    node.gc("other", &[], &Value::Null).succeeds();
}

#[test]
fn an_absent_list_is_not_an_empty_one() {
    let node = TestNode::new();
    let _pods = pods(&node, &["heddle"]);
    for list in [Value::Null, json!("absent")] {
        let mut config = node.config("1.1.0");
        if list.is_null() {
            config["cni.dev/valid-attachments"] = list;
        }
        let details = node.call("GC", &[], &config).fails_with(7);
        assert!(details.contains("cni.dev/valid-attachments is missing"), "{details}");
    }
    node.gc("heddle", &[], &json!({ "cni.dev/valid-attachments": "c0" })).fails_with(6);
    assert_eq!((node.allocated().len(), endpoints(&node).len()), (2, 1));
}

#[test]
fn where_nothing_ever_was_it_makes_nothing() {
    let node = TestNode::new();
    node.gc("heddle", &[], &Value::Null).succeeds();
    assert!(!node.directory.path().join("state").exists());
}

#[test]
fn it_goes_on_past_failures_and_tells_them_all() {
    let node = TestNode::new();
    let _pods = pods(&node, &["heddle", "heddle", "heddle", "heddle"]);
    node.state().lock().unwrap().stuck = Some("c1/eth0".to_owned());
    let torn = std::fs::canonicalize(node.directory.path().join("state/ipam/10.244.1.3")).unwrap();
    std::fs::write(&torn, "{").unwrap();
    let details = node.gc("heddle", &[], &Value::Null).fails_with(107);
    for expected in [torn.to_str().unwrap(), "c1/eth0", "the socket does not close"] {
        assert!(details.contains(expected), "{expected} is not in {details}");
    }
    // What failed keeps its addresses; c0 and c3 are gone. Whose the torn one is nobody knows, so it stays.
    assert_eq!(node.allocated(), ["10.244.1.2", "10.244.1.3", "fd00:10:244:1::2", "fd00:10:244:1::3"]);
    node.state().lock().unwrap().stuck = None;
    node.gc("heddle", &[], &Value::Null).fails_with(101);
    node.attachment("DEL", "c2", "").succeeds();
    node.gc("heddle", &[], &Value::Null).succeeds();
    node.assert_clean();
}

#[test]
fn a_switch_that_is_down_is_no_obstacle() {
    let mut node = TestNode::new();
    let _pods = pods(&node, &["heddle", "heddle"]);
    node.stop_switch();
    node.gc("heddle", &["c1"], &Value::Null).succeeds();
    assert_eq!((node.allocated().len(), node.host.interfaces().len()), (2, 1));
}

#[test]
fn it_waits_for_an_add_and_an_add_for_it() {
    use crate::fake_switch::Mood;
    let (node, pod) = (TestNode::new(), Place::new());
    node.state().lock().unwrap().mood = Mood::HangsOnAdd;
    std::thread::scope(|scope| {
        let add = scope.spawn(|| node.add("c1", &pod).fails_with(11));
        while node.state().lock().unwrap().endpoints.is_empty() {
            std::thread::yield_now();
        }
        // It would find the attachment not listed, and take it from under the ADD.
        node.gc("heddle", &[], &Value::Null).succeeds();
        assert!(node.state().lock().unwrap().removals.len() == 1, "GC came before the end of ADD");
        add.join().unwrap();
    });
    node.assert_clean();
}
