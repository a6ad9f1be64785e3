//! ADD gives a pod everything, or leaves nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::fake_switch::Mood;
use crate::node::{Place, TestNode};

#[test]
fn the_pod_has_what_it_needs() {
    let (node, pod) = (TestNode::new(), Place::new());
    let result = node.add("c1", &pod).succeeds();
    assert_eq!(node.allocated(), ["10.244.1.1", "fd00:10:244:1::1"]);

    let addresses = pod.exec("ip addr show dev eth0");
    for expected in ["inet 10.244.1.1/32", "inet6 fd00:10:244:1::1/128", "mtu 1450", "UP,LOWER_UP"] {
        assert!(addresses.contains(expected), "{expected} is not in {addresses}");
    }
    assert!(!addresses.contains("tentative"), "{addresses}");
    let routes = pod.exec("ip route") + &pod.exec("ip -6 route");
    for expected in [
        "default via 169.254.1.1 dev eth0 proto 68 onlink",
        "169.254.1.1 dev eth0 proto 68 scope link",
        "default via fe80::1 dev eth0 proto 68 metric 1024 onlink",
    ] {
        assert!(routes.contains(expected), "{expected} is not in {routes}");
    }
    let queue = pod.exec("tc qdisc show dev eth0 root");
    assert!(queue.contains("fq_codel") || queue.contains("pfifo"), "{queue}");
    let features = pod.exec("ethtool -k eth0");
    for expected in [
        "tx-checksumming: off",
        "tx-tcp-segmentation: off",
        "tx-tcp6-segmentation: off",
        "tx-udp-segmentation: off",
    ] {
        assert!(features.contains(expected), "{expected} is not in {features}");
    }
    assert!(features.contains("generic-segmentation-offload: on"));
    assert!(pod.exec("ip link show lo").contains("LOOPBACK,UP"));
    for (setting, value) in [("disable_ipv6", "0"), ("accept_dad", "0"), ("accept_ra", "0")] {
        assert_eq!(pod.exec(&format!("cat /proc/sys/net/ipv6/conf/eth0/{setting}")).trim(), value);
    }

    let mac = result["interfaces"][1]["mac"].as_str().unwrap();
    assert!(addresses.contains(mac), "{mac} is not in {addresses}");
    let host_interface = result["interfaces"][0]["name"].as_str().unwrap();
    assert_eq!(node.host.interfaces(), [host_interface]);
    let host = node.host.exec(&format!("ip addr show dev {host_interface}"));
    assert!(host.contains("UP,LOWER_UP") && host.contains("mtu 1450") && !host.contains("inet"), "{host}");

    let state = node.state();
    let endpoint = state.lock().unwrap().endpoints[0].clone();
    assert_eq!((endpoint.id.as_str(), endpoint.host_interface.as_str()), ("c1/eth0", host_interface));
    assert_eq!((endpoint.mac.as_str(), endpoint.mtu), (mac, 1450));
    assert_eq!(endpoint.addresses, ["10.244.1.1", "fd00:10:244:1::1"]);
    assert_eq!((endpoint.pod_namespace.as_str(), endpoint.pod_name.as_str()), ("shop", "web-0"));

    node.del("c1", &pod).succeeds();
    assert_eq!(pod.interfaces(), Vec::<String>::new());
    node.assert_clean();
}

#[test]
fn every_version_gets_its_result() {
    let node = TestNode::new();
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let (pod, config) = (Place::new(), node.config(version));
        let path = pod.path();
        let variables = [("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "net0"), ("CNI_NETNS", path.as_str())];
        let result = node.call("ADD", &variables, &config).succeeds();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["interfaces"][1]["sandbox"], path.as_str());
        let family = if version.starts_with('0') { json!("4") } else { Value::Null };
        assert_eq!(result["ips"][0]["version"], family);
        assert!(node.call("DEL", &variables, &config).succeeds().is_null());
        node.assert_clean();
    }
}

#[test]
fn ipv6_is_switched_on_where_the_runtime_switched_it_off() {
    let (node, pod) = (TestNode::new(), Place::new());
    let off = || heddle_netdev::sysctl::write_sysctl("net/ipv6/conf/default/disable_ipv6", "1");
    pod.netns.run(off).unwrap().unwrap();
    node.add("c1", &pod).succeeds();
    assert!(pod.exec("ip -6 addr show dev eth0").contains("fd00:10:244:1::1/128"));
}

#[test]
fn single_stack_nodes_make_single_stack_pods() {
    for (cidr, family, absent) in [("10.9.0.0/24", "inet ", "inet6 f"), ("fd00:9::/64", "inet6 fd", "inet ")]
    {
        let (node, pod) = (TestNode::new(), Place::new());
        node.state().lock().unwrap().node.pod_cidrs = vec![cidr.to_owned()];
        let result = node.add("c1", &pod).succeeds();
        assert_eq!(result["ips"].as_array().unwrap().len(), 1);
        let addresses = pod.exec("ip addr show dev eth0 scope global");
        assert!(addresses.contains(family) && !addresses.contains(absent), "{addresses}");
    }
}

#[test]
fn a_refusing_switch_leaves_nothing_behind() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.state().lock().unwrap().mood = Mood::RefusesAdd;
    let details = node.add("c1", &pod).fails_with(105);
    assert!(details.contains("the worker has no frames left"), "{details}");
    assert!(!details.contains("could not be undone"), "{details}");
    assert_eq!(node.state().lock().unwrap().removals, ["c1/eth0"]);
    assert_eq!(pod.interfaces(), Vec::<String>::new());
    node.assert_clean();
}

