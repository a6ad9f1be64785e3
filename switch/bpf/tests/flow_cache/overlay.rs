//! Flows to and from another node go through Linux's vxlan device with their super-packets whole, against Linux's own VXLAN on
//! the other side, over either family of underlay; what the tunnel says about a packet's sender is believed for nothing else.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use heddle_bpf::{Flow, Hop, Outcome, Party, Role, Settings, TAG_FENCE};
use heddle_netdev::ethtool::{Offload, set_offload};

use crate::bench::{
    GATEWAY_MAC, MTU, PEER, PEER_MAC, POD_MACS, POD_ONE, VNI, VTEP_MAC, flow, ifindex, readdress, tag,
};
use crate::common::{ip, sandbox, veth};
use crate::connection::{Connection, PATIENCE, PORT, Place, dial, flows, listen};
use crate::namespace::Namespace;
use crate::node::{Node, PODS, node, pod_addresses};
use crate::sample::SAMPLES;

const UDP_PORT: u16 = 4789;
const OVERLAY: Place = Place { party: PEER, interface: "fc-vx" };
/// Another address of the other node, which is a peer too in one test.
const STRANGER: Party = Party { hop: PEER.hop + 1, generation: 1 };

/// Outer addresses: this node's, the other node's, the stranger's.
fn underlay(v6: bool) -> [IpAddr; 3] {
    let text = if v6 {
        ["fd00:172:31::1", "fd00:172:31::2", "fd00:172:31::3"]
    } else {
        ["172.31.0.1", "172.31.0.2", "172.31.0.3"]
    };
    text.map(|address| address.parse().unwrap())
}

/// A pod on the other node.
fn remote(v6: bool) -> IpAddr {
    if v6 { "fd00:10:244:2::1" } else { "10.244.2.1" }.parse().unwrap()
}

fn overlay_mtu(outer_v6: bool) -> u32 {
    // Outer IP, UDP, VXLAN, inner Ethernet.
    MTU - if outer_v6 { 40 } else { 20 } - 8 - 8 - 14
}

struct Overlay {
    node: Node,
    other: Namespace,
}

