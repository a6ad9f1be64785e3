//! Every reason to drop has a packet that is dropped for it, and for nothing else.

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use common::cluster::{
    FAMILIES, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, V4, V6, VNI, WORLD, from_pod, inner, nic_mac,
    node_address, outer, pod, pod_mac, tables, vtep_mac,
};
use common::packets::{Spec, Upper, arp, neighbor_discovery, patch, patch_ipv4, solicitation, vxlan};
use common::switch::{Outcome, Switch};
use etherparse::ArpOperation;
use heddle_switch::DropReason;
use heddle_switch::pipeline::Ingress;
use heddle_switch::ports::Batch;
use heddle_switch::tables::{HOST, NextHop, Tables, Vtep};
use heddle_switch::wire::Mac;

const POD_1: Ingress = Ingress::Endpoint(1);

/// Counted by ports and workers, not by the pipeline.
const ELSEWHERE: &[DropReason] = &[
    DropReason::KernelRxRingFull,
    DropReason::KernelNoFrame,
    DropReason::KernelRxInvalid,
    DropReason::PortGone,
    DropReason::HandoffFull,
    DropReason::TxRingFull,
];

/// One packet and why it is dropped.
struct Case {
    reason: DropReason,
    what: &'static str,
    ingress: Ingress,
    packet: Vec<u8>,
    /// What is special about the tables.
    change: fn(&mut Tables),
    /// The sender is told by an ICMP error.
    told: bool,
}

fn case(reason: DropReason, what: &'static str, ingress: Ingress, packet: Vec<u8>) -> Case {
    Case { reason, what, ingress, packet, change: |_| (), told: false }
}

/// A packet from pod 1 to its neighbor.
fn good(family: usize) -> Spec {
    from_pod(family, pod(1, 2)[family])
}

/// An inner packet from a pod of node 2.
fn good_inner(family: usize) -> Spec {
    inner(pod(2, 1)[family], pod(1, 1)[family])
}

fn tunnelled(inner: &Spec) -> Vec<u8> {
    vxlan(&outer(V4), VNI, &inner.bytes())
}

fn parse_cases() -> Vec<Case> {
    use DropReason::{MalformedIp, Truncated, UnknownEtherType};
    let v4 = good(V4).bytes();
    let v6 = good(V6).bytes();
    let chain = |count: usize| {
        let extensions = [[60, 0, 1, 4, 0, 0, 0, 0]].into_iter().cycle().take(count).flatten();
        let mut bytes = v6[..54].to_vec();
        bytes.extend(extensions);
        let payload_len = (bytes.len() - 54) as u16;
        patch(patch(bytes, 14 + 6, &[60]), 14 + 4, &payload_len.to_be_bytes())
    };
    vec![
        case(Truncated, "nothing at all", POD_1, vec![]),
        case(Truncated, "inside the Ethernet header", POD_1, v4[..13].to_vec()),
        case(Truncated, "inside the IPv4 header", POD_1, v4[..33].to_vec()),
        case(Truncated, "inside the IPv6 header", POD_1, v6[..53].to_vec()),
        case(Truncated, "inside an ARP message", POD_1, patch(v4[..41].to_vec(), 12, &[8, 6])),
        case(Truncated, "shorter than IPv4 says", POD_1, v4[..v4.len() - 1].to_vec()),
        case(Truncated, "shorter than IPv6 says", POD_1, v6[..v6.len() - 1].to_vec()),
        case(Truncated, "inside an extension header", POD_1, patch(chain(1), 54, &[43, 1])),
        case(MalformedIp, "version 5", POD_1, patch_ipv4(v4.clone(), 0, &[0x55])),
        case(MalformedIp, "version 4 in IPv6", POD_1, patch(v6.clone(), 14, &[0x40])),
        case(MalformedIp, "header length 16", POD_1, patch(v4.clone(), 14, &[0x44])),
        case(MalformedIp, "total length below header length", POD_1, patch_ipv4(v4.clone(), 2, &[0, 19])),
        case(MalformedIp, "wrong header checksum", POD_1, patch(v4.clone(), 14 + 11, &[v4[25] ^ 1])),
        case(MalformedIp, "nine extension headers", POD_1, chain(9)),
        case(UnknownEtherType, "a VLAN tag", POD_1, patch(v4.clone(), 12, &[0x81, 0])),
        case(UnknownEtherType, "an 802.3 length", POD_1, patch(v4, 12, &[0, 46])),
    ]
}

