//! Whatever arrives, by whichever port: nothing panics, no frame is lost, and every packet is either forwarded or dropped
//! with a reason.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;

use common::cluster::{
    FAMILIES, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, UPLINK_SLOT, V4, V6, VNI, WORLD, from_pod, inner,
    node_address, outer, pod, pod_mac,
};
use common::packets::{Spec, Upper, arp, fragment, icmp_error, solicitation, vxlan};
use common::policy::{Rules, enforce};
use common::switch::Switch;
use etherparse::ArpOperation;
use heddle_image::Protocol;
use heddle_switch::pipeline::Ingress;
use heddle_switch::wire::Mac;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn ingress() -> impl Strategy<Value = Ingress> {
    prop_oneof![(0..4_u32).prop_map(Ingress::Endpoint), Just(Ingress::Uplink)]
}

/// Good packets of every kind the pipeline tells apart: damaged ones reach deeper than random bytes do.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for family in FAMILIES {
        let whole = Spec { payload: 64, ..from_pod(family, pod(1, 2)[family]) }.bytes();
        seeds.push(fragment(&whole, 1, 0, true));
        seeds.push(fragment(&whole, 1, 2, false));
        let macs = (pod_mac(1, 1), GATEWAY_MAC);
        seeds.push(icmp_error(macs, pod(1, 1)[family], pod(1, 2)[family], &whole[14..]));
        let (IpAddr::V6(own), gateway) = (pod(1, 1)[1], [GATEWAY_V4.into(), GATEWAY_V6.into()][family])
        else {
            unreachable!()
        };
        for to in [pod(1, 2)[family], pod(2, 1)[family], pod(1, 99)[family], WORLD[family], gateway] {
            for upper in [Upper::Udp, Upper::Tcp, Upper::Echo, Upper::Error] {
                seeds.push(Spec { upper, ..from_pod(family, to) }.bytes());
            }
        }
        for underlay in FAMILIES {
            for hop_limit in [1, 64] {
                let inner = Spec { hop_limit, ..inner(pod(2, 1)[family], pod(1, 1)[family]) };
                seeds.push(vxlan(&outer(underlay), VNI, &inner.bytes()));
            }
        }
        let host = Spec::new((pod_mac(1, 0), GATEWAY_MAC), node_address(1)[family], pod(1, 1)[family]);
        seeds.push(host.bytes());
        let macs = (pod_mac(1, 1), Mac::BROADCAST);
        seeds.push(solicitation(macs, own, GATEWAY_V6, GATEWAY_V6));
        seeds.push(arp(ArpOperation::REQUEST, macs, [10, 244, 1, 11].into(), GATEWAY_V4));
    }
    seeds
}

/// A good packet with some bytes changed and perhaps its end cut off.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    (select(seeds()), vec((any::<Index>(), any::<u8>()), 0..4), prop::option::of(any::<Index>())).prop_map(
        |(mut packet, changes, cut)| {
            for (at, value) in changes {
                let at = at.index(packet.len());
                packet[at] = value;
            }
            packet.truncate(cut.map_or(packet.len(), |cut| cut.index(packet.len() + 1)));
            packet
        },
    )
}

/// Random bytes that look like Ethernet to the switch, so that they are read at all.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let ether_type = prop_oneof![Just([8, 0]), Just([8, 6]), Just([0x86, 0xdd]), any::<[u8; 2]>()];
    (ether_type, vec(any::<u8>(), 0..200)).prop_map(|(ether_type, payload)| {
        [&GATEWAY_MAC.0[..], &pod_mac(1, 1).0, &ether_type, &payload].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_is_lost(
        ingress in ingress(),
        underlay in 0..2_usize,
        judged in any::<[bool; 2]>(),
        packets in vec(prop_oneof![4 => damaged(), 1 => noise(), 1 => vec(any::<u8>(), 0..2048 - 256)], 0..8),
    ) {
        let mut switch = Switch::node_1(underlay);
        for (number, _) in (1..).zip(judged).filter(|(_, judged)| *judged) {
            let only_node_2 = [(pod(2, 1)[V4], None), (pod(2, 1)[V6], Some((Protocol::Udp, 53)))];
            enforce(&mut switch.tables, number, Rules { ingress: Some(&only_node_2), egress: None });
        }
        let outcome = switch.pass_all(ingress, &packets);
        let drops: u64 = outcome.drops.values().sum();
        // An ICMP error is a packet more: its subject is counted as dropped.
        prop_assert_eq!(outcome.sent.len() as u64 + drops, packets.len() as u64 + outcome.icmp_errors);
        prop_assert_eq!(switch.missing_frames(), 0);
        for (slot, packet) in &outcome.sent {
            let largest = if *slot == UPLINK_SLOT { common::cluster::UPLINK_MTU } else { common::cluster::POD_MTU };
            prop_assert!(packet.len() <= 14 + usize::from(largest));
            prop_assert_ne!(packet[12..14].to_vec(), vec![0, 0]);
        }
    }
}

/// The seeds must be good, or the test above only tests `parse`.
#[test]
fn seeds_pass_from_some_port() {
    let forwarded = seeds().into_iter().filter(|packet| {
        [0, 1].map(Ingress::Endpoint).into_iter().chain([Ingress::Uplink]).any(|ingress| {
            let mut switch = Switch::node_1(V4);
            !switch.pass(ingress, packet).sent.is_empty()
        })
    });
    assert!(forwarded.count() > seeds().len() / 2);
}
