//! Packets between nodes: every byte of the outer headers, the checks on the way out of the tunnel, and congestion marks
//! carried across (RFC 7348, RFC 6040).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;

use common::cluster::{
    FAMILIES, GATEWAY_MAC, UPLINK_SLOT, V4, V6, VNI, VXLAN_PORT, WORLD, from_pod, inner, nic_mac,
    node_address, outer, pod, pod_mac, vtep_mac,
};
use common::packets::{Spec, Upper, patch, vxlan};
use common::switch::{Outcome, Switch};
use etherparse::{NetSlice, SlicedPacket, TransportSlice, UdpSlice};
use heddle_switch::DropReason;
use heddle_switch::pipeline::Ingress;
use proptest::prelude::*;

const POD_1: Ingress = Ingress::Endpoint(1);

/// Takes a tunnelled packet apart and checks the outer headers; returns the UDP source port and the inner packet.
fn open(packet: &[u8], underlay: usize, traffic_class: u8) -> (u16, &[u8]) {
    assert_eq!(packet[..6], nic_mac(2).0);
    assert_eq!(packet[6..12], nic_mac(1).0);
    let sliced = SlicedPacket::from_ethernet(packet).unwrap();
    let Some(TransportSlice::Udp(udp)) = sliced.transport else { panic!("not UDP") };
    match sliced.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            assert_eq!(underlay, V4);
            let header = ip.header();
            assert_eq!(IpAddr::V4(header.source_addr()), node_address(1)[V4]);
            assert_eq!(IpAddr::V4(header.destination_addr()), node_address(2)[V4]);
            assert_eq!(usize::from(header.total_len()), packet.len() - 14);
            assert_eq!((header.identification(), header.dont_fragment(), header.ttl()), (0, true, 64));
            assert_eq!((header.dcp().value(), header.ecn().value()), (0, traffic_class));
            assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
            assert_eq!(udp.checksum(), 0);
        }
        NetSlice::Ipv6(ip) => {
            assert_eq!(underlay, V6);
            let header = ip.header();
            assert_eq!(IpAddr::V6(header.source_addr()), node_address(1)[V6]);
            assert_eq!(IpAddr::V6(header.destination_addr()), node_address(2)[V6]);
            assert_eq!(usize::from(header.payload_length()), packet.len() - 54);
            assert_eq!((header.hop_limit(), header.traffic_class()), (64, traffic_class));
            assert_eq!(checksum_v6(&udp, header.source(), header.destination()), udp.checksum());
        }
        other @ NetSlice::Arp(_) => panic!("{other:?}"),
    }
    assert_eq!(udp.destination_port(), VXLAN_PORT);
    assert!(udp.source_port() >= 49152);
    let [flags, r1, r2, r3, ref vni @ .., r4] = udp.payload()[..8] else { panic!("no VXLAN header") };
    assert_eq!([flags, r1, r2, r3, r4], [8, 0, 0, 0, 0]);
    assert_eq!(*vni, VNI.to_be_bytes()[1..]);
    (udp.source_port(), &packet[packet.len() - (udp.payload().len() - 8)..])
}

fn checksum_v6(udp: &UdpSlice<'_>, source: [u8; 16], destination: [u8; 16]) -> u16 {
    udp.to_header().calc_checksum_ipv6_raw(source, destination, udp.payload()).unwrap()
}

/// The packet of a pod of node 1 as it travels inside the tunnel.
fn inside(spec: Spec) -> Spec {
    Spec { source_mac: vtep_mac(1), destination_mac: vtep_mac(2), hop_limit: spec.hop_limit - 1, ..spec }
}

