//! The host is a hop like others: streams between it and a pod stay in the kernel both ways.

use std::net::{IpAddr, SocketAddr};

use heddle_bpf::{Hop, Outcome, Port, Role};

use crate::bench::{GATEWAY_MAC, HOST, HOST_MAC, MTU, ifindex};
use crate::common::{ip, sandbox};
use crate::connection::{Connection, PORT, Place, dial, listen};
use crate::node::{Node, PODS, node, pod_addresses};

const HOST_PLACE: Place = Place { party: HOST, interface: "fc-host-sw" };

fn host_address(v6: bool) -> IpAddr {
    if v6 { "fd00:172:31::1" } else { "172.31.0.1" }.parse().unwrap()
}

/// The host as the switch sets it up: an interface without addresses of its own, by which pods are reached.
fn add_host(node: &mut Node) {
    let mac = |mac: [u8; 6]| mac.map(|octet| format!("{octet:02x}")).join(":");
    let (own, gateway) = (mac(HOST_MAC), mac(GATEWAY_MAC));
    for command in [
        "link add fc-host type veth peer name fc-host-sw".to_owned(),
        format!("link set fc-host address {own} up"),
        "link set fc-host-sw up".to_owned(),
        format!("address add {}/32 dev lo", host_address(false)),
        format!("address add {}/128 dev lo nodad", host_address(true)),
        format!("neigh add 169.254.1.1 lladdr {gateway} nud permanent dev fc-host"),
        format!("neigh add fe80::1 lladdr {gateway} nud permanent dev fc-host"),
        format!("route add 10.244.0.0/16 via 169.254.1.1 dev fc-host onlink src {}", host_address(false)),
        format!("-6 route add fd00:10:244::/48 via fe80::1 dev fc-host onlink src {}", host_address(true)),
    ] {
        ip(&command);
    }
    let trunk = ifindex("fc-trunk");
    let hop = Hop::Host { ifindex: ifindex("fc-host"), mtu: MTU, mac: HOST_MAC };
    let cache = node.cache();
    cache.set_hop(HOST.hop, HOST.generation, Some(hop)).unwrap();
    cache.set_port(ifindex("fc-host-sw"), Port { hop: HOST.hop, trunk, mac: None }).unwrap();
    cache.attach("fc-host-sw", Role::Endpoint).unwrap();
    for v6 in [false, true] {
        node.routes.lock().unwrap().by_destination.insert(host_address(v6), HOST.hop);
    }
}

#[test]
fn streams_between_host_and_pod_stay_in_the_kernel() {
    sandbox(|| {
        let mut node = node(None);
        add_host(&mut node);
        for v6 in [false, true] {
            let segment = if v6 { 1440 } else { 1460 };
            let to = SocketAddr::new(host_address(v6), PORT);
            let listener = listen(to);
            let client = node.pods[0].run(move || dial(to));
            Connection::new(client, &listener, to, [PODS[0], HOST_PLACE])
                .assert_stays_in_kernel(&node, segment);
            let to = SocketAddr::new(pod_addresses(v6)[1], PORT);
            let listener = node.pods[1].run(move || listen(to));
            Connection::new(dial(to), &listener, to, [HOST_PLACE, PODS[1]])
                .assert_stays_in_kernel(&node, segment);
        }
        assert_eq!(node.count(Outcome::Spoofed), 0);
    });
}
