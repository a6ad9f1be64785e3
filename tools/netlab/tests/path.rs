//! What a path may carry, and what the sender is told when it asks for more: MTU, TTL, forged sources.
#![allow(clippy::unwrap_used)]

mod common;

use common::in_each_mode;
use heddle_netlab::{Lab, LabSpec, Namespace, Ping, Pod, Underlay, tcp_transfer};

const FAMILIES: [bool; 2] = [false, true];
/// More than any path in a lab carries, and what a pod could believe.
const BELIEVED_MTU: u32 = 1500;

/// An echo request that makes an IP packet of this size and must not be fragmented.
fn sized(packet: u32, v6: bool, count: u32) -> Ping {
    let headers = if v6 { 40 + 8 } else { 20 + 8 };
    Ping { payload: u16::try_from(packet - headers).unwrap(), dont_fragment: true, count, ..Ping::default() }
}

/// What `ping` prints for fragmentation needed and for packet too big, and no other MTU.
fn told_mtu(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("mtu = ").or_else(|| text.split_once("mtu="))?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn too_big_is_told(from: &Pod, to: &Pod, mtu: u32) {
    for v6 in FAMILIES {
        let address = to.address(v6).unwrap();
        let pong = from.namespace.ping(address, &sized(mtu, v6, 3)).unwrap();
        assert!(pong.all(), "{mtu} bytes have to pass:\n{}", pong.text);
    }
    from.set_mtu(BELIEVED_MTU).unwrap();
    to.set_mtu(BELIEVED_MTU).unwrap();
    for v6 in FAMILIES {
        let address = to.address(v6).unwrap();
        let pong = from.namespace.ping(address, &sized(mtu + 1, v6, 1)).unwrap();
        assert_eq!(pong.answered, 0, "{} bytes must not pass:\n{}", mtu + 1, pong.text);
        assert_eq!(told_mtu(&pong.text), Some(mtu), "{}", pong.text);
        // The kernel has learnt it: TCP, whose ends both believe in the larger MTU, gets through.
        tcp_transfer(&from.namespace, &to.namespace, address, 1 << 20).unwrap();
    }
}

#[test]
fn too_big_is_told_across_nodes() {
    in_each_mode(&LabSpec::new(2, 1), |lab| {
        let (from, to) = (lab.pod("n1p1").unwrap(), lab.pod("n2p1").unwrap());
        // 50 bytes: outer Ethernet, IPv4, UDP and VXLAN (RFC 7348, section 5).
        assert_eq!(from.state.mtu, 1450);
        too_big_is_told(&from, &to, 1450);
    });
}

#[test]
fn too_big_is_told_over_an_ipv6_underlay() {
    in_each_mode(&LabSpec { underlay: Underlay::Ipv6, ..LabSpec::new(2, 1) }, |lab| {
        let (from, to) = (lab.pod("n1p1").unwrap(), lab.pod("n2p1").unwrap());
        assert_eq!(from.state.mtu, 1430);
        too_big_is_told(&from, &to, 1430);
    });
}

#[test]
fn too_big_is_told_on_one_node() {
    in_each_mode(&LabSpec::new(1, 2), |lab| {
        let (from, to) = (lab.pod("n1p1").unwrap(), lab.pod("n1p2").unwrap());
        let before = dropped(lab, "too_big");
        too_big_is_told(&from, &to, from.state.mtu);
        assert!(dropped(lab, "too_big") >= before + 2);
    });
}

#[test]
fn time_exceeded_names_the_node() {
    in_each_mode(&LabSpec::new(2, 2), |lab| {
        let node = lab.node("n1").unwrap();
        let from = lab.pod("n1p1").unwrap();
        for to in ["n1p2", "n2p1"].map(|name| lab.pod(name).unwrap()) {
            for v6 in FAMILIES {
                let before = dropped(lab, "hop_limit_exceeded");
                let short = Ping { ttl: Some(1), count: 1, ..Ping::default() };
                let pong = from.namespace.ping(to.address(v6).unwrap(), &short).unwrap();
                assert_eq!(pong.answered, 0, "{}", pong.text);
                let told = format!("From {}", node.address(v6).unwrap());
                assert!(pong.text.contains(&told) && pong.text.contains("exceeded"), "{}", pong.text);
                assert_eq!(dropped(lab, "hop_limit_exceeded"), before + 1);
                let enough = Ping { ttl: Some(4), ..Ping::default() };
                assert!(from.namespace.ping(to.address(v6).unwrap(), &enough).unwrap().all());
            }
        }
    });
}

#[test]
fn the_gateway_answers_ping() {
    in_each_mode(&LabSpec::new(1, 1), |lab| {
        let pod = lab.pod("n1p1").unwrap();
        pod.namespace.must_ping("169.254.1.1".parse().unwrap()).unwrap();
        pod.namespace.exec(&["ping", "-c", "1", "-W", "5", "fe80::1%eth0"]).unwrap();
    });
}

#[test]
fn forged_addresses_are_dropped_and_counted() {
    in_each_mode(&LabSpec::new(2, 2), |lab| {
        let (forger, victim) = (lab.pod("n1p1").unwrap(), lab.pod("n2p2").unwrap());
        let neighbor = lab.pod("n1p2").unwrap();
        for v6 in FAMILIES {
            let alias = neighbor.address(v6).unwrap().to_string();
            let before = dropped(lab, "spoofed_address");
            forger.namespace.exec(&["ip", "address", "add", &alias, "dev", "lo"]).unwrap();
            let answered = ping_from(forger.namespace, &alias, &victim.address(v6).unwrap().to_string());
            forger.namespace.exec(&["ip", "address", "delete", &alias, "dev", "lo"]).unwrap();
            assert!(!answered, "packets from {alias} were answered");
            assert!(dropped(lab, "spoofed_address") >= before + 2);
        }
        // With its own addresses, the pod is served as before.
        forger.namespace.must_ping(victim.address(false).unwrap()).unwrap();
    });
}

#[test]
fn forged_macs_are_dropped_and_counted() {
    in_each_mode(&LabSpec::new(1, 2), |lab| {
        let (forger, victim) = (lab.pod("n1p1").unwrap(), lab.pod("n1p2").unwrap());
        let before = dropped(lab, "spoofed_mac");
        let set_mac =
            |mac: &str| forger.namespace.exec(&["ip", "link", "set", "eth0", "address", mac]).unwrap();
        set_mac(&victim.state.mac);
        let once = Ping { count: 1, ..Ping::default() };
        let pong = forger.namespace.ping(victim.address(false).unwrap(), &once).unwrap();
        assert_eq!(pong.answered, 0, "{}", pong.text);
        assert!(dropped(lab, "spoofed_mac") > before);
        set_mac(&forger.state.mac);
        forger.namespace.must_ping(victim.address(false).unwrap()).unwrap();
    });
}

fn ping_from(namespace: Namespace, source: &str, to: &str) -> bool {
    namespace.exec(&["ping", "-n", "-c", "2", "-i", "0.1", "-W", "1", "-I", source, to]).is_ok()
}

fn dropped(lab: &Lab, reason: &str) -> u64 {
    lab.node("n1").unwrap().control().unwrap().dropped(reason).unwrap()
}
