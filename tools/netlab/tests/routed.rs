//! Routed mode: pods have addresses of the network that their nodes are in. A plain Linux host there reaches them, and they it, without
//! tunnel and without translation; policy judges it by its address; and nothing of it stays.
#![allow(clippy::unwrap_used)]
#![allow(clippy::trivially_copy_pass_by_ref, reason = "namespaces are lent, as the lab lends them")]

#[path = "common/attached.rs"]
mod attached;
mod common;

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use attached::endpoint;
use common::in_each_mode;
use heddle_netlab::{Lab, LabSpec, Namespace, STATE_DIR, find_binary, source_seen, tcp_transfer, udp_echo};

fn spec() -> LabSpec {
    LabSpec { routed: true, ..LabSpec::new(2, 2) }
}

/// The addresses of the host on the segment, which is no node.
fn host(v6: bool) -> IpAddr {
    if v6 { "fd00:172:31::254" } else { "172.31.0.254" }.parse().unwrap()
}

/// Everybody on the segment, with an address of the family.
fn everybody(lab: &Lab, v6: bool) -> Vec<(Namespace, IpAddr)> {
    let pods = ["n1p1", "n1p2", "n2p1", "n2p2"].map(|name| lab.pod(name).unwrap());
    let nodes = ["n1", "n2"].map(|name| lab.node(name).unwrap());
    let pods = pods.iter().map(|pod| (pod.namespace, pod.address(v6).unwrap()));
    let nodes = nodes.iter().map(|node| (node.namespace, node.address(v6).unwrap()));
    pods.chain(nodes).chain([(lab.world(), host(v6))]).collect()
}

#[test]
fn everybody_on_the_segment_is_seen_as_who_they_are() {
    in_each_mode(&spec(), |lab| {
        let links = lab.node("n1").unwrap().namespace.exec(&["ip", "-o", "link"]).unwrap();
        assert!(!links.contains("vxlan") && !links.contains("heddle-vx"), "{links}");
        for v6 in [false, true] {
            let all = everybody(lab, v6);
            for (from, own) in &all {
                for (to, address) in all.iter().filter(|(_, address)| address != own) {
                    from.must_ping(*address).unwrap();
                    assert_eq!(source_seen(from, to, *address).unwrap(), *own, "{from} → {to}");
                }
            }
            // What a flow in the cache does as well.
            let (pod, address) = (lab.pod("n1p1").unwrap(), host(v6));
            let own = pod.address(v6).unwrap();
            for (from, to, address) in
                [(&pod.namespace, &lab.world(), address), (&lab.world(), &pod.namespace, own)]
            {
                udp_echo(from, to, address, &[1000; 40]).unwrap();
                tcp_transfer(from, to, address, 4 << 20).unwrap();
            }
        }
    });
}

const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server}
spec:
  podSelector: {matchLabels: {pod: n1p1}}
  ingress: [{from: [{ipBlock: {cidr: 172.31.0.254/32}}, {ipBlock: {cidr: 'fd00:172:31::254/128'}}]}]
";

#[test]
fn policy_judges_neighbors_by_their_addresses() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policy.yaml"), POLICY).unwrap();
    in_each_mode(&LabSpec { manifests: Some(dir.path().to_owned()), ..spec() }, |lab| {
        let server = lab.pod("n1p1").unwrap();
        for v6 in [false, true] {
            let address = server.address(v6).unwrap().to_string();
            let reaches = |from: &Namespace| {
                let mut ping = Command::new("ping");
                let output = from.output(ping.args(["-n", "-c", "1", "-W", "1", &address]));
                output.unwrap().status.success()
            };
            let deadline = Instant::now() + Duration::from_secs(20);
            while !reaches(&lab.world()) {
                assert!(Instant::now() < deadline, "the one who may, IPv6 {v6}");
            }
            assert!(!reaches(&lab.pod("n1p2").unwrap().namespace), "a pod of the node, IPv6 {v6}");
            assert!(!reaches(&lab.pod("n2p1").unwrap().namespace), "a pod of another node, IPv6 {v6}");
            assert!(!reaches(&lab.node("n2").unwrap().namespace), "another node, IPv6 {v6}");
        }
    });
}

/// Whom a node answers for, its routes to pods, and the settings of its uplink.
fn traces(node: &Namespace) -> [String; 3] {
    let run =
        |commands: &[&[&str]]| commands.iter().map(|command| node.exec(command).unwrap()).collect::<String>();
    let settings = ["ipv4.neigh.eth0.proxy_delay", "ipv6.neigh.eth0.proxy_delay", "ipv6.conf.eth0.proxy_ndp"];
    let routes =
        run(&[&["ip", "route", "show", "proto", "68"], &["ip", "-6", "route", "show", "proto", "68"]]);
    [
        run(&[&["ip", "neigh", "show", "proxy"], &["ip", "-6", "neigh", "show", "proxy"]]),
        // The lab makes routes of its own, by eth0.
        routes.lines().filter(|route| route.contains("heddle0")).collect::<Vec<_>>().join("\n"),
        settings.map(|name| run(&[&["sysctl", "-n", &format!("net.{name}")]])).concat(),
    ]
}

#[test]
fn what_is_announced_goes_with_the_pod_and_with_the_switch() {
    in_each_mode(&spec(), |lab| {
        let node = lab.node("n1").unwrap();
        let [gone, stays] = ["n1p1", "n1p2"].map(|name| lab.pod(name).unwrap());
        let names = |pod: &heddle_netlab::Pod, text: &str| {
            [false, true]
                .map(|v6| text.split_whitespace().any(|word| word == pod.address(v6).unwrap().to_string()))
        };
        let [proxies, routes, _] = traces(&node.namespace);
        assert_eq!([names(&gone, &proxies), names(&gone, &routes)], [[true; 2]; 2], "{proxies}{routes}");
        // One that goes while the switch is away is not answered for any more once it is back.
        lab.kill_switch("n1").unwrap();
        lab.delete_pods(&[gone.state.name]).unwrap();
        lab.start_switch("n1").unwrap();
        let [proxies, routes, _] = traces(&node.namespace);
        assert_eq!([names(&gone, &proxies), names(&gone, &routes)], [[false; 2]; 2], "{proxies}{routes}");
        assert_eq!([names(&stays, &proxies), names(&stays, &routes)], [[true; 2]; 2], "{proxies}{routes}");
        for v6 in [false, true] {
            lab.world().must_ping(stays.address(v6).unwrap()).unwrap();
        }
        let mut control = node.control().unwrap();
        let id = endpoint(&mut control, "n1p2").id;
        control.remove_endpoint(&id).unwrap();
        let [proxies, routes, settings] = traces(&node.namespace);
        assert_eq!((proxies.as_str(), routes.as_str()), ("", ""));
        assert_eq!(settings, "0\n0\n1\n");
        lab.kill_switch("n1").unwrap();
        let config = std::path::Path::new(STATE_DIR).join("n1/switch.toml");
        let mut clean_up = Command::new(find_binary("heddle-switch").unwrap());
        let output = node.namespace.output(clean_up.arg("--config").arg(config).arg("--cleanup"));
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(traces(&node.namespace)[2], "80\n80\n0\n");
    });
}
