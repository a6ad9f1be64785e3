//! Linux's own vxlan device at the far end: the overlay is RFC 7348 as others speak it, in both directions.
#![allow(clippy::unwrap_used)]

mod common;

use common::in_each_mode;
use heddle_netlab::{LabSpec, Underlay, tcp_transfer, udp_echo};

const SIZES: [usize; 5] = [0, 64, 1400, 4000, 20_000];
const TEN_MEGABYTES: u64 = 10 << 20;

fn interoperates(underlay: Underlay) {
    in_each_mode(&LabSpec { underlay, ..LabSpec::new(1, 1) }, |lab| {
        let peer = lab.add_linux_peer(2).unwrap();
        let pod = lab.pod("n1p1").unwrap();
        let node = lab.node("n1").unwrap();
        for namespace in [node.namespace, peer.namespace, pod.namespace] {
            let tentative = namespace.exec(&["ip", "-6", "-o", "address", "show", "tentative"]).unwrap();
            assert_eq!(tentative, "", "{namespace} has addresses that are not usable yet");
        }
        for v6 in [false, true] {
            let (pod_address, peer_address) = (pod.address(v6).unwrap(), peer.address(v6));
            pod.namespace.must_ping(peer_address).unwrap();
            peer.namespace.must_ping(pod_address).unwrap();
            udp_echo(&pod.namespace, &peer.namespace, peer_address, &SIZES).unwrap();
            tcp_transfer(&pod.namespace, &peer.namespace, peer_address, TEN_MEGABYTES).unwrap();
            tcp_transfer(&peer.namespace, &pod.namespace, pod_address, TEN_MEGABYTES).unwrap();
        }
        assert_eq!(node.control().unwrap().dropped("no_neighbor").unwrap(), 0, "it forwarded from the start");
    });
}

#[test]
fn linux_vxlan_over_ipv4() {
    interoperates(Underlay::Ipv4);
}

#[test]
fn linux_vxlan_over_ipv6() {
    interoperates(Underlay::Ipv6);
}
