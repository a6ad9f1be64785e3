//! Addresses of another plugin: executed as the specification says, its answer understood, its DEL called when something fails.

use std::fs;

use serde_json::{Value, json};

use crate::fake_switch::Mood;
use crate::node::{Outcome, Place, TestNode};

/// What the script plugin was called with, oldest first.
fn calls(node: &TestNode) -> Vec<String> {
    let log = fs::read_to_string(node.directory.path().join("calls")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// A plugin that writes its calls down and then does what `script` says.
fn install(node: &TestNode, script: &str) {
    let log = node.directory.path().join("calls");
    let script = format!(
        "cat > {0}.input\necho \"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS\" >> {0}\n{script}",
        log.display()
    );
    node.install("script", &script);
}

fn answers(ips: &str, more: &str) -> String {
    format!(r#"[ $CNI_COMMAND != ADD ] || echo '{{"cniVersion":"1.1.0","ips":[{ips}]{more}}}'"#)
}

fn call(node: &TestNode, verb: &str, id: &str, pod: &Place, ipam: &str) -> Outcome {
    node.attachment_with(verb, id, &pod.path(), "", &json!({ "ipam": { "type": ipam } }))
}

const TWO: &str = r#"{"address":"10.244.1.50/24","gateway":"10.244.1.1"},{"address":"fd00:10:244:1::50/64"}"#;

#[test]
fn its_answer_becomes_the_pod_s() {
    let (node, pod) = (TestNode::new(), Place::new());
    let routes =
        r#","routes":[{"dst":"0.0.0.0/0"},{"dst":"192.0.2.0/24","gw":"10.244.1.1"},{"dst":"192.0.2.0/24"},
        {"dst":"2001:db8::/32"}],"dns":{"nameservers":["192.0.2.53"]}"#
            .replace('\n', "");
    install(&node, &answers(TWO, &routes));
    let result = call(&node, "ADD", "c1", &pod, "script").succeeds();
    assert_eq!(
        result["ips"][0],
        json!({ "interface": 1, "address": "10.244.1.50/32", "gateway": "169.254.1.1" })
    );
    assert_eq!(result["ips"][1]["address"], "fd00:10:244:1::50/128");
    let destinations: Vec<_> =
        result["routes"].as_array().unwrap().iter().map(|route| &route["dst"]).collect();
    assert_eq!(destinations, ["0.0.0.0/0", "::/0", "192.0.2.0/24", "2001:db8::/32"]);
    assert_eq!(result["dns"]["nameservers"], json!(["192.0.2.53"]));
    let shown = pod.exec("ip route") + &pod.exec("ip -6 route") + &pod.exec("ip addr show dev eth0");
    for expected in
        ["10.244.1.50/32", "192.0.2.0/24 via 169.254.1.1", "2001:db8::/32 via fe80::1", "default via fe80::1"]
    {
        assert!(shown.contains(expected), "{expected} is not in {shown}");
    }
    assert_eq!(node.state().lock().unwrap().endpoints[0].addresses, ["10.244.1.50", "fd00:10:244:1::50"]);
    // The same variables and the same input.
    let input: Value =
        serde_json::from_slice(&fs::read(node.directory.path().join("calls.input")).unwrap()).unwrap();
    assert_eq!((&input["name"], &input["ipam"]["type"]), (&json!("heddle"), &json!("script")));

    let fields = json!({ "ipam": { "type": "script" }, "prevResult": result });
    node.attachment_with("CHECK", "c1", &pod.path(), "", &fields).succeeds();
    call(&node, "DEL", "c1", &pod, "script").succeeds();
    let here = pod.path();
    let expected = ["ADD", "CHECK", "DEL"].map(|verb| format!("{verb} c1 eth0 {here}"));
    assert_eq!(calls(&node), expected);
    node.assert_clean();
}

#[test]
fn what_goes_wrong_is_told_and_its_del_called() {
    for (script, code, told) in [
        (
            r#"echo '{"cniVersion":"1.1.0","code":11,"msg":"busy","details":"ask again"}'; exit 1"#,
            11,
            "busy: ask again",
        ),
        (
            r#"echo '{"cniVersion":"1.1.0","code":100,"msg":"full","details":"no more"}'; exit 1"#,
            108,
            "full: no more (its code 100)",
        ),
        ("exit 3", 108, "ADD failed (exit status: 3) with no answer"),
        ("echo sorry; kill -9 $$", 108, "with 'sorry'"),
        ("exit 0", 108, "no answer"),
        ("echo '[1, 2'", 108, "'[1, 2'"),
        (r#"echo '{"cniVersion":"1.1.0"}'"#, 108, "it gave no address"),
        (r#"echo '{"cniVersion":"1.1.0","ips":[{"address":"10.244.1.300/24"}]}'"#, 108, "10.244.1.300"),
        (
            r#"echo '{"cniVersion":"1.1.0","ips":[{"address":"127.0.0.1/8"}]}'"#,
            108,
            "127.0.0.1 is no address for a pod",
        ),
        (
            r#"echo '{"cniVersion":"1.1.0","ips":[{"address":"10.244.1.9/24"},{"address":"10.244.1.9/32"}]}'"#,
            108,
            "twice",
        ),
        ("yes | head -c 2000000", 108, "more than 1048576 bytes"),
    ] {
        let (node, pod) = (TestNode::new(), Place::new());
        install(&node, &format!("if [ $CNI_COMMAND = ADD ]; then {script}; fi"));
        let details = call(&node, "ADD", "c1", &pod, "script").fails_with(code);
        assert!(details.contains(told) && !details.contains("undone"), "{details}");
        assert_eq!(calls(&node).len(), 2, "{:?}", calls(&node));
        assert!(calls(&node)[1].starts_with("DEL c1 eth0 "));
        assert_eq!(pod.interfaces(), Vec::<String>::new());
        node.assert_clean();
    }
}

#[test]
fn a_plugin_that_hangs_is_ended() {
    let (node, pod) = (TestNode::new(), Place::new());
    // The shell becomes it, so that ending it ends everything.
    install(&node, "[ $CNI_COMMAND != ADD ] || exec sleep 600");
    let details = call(&node, "ADD", "c1", &pod, "script").fails_with(11);
    assert!(details.contains("script did not end ADD within"), "{details}");
    assert_eq!(calls(&node).len(), 2);
    node.assert_clean();
}

#[test]
fn a_later_failure_calls_its_del_too() {
    let (node, pod) = (TestNode::new(), Place::new());
    install(&node, &answers(TWO, ""));
    node.state().lock().unwrap().mood = Mood::RefusesAdd;
    call(&node, "ADD", "c1", &pod, "script").fails_with(105);
    assert_eq!(calls(&node).len(), 2);
    node.assert_clean();
    // And an address that another pod has is one.
    node.state().lock().unwrap().mood = Mood::Good;
    call(&node, "ADD", "c1", &pod, "script").succeeds();
    let details = call(&node, "ADD", "c2", &Place::new(), "script").fails_with(110);
    assert!(details.contains("10.244.1.50") && details.contains("container c1"), "{details}");
    assert!(calls(&node).last().unwrap().starts_with("DEL c2"));
    assert_eq!((node.allocated().len(), node.records().len()), (2, 1));
}

#[test]
fn a_plugin_that_is_not_there_is_a_clear_error() {
    let (node, pod) = (TestNode::new(), Place::new());
    let details = call(&node, "ADD", "c1", &pod, "absent").fails_with(7);
    assert!(details.contains("ipam.type is absent") && details.contains("/usr/lib/cni"), "{details}");
    assert!(!node.directory.path().join("state").exists());
    let plugins = node.directory.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_heddle-cni"), plugins.join("itself")).unwrap();
    assert!(call(&node, "ADD", "c1", &pod, "itself").fails_with(7).contains("is this plugin"));
    assert!(call(&node, "ADD", "c1", &pod, "dhcp").fails_with(2).contains("hear no broadcast"));
}

#[test]
fn gc_and_status_are_passed_on() {
    let (node, first, second) = (TestNode::new(), Place::new(), Place::new());
    let counter = node.directory.path().join("count");
    fs::write(&counter, "50").unwrap();
    let next = format!(
        r#"n=$(cat {0}); echo $((n + 1)) > {0}; echo "{{\"cniVersion\":\"1.1.0\",\"ips\":[{{\"address\":\"10.244.1.$n/24\"}}]}}""#,
        counter.display()
    );
    install(&node, &format!("if [ $CNI_COMMAND = ADD ]; then {next}; fi"));
    call(&node, "ADD", "c1", &first, "script").succeeds();
    call(&node, "ADD", "c2", &second, "script").succeeds();
    let fields = json!({ "ipam": { "type": "script" } });
    node.gc("heddle", &["c2"], &fields).succeeds();
    assert_eq!(node.allocated(), ["10.244.1.51"]);
    // Some plugins' GC does nothing, so the attachment is deleted first.
    assert_eq!(calls(&node)[2..], ["DEL c1 eth0 ", "GC   "]);
    // The configuration has changed meanwhile.
    let details = node.gc("heddle", &[], &Value::Null).fails_with(7);
    assert!(details.contains("IPAM plugin script"), "{details}");
    assert_eq!(node.allocated(), ["10.244.1.51"]);

    let mut config = node.config("1.1.0");
    config["ipam"] = fields["ipam"].clone();
    node.call("STATUS", &[], &config).succeeds();
    install(&node, r#"echo '{"cniVersion":"1.1.0","code":100,"msg":"full","details":"no more"}'; exit 1"#);
    assert!(node.call("STATUS", &[], &config).fails_with(50).contains("full: no more"));
}

/// The reference plugins, of Debian's containernetworking-plugins, which know versions up to 1.0.0.
#[test]
fn host_local_and_static_give_addresses() {
    let node = TestNode::new();
    // static wants to see in CHECK the prefix and the gateway that it gave, not the pod's.
    let ranges = json!([[{ "subnet": "10.244.1.0/24" }], [{ "subnet": "fd00:10:244:1::/64" }]]);
    let host_local = json!({ "type": "host-local", "dataDir": node.directory.path().join("host-local"), "ranges": ranges,
        "routes": [{ "dst": "0.0.0.0/0" }] });
    let fixed =
        json!({ "type": "static", "addresses": [{ "address": "10.244.1.200/24", "gateway": "10.244.1.1" }] });
    for (ipam, address) in [(host_local, "10.244.1.2/32"), (fixed, "10.244.1.200/32")] {
        let pod = Place::new();
        let path = pod.path();
        let mut config = node.config("1.0.0");
        config["ipam"] = ipam;
        let variables = [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", path.as_str())];
        let result = node.call("ADD", &variables, &config).succeeds();
        assert_eq!(result["ips"][0]["address"], address, "{result}");
        assert!(pod.exec("ip addr show dev eth0").contains(address));
        config["prevResult"] = result;
        node.call("CHECK", &variables, &config).succeeds();
        node.call("DEL", &variables, &config).succeeds();
        node.call("DEL", &[("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "")], &config)
            .succeeds();
        node.assert_clean();
    }
    let reserved = fs::read_dir(node.directory.path().join("host-local/heddle")).unwrap();
    let names: Vec<_> = reserved.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| name == "lock" || name.starts_with("last_reserved_ip")), "{names:?}");
}
