//! Frames as they really arrive: cut anywhere, with a VLAN tag, with headers that are not in the buffer's linear part; and what
//! the worker's socket gets of a super-packet.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::net::UdpSocket;
use std::time::Instant;

use heddle_bpf::{Outcome, Port, Role};
use nix::sys::socket::{setsockopt, sockopt};

use crate::bench::{GATEWAY_MAC, POD_MACS, POD_ONE, POD_TWO, flow, ifindex, readdress, tag};
use crate::common::{ip, sandbox};
use crate::connection::PATIENCE;
use crate::node::{Node, node, pod_addresses};
use crate::raw::open_tap;
use crate::sample::{ETHERNET, SAMPLES, Sample, read};

/// Adds a port whose other end is the test's, sending as pod 1. The worker sends nothing on, so that everything is seen.
/// Packets come whole, or in the pieces they are written in: the first linear, the others not (`drivers/net/tun.c`).
fn add_tap(node: &mut Node, in_pieces: bool) -> File {
    ip("tuntap add dev fc-tap mode tap");
    heddle_netdev::sysctl::set_ipv6_enabled("fc-tap", false).unwrap();
    ip("link set fc-tap up");
    let tap = open_tap("fc-tap", in_pieces);
    let (port, trunk) = (ifindex("fc-tap"), ifindex("fc-trunk"));
    node.cache().set_port(port, Port { hop: POD_ONE.hop, trunk, mac: Some(POD_MACS[0]) }).unwrap();
    node.cache().attach("fc-tap", Role::Endpoint).unwrap();
    node.routes.lock().unwrap().by_destination.clear();
    tap
}

#[test]
fn frames_cut_anywhere_come_up_as_they_are() {
    sandbox(|| {
        let mut node = node(None);
        let mut tap = add_tap(&mut node, false);
        for sample in SAMPLES {
            let key = sample.key(ifindex("fc-tap"));
            node.insert(key, flow(POD_ONE, POD_TWO));
            let whole = sample.packet(20);
            for length in ETHERNET..whole.len() {
                tap.write_all(&whole[..length]).unwrap();
                let stray = node.await_stray(|stray| stray[12..] == whole[12..length]);
                assert_eq!(stray, readdress(&whole[..length], GATEWAY_MAC, tag(0x4d, POD_ONE.hop)));
            }
            assert_eq!(node.flows.read(&key).unwrap().unwrap().1.packets, 0);
        }
    });
}

#[test]
fn a_frame_with_a_vlan_tag_is_of_no_flow() {
    sandbox(|| {
        let mut node = node(None);
        let mut tap = add_tap(&mut node, false);
        let sample = Sample { v6: false, tcp: false };
        let key = sample.key(ifindex("fc-tap"));
        node.insert(key, flow(POD_ONE, POD_TWO));
        let packet = sample.packet(20);
        let mut tagged = packet.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        let before = node.count(Outcome::Unusual);
        tap.write_all(&tagged).unwrap();
        // The worker is to see that it was tagged.
        node.await_stray(|stray| stray[12..14] == [0x81, 0] && stray.ends_with(&packet[ETHERNET..]));
        assert!(node.count(Outcome::Unusual) > before);
        assert_eq!(node.flows.read(&key).unwrap().unwrap().1.packets, 0);
    });
}

#[test]
fn headers_in_pieces_are_pulled_together() {
    sandbox(|| {
        let mut node = node(None);
        let tap = add_tap(&mut node, true);
        for sample in SAMPLES {
            let key = sample.key(ifindex("fc-tap"));
            node.insert(key, flow(POD_ONE, POD_TWO));
            let packet = sample.packet(600);
            // The first piece ends anywhere: behind Ethernet, in either header, behind all.
            for (number, cut) in (ETHERNET..sample.payload() + 2).enumerate() {
                let pieces = [IoSlice::new(&packet[..cut]), IoSlice::new(&packet[cut..])];
                assert_eq!(nix::sys::uio::writev(&tap, &pieces).unwrap(), packet.len());
                let deadline = Instant::now() + PATIENCE;
                while node.flows.read(&key).unwrap().unwrap().1.packets <= number as u64 {
                    assert!(Instant::now() < deadline, "{sample:?} cut at {cut} is not forwarded");
                    std::thread::yield_now();
                }
            }
        }
    });
}

#[test]
fn the_worker_gets_super_packets_in_segments_with_checksums() {
    for v6 in [false, true] {
        sandbox(move || {
            let node = node(None);
            node.routes.lock().unwrap().by_destination.clear();
            let [from, to] = pod_addresses(v6);
            let socket = node.pods[0].run(move || UdpSocket::bind((from, 40_000)).unwrap());
            setsockopt(&socket, sockopt::UdpGsoSegment, &1000).unwrap();
            socket.send_to(&[7; 4500], (to, 80)).unwrap();
            for length in [1000, 1000, 1000, 1000, 500] {
                let is_it = |stray: &[u8]| stray.len() == length + ETHERNET + if v6 { 48 } else { 28 };
                let stray = node.await_stray(is_it);
                let seen = read(&stray);
                assert_eq!(seen.payload, vec![7; length]);
                assert_eq!((seen.destination_mac, seen.source_mac), (GATEWAY_MAC, tag(0x4d, POD_ONE.hop)));
            }
            assert_eq!(node.count(Outcome::Miss), 1);
        });
    }
}