#[test]
fn a_hanging_switch_is_given_up_on_and_leaves_nothing_behind() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.state().lock().unwrap().mood = Mood::HangsOnAdd;
    let details = node.add("c1", &pod).fails_with(11);
    assert!(details.contains("AddEndpoint within 8 s"), "{details}");
    assert_eq!(pod.interfaces(), Vec::<String>::new());
    // It had taken the endpoint in; only its answer did not come.
    assert_eq!(node.state().lock().unwrap().removals, ["c1/eth0"]);
    node.assert_clean();
}

#[test]
fn a_pod_without_policy_is_for_later_and_leaves_nothing_behind() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.state().lock().unwrap().mood = Mood::FindsNoPolicy;
    let details = node.add("c1", &pod).fails_with(11);
    assert!(details.contains("no policy image names pod shop/web-0"), "{details}");
    assert_eq!(pod.interfaces(), Vec::<String>::new());
    node.assert_clean();
}

#[test]
fn a_switch_that_is_down_is_for_later() {
    let (mut node, pod) = (TestNode::new(), Place::new());
    node.stop_switch();
    let details = node.add("c1", &pod).fails_with(11);
    assert!(details.contains("switch.sock") && details.contains("is it running?"), "{details}");
    assert_eq!(pod.interfaces(), Vec::<String>::new());
    node.assert_clean();
}

#[test]
fn what_could_not_be_undone_is_told_with_the_first_error() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.state().lock().unwrap().mood = Mood::RefusesBoth;
    let details = node.add("c1", &pod).fails_with(105);
    let (first, then) = details.split_once("; its endpoint could not be undone: ").unwrap();
    assert!(first.contains("the worker has no frames left"), "{details}");
    assert!(then.contains("the socket does not close"), "{details}");
    // Whether the switch has the endpoint is not known, so its addresses stay taken until it has let go of it.
    assert_eq!((node.host.interfaces().len(), node.allocated().len()), (0, 2));
    node.state().lock().unwrap().mood = Mood::Good;
    node.del("c1", &pod).succeeds();
    node.assert_clean();
}

#[test]
fn an_interface_that_is_there_is_not_touched() {
    let (node, pod) = (TestNode::new(), Place::new());
    pod.exec("ip link add eth0 type veth peer name other");
    let details = node.add("c1", &pod).fails_with(102);
    assert!(details.contains("eth0"), "{details}");
    node.del("c1", &pod).succeeds();
    assert_eq!(pod.interfaces().len(), 2, "somebody else's interfaces are gone");
    node.assert_clean();
}

#[test]
fn a_second_add_fails_and_leaves_the_first_alone() {
    let (node, pod) = (TestNode::new(), Place::new());
    node.add("c1", &pod).succeeds();
    let (before, interfaces) = (node.allocated(), node.host.interfaces());
    node.add("c1", &pod).fails_with(102);
    // Same attachment, other namespace: the host's side is what is in the way.
    node.add("c1", &Place::new()).fails_with(102);
    assert_eq!((node.allocated(), node.host.interfaces()), (before, interfaces));
    assert!(pod.exec("ip route").contains("default via 169.254.1.1"));
}

#[test]
fn a_default_route_that_is_there_is_a_clear_error() {
    let (node, pod) = (TestNode::new(), Place::new());
    pod.exec("ip link add net1 type veth peer name other");
    pod.exec("ip link set net1 up");
    pod.exec("ip addr add 192.0.2.2/24 dev net1");
    pod.exec("ip route add default via 192.0.2.1");
    let details = node.add("c1", &pod).fails_with(103);
    assert!(details.contains("via 192.0.2.1") && details.contains("chain"), "{details}");
    node.assert_clean();
}

#[test]
fn the_host_s_own_namespace_is_refused() {
    let node = TestNode::new();
    let details = node.attachment("ADD", "c1", &node.host.path()).fails_with(4);
    assert!(details.contains("CNI_NETNS") && details.contains("host's own"), "{details}");
    let details = node.attachment("ADD", "c1", "/etc/hostname").fails_with(4);
    assert!(details.contains("CNI_NETNS"), "{details}");
    node.assert_clean();
}

#[test]
fn a_full_node_says_so() {
    let node = TestNode::new();
    node.state().lock().unwrap().node.pod_cidrs = vec!["10.9.0.7/32".to_owned(), "fd00:9::/64".to_owned()];
    let (first, second) = (Place::new(), Place::new());
    node.add("c1", &first).succeeds();
    let details = node.add("c2", &second).fails_with(100);
    assert!(details.contains("10.9.0.7/32"), "{details}");
    assert_eq!(node.allocated(), ["10.9.0.7", "fd00:9::1"]);
    assert_eq!(second.interfaces(), Vec::<String>::new());
}

#[test]
fn sixteen_at_once_get_different_addresses_and_all_go_again() {
    let node = TestNode::new();
    let pods: Vec<_> = (0..16).map(|number| (format!("c{number}"), Place::new())).collect();
    std::thread::scope(|scope| {
        let calls: Vec<_> =
            pods.iter().map(|(id, pod)| scope.spawn(|| node.add(id, pod).succeeds())).collect();
        let results = calls.into_iter().map(|call| call.join().unwrap());
        let addresses: BTreeSet<_> = results
            .flat_map(|result| [0, 1].map(|n| result["ips"][n]["address"].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(addresses.len(), 32);
    });
    assert_eq!((node.allocated().len(), node.host.interfaces().len()), (32, 16));
    std::thread::scope(|scope| {
        for (id, pod) in &pods {
            scope.spawn(|| node.del(id, pod).succeeds());
        }
    });
    node.assert_clean();
}
