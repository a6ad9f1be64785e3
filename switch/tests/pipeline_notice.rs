//! Notices: the sender of a dropped packet gets the right ICMP error, with as much of the packet as the RFCs ask for,
//! back the way it came; and never an error about what must not be answered.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::cluster::{
    FAMILIES, GATEWAY_MAC, POD_MTU, UPLINK_MTU, UPLINK_SLOT, V4, V6, WORLD, from_pod, inner, node_address,
    outer, pod, pod_mac,
};
use common::packets::{Spec, Upper, patch, patch_ipv4, vxlan};
use common::switch::{Outcome, Switch};
use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice, icmpv4, icmpv6};
use heddle_switch::DropReason;
use heddle_switch::pipeline::Ingress;
use heddle_switch::tables::HOST;

const POD_1: Ingress = Ingress::Endpoint(1);

/// The ICMP message of either family.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    V4(Icmpv4Type),
    V6(Icmpv6Type),
}

const TIME_EXCEEDED: [Message; 2] = [
    Message::V4(Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit)),
    Message::V6(Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded)),
];

const NO_ROUTE: [Message; 2] = [
    Message::V4(Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Network)),
    Message::V6(Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::NoRoute)),
];

const UNREACHABLE: [Message; 2] = [
    Message::V4(Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Host)),
    Message::V6(Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Address)),
];

fn too_big(mtu: u16) -> [Message; 2] {
    let needed = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
    [
        Message::V4(Icmpv4Type::DestinationUnreachable(needed)),
        Message::V6(Icmpv6Type::PacketTooBig { mtu: mtu.into() }),
    ]
}

/// Checks every field of the notice in `packet`, which is about `about` (an Ethernet frame).
fn assert_notice(packet: &[u8], family: usize, message: &Message, about: &[u8]) {
    let sliced = SlicedPacket::from_ethernet(packet).unwrap();
    let about = &about[14..];
    let (quoted, largest) = match (sliced.net.unwrap(), sliced.transport.unwrap()) {
        (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
            let header = ip.header();
            assert_eq!(IpAddr::V4(header.source_addr()), node_address(1)[V4]);
            assert_eq!(header.destination(), about[12..16]);
            assert_eq!((header.ttl(), header.dont_fragment(), header.dcp().value()), (64, true, 0x30));
            assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
            assert!(icmp.header().checksum == icmp.icmp_type().calc_checksum(icmp.payload()));
            assert_eq!(&Message::V4(icmp.icmp_type()), message);
            (icmp.payload(), 576 - 28)
        }
        (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
            let header = ip.header();
            assert_eq!(IpAddr::V6(header.source_addr()), node_address(1)[V6]);
            assert_eq!(header.destination(), about[8..24]);
            assert_eq!(header.hop_limit(), 64);
            assert!(icmp.is_checksum_valid(header.source(), header.destination()));
            assert_eq!(&Message::V6(icmp.icmp_type()), message);
            (icmp.payload(), 1280 - 48)
        }
        other => panic!("no notice: {other:?}"),
    };
    assert_eq!(family, usize::from(about[0] >> 4 == 6));
    assert_eq!(quoted, &about[..about.len().min(largest)], "quotes the packet as it was sent");
}

/// Checks that `about` was dropped for `reason` and the notice sent to the endpoint behind `slot`.
fn assert_told(outcome: &Outcome, reason: DropReason, slot: u8, message: &Message, about: &[u8]) {
    assert_eq!(outcome.drops, [(reason, 1)].into());
    assert_eq!(outcome.icmp_errors, 1);
    let (sent_by, notice) = outcome.only_sent();
    assert_eq!(sent_by, u16::from(slot));
    assert_eq!(notice[..6], pod_mac(1, slot).0);
    assert_eq!(notice[6..12], GATEWAY_MAC.0);
    let family = if notice[12] == 8 { V4 } else { V6 };
    assert_notice(notice, family, message, about);
}