fn mac(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// Another node, in a namespace, with a vxlan device as administrators make it; and ours in external mode.
fn overlay(outer_v6: bool) -> Overlay {
    let mut node = node(None);
    let other = Namespace::new();
    ip("link add fc-wire type veth peer name fc-eth");
    other.take("fc-eth");
    let [ours, theirs, stranger] = underlay(outer_v6);
    let (length, nodad) = if outer_v6 { (64, "nodad") } else { (24, "") };
    other.ip(&format!(
        "link set fc-eth up
         address add {theirs}/{length} dev fc-eth {nodad}
         address add {stranger}/{length} dev fc-eth {nodad}
         link add vx type vxlan id {VNI} local {theirs} remote {ours} dstport {UDP_PORT}
         link set vx address {} mtu {} up
         address add {}/32 dev vx
         address add {}/128 dev vx nodad
         route add 10.244.1.0/24 dev vx
         -6 route add fd00:10:244:1::/64 dev vx",
        mac(PEER_MAC),
        overlay_mtu(outer_v6),
        remote(false),
        remote(true),
    ));
    for v6 in [false, true] {
        other.ip(&format!(
            "neigh add {} lladdr {} nud permanent dev vx",
            pod_addresses(v6)[0],
            mac(VTEP_MAC)
        ));
    }
    for command in [
        "link set fc-wire up".to_owned(),
        format!("address add {ours}/{length} dev fc-wire {nodad}"),
        format!("link add fc-vx address {} type vxlan external dstport {UDP_PORT}", mac(VTEP_MAC)),
    ] {
        ip(command.trim());
    }
    heddle_netdev::sysctl::set_ipv6_enabled("fc-vx", false).unwrap();
    ip("link set fc-vx up");
    let (hop, mtu) = (PEER.hop, overlay_mtu(outer_v6));
    let settings = Settings { vxlan: Some(ifindex("fc-vx")), local: Some(ours), ..crate::node::settings() };
    let cache = node.cache();
    cache.set_settings(&settings).unwrap();
    cache.set_hop(hop, PEER.generation, Some(Hop::Vtep { address: theirs, mtu, mac: PEER_MAC })).unwrap();
    cache.set_peer(theirs, hop).unwrap();
    assert_eq!(cache.peers().unwrap(), [(theirs, hop)]);
    cache.attach("fc-vx", Role::Overlay).unwrap();
    for v6 in [false, true] {
        node.routes.lock().unwrap().by_destination.insert(remote(v6), hop);
    }
    Overlay { node, other }
}

fn stream(outer_v6: bool) {
    sandbox(move || {
        let Overlay { node, other } = overlay(outer_v6);
        for v6 in [false, true] {
            let segment = overlay_mtu(outer_v6) as usize - if v6 { 60 } else { 40 };
            // Either side opens; what opens goes by the worker, so that way works too.
            let to = SocketAddr::new(remote(v6), PORT);
            let listener = other.run(move || listen(to));
            let client = node.pods[0].run(move || dial(to));
            Connection::new(client, &listener, to, [PODS[0], OVERLAY]).assert_stays_in_kernel(&node, segment);
            let to = SocketAddr::new(pod_addresses(v6)[0], PORT);
            let listener = node.pods[0].run(move || listen(to));
            let client = other.run(move || dial(to));
            Connection::new(client, &listener, to, [OVERLAY, PODS[0]]).assert_stays_in_kernel(&node, segment);
        }
        assert_eq!(node.count(Outcome::UnknownPeer), 0);
    });
}

#[test]
fn streams_stay_in_the_kernel_over_ipv4() {
    stream(false);
}

#[test]
fn streams_stay_in_the_kernel_over_ipv6() {
    stream(true);
}

/// Sends a packet in VXLAN from an address of the other node.
fn tunnel(overlay: &Overlay, from: IpAddr, to: IpAddr, vni: u32, packet: &[u8]) {
    let mut bytes = vec![0x08, 0, 0, 0];
    bytes.extend((vni << 8).to_be_bytes());
    bytes.extend(packet);
    overlay.other.run(move || {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        // A connected socket gives its packets a hash of its own (`sk_set_txhash`), which veth carries along.
        socket.connect((to, UDP_PORT)).unwrap();
        socket.send(&bytes).unwrap();
    });
}

#[test]
fn only_the_peer_of_a_flow_and_our_network_are_believed() {
    for outer_v6 in [false, true] {
        sandbox(move || believed(outer_v6));
    }
}

fn believed(outer_v6: bool) {
    let mut overlay = overlay(outer_v6);
    let [ours, theirs, stranger] = underlay(outer_v6);
    // No route has the worker for these addresses, so that what goes up is seen; a flow has.
    overlay.node.routes.lock().unwrap().by_destination.clear();
    let receiver = overlay.node.pods[0].run(|| UdpSocket::bind((pod_addresses(false)[0], 80)).unwrap());
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let there = SocketAddr::new(remote(false), 40_000);
    let here = receiver.local_addr().unwrap();
    let packet = datagram(there, here, b"inside");
    let [(key, open), _] = flows(17, there, here, here, [OVERLAY, PODS[0]]);
    let up = |node: &Node, hop: u32, destination: [u8; 6]| {
        let stray = node.await_stray(|stray| stray.ends_with(b"inside"));
        assert_eq!(stray, readdress(&packet, destination, tag(0x4d, hop)));
    };
    // Without a flow: up, with the peer's number, or none.
    tunnel(&overlay, theirs, ours, VNI, &packet);
    up(&overlay.node, PEER.hop, VTEP_MAC);
    overlay.node.await_count(Outcome::Miss, 1);
    tunnel(&overlay, stranger, ours, VNI, &packet);
    up(&overlay.node, u32::MAX, VTEP_MAC);
    overlay.node.await_count(Outcome::UnknownPeer, 1);
    // With one: to the pod, but not from another, even if it is a peer.
    overlay.node.insert(key, open);
    tunnel(&overlay, stranger, ours, VNI, &packet);
    up(&overlay.node, u32::MAX, VTEP_MAC);
    overlay.node.await_count(Outcome::UnknownPeer, 2);
    let hop = Hop::Vtep { address: stranger, mtu: 1400, mac: PEER_MAC };
    overlay.node.cache().set_hop(STRANGER.hop, STRANGER.generation, Some(hop)).unwrap();
    overlay.node.cache().set_peer(stranger, STRANGER.hop).unwrap();
    tunnel(&overlay, stranger, ours, VNI, &packet);
    up(&overlay.node, STRANGER.hop, VTEP_MAC);
    overlay.node.await_count(Outcome::Miss, 2);
    overlay.node.await_count(Outcome::Hit, 0);
    tunnel(&overlay, theirs, ours, VNI, &packet);
    let mut bytes = [0; 100];
    let (length, source) = receiver.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..length], source), (&b"inside"[..], there));
    overlay.node.await_count(Outcome::Hit, 1);
    // Inside, it has to be for this node; and a fence's tag in it is a forgery.
    for (destination, seen) in
        [(POD_MACS[0], POD_MACS[0]), (GATEWAY_MAC, GATEWAY_MAC), (tag(0x4e, 0), [0; 6])]
    {
        tunnel(&overlay, theirs, ours, VNI, &readdress(&packet, destination, PEER_MAC));
        up(&overlay.node, PEER.hop, seen);
    }
    // Other networks' packets end here.
    for vni in [VNI ^ 1, 0, 0x00ff_ffff] {
        tunnel(&overlay, theirs, ours, vni, &packet);
    }
    overlay.node.await_count(Outcome::OtherVni, 3);
    // A pending flow's packet is tagged, and so is what is no flow's from a peer that is none any more.
    overlay.node.flows.remove(&[key]).unwrap();
    overlay.node.flows.reset_fence(5).unwrap();
    overlay.node.insert(key, Flow { fence: 5, pending_for: PATIENCE, ..open });
    tunnel(&overlay, theirs, ours, VNI, &packet);
    up(&overlay.node, PEER.hop, tag(TAG_FENCE[1], 5 << 16));
    overlay.node.cache().unset_peer(theirs).unwrap();
    tunnel(&overlay, theirs, ours, VNI, &packet);
    up(&overlay.node, u32::MAX, VTEP_MAC);
}

