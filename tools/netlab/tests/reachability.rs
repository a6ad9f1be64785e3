//! Everyone reaches everyone: pods on one node and across nodes, nodes, and the world; ICMP, UDP and TCP, both families.
#![allow(clippy::unwrap_used)]

mod common;

use common::in_each_mode;
use heddle_netlab::{LabSpec, Namespace, Underlay, WORLD, source_seen, tcp_transfer, udp_echo};

const FAMILIES: [bool; 2] = [false, true];
/// From empty to larger than the MTU, so that fragments are among them.
const SIZES: [usize; 8] = [0, 1, 64, 512, 1400, 1472, 4000, 20_000];
const LARGE: u64 = 64 << 20;

fn everything_passes(from: Namespace, to: Namespace, address: std::net::IpAddr) {
    from.must_ping(address).unwrap();
    udp_echo(&from, &to, address, &SIZES).unwrap();
    tcp_transfer(&from, &to, address, 1 << 20).unwrap();
}

#[test]
fn pods_reach_pods_on_their_node_and_across_nodes() {
    in_each_mode(&LabSpec::new(2, 2), |lab| {
        for (from, to) in [("n1p1", "n1p2"), ("n1p2", "n2p1"), ("n2p2", "n1p1")] {
            let (from, to) = (lab.pod(from).unwrap(), lab.pod(to).unwrap());
            for v6 in FAMILIES {
                everything_passes(from.namespace, to.namespace, to.address(v6).unwrap());
                let seen = source_seen(&from.namespace, &to.namespace, to.address(v6).unwrap()).unwrap();
                assert_eq!(seen, from.address(v6).unwrap(), "pods see each other's own addresses");
            }
        }
    });
}

#[test]
fn large_transfers_arrive_unchanged() {
    in_each_mode(&LabSpec::new(2, 2), |lab| {
        for (from, to) in [("n1p1", "n1p2"), ("n1p1", "n2p1")] {
            let (from, to) = (lab.pod(from).unwrap(), lab.pod(to).unwrap());
            for v6 in FAMILIES {
                tcp_transfer(&from.namespace, &to.namespace, to.address(v6).unwrap(), LARGE).unwrap();
            }
        }
    });
}

#[test]
fn many_streams_at_once_arrive_unchanged() {
    in_each_mode(&LabSpec { workers: 2, ..LabSpec::new(2, 4) }, |lab| {
        let pod = |name: &str| lab.pod(name).unwrap();
        let pairs: Vec<_> = (1..=4)
            .flat_map(|n| {
                [(format!("n1p{n}"), format!("n2p{n}")), (format!("n2p{n}"), format!("n1p{}", n % 4 + 1))]
            })
            .map(|(from, to)| (pod(&from), pod(&to)))
            .collect();
        std::thread::scope(|scope| {
            for (number, (from, to)) in pairs.iter().enumerate() {
                let address = to.address(number % 2 == 0).unwrap();
                scope.spawn(move || tcp_transfer(&from.namespace, &to.namespace, address, 8 << 20).unwrap());
            }
        });
    });
}

#[test]
fn nodes_reach_pods_and_pods_reach_nodes() {
    in_each_mode(&LabSpec::new(2, 1), |lab| {
        for (node, pod) in [("n1", "n1p1"), ("n1", "n2p1"), ("n2", "n1p1")] {
            let (node, pod) = (lab.node(node).unwrap(), lab.pod(pod).unwrap());
            for v6 in FAMILIES {
                let (node_address, pod_address) = (node.address(v6).unwrap(), pod.address(v6).unwrap());
                everything_passes(node.namespace, pod.namespace, pod_address);
                everything_passes(pod.namespace, node.namespace, node_address);
                // Neither way is translated.
                assert_eq!(source_seen(&node.namespace, &pod.namespace, pod_address).unwrap(), node_address);
                assert_eq!(source_seen(&pod.namespace, &node.namespace, node_address).unwrap(), pod_address);
            }
        }
    });
}

#[test]
fn the_world_sees_the_node() {
    in_each_mode(&LabSpec::new(1, 1), |lab| {
        let (node, pod) = (lab.node("n1").unwrap(), lab.pod("n1p1").unwrap());
        for v6 in FAMILIES {
            let world = WORLD[usize::from(v6)];
            pod.namespace.must_ping(world).unwrap();
            udp_echo(&pod.namespace, &lab.world(), world, &[0, 64, 1400]).unwrap();
            tcp_transfer(&pod.namespace, &lab.world(), world, 1 << 20).unwrap();
            // The world's full-sized datagrams do not fit the pod's MTU. Of that it is told: the first may be lost, no more.
            let _ = udp_echo(&pod.namespace, &lab.world(), world, &[1472]);
            udp_echo(&pod.namespace, &lab.world(), world, &[1472, 4000]).unwrap();
            assert_eq!(source_seen(&pod.namespace, &lab.world(), world).unwrap(), node.address(v6).unwrap());
        }
    });
}

#[test]
fn an_ipv6_underlay_carries_both_families() {
    in_each_mode(&LabSpec { underlay: Underlay::Ipv6, ..LabSpec::new(2, 1) }, |lab| {
        let (from, to) = (lab.pod("n1p1").unwrap(), lab.pod("n2p1").unwrap());
        let vtep = lab.node("n2").unwrap().control().unwrap().describe().unwrap().vtep.unwrap();
        assert_eq!(vtep.address, lab.node("n2").unwrap().address(true).unwrap().to_string());
        for v6 in FAMILIES {
            everything_passes(from.namespace, to.namespace, to.address(v6).unwrap());
            everything_passes(to.namespace, from.namespace, from.address(v6).unwrap());
            tcp_transfer(&from.namespace, &to.namespace, to.address(v6).unwrap(), LARGE).unwrap();
        }
    });
}
