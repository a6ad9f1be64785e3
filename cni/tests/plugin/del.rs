//! DEL takes away whatever is left, as often as it is asked to.

use crate::fake_switch::Mood;
use crate::node::{Place, TestNode};

#[test]
fn twice_as_containerd_does() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.add("c1", &pod).succeeds();
    node.del("c1", &pod).succeeds();
    node.attachment("DEL", "c1", "").succeeds();
    node.assert_clean();
}

#[test]
fn without_the_namespace() {
    let node = TestNode::new();
    for gone in [false, true] {
        let pod = Place::new();
        let path = if gone { pod.path() } else { String::new() };
        node.add("c1", &pod).succeeds();
        drop(pod);
        node.attachment("DEL", "c1", &path).succeeds();
        node.assert_clean();
    }
}

#[test]
fn of_what_never_was() {
    let node = TestNode::new();
    node.attachment("DEL", "never", "/run/netns/cni-absent").succeeds();
    assert!(!node.directory.path().join("state").exists(), "DEL made state");
}

#[test]
fn only_of_the_one_asked_for() {
    let (node, first, second) = (TestNode::new(), Place::new(), Place::new());
    node.add("c1", &first).succeeds();
    node.add("c2", &second).succeeds();
    node.del("c1", &first).succeeds();
    assert_eq!(node.allocated(), ["10.244.1.2", "fd00:10:244:1::2"]);
    assert_eq!(node.host.interfaces().len(), 1);
    assert!(second.exec("ip addr show dev eth0").contains("10.244.1.2/32"));
    assert_eq!(node.state().lock().unwrap().endpoints.len(), 1);
}

#[test]
fn while_the_switch_is_down() {
    let (mut node, pod) = (TestNode::new(), Place::new());
    node.add("c1", &pod).succeeds();
    node.stop_switch();
    node.del("c1", &pod).succeeds();
    assert_eq!(pod.interfaces(), Vec::<String>::new());
    node.assert_clean();
}

#[test]
fn while_the_switch_refuses_keeps_the_address_and_tells() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.add("c1", &pod).succeeds();
    node.state().lock().unwrap().mood = Mood::RefusesRemove;
    let details = node.del("c1", &pod).fails_with(105);
    assert!(details.contains("the socket does not close"), "{details}");
    assert_eq!(node.host.interfaces(), Vec::<String>::new());
    // The switch still takes packets for it: nobody else may have it, and the next DEL finds it.
    assert_eq!(node.allocated().len(), 2);
    node.state().lock().unwrap().mood = Mood::Good;
    node.del("c1", &pod).succeeds();
    node.assert_clean();
}

#[test]
fn with_a_corrupt_record_frees_everything() {
    let (node, pod, other) = (TestNode::new(), Place::new(), Place::new());
    node.add("c1", &pod).succeeds();
    node.add("c2", &other).succeeds();
    let record = std::fs::canonicalize(node.directory.path().join("state/ipam/10.244.1.1")).unwrap();
    std::fs::write(&record, "").unwrap();
    node.del("c1", &pod).succeeds();
    assert_eq!(node.allocated(), ["10.244.1.2", "fd00:10:244:1::2"]);
    node.del("c2", &other).succeeds();
    node.assert_clean();
}

#[test]
fn with_state_of_a_later_version_destroys_nothing_and_says_what_to_do() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.add("c1", &pod).succeeds();
    let marker = node.directory.path().join("state/ipam/boot");
    let (known, later) = (std::fs::read(&marker).unwrap(), r#"{"format":99}"#);
    std::fs::write(&marker, later).unwrap();
    let second = Place::new();
    for outcome in [node.del("c1", &pod), node.add("c2", &second)] {
        let details = outcome.fails_with(111);
        assert!(details.contains("install the version that wrote it"), "{details}");
    }
    assert_eq!((node.allocated().len(), second.interfaces().len()), (2, 0));
    assert_eq!(std::fs::read_to_string(&marker).unwrap(), later);
    std::fs::write(&marker, known).unwrap();
    node.del("c1", &pod).succeeds();
    node.assert_clean();
}
