//! In a chain with plugins of Debian's containernetworking-plugins, as libcni runs it: results go from one to the next, and back for CHECK and DEL.

use serde_json::{Value, json};

use crate::node::{Outcome, Place, TestNode};

const VERSION: &str = "1.0.0";

/// Runs a plugin of the chain, ours or one of the system's, with what runtimes put into its configuration.
fn run(node: &TestNode, verb: &str, pod: &Place, plugin: &Value, previous: &Value) -> Outcome {
    let path = pod.path();
    let variables = [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", path.as_str())];
    let mut config = plugin.clone();
    config["cniVersion"] = json!(VERSION);
    config["name"] = json!("heddle");
    if !previous.is_null() {
        config["prevResult"] = previous.clone();
    }
    match plugin["type"].as_str().unwrap() {
        "heddle-cni" => node.call(verb, &variables, &config),
        other => node.call_other(&format!("/usr/lib/cni/{other}"), verb, &variables, &config),
    }
}

fn ours(node: &TestNode) -> Value {
    node.config(VERSION)
}

#[test]
fn before_tuning_and_behind_a_plugin_that_gives_another_interface() {
    let (node, pod) = (TestNode::new(), Place::new());
    let tuning = json!({ "type": "tuning", "dataDir": node.directory.path(), "sysctl": { "net.ipv4.conf.eth0.arp_filter": "1" } });
    // As the first of the chain, it may have made something of its own.
    let first = json!({ "cniVersion": VERSION, "interfaces": [{ "name": "net9", "sandbox": pod.path() }],
        "ips": [{ "address": "192.0.2.5/24", "interface": 0 }] });
    let result = run(&node, "ADD", &pod, &ours(&node), &first).succeeds();
    assert_eq!(
        (&result["interfaces"][0]["name"], &result["ips"][1]["interface"]),
        (&json!("net9"), &json!(2))
    );
    let last = run(&node, "ADD", &pod, &tuning, &result).succeeds();
    assert_eq!(last["ips"], result["ips"]);
    assert_eq!(pod.exec("cat /proc/sys/net/ipv4/conf/eth0/arp_filter").trim(), "1");
    for plugin in [&ours(&node), &tuning] {
        run(&node, "CHECK", &pod, plugin, &last).succeeds();
    }
    for plugin in [&tuning, &ours(&node)] {
        run(&node, "DEL", &pod, plugin, &last).succeeds();
    }
    node.assert_clean();
}

#[test]
fn a_later_plugin_that_changes_the_mac_is_told_of_by_check() {
    let (node, pod) = (TestNode::new(), Place::new());
    let tuning = json!({ "type": "tuning", "dataDir": node.directory.path(), "mac": "0a:00:00:00:00:77" });
    let result = run(&node, "ADD", &pod, &ours(&node), &Value::Null).succeeds();
    let last = run(&node, "ADD", &pod, &tuning, &result).succeeds();
    let path = pod.path();
    let mut config = ours(&node);
    config["prevResult"] = last;
    let variables = [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", path.as_str())];
    let outcome = node.call("CHECK", &variables, &config);
    let details = outcome.output["details"].as_str().unwrap();
    assert_eq!(outcome.output["code"], 109);
    assert!(
        details.contains("heddle-switch takes packets from MAC") && !details.contains("prevResult"),
        "{details}"
    );
}

#[test]
fn before_bandwidth_which_finds_the_host_s_end() {
    let (node, pod) = (TestNode::new(), Place::new());
    let bandwidth = json!({ "type": "bandwidth", "ingressRate": 1_000_000, "ingressBurst": 80_000 });
    let result = run(&node, "ADD", &pod, &ours(&node), &Value::Null).succeeds();
    let last = run(&node, "ADD", &pod, &bandwidth, &result).succeeds();
    let queue =
        node.host.exec(&format!("tc qdisc show dev {}", result["interfaces"][0]["name"].as_str().unwrap()));
    assert!(queue.contains("tbf"), "{queue}");
    run(&node, "CHECK", &pod, &ours(&node), &last).succeeds();
    for plugin in [&bandwidth, &ours(&node)] {
        run(&node, "DEL", &pod, plugin, &last).succeeds();
    }
    node.assert_clean();
}
