//! Packets from the uplink that do not come out of their tunnel, or not far.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::ArpOperation;
use heddle_switch::DropReason;
use heddle_switch::DropReason::{
    ArpUnanswered, GatewayUnserved, Multicast, NdUnanswered, NoUplink, NotForUs, Transit, Truncated,
    TunnelBadSource, TunnelChecksum, TunnelEcn, TunnelMalformed, TunnelUnknownPeer, UnknownEtherType,
};
use heddle_switch::pipeline::Ingress;
use heddle_switch::tables::{NextHop, Tables, Vtep};

use super::{Case, case, good_inner, tunnelled};
use crate::common::cluster::{
    self, GATEWAY_V4, GATEWAY_V6, V4, V6, VNI, nic_mac, node_address, outer, pod, vtep_mac,
};
use crate::common::packets::{Spec, Upper, arp, patch, patch_ipv4, solicitation, vxlan};

pub(crate) fn cases() -> Vec<Case> {
    [outer_cases(), inner_cases()].into_iter().flatten().collect()
}

fn refused(reason: DropReason, what: &'static str, packet: Vec<u8>) -> Case {
    case(reason, what, Ingress::Uplink, packet)
}

/// Refused for what is outside.
fn outer_cases() -> Vec<Case> {
    let bytes = good_inner(V4).bytes();
    let good = tunnelled(&good_inner(V4));
    let good_v6 = vxlan(&outer(V6), VNI, &bytes);
    let with_outer = |outer: Spec| vxlan(&outer, VNI, &bytes);
    let peer_is_v6: fn(&mut Tables) = |tables| *tables = cluster::tables(1, 2, V6);
    vec![
        refused(NotForUs, "another NIC", with_outer(Spec { destination_mac: nic_mac(9), ..outer(V4) })),
        refused(NotForUs, "another node", with_outer(Spec { to: node_address(9)[V4], ..outer(V4) })),
        refused(
            NotForUs,
            "another VTEP's MAC",
            tunnelled(&Spec { destination_mac: vtep_mac(9), ..good_inner(V4) }),
        ),
        refused(
            TunnelMalformed,
            "ARP outside a tunnel",
            arp(ArpOperation::REQUEST, (nic_mac(2), nic_mac(1)), Ipv4Addr::LOCALHOST, GATEWAY_V4),
        ),
        refused(TunnelMalformed, "TCP", Spec { upper: Upper::Tcp, ..outer(V4) }.bytes()),
        refused(TunnelMalformed, "another port", with_outer(Spec { ports: (1, 4788), ..outer(V4) })),
        refused(TunnelMalformed, "another VNI", vxlan(&outer(V4), VNI + 1, &bytes)),
        refused(TunnelMalformed, "no VNI", patch(good.clone(), 42, &[0])),
        refused(TunnelMalformed, "UDP longer than IP", patch(good.clone(), 38, &[0xff, 0])),
        refused(TunnelMalformed, "UDP shorter than its header", patch(good.clone(), 38, &[0, 7])),
        refused(TunnelMalformed, "no room for VXLAN", patch(good.clone(), 38, &[0, 15])),
        refused(TunnelMalformed, "a fragment", patch_ipv4(good.clone(), 6, &[0x20, 0])),
        refused(TunnelUnknownPeer, "a stranger", with_outer(Spec { from: node_address(9)[V4], ..outer(V4) })),
        refused(TunnelChecksum, "wrong over IPv4", patch(good.clone(), 41, &[good[41] ^ 1])),
        Case {
            change: peer_is_v6,
            ..refused(TunnelChecksum, "wrong over IPv6", patch(good_v6.clone(), 61, &[good_v6[61] ^ 1]))
        },
        Case { change: peer_is_v6, ..refused(TunnelChecksum, "none over IPv6", patch(good_v6, 60, &[0, 0])) },
        refused(
            TunnelEcn,
            "congestion the sender would not hear of",
            with_outer(Spec { traffic_class: 3, ..outer(V4) }),
        ),
        Case { change: |tables| tables.node.uplink = None, ..refused(NoUplink, "the uplink is gone", good) },
    ]
}

/// Refused for what is inside.
fn inner_cases() -> Vec<Case> {
    let bytes = good_inner(V4).bytes();
    let from = |source| tunnelled(&Spec { from: source, ..good_inner(V4) });
    let inside = |inner: &[u8]| vxlan(&outer(V4), VNI, inner);
    let macs = (vtep_mac(2), vtep_mac(1));
    // The outer IP packet holds all of the inner one, the UDP datagram all but its last byte; no checksum.
    let datagram_len = (inside(&bytes).len() - 14 - 20 - 1) as u16;
    let beyond_datagram = patch(patch(inside(&bytes), 38, &datagram_len.to_be_bytes()), 40, &[0, 0]);
    let solicitor = "fd00:10:244:2::11".parse().unwrap();
    vec![
        refused(TunnelBadSource, "our own pod", from(pod(1, 2)[V4])),
        refused(TunnelBadSource, "our own node", from(node_address(1)[V4])),
        refused(TunnelBadSource, "our gateway", from(IpAddr::V4(GATEWAY_V4))),
        Case { change: third_node, ..refused(TunnelBadSource, "another node's pod", from(pod(3, 1)[V4])) },
        Case {
            change: third_node,
            ..refused(Transit, "to a third node", tunnelled(&Spec { to: pod(3, 1)[V4], ..good_inner(V4) }))
        },
        refused(
            Transit,
            "back to where it came from",
            tunnelled(&Spec { to: pod(2, 2)[V4], ..good_inner(V4) }),
        ),
        refused(Truncated, "an inner packet longer than its datagram", beyond_datagram),
        refused(Truncated, "an inner packet cut off", inside(&bytes[..40])),
        refused(UnknownEtherType, "an inner VLAN tag", inside(&patch(bytes, 12, &[0x81, 0]))),
        refused(
            ArpUnanswered,
            "ARP in a tunnel",
            inside(&arp(ArpOperation::REQUEST, macs, GATEWAY_V4, GATEWAY_V4)),
        ),
        refused(
            NdUnanswered,
            "a solicitation in a tunnel",
            inside(&solicitation(macs, solicitor, GATEWAY_V6, GATEWAY_V6)),
        ),
        refused(
            GatewayUnserved,
            "echo through a tunnel",
            tunnelled(&Spec { to: GATEWAY_V4.into(), upper: Upper::Echo, ..good_inner(V4) }),
        ),
        refused(
            Multicast,
            "a group through a tunnel",
            tunnelled(&Spec { to: [224, 0, 0, 5].into(), ..good_inner(V4) }),
        ),
    ]
}

/// Node 3's pods, behind a VTEP of their own.
fn third_node(tables: &mut Tables) {
    let vtep = Vtep { address: node_address(3)[V4], mac: vtep_mac(3), neighbor: Some(nic_mac(3)) };
    tables.vteps.set(1, vtep);
    tables.fib.insert("10.244.3.0/24".parse().unwrap(), NextHop::Vtep(1));
}
