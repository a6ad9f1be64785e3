//! Packets to the gateway or a group that get no answer.

use std::net::IpAddr;

use etherparse::ArpOperation;
use heddle_switch::DropReason;
use heddle_switch::wire::Mac;

use super::{Case, POD_1, case, good};
use crate::common::cluster::{GATEWAY_V4, GATEWAY_V6, V4, V6, from_pod, pod, pod_mac};
use crate::common::packets::{Spec, Upper, arp, neighbor_discovery, patch, patch_ipv4, solicitation};

pub(crate) fn cases() -> Vec<Case> {
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
