//! The gateway answers ARP, neighbor discovery and echo on every endpoint's port, the host's among them, byte by byte as
//! the RFCs want it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::cluster::{FAMILIES, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, V4, V6, from_pod, pod, pod_mac};
use common::packets::{Spec, Upper, arp, neighbor_discovery, solicitation};
use common::switch::{Outcome, Switch};
use etherparse::{ArpOperation, Icmpv6Slice};
use heddle_switch::DropReason;
use heddle_switch::pipeline::Ingress;
use heddle_switch::wire::Mac;

const GATEWAY: [IpAddr; 2] = [IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)];
const SOLICITED_NODE: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
const SOLICITED_NODE_MAC: Mac = Mac([0x33, 0x33, 0xff, 0, 0, 1]);

fn v4(address: IpAddr) -> Ipv4Addr {
    let IpAddr::V4(address) = address else { unreachable!() };
    address
}

fn v6(address: IpAddr) -> Ipv6Addr {
    let IpAddr::V6(address) = address else { unreachable!() };
    address
}

#[test]
fn arp_for_the_gateway() {
    let mut switch = Switch::node_1(V4);
    for number in 0..3 {
        let mac = pod_mac(1, number);
        let own = v4(pod(1, number)[V4]);
        // Broadcast, unicast as Linux revalidates a neighbor, and a probe without an own address.
        for (to, sender) in
            [(Mac::BROADCAST, own), (GATEWAY_MAC, own), (Mac::BROADCAST, Ipv4Addr::UNSPECIFIED)]
        {
            let mut request = arp(ArpOperation::REQUEST, (mac, to), sender, GATEWAY_V4);
            request.resize(60, 0);
            let outcome = switch.pass(Ingress::Endpoint(number.into()), &request);
            let reply = arp(ArpOperation::REPLY, (GATEWAY_MAC, mac), GATEWAY_V4, sender);
            assert_eq!(outcome, Outcome::forwarded(number.into(), reply));
        }
    }
}

/// The advertisement the gateway owes, to `to`.
fn advertisement(to_mac: Mac, to: Ipv6Addr, solicited: bool) -> Vec<u8> {
    let mut body = GATEWAY_V6.octets().to_vec();
    // Target link-layer address (RFC 4861, section 4.6.1).
    body.extend([2, 1]);
    body.extend(GATEWAY_MAC.0);
    let mut packet = neighbor_discovery((GATEWAY_MAC, to_mac), GATEWAY_V6, to, 136, &body);
    // Router, solicited and override in the high bits behind the checksum.
    let flags: u8 = if solicited { 0xe0 } else { 0xa0 };
    packet[58] = flags;
    let checksum = Icmpv6Slice::from_slice(&packet[54..]).unwrap().header().icmp_type;
    let payload = &packet[62..];
    let checksum = checksum.calc_checksum(GATEWAY_V6.octets(), to.octets(), payload).unwrap();
    packet[56..58].copy_from_slice(&checksum.to_be_bytes());
    packet
}

#[test]
fn solicitations_for_the_gateway() {
    let mut switch = Switch::node_1(V4);
    let link_local: Ipv6Addr = "fe80::42".parse().unwrap();
    for number in 0..3 {
        let mac = pod_mac(1, number);
        for from in [v6(pod(1, number)[V6]), link_local] {
            for (to, to_mac) in [(SOLICITED_NODE, SOLICITED_NODE_MAC), (GATEWAY_V6, GATEWAY_MAC)] {
                let request = solicitation((mac, to_mac), from, to, GATEWAY_V6);
                let outcome = switch.pass(Ingress::Endpoint(number.into()), &request);
                assert_eq!(outcome, Outcome::forwarded(number.into(), advertisement(mac, from, true)));
            }
        }
    }
}

#[test]
fn the_gateway_defends_its_address() {
    let mut switch = Switch::node_1(V4);
    let macs = (pod_mac(1, 1), SOLICITED_NODE_MAC);
    let probe = solicitation(macs, Ipv6Addr::UNSPECIFIED, SOLICITED_NODE, GATEWAY_V6);
    let all_nodes = "ff02::1".parse().unwrap();
    let expected = advertisement(Mac([0x33, 0x33, 0, 0, 0, 1]), all_nodes, false);
    assert_eq!(switch.pass(Ingress::Endpoint(1), &probe), Outcome::forwarded(1, expected));
}

