//! What a call works on may go away, or belong to somebody else, at any moment: a correct error, and nothing left.

use std::fs;

use serde_json::{Value, json};

use crate::fake_switch::Mood;
use crate::node::{Place, TestNode};

/// A name under /run/netns goes; the namespace may live on for as long as somebody holds it.
fn unname(pod: &Place) {
    heddle_netdev::delete_named(&pod.name).unwrap();
}

#[test]
fn a_namespace_that_goes_midway() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.state().lock().unwrap().mood = Mood::WaitsOnAdd;
    let path = pod.path();
    std::thread::scope(|scope| {
        let add = scope.spawn(|| node.attachment("ADD", "c1", &path));
        while node.state().lock().unwrap().endpoints.is_empty() {
            std::thread::yield_now();
        }
        unname(&pod);
        node.state().lock().unwrap().mood = Mood::Good;
        // Its interface was ready; what becomes of it is up to whoever took the name away.
        add.join().unwrap().succeeds();
    });
    let result = json!({ "interfaces": [], "ips": [] });
    let checked = node.attachment_with("CHECK", "c1", &path, "", &json!({ "prevResult": result }));
    checked.fails_with(3);
    drop(pod);
    node.attachment("DEL", "c1", &path).succeeds();
    node.assert_clean();
}

#[test]
fn a_namespace_that_goes_before_its_interface_is_made() {
    let (node, pod) = (TestNode::new(), Place::new());
    // The IPAM plugin takes the name away between the check of the namespace and the making of the interface.
    let answer = r#"{"cniVersion":"1.1.0","ips":[{"address":"10.244.1.50/24"}]}"#;
    node.install(
        "script",
        &format!(
            "if [ $CNI_COMMAND = ADD ]; then umount -l $CNI_NETNS; rm -f $CNI_NETNS; echo '{answer}'; fi"
        ),
    );
    let fields = json!({ "ipam": { "type": "script" } });
    let outcome = node.attachment_with("ADD", "c1", &pod.path(), "", &fields);
    assert!(outcome.success || outcome.output["code"].as_u64().is_some(), "{}", outcome.output);
    node.attachment_with("DEL", "c1", &pod.path(), "", &fields).succeeds();
    node.assert_clean();
}

#[test]
fn a_namespace_that_is_none() {
    let node = TestNode::new();
    let file = node.directory.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, code) in [
        ("/run/netns/cni-absent", 3),
        ("/proc/4194304/ns/net", 3),
        ("relative/path", 3),
        ("/", 4),
        ("/proc/self/ns/mnt", 4),
        ("/dev/null", 4),
        (file.to_str().unwrap(), 4),
    ] {
        let details = node.attachment("ADD", "c1", path).fails_with(code);
        assert!(details.contains("CNI_NETNS"), "{path}: {details}");
        // All the same to DEL.
        node.attachment("DEL", "c1", path).succeeds();
    }
    node.assert_clean();
}

#[test]
fn names_that_others_have() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.add("c1", &pod).succeeds();
    let ours = node.host.interfaces().remove(0);
    node.del("c1", &pod).succeeds();
    // An interface of somebody else by the name that the host's end would have.
    node.host.exec(&format!("ip link add {ours} type veth peer name other"));
    let details = node.add("c1", &pod).fails_with(102);
    assert!(details.contains(&ours), "{details}");
    assert_eq!((node.host.interfaces().len(), node.allocated().len()), (2, 0));
    node.host.exec(&format!("ip link del {ours}"));
    // The pod's own loopback is an interface that exists.
    let path = pod.path();
    let variables = [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "lo"), ("CNI_NETNS", path.as_str())];
    let outcome = node.call("ADD", &variables, &node.config("1.1.0"));
    assert!(outcome.fails_with(102).contains("lo"));
    node.assert_clean();
}

#[test]
fn an_absurd_node_gets_no_pod() {
    for spoil in [
        (|node: &mut heddle_api::Node| node.pod_mtu = 0) as fn(&mut heddle_api::Node),
        |node| node.pod_mtu = 67,
        |node| node.pod_mtu = 65_536,
        |node| node.pod_mtu = u32::MAX,
        |node| node.pod_cidrs = vec!["0.0.0.0/33".to_owned()],
        |node| node.gateways.clear(),
    ] {
        let (node, pod) = (TestNode::new(), Place::new());
        spoil(&mut node.state().lock().unwrap().node);
        node.add("c1", &pod).fails_with(106);
        node.call("STATUS", &[], &node.config("1.1.0")).fails_with(50);
        assert_eq!(pod.interfaces(), Vec::<String>::new());
        node.assert_clean();
    }
    // The bounds themselves work.
    for mtu in [1280, 65_535] {
        let (node, pod) = (TestNode::new(), Place::new());
        node.state().lock().unwrap().node.pod_mtu = mtu;
        node.add("c1", &pod).succeeds();
        assert!(pod.exec("ip link show dev eth0").contains(&format!("mtu {mtu} ")));
    }
}

#[test]
fn a_state_directory_that_cannot_be_used() {
    let (node, pod) = (TestNode::new(), Place::new());
    let mut config = node.config("1.1.0");
    let file = node.directory.path().join("file");
    fs::write(&file, "").unwrap();
    config["stateDir"] = json!(file);
    let path = pod.path();
    let variables = [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", path.as_str())];
    let details = node.call("ADD", &variables, &config).fails_with(5);
    assert!(details.contains(file.to_str().unwrap()), "{details}");
    assert_eq!(pod.interfaces(), Vec::<String>::new());
    node.assert_clean();
}

/// A switch that restarts in the middle of an ADD: the connection breaks.
#[test]
fn a_switch_that_goes_midway() {
    let (mut node, pod) = (TestNode::new(), Place::new());
    node.state().lock().unwrap().mood = Mood::HangsOnAdd;
    let state = node.state();
    let mut child = {
        let path = pod.path();
        let variables = [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", path.as_str())];
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_heddle-cni"));
        node.start(&mut command, "ADD", &variables, &node.config("1.1.0"))
    };
    while state.lock().unwrap().endpoints.is_empty() {
        std::thread::yield_now();
    }
    node.stop_switch();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut answer).unwrap();
    assert!(!child.wait().unwrap().success());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["code"], 11, "{answer}");
    // The switch that comes back forgets an endpoint whose interface is gone; until a DEL says so, its addresses are not given to others.
    assert_eq!((pod.interfaces().len(), node.host.interfaces().len()), (0, 0));
    node.del("c1", &pod).succeeds();
    node.assert_clean();
}
