//! What the daemon cannot start with ends in one line that names the trouble and the remedy.
#![allow(clippy::unwrap_used)]

mod daemon;

use daemon::{Daemon, Node, sh};

/// Runs the daemon, which is to fail; returns its exit code and what it said.
fn refusal(node: &Node, config: &str, before: &str) -> (Option<i32>, String) {
    let output = node.command(config, before).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

#[tokio::test]
async fn one_line_says_what_to_do() {
    let node = Node::new("refuse");
    let good = node.settings();
    sh(&format!("ip -n {} link add down0 type veth peer name down1", node.name));
    let uplink = |name: &str| format!("{good}[uplink]\ninterface = \"{name}\"\n");
    let cases: &[(String, &str, i32, &str)] = &[
        (good.replace("10.244.9.0/24", "10.244.9.1/24"), "", 78, "write \"10.244.9.0/24\""),
        (format!("{good}colour = 1\n"), "", 78, "colour: is not a setting"),
        (format!("{good}x y\n"), "", 78, "TOML"),
        (uplink("nic9"), "", 1, "there is no interface nic9"),
        (uplink("down0"), "", 1, "ip link set down0 up"),
        (uplink("wire0"), "", 1, "address"),
        (good.replace("/bpf/heddle", "/lib/bpf"), "", 1, "mount -t bpf"),
        (good.clone(), "setpriv --bounding-set -net_raw,-ipc_lock", 1, "missing CAP_NET_RAW, CAP_IPC_LOCK"),
        (format!("{good}[workers]\ncores = [999]\n"), "", 1, "no core 999"),
        (format!("{good}mtu = 3000\n"), "", 1, "mtu: 3000"),
    ];
    for (config, before, code, words) in cases {
        let (exit, said) = refusal(&node, config, before);
        assert_eq!(exit, Some(*code), "{words}: {said}");
        assert_eq!(said.lines().count(), 1, "{words}: {said}");
        assert!(said.starts_with("heddle-switch: ") && said.contains(words), "{words}: {said}");
    }
    let without_nft = format!("{good}masquerade = true\n");
    let (exit, said) = refusal(&node, &without_nft, "env PATH=/nowhere");
    assert_eq!((exit, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("apt-get install nftables"), "{said}");

    let first = Daemon::start(&node, &good).await;
    let (exit, said) = refusal(&node, &good, "");
    assert_eq!((exit, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("another heddle-switch"), "{said}");
    assert_eq!(first.end("INT"), Some(0));

    std::fs::write(node.path("lib/switch/endpoints.json"), "{\"version\": 1, ").unwrap();
    let (exit, said) = refusal(&node, &good, "");
    assert_eq!((exit, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("move it away"), "{said}");
}