fn tunnel_cases() -> Vec<Case> {
    use DropReason::{
        ArpUnanswered, NoUplink, NotForUs, Transit, TunnelBadSource, TunnelChecksum, TunnelEcn,
        TunnelMalformed, TunnelUnknownPeer, UnknownEtherType,
    };
    let uplink = Ingress::Uplink;
    let bytes = good_inner(V4).bytes();
    let good = tunnelled(&good_inner(V4));
    let good_v6 = vxlan(&outer(V6), VNI, &bytes);
    let with_outer = |change: Spec| vxlan(&change, VNI, &bytes);
    let from = |source| tunnelled(&Spec { from: source, ..good_inner(V4) });
    let peer_is_v6: fn(&mut Tables) = |tables| *tables = self::tables(1, 2, V6);
    vec![
        case(NotForUs, "another NIC", uplink, with_outer(Spec { destination_mac: nic_mac(9), ..outer(V4) })),
        case(NotForUs, "another node", uplink, with_outer(Spec { to: node_address(9)[V4], ..outer(V4) })),
        case(
            NotForUs,
            "another VTEP's MAC",
            uplink,
            tunnelled(&Spec { destination_mac: vtep_mac(9), ..good_inner(V4) }),
        ),
        case(
            TunnelMalformed,
            "ARP outside a tunnel",
            uplink,
            arp(ArpOperation::REQUEST, (nic_mac(2), nic_mac(1)), Ipv4Addr::LOCALHOST, GATEWAY_V4),
        ),
        case(TunnelMalformed, "TCP", uplink, Spec { upper: Upper::Tcp, ..outer(V4) }.bytes()),
        case(TunnelMalformed, "another port", uplink, with_outer(Spec { ports: (1, 4788), ..outer(V4) })),
        case(TunnelMalformed, "another VNI", uplink, vxlan(&outer(V4), VNI + 1, &bytes)),
        case(TunnelMalformed, "no VNI", uplink, patch(good.clone(), 42, &[0])),
        case(TunnelMalformed, "UDP longer than IP", uplink, patch(good.clone(), 38, &[0xff, 0])),
        case(TunnelMalformed, "UDP shorter than its header", uplink, patch(good.clone(), 38, &[0, 7])),
        case(TunnelMalformed, "no room for VXLAN", uplink, patch(good.clone(), 38, &[0, 15])),
        case(TunnelMalformed, "a fragment", uplink, patch_ipv4(good.clone(), 6, &[0x20, 0])),
        case(
            TunnelUnknownPeer,
            "a stranger",
            uplink,
            with_outer(Spec { from: node_address(9)[V4], ..outer(V4) }),
        ),
        case(TunnelChecksum, "wrong over IPv4", uplink, patch(good.clone(), 41, &[good[41] ^ 1])),
        Case {
            change: peer_is_v6,
            ..case(TunnelChecksum, "wrong over IPv6", uplink, patch(good_v6.clone(), 61, &[good_v6[61] ^ 1]))
        },
        Case {
            change: peer_is_v6,
            ..case(TunnelChecksum, "none over IPv6", uplink, patch(good_v6, 60, &[0, 0]))
        },
        case(
            TunnelEcn,
            "congestion the sender would not hear of",
            uplink,
            with_outer(Spec { traffic_class: 3, ..outer(V4) }),
        ),
        case(TunnelBadSource, "our own pod", uplink, from(pod(1, 2)[V4])),
        case(TunnelBadSource, "our own node", uplink, from(node_address(1)[V4])),
        case(TunnelBadSource, "our gateway", uplink, from(IpAddr::V4(GATEWAY_V4))),
        Case {
            change: third_node,
            ..case(TunnelBadSource, "another node's pod", uplink, from(pod(3, 1)[V4]))
        },
        Case {
            change: third_node,
            ..case(
                Transit,
                "to a third node",
                uplink,
                tunnelled(&Spec { to: pod(3, 1)[V4], ..good_inner(V4) }),
            )
        },
        case(
            Transit,
            "back to where it came from",
            uplink,
            tunnelled(&Spec { to: pod(2, 2)[V4], ..good_inner(V4) }),
        ),
        case(DropReason::Truncated, "an inner packet cut off", uplink, vxlan(&outer(V4), VNI, &bytes[..40])),
        case(
            UnknownEtherType,
            "an inner VLAN tag",
            uplink,
            vxlan(&outer(V4), VNI, &patch(bytes, 12, &[0x81, 0])),
        ),
        case(
            ArpUnanswered,
            "ARP in a tunnel",
            uplink,
            vxlan(
                &outer(V4),
                VNI,
                &arp(ArpOperation::REQUEST, (vtep_mac(2), vtep_mac(1)), GATEWAY_V4, GATEWAY_V4),
            ),
        ),
        case(
            DropReason::NdUnanswered,
            "a solicitation in a tunnel",
            uplink,
            vxlan(
                &outer(V4),
                VNI,
                &solicitation(
                    (vtep_mac(2), vtep_mac(1)),
                    "fd00:10:244:2::11".parse().unwrap(),
                    GATEWAY_V6,
                    GATEWAY_V6,
                ),
            ),
        ),
        case(
            DropReason::GatewayUnserved,
            "echo through a tunnel",
            uplink,
            tunnelled(&Spec { to: GATEWAY_V4.into(), upper: Upper::Echo, ..good_inner(V4) }),
        ),
        case(
            DropReason::Multicast,
            "a group through a tunnel",
            uplink,
            tunnelled(&Spec { to: [224, 0, 0, 5].into(), ..good_inner(V4) }),
        ),
        Case {
            change: |tables| tables.node.uplink = None,
            ..case(NoUplink, "the uplink is gone", uplink, good)
        },
    ]
}