#[test]
fn solicitations_that_break_a_rule_are_not_answered() {
    let mut switch = Switch::node_1(V4);
    let macs = (pod_mac(1, 1), SOLICITED_NODE_MAC);
    let from = v6(pod(1, 1)[V6]);
    let good = solicitation(macs, from, SOLICITED_NODE, GATEWAY_V6);
    assert!(switch.pass(Ingress::Endpoint(1), &good).drops.is_empty());
    let patched = |offset: usize, value: u8| {
        let mut packet = good.clone();
        packet[offset] = value;
        packet
    };
    let probe_with_option = {
        let mut body = GATEWAY_V6.octets().to_vec();
        body.extend([1, 1, 2, 2, 2, 2, 2, 2]);
        neighbor_discovery(macs, Ipv6Addr::UNSPECIFIED, SOLICITED_NODE, 135, &body)
    };
    for (what, packet) in [
        ("forwarded by a router", patched(21, 254)),
        ("wrong checksum", patched(57, good[57] ^ 1)),
        ("code other than 0", patched(55, 1)),
        ("option of length 0", patched(79, 0)),
        ("probe with a source option", probe_with_option),
        (
            "probe to the gateway alone",
            solicitation(macs, Ipv6Addr::UNSPECIFIED, "ff02::1".parse().unwrap(), GATEWAY_V6),
        ),
        ("for another target", solicitation(macs, from, SOLICITED_NODE, v6(pod(1, 2)[V6]))),
        ("router solicitation", neighbor_discovery(macs, from, "ff02::2".parse().unwrap(), 133, &[])),
        ("advertisement", neighbor_discovery(macs, from, "ff02::1".parse().unwrap(), 136, &from.octets())),
        (
            "to another pod",
            neighbor_discovery((pod_mac(1, 1), GATEWAY_MAC), from, v6(pod(1, 2)[V6]), 136, &from.octets()),
        ),
        ("own address", solicitation(macs, Ipv6Addr::UNSPECIFIED, "ff02::1:ff00:11".parse().unwrap(), from)),
    ] {
        let outcome = switch.pass(Ingress::Endpoint(1), &packet);
        assert_eq!(outcome, Outcome::dropped(DropReason::NdUnanswered), "{what}");
    }
}

#[test]
fn echo_to_the_gateway() {
    let mut switch = Switch::node_1(V4);
    for family in FAMILIES {
        for payload in [0, 1, 56, 1400] {
            let request =
                Spec { upper: Upper::Echo, payload, hop_limit: 1, ..from_pod(family, GATEWAY[family]) };
            let reply = Spec {
                source_mac: GATEWAY_MAC,
                destination_mac: pod_mac(1, 1),
                from: request.to,
                to: request.from,
                hop_limit: 64,
                upper: Upper::EchoReply,
                ..request
            };
            let outcome = switch.pass(Ingress::Endpoint(1), &request.bytes());
            assert_eq!(outcome, Outcome::forwarded(1, reply.bytes()), "{request:?}");
        }
    }
}

#[test]
fn echo_from_a_link_local_address() {
    let mut switch = Switch::node_1(V4);
    let from = "fe80::42".parse().unwrap();
    let request = Spec { upper: Upper::Echo, from, ..from_pod(V6, GATEWAY[V6]) };
    let (slot, reply) = (1, switch.pass(Ingress::Endpoint(1), &request.bytes()));
    assert_eq!(reply.only_sent().0, slot);
    assert!(reply.drops.is_empty());
}

#[test]
fn what_the_gateway_does_not_serve() {
    let mut switch = Switch::node_1(V4);
    for family in FAMILIES {
        for upper in [Upper::Udp, Upper::Tcp, Upper::EchoReply, Upper::Error] {
            let spec = Spec { upper, ..from_pod(family, GATEWAY[family]) };
            let outcome = switch.pass(Ingress::Endpoint(1), &spec.bytes());
            assert_eq!(outcome, Outcome::dropped(DropReason::GatewayUnserved), "{spec:?}");
        }
    }
}