#[test]
fn time_exceeded() {
    let mut switch = Switch::node_1(V4);
    for family in FAMILIES {
        for hop_limit in [0, 1] {
            for payload in [0, 9, 520, 521, 1200, 1400] {
                let packet = Spec { hop_limit, payload, ..from_pod(family, pod(1, 2)[family]) }.bytes();
                let outcome = switch.pass(POD_1, &packet);
                assert_told(&outcome, DropReason::HopLimitExceeded, 1, &TIME_EXCEEDED[family], &packet);
                // So that the pod's share of the budget is full again.
                switch.now += Duration::from_millis(8);
            }
        }
    }
    assert_eq!(switch.missing_frames(), 0);
}

#[test]
fn too_big_for_an_endpoint() {
    let mut switch = Switch::node_1(V4);
    switch.tables.endpoints.set(
        2,
        heddle_switch::tables::Endpoint { mtu: 1300, ..switch.tables.endpoints.get(2).unwrap().clone() },
    );
    for (family, headers) in [(V4, 28), (V6, 48)] {
        let fits = Spec { payload: 1300 - headers, ..from_pod(family, pod(1, 2)[family]) };
        assert!(switch.pass(POD_1, &fits.bytes()).drops.is_empty());
        let packet = Spec { payload: 1301 - headers, ..fits }.bytes();
        let outcome = switch.pass(POD_1, &packet);
        assert_told(&outcome, DropReason::TooBig, 1, &too_big(1300)[family], &packet);
    }
}

#[test]
fn too_big_for_a_tunnel() {
    for (underlay, overhead) in [(V4, 50), (V6, 70)] {
        let mut switch = Switch::node_1(underlay);
        let mtu = UPLINK_MTU - overhead;
        for (family, headers) in [(V4, 28), (V6, 48)] {
            let fits = Spec { payload: usize::from(mtu) - headers, ..from_pod(family, pod(2, 1)[family]) };
            let outcome = switch.pass(POD_1, &fits.bytes());
            assert_eq!(outcome.only_sent().1.len(), usize::from(UPLINK_MTU) + 14, "fills the underlay");
            let packet = Spec { payload: fits.payload + 1, ..fits }.bytes();
            let outcome = switch.pass(POD_1, &packet);
            assert_told(&outcome, DropReason::TooBig, 1, &too_big(mtu)[family], &packet);
        }
    }
}

#[test]
fn too_big_without_df_is_told_as_well() {
    let mut switch = Switch::node_1(V6);
    let mtu = UPLINK_MTU - 70;
    let packet = Spec { payload: usize::from(mtu), ..from_pod(V4, pod(2, 1)[V4]) }.bytes();
    let packet = patch_ipv4(packet, 6, &[0, 0]);
    let outcome = switch.pass(POD_1, &packet);
    assert_told(&outcome, DropReason::TooBig, 1, &too_big(mtu)[V4], &packet);
}

#[test]
fn unreachable_and_no_route() {
    let mut switch = Switch::node_1(V4);
    for prefix in ["0.0.0.0/0", "::/0"] {
        switch.tables.fib.remove(prefix.parse().unwrap());
    }
    for family in FAMILIES {
        let packet = from_pod(family, pod(1, 9)[family]).bytes();
        let outcome = switch.pass(POD_1, &packet);
        assert_told(&outcome, DropReason::Unreachable, 1, &UNREACHABLE[family], &packet);
        let packet = from_pod(family, WORLD[family]).bytes();
        let outcome = switch.pass(POD_1, &packet);
        assert_told(&outcome, DropReason::NoRoute, 1, &NO_ROUTE[family], &packet);
    }
}

#[test]
fn the_host_is_told_too() {
    let mut switch = Switch::node_1(V4);
    for family in FAMILIES {
        let macs = (pod_mac(1, 0), GATEWAY_MAC);
        let packet = Spec { hop_limit: 1, ..Spec::new(macs, WORLD[family], pod(1, 1)[family]) }.bytes();
        let outcome = switch.pass(Ingress::Endpoint(HOST), &packet);
        assert_told(&outcome, DropReason::HopLimitExceeded, 0, &TIME_EXCEEDED[family], &packet);
    }
}

