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
fn while_the_switch_refuses_cleans_up_the_rest_and_tells() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.add("c1", &pod).succeeds();
    node.state().lock().unwrap().mood = Mood::RefusesRemove;
    let details = node.del("c1", &pod).fails_with(105);
    assert!(details.contains("the socket does not close"), "{details}");
    assert_eq!(node.host.interfaces(), Vec::<String>::new());
    assert_eq!(node.allocated(), Vec::<String>::new());
}

#[test]
fn with_a_corrupt_address_file_frees_the_rest_and_names_it() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.add("c1", &pod).succeeds();
    let file = node.directory.path().join("state/ipam/10.244.1.1");
    std::fs::write(&file, "").unwrap();
    let details = node.del("c1", &pod).fails_with(101);
    assert!(details.contains(file.to_str().unwrap()), "{details}");
    assert_eq!(node.allocated(), ["10.244.1.1.corrupt"]);
    assert_eq!(node.host.interfaces(), Vec::<String>::new());
    node.del("c1", &pod).succeeds();
}
