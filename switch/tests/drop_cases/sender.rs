//! Packets that `admit` refuses for who sent them, and addresses that stay on their link.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::ArpOperation;
use heddle_switch::DropReason::{LinkLocal, Martian, NotForUs, SpoofedAddress, SpoofedMac, UnknownEndpoint};
use heddle_switch::pipeline::Ingress;
use heddle_switch::tables::HOST;
use heddle_switch::wire::Mac;

use super::{Case, POD_1, case, good, good_inner, tunnelled};
use crate::common::cluster::{FAMILIES, GATEWAY_MAC, GATEWAY_V4, V4, V6, WORLD, node_address, pod, pod_mac};
use crate::common::packets::{Spec, arp, patch};

pub(crate) fn cases() -> Vec<Case> {
    [single_cases(), spoofing_cases(), martian_cases()].into_iter().flatten().collect()
}

/// Cases of one kind.
fn single_cases() -> Vec<Case> {
    let own_v4 = match pod(1, 1)[V4] {
        IpAddr::V4(own) => own,
        IpAddr::V6(_) => unreachable!(),
    };
    let own_mac = pod_mac(1, 1);
    let arp_from = |mac, sender| {
        patch(arp(ArpOperation::REQUEST, (mac, Mac::BROADCAST), sender, GATEWAY_V4), 6, &own_mac.0)
    };
    let from_host = |from, to| Spec::new((pod_mac(1, 0), GATEWAY_MAC), from, to).bytes();
    let host = Ingress::Endpoint(HOST);
    vec![
        case(UnknownEndpoint, "no such endpoint", Ingress::Endpoint(77), good(V4).bytes()),
        case(SpoofedMac, "ARP for a neighbor's MAC", POD_1, arp_from(pod_mac(1, 2), own_v4)),
        case(
            SpoofedMac,
            "ARP with another MAC",
            POD_1,
            patch(arp_from(own_mac, own_v4), 6, &pod_mac(1, 2).0),
        ),
        case(
            SpoofedAddress,
            "ARP for a neighbor's address",
            POD_1,
            arp_from(own_mac, Ipv4Addr::new(10, 244, 1, 12)),
        ),
        case(
            SpoofedAddress,
            "link-local to a pod",
            POD_1,
            Spec { from: "fe80::7".parse().unwrap(), ..good(V6) }.bytes(),
        ),
        case(
            LinkLocal,
            "to a link-local address",
            POD_1,
            Spec { to: "fe80::7".parse().unwrap(), ..good(V6) }.bytes(),
        ),
        case(LinkLocal, "from the host's", host, from_host("fe80::7".parse().unwrap(), pod(1, 1)[V6])),
    ]
}

/// What no endpoint may claim, in both families.
fn spoofing_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in FAMILIES {
        cases.extend([
            case(
                NotForUs,
                "another router's MAC",
                POD_1,
                Spec { destination_mac: pod_mac(1, 2), ..good(family) }.bytes(),
            ),
            case(
                SpoofedMac,
                "a neighbor's MAC",
                POD_1,
                Spec { source_mac: pod_mac(1, 2), ..good(family) }.bytes(),
            ),
            case(
                SpoofedAddress,
                "a neighbor's address",
                POD_1,
                Spec { from: pod(1, 2)[family], ..good(family) }.bytes(),
            ),
            case(
                SpoofedAddress,
                "the node's address",
                POD_1,
                Spec { from: node_address(1)[family], ..good(family) }.bytes(),
            ),
            case(
                SpoofedAddress,
                "the world's address",
                POD_1,
                Spec { from: WORLD[family], ..good(family) }.bytes(),
            ),
        ]);
    }
    cases
}

/// Addresses that nobody has.
fn martian_cases() -> Vec<Case> {
    let from_host = |from, to| Spec::new((pod_mac(1, 0), GATEWAY_MAC), from, to).bytes();
    let host = Ingress::Endpoint(HOST);
    let mut cases = Vec::new();
    let v4 = ["0.0.0.0", "127.0.0.1", "240.0.0.1"];
    let v6 = ["::", "::1", "::ffff:127.0.0.1"];
    for (family, address) in v4.map(|a| (V4, a)).into_iter().chain(v6.map(|a| (V6, a))) {
        let address: IpAddr = address.parse().unwrap();
        cases.extend([
            case(Martian, "to nobody", POD_1, Spec { to: address, ..good(family) }.bytes()),
            case(Martian, "from nobody by the host", host, from_host(address, pod(1, 1)[family])),
            case(
                Martian,
                "from nobody by a tunnel",
                Ingress::Uplink,
                tunnelled(&Spec { from: address, ..good_inner(family) }),
            ),
        ]);
    }
    for (family, group) in [(V4, "224.0.0.1"), (V4, "255.255.255.255"), (V6, "ff02::1")] {
        let group: IpAddr = group.parse().unwrap();
        cases.push(case(Martian, "from a group", host, from_host(group, pod(1, 1)[family])));
        cases.push(case(SpoofedAddress, "from a group", POD_1, Spec { from: group, ..good(family) }.bytes()));
    }
    cases
}