#[test]
fn into_the_tunnel() {
    for underlay in FAMILIES {
        let mut switch = Switch::node_1(underlay);
        for family in FAMILIES {
            for (upper, payload) in
                [(Upper::Udp, 0), (Upper::Tcp, 1), (Upper::Echo, 1301), (Upper::Tcp, 1400)]
            {
                for ecn in 0..4 {
                    // The pod's DSCP stays inside; ECN is copied out (RFC 6040, section 4.1).
                    let traffic_class = 0xb8 | ecn;
                    let spec = Spec { traffic_class, upper, payload, ..from_pod(family, pod(2, 1)[family]) };
                    let outcome = switch.pass(POD_1, &spec.bytes());
                    assert!(outcome.drops.is_empty());
                    let (slot, packet) = outcome.only_sent();
                    assert_eq!(slot, UPLINK_SLOT);
                    assert_eq!(open(packet, underlay, ecn).1, inside(spec).bytes());
                }
            }
        }
    }
}

#[test]
fn the_source_port_tells_flows_apart() {
    let mut switch = Switch::node_1(V4);
    let mut ports_of = |specs: &[Spec]| {
        let outcome = switch.pass_all(POD_1, &specs.iter().map(Spec::bytes).collect::<Vec<_>>());
        let mut ports: Vec<_> = outcome.sent.iter().map(|(_, packet)| open(packet, V4, 0).0).collect();
        ports.sort_unstable();
        ports.dedup();
        ports.len()
    };
    for family in FAMILIES {
        let flow = from_pod(family, pod(2, 1)[family]);
        let same: Vec<_> =
            (0..64).map(|n| Spec { payload: n, hop_limit: 64 - n as u8 / 2, ..flow }).collect();
        assert_eq!(ports_of(&same), 1, "packets of one flow take one path");
        let by_port: Vec<_> = (0..64).map(|n| Spec { ports: (40_000 + n, 53), ..flow }).collect();
        // 64 draws out of 16,384 rarely meet; a hash that is blind to a field would give one port.
        assert!(ports_of(&by_port) > 55);
        let by_address: Vec<_> = (0..64).map(|n| Spec { to: pod(2, n)[family], ..flow }).collect();
        assert!(ports_of(&by_address) > 55);
    }
}

#[test]
fn all_fragments_of_a_packet_take_one_path() {
    let mut switch = Switch::node_1(V4);
    let mut port_of = |flags_and_offset: u16, ports| {
        let spec = Spec { ports, ..from_pod(V4, pod(2, 1)[V4]) };
        let packet = common::packets::patch_ipv4(spec.bytes(), 6, &flags_and_offset.to_be_bytes());
        open(switch.pass(POD_1, &packet).only_sent().1, V4, 0).0
    };
    let first = port_of(0x2000, (1, 2));
    assert_eq!(first, port_of(0x2010, (3, 4)));
    assert_eq!(first, port_of(0x0020, (5, 6)));
}

#[test]
fn out_of_the_tunnel() {
    for underlay in FAMILIES {
        let mut switch = Switch::node_1(underlay);
        for family in FAMILIES {
            // From a pod, from the node itself, and from the world by way of the other node.
            for from in [pod(2, 1)[family], node_address(2)[family], WORLD[family]] {
                for (to, slot) in [(pod(1, 1)[family], 1), (node_address(1)[family], 0)] {
                    let spec = Spec { traffic_class: 0xb8, payload: 333, ..inner(from, to) };
                    let tunnelled = vxlan(&outer(underlay), VNI, &spec.bytes());
                    let expected = Spec {
                        source_mac: GATEWAY_MAC,
                        destination_mac: pod_mac(1, slot),
                        hop_limit: 63,
                        ..spec
                    };
                    let outcome = switch.pass(Ingress::Uplink, &tunnelled);
                    assert_eq!(outcome, Outcome::forwarded(slot.into(), expected.bytes()));
                }
            }
        }
    }
}

#[test]
fn ipv4_tunnels_may_go_without_checksum() {
    let mut switch = Switch::node_1(V4);
    let spec = inner(pod(2, 1)[V4], pod(1, 1)[V4]);
    let tunnelled = patch(vxlan(&outer(V4), VNI, &spec.bytes()), 14 + 20 + 6, &[0, 0]);
    assert!(switch.pass(Ingress::Uplink, &tunnelled).drops.is_empty());
}