/// Node 3's pods, behind a VTEP of their own.
fn third_node(tables: &mut Tables) {
    let vtep = Vtep { address: node_address(3)[V4], mac: vtep_mac(3), neighbor: Some(nic_mac(3)) };
    tables.vteps.set(1, vtep);
    tables.fib.insert("10.244.3.0/24".parse().unwrap(), NextHop::Vtep(1));
}

fn sender_cases() -> Vec<Case> {
    use DropReason::{LinkLocal, Martian, NotForUs, SpoofedAddress, SpoofedMac, UnknownEndpoint};
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
    let mut cases = vec![
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
    ];
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

fn gateway_cases() -> Vec<Case> {
    use DropReason::{ArpUnanswered, GatewayUnserved, Multicast, NdUnanswered};
    let IpAddr::V4(own_v4) = pod(1, 1)[V4] else { unreachable!() };
    let IpAddr::V6(own_v6) = pod(1, 1)[V6] else { unreachable!() };
    let macs = (pod_mac(1, 1), Mac::BROADCAST);
    let dhcp =
        Spec { from: [0, 0, 0, 0].into(), to: [255; 4].into(), destination_mac: Mac::BROADCAST, ..good(V4) };
    let mld = Spec { from: "::".parse().unwrap(), to: "ff02::16".parse().unwrap(), ..good(V6) };
    let fragment = Spec { upper: Upper::Echo, ..from_pod(V4, GATEWAY_V4.into()) }.bytes();
    vec![
        case(
            ArpUnanswered,
            "a request for a neighbor",
            POD_1,
            arp(ArpOperation::REQUEST, macs, own_v4, own_v4),
        ),
        case(ArpUnanswered, "a reply", POD_1, arp(ArpOperation::REPLY, macs, own_v4, GATEWAY_V4)),
        case(
            ArpUnanswered,
            "not for IPv4",
            POD_1,
            patch(arp(ArpOperation::REQUEST, macs, own_v4, GATEWAY_V4), 16, &[0x86, 0xdd]),
        ),
        case(
            NdUnanswered,
            "a solicitation for a neighbor",
            POD_1,
            solicitation(macs, own_v6, "ff02::1:ff00:12".parse().unwrap(), own_v6),
        ),
        case(
            NdUnanswered,
            "a router solicitation",
            POD_1,
            neighbor_discovery(macs, own_v6, "ff02::2".parse().unwrap(), 133, &[]),
        ),
        case(Multicast, "an IPv4 group", POD_1, Spec { to: [239, 1, 2, 3].into(), ..good(V4) }.bytes()),
        case(
            Multicast,
            "an IPv6 group",
            POD_1,
            Spec { to: "ff05::1:3".parse().unwrap(), ..good(V6) }.bytes(),
        ),
        case(Multicast, "a DHCP client", POD_1, dhcp.bytes()),
        case(Multicast, "a multicast listener report", POD_1, mld.bytes()),
        case(
            Multicast,
            "a group on layer 2 alone",
            POD_1,
            Spec { destination_mac: Mac::BROADCAST, ..good(V4) }.bytes(),
        ),
        case(GatewayUnserved, "a service on IPv4", POD_1, from_pod(V4, GATEWAY_V4.into()).bytes()),
        case(GatewayUnserved, "a service on IPv6", POD_1, from_pod(V6, GATEWAY_V6.into()).bytes()),
        case(GatewayUnserved, "a fragmented echo", POD_1, patch_ipv4(fragment, 6, &[0x20, 0])),
    ]
}

fn route_cases() -> Vec<Case> {
    use DropReason::{HopLimitExceeded, NoNeighbor, NoRoute, NoUplink, TooBig, Unreachable};
    let mut cases = Vec::new();
    for family in FAMILIES {
        let told = |reason, what, spec: Spec| Case { told: true, ..case(reason, what, POD_1, spec.bytes()) };
        let remote = from_pod(family, pod(2, 1)[family]);
        let no_default: fn(&mut Tables) = |tables| {
            for prefix in ["0.0.0.0/0", "::/0"] {
                tables.fib.remove(prefix.parse().unwrap());
            }
        };
        let host = (pod_mac(1, 0), GATEWAY_MAC);
        cases.extend([
            told(HopLimitExceeded, "the last hop", Spec { hop_limit: 1, ..good(family) }),
            told(Unreachable, "no such pod", from_pod(family, pod(1, 99)[family])),
            Case { change: no_default, ..told(NoRoute, "no default route", from_pod(family, WORLD[family])) },
            Case {
                ingress: Ingress::Endpoint(HOST),
                ..told(NoRoute, "from the host to the host", Spec::new(host, WORLD[family], WORLD[family]))
            },
            Case {
                change: |tables| drop(tables.endpoints.remove(2)),
                ..told(NoRoute, "a route to an endpoint that is gone", good(family))
            },
            Case {
                change: |tables| drop(tables.vteps.remove(0)),
                ..told(NoRoute, "a route to a VTEP that is gone", remote)
            },
            told(TooBig, "too big", Spec { payload: 1500, ..good(family) }),
            Case {
                change: |tables| {
                    let vtep = tables.vteps.get(0).unwrap().clone();
                    tables.vteps.set(0, Vtep { neighbor: None, ..vtep });
                },
                ..case(NoNeighbor, "the underlay does not answer", POD_1, remote.bytes())
            },
            Case {
                change: |tables| tables.node.uplink = None,
                ..case(NoUplink, "no uplink", POD_1, remote.bytes())
            },
            Case {
                change: |tables| tables.node.uplink.as_mut().unwrap().address_v4 = None,
                ..case(NoUplink, "no uplink of the family", POD_1, remote.bytes())
            },
            Case {
                change: |tables| tables.node.uplink.as_mut().unwrap().ports.clear(),
                ..case(NoUplink, "no uplink of this worker", POD_1, remote.bytes())
            },
        ]);
    }
    cases
}

fn cases() -> Vec<Case> {
    [parse_cases(), tunnel_cases(), sender_cases(), gateway_cases(), route_cases()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn every_case_moves_its_counter_and_no_other() {
    for case in cases() {
        let mut switch = Switch::node_1(V4);
        (case.change)(&mut switch.tables);
        let outcome = switch.pass(case.ingress, &case.packet);
        let name = format!("{}: {}", case.reason.name(), case.what);
        assert_eq!(outcome.drops, Outcome::dropped(case.reason).drops, "{name}");
        assert_eq!(outcome.icmp_errors, u64::from(case.told), "{name}");
        assert_eq!(outcome.sent.len(), usize::from(case.told), "{name}");
        assert_eq!(switch.missing_frames(), 0, "{name}");
    }
}

/// Needs a frame with its packet further forward than any port puts it, so it is no case of the table.
#[test]
fn no_headroom() {
    for (underlay, added) in [(V4, 50), (V6, 70)] {
        for (headroom, reason) in [(added - 1, Some(DropReason::NoHeadroom)), (added, None)] {
            let mut switch = Switch::node_1(underlay);
            let mut frame = switch.pool().take().unwrap();
            frame.prepend(frame.headroom() - headroom).unwrap();
            assert!(frame.copy_from(&from_pod(V4, pod(2, 1)[V4]).bytes()));
            let outcome = switch.run(POD_1, &mut Batch::from_iter([frame]));
            assert_eq!(outcome.drops.keys().next().copied(), reason);
            assert_eq!(outcome.sent.len(), usize::from(reason.is_none()));
            assert_eq!(switch.missing_frames(), 0);
        }
    }
}

#[test]
fn every_reason_has_a_case() {
    let mut covered: BTreeSet<_> = cases().iter().map(|case| case.reason).collect();
    covered.insert(DropReason::NoHeadroom);
    let pipeline: BTreeSet<_> =
        DropReason::ALL.iter().copied().filter(|reason| !ELSEWHERE.contains(reason)).collect();
    assert_eq!(covered, pipeline);
}