/// A UDP packet to this node's VTEP.
fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) else { unreachable!() };
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ethernet2(PEER_MAC, VTEP_MAC)
        .ipv4(source.octets(), destination.octets(), 64)
        .udp(from.port(), to.port())
        .write(&mut packet, payload)
        .unwrap();
    packet
}

#[test]
fn a_flow_stays_with_one_worker_and_flows_are_shared_out() {
    sandbox(|| {
        let mut overlay = overlay(false);
        let [ours, theirs, _] = underlay(false);
        // At the second worker's end of its trunk sits a program that counts, and drops what has no tag of a worker.
        veth("fc-trunk2", "fc-trunk2-sw", MTU);
        overlay.node.cache().attach("fc-trunk2-sw", Role::Trunk).unwrap();
        let (vxlan, local) = (Some(ifindex("fc-vx")), Some(ours));
        let settings = Settings { vxlan, local, trunks: 2, ..crate::node::settings() };
        overlay.node.cache().set_trunk(1, ifindex("fc-trunk2")).unwrap();
        overlay.node.cache().set_settings(&settings).unwrap();
        overlay.node.routes.lock().unwrap().by_destination.clear();
        let strays = Arc::clone(&overlay.node.strays);
        let mut seen = [false; 2];
        for port in 1..=32_u16 {
            let from = SocketAddr::new(remote(false), port);
            let packet = datagram(from, SocketAddr::new(pod_addresses(false)[0], 80), &[0; 10]);
            let before = overlay.node.count(Outcome::BadTag);
            let went = || {
                let is_it = |stray: &&Vec<u8>| stray[12..] == packet[12..];
                let first = strays.lock().unwrap().iter().filter(is_it).count();
                (first, overlay.node.count(Outcome::BadTag) - before)
            };
            // Every time from another socket, so by another outer flow.
            for _ in 0..4 {
                tunnel(&overlay, theirs, ours, VNI, &packet);
            }
            overlay.node.await_count(Outcome::Miss, 4 * u64::from(port));
            // What the other node says on its own, to routers and groups, may go to the second too.
            let deadline = Instant::now() + PATIENCE;
            while !matches!(went(), (4, _) | (0, 4..)) {
                assert!(Instant::now() < deadline, "{:?} went to the two workers", went());
                std::thread::yield_now();
            }
            seen[usize::from(went().0 == 0)] = true;
        }
        assert_eq!(seen, [true, true]);
        // No trunk, nowhere to go.
        overlay.node.cache().set_settings(&Settings { trunks: 0, ..settings.clone() }).unwrap();
        tunnel(&overlay, theirs, ours, VNI, &SAMPLES[0].packet(10));
        overlay.node.await_count(Outcome::NoPort, 1);
        overlay.node.cache().set_settings(&Settings { trunks: 1, ..settings }).unwrap();
        overlay.node.cache().set_trunk(0, 0).unwrap();
        tunnel(&overlay, theirs, ours, VNI, &SAMPLES[0].packet(10));
        overlay.node.await_count(Outcome::NoPort, 2);
    });
}

#[test]
fn the_outer_packet_says_what_is_agreed() {
    for outer_v6 in [false, true] {
        sandbox(move || {
            let overlay = overlay(outer_v6);
            let [ours, theirs, _] = underlay(outer_v6);
            // Routing would take another address as the source.
            let (spare, flags) =
                if outer_v6 { ("fd00:172:31::9", "/128 nodad") } else { ("172.31.0.9", "/32") };
            ip(&format!("address add {spare}{flags} dev lo"));
            ip(&format!("route add {theirs} dev fc-wire src {spare}"));
            // What leaves is complete.
            set_offload("fc-wire", Offload::TxChecksum, false).unwrap();
            let socket = overlay.other.run(move || {
                // As long as it is there, the device receives what comes by the port.
                ip("link del vx");
                UdpSocket::bind((theirs, UDP_PORT)).unwrap()
            });
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let from = SocketAddr::new(pod_addresses(false)[0], 40_000);
            let sender = overlay.node.pods[0].run(move || UdpSocket::bind(from).unwrap());
            let to = SocketAddr::new(remote(false), 80);
            overlay.node.insert(flows(17, from, to, to, [PODS[0], OVERLAY])[0].0, flow(POD_ONE, PEER));
            sender.send_to(b"inside", to).unwrap();
            let mut bytes = [0; 200];
            let (length, source) = socket.recv_from(&mut bytes).unwrap();
            assert_eq!(source.ip(), ours);
            assert_eq!(bytes[..8], [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
            let inside = crate::sample::read(&bytes[8..length]);
            assert_eq!((inside.destination_mac, inside.source_mac), (PEER_MAC, VTEP_MAC));
            assert_eq!((inside.source, inside.destination), ((from.ip(), from.port()), (to.ip(), to.port())));
            assert_eq!((inside.hop_limit, &inside.payload[..]), (63, &b"inside"[..]));
        });
    }
}