#[test]
fn bytes_behind_the_datagram_are_cut_off() {
    let mut switch = Switch::node_1(V4);
    let spec = inner(pod(2, 1)[V4], pod(1, 1)[V4]);
    let tunnelled = vxlan(&outer(V4), VNI, &spec.bytes());
    let with_trailer = [&tunnelled[..], &[0xee; 10]].concat();
    let longer_ip = common::packets::patch_ipv4(
        with_trailer.clone(),
        2,
        &((with_trailer.len() - 14) as u16).to_be_bytes(),
    );
    let expected = switch.pass(Ingress::Uplink, &tunnelled);
    for packet in [with_trailer, longer_ip] {
        assert_eq!(switch.pass(Ingress::Uplink, &packet), expected);
    }
}

/// RFC 6040, figure 4: what leaves the tunnel for each inner (row) and outer (column) field, in the order Not-ECT, ECT(0),
/// ECT(1), CE of the figure; `None` is a drop.
#[test]
fn congestion_marks_cross_the_tunnel() {
    const NOT_ECT: u8 = 0b00;
    const ECT_0: u8 = 0b10;
    const ECT_1: u8 = 0b01;
    const CE: u8 = 0b11;
    const ORDER: [u8; 4] = [NOT_ECT, ECT_0, ECT_1, CE];
    const FIGURE: [[Option<u8>; 4]; 4] = [
        [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None],
        [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)],
        [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)],
        [Some(CE), Some(CE), Some(CE), Some(CE)],
    ];
    for underlay in FAMILIES {
        let mut switch = Switch::node_1(underlay);
        for family in FAMILIES {
            for (inner_ecn, row) in ORDER.into_iter().zip(FIGURE) {
                for (outer_ecn, expected) in ORDER.into_iter().zip(row) {
                    let spec = Spec {
                        traffic_class: 0xb8 | inner_ecn,
                        ..inner(pod(2, 1)[family], pod(1, 1)[family])
                    };
                    let outer = Spec { traffic_class: outer_ecn, ..outer(underlay) };
                    let outcome = switch.pass(Ingress::Uplink, &vxlan(&outer, VNI, &spec.bytes()));
                    let expected = expected.map_or(Outcome::dropped(DropReason::TunnelEcn), |ecn| {
                        let out = Spec {
                            source_mac: GATEWAY_MAC,
                            destination_mac: pod_mac(1, 1),
                            hop_limit: 63,
                            traffic_class: 0xb8 | ecn,
                            ..spec
                        };
                        Outcome::forwarded(1, out.bytes())
                    });
                    assert_eq!(outcome, expected, "inner {inner_ecn:02b}, outer {outer_ecn:02b}");
                }
            }
        }
    }
}

proptest! {
    /// What pod 1 of node 1 sends, a pod of node 2 gets, two hops later.
    #[test]
    fn a_tunnel_carries_packets_whole(
        underlay in 0..2_usize,
        family in 0..2_usize,
        traffic_class: u8,
        hop_limit in 3_u8..,
        payload in 0..1400_usize,
        ports: (u16, u16),
        upper in prop::sample::select(vec![Upper::Udp, Upper::Tcp, Upper::Echo]),
    ) {
        let spec = Spec {
            hop_limit, traffic_class, upper, payload, ports, ..from_pod(family, pod(2, 2)[family])
        };
        let mut node_1 = Switch::node_1(underlay);
        let tunnelled = node_1.pass(POD_1, &spec.bytes());
        let mut node_2 = Switch::node_2(underlay);
        let outcome = node_2.pass(Ingress::Uplink, tunnelled.only_sent().1);
        let expected = Spec {
            source_mac: GATEWAY_MAC,
            destination_mac: pod_mac(2, 2),
            hop_limit: hop_limit - 2,
            ..spec
        };
        prop_assert_eq!(outcome, Outcome::forwarded(2, expected.bytes()));
    }
}