#[test]
fn a_notice_goes_back_through_the_tunnel() {
    for underlay in FAMILIES {
        for family in FAMILIES {
            let mut switch = Switch::node_1(underlay);
            let about =
                Spec { hop_limit: 1, payload: 700, ..inner(pod(2, 1)[family], pod(1, 1)[family]) }.bytes();
            let tunnelled = vxlan(&outer(underlay), common::cluster::VNI, &about);
            let outcome = switch.pass(Ingress::Uplink, &tunnelled);
            assert_eq!(outcome.drops, [(DropReason::HopLimitExceeded, 1)].into());
            assert_eq!(outcome.icmp_errors, 1);
            let (slot, packet) = outcome.only_sent();
            assert_eq!(slot, UPLINK_SLOT);
            // The other node takes it out of the tunnel and gives it to the pod.
            let outcome = Switch::node_2(underlay).pass(Ingress::Uplink, packet);
            let (slot, notice) = outcome.only_sent();
            assert_eq!((slot, &notice[..6]), (1, &pod_mac(2, 1).0[..]));
            assert!(outcome.drops.is_empty());
            let mut as_sent = notice.to_vec();
            // Undo the hop that node 2 took.
            match family {
                V4 => as_sent = patch_ipv4(as_sent, 8, &[64]),
                _ => as_sent[14 + 7] = 64,
            }
            assert_notice(&as_sent, family, &TIME_EXCEEDED[family], &about);
        }
    }
}

#[test]
fn no_errors_about_what_must_not_be_answered() {
    let mut switch = Switch::node_1(V4);
    let last_hop = |family, upper| Spec { hop_limit: 1, upper, ..from_pod(family, pod(1, 2)[family]) };
    let mut silent: Vec<_> = FAMILIES.map(|family| last_hop(family, Upper::Error).bytes()).to_vec();
    // A later fragment.
    silent.push(patch_ipv4(last_hop(V4, Upper::Udp).bytes(), 6, &[0x20, 0x10]));
    // ICMP that is cut off before its type.
    let cut = last_hop(V4, Upper::Echo).bytes();
    silent.push(patch_ipv4(cut, 2, &20_u16.to_be_bytes()));
    // A redirect, which has the high bit set in IPv6 but is neighbor discovery there; in IPv4 it is an error.
    silent.push(patch(last_hop(V4, Upper::Error).bytes(), 34, &[5]));
    for packet in silent {
        let outcome = switch.pass(POD_1, &packet);
        assert_eq!(outcome, Outcome::dropped(DropReason::HopLimitExceeded), "{packet:02x?}");
    }
    // Echo is ICMP, but no error; a first fragment has the header that the sender needs.
    for packet in [
        last_hop(V4, Upper::Echo).bytes(),
        last_hop(V6, Upper::Echo).bytes(),
        patch_ipv4(last_hop(V4, Upper::Udp).bytes(), 6, &[0x20, 0]),
    ] {
        assert_eq!(switch.pass(POD_1, &packet).icmp_errors, 1);
    }
}

#[test]
fn errors_are_limited() {
    let mut switch = Switch::node_1(V4);
    let packet = Spec { hop_limit: 1, ..from_pod(V4, pod(1, 2)[V4]) }.bytes();
    let batch = vec![packet; 64];
    let mut told = 0;
    let mut dropped = 0;
    for _ in 0..10 {
        let outcome = switch.pass_all(POD_1, &batch);
        assert_eq!(outcome.sent.len() as u64, outcome.icmp_errors);
        told += outcome.icmp_errors;
        dropped += outcome.drops[&DropReason::HopLimitExceeded];
    }
    assert_eq!((told, dropped), (16, 640), "the burst, and every drop counted");
    switch.now += Duration::from_millis(80);
    assert_eq!(switch.pass_all(POD_1, &batch).icmp_errors, 10, "one in eight milliseconds");
}

#[test]
fn a_notice_needs_a_next_hop_that_takes_it() {
    let mut switch = Switch::node_1(V4);
    let endpoint = switch.tables.endpoints.get(1).unwrap().clone();
    switch.tables.endpoints.set(1, heddle_switch::tables::Endpoint { mtu: 500, ..endpoint });
    let packet = Spec { hop_limit: 1, payload: 600, ..from_pod(V4, pod(1, 2)[V4]) };
    assert!(packet.payload < usize::from(POD_MTU));
    let outcome = switch.pass(POD_1, &packet.bytes());
    assert_eq!(outcome, Outcome::dropped(DropReason::HopLimitExceeded));
}
