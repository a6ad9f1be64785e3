//! Packets between the interfaces of one node come out whole, with the headers of the next link and one hop less, and
//! no counter moves.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;

use common::cluster::{FAMILIES, GATEWAY_MAC, V4, V6, WORLD, from_pod, node_address, pod, pod_mac};
use common::packets::{Spec, Upper, patch_ipv4};
use common::switch::{Outcome, Switch};
use etherparse::{IpHeaders, IpNumber, Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header, PacketBuilder};
use heddle_switch::pipeline::Ingress;
use heddle_switch::tables::HOST;

const POD_1: Ingress = Ingress::Endpoint(1);

/// The packet as the interface behind `slot` of node 1 gets it.
fn delivered(spec: Spec, slot: u8) -> Vec<u8> {
    Spec { source_mac: GATEWAY_MAC, destination_mac: pod_mac(1, slot), hop_limit: spec.hop_limit - 1, ..spec }
        .bytes()
}

#[test]
fn pod_to_pod() {
    let mut switch = Switch::node_1(V4);
    for family in FAMILIES {
        for upper in [Upper::Udp, Upper::Tcp, Upper::Echo, Upper::EchoReply, Upper::Error] {
            for (hop_limit, payload) in [(64, 32), (2, 0), (255, 1400), (64, 33)] {
                let spec = Spec { hop_limit, upper, payload, ..from_pod(family, pod(1, 2)[family]) };
                let outcome = switch.pass(POD_1, &spec.bytes());
                assert_eq!(outcome, Outcome::forwarded(2, delivered(spec, 2)), "{spec:?}");
            }
        }
    }
    assert_eq!(switch.missing_frames(), 0);
}

#[test]
fn a_pod_reaches_itself() {
    let mut switch = Switch::node_1(V4);
    for family in FAMILIES {
        let spec = from_pod(family, pod(1, 1)[family]);
        assert_eq!(switch.pass(POD_1, &spec.bytes()), Outcome::forwarded(1, delivered(spec, 1)));
    }
}

#[test]
fn the_default_route_leads_to_the_host() {
    let mut switch = Switch::node_1(V4);
    for family in FAMILIES {
        for to in [WORLD[family], node_address(1)[family]] {
            let spec = from_pod(family, to);
            assert_eq!(switch.pass(POD_1, &spec.bytes()), Outcome::forwarded(0, delivered(spec, 0)));
        }
    }
}

#[test]
fn the_host_speaks_for_others() {
    let mut switch = Switch::node_1(V4);
    for family in FAMILIES {
        for from in [WORLD[family], node_address(1)[family]] {
            let spec = Spec::new((pod_mac(1, 0), GATEWAY_MAC), from, pod(1, 1)[family]);
            let outcome = switch.pass(Ingress::Endpoint(HOST), &spec.bytes());
            assert_eq!(outcome, Outcome::forwarded(1, delivered(spec, 1)));
        }
    }
}

#[test]
fn a_batch_keeps_its_order() {
    let mut switch = Switch::node_1(V4);
    let specs: Vec<_> = (0..64)
        .map(|n| Spec { payload: n, ..from_pod(n % 2, pod(1, 1 + u8::from(n % 3 > 0))[n % 2]) })
        .collect();
    let packets: Vec<_> = specs.iter().map(Spec::bytes).collect();
    let expected = specs.iter().enumerate().map(|(n, spec)| {
        let slot = 1 + u8::from(n % 3 > 0);
        (slot.into(), delivered(*spec, slot))
    });
    let outcome = switch.pass_all(POD_1, &packets);
    assert_eq!(outcome, Outcome { sent: expected.collect(), ..Outcome::default() });
}

#[test]
fn padding_of_layer_2_is_cut_off() {
    let mut switch = Switch::node_1(V4);
    for family in FAMILIES {
        let spec = Spec { payload: 1, ..from_pod(family, pod(1, 2)[family]) };
        let mut padded = spec.bytes();
        padded.resize(100, 0xee);
        assert_eq!(switch.pass(POD_1, &padded), Outcome::forwarded(2, delivered(spec, 2)));
    }
}

#[test]
fn ipv4_fragments_pass() {
    let mut switch = Switch::node_1(V4);
    let spec = from_pod(V4, pod(1, 2)[V4]);
    // First, middle and last: more fragments at offset 0 and 185, none at 370 (RFC 791).
    for flags_and_offset in [0x2000_u16, 0x20b9, 0x0172] {
        let as_fragment = |packet| patch_ipv4(packet, 6, &flags_and_offset.to_be_bytes());
        let outcome = switch.pass(POD_1, &as_fragment(spec.bytes()));
        assert_eq!(outcome, Outcome::forwarded(2, as_fragment(delivered(spec, 2))));
    }
}

#[test]
fn extension_headers_pass() {
    let (IpAddr::V6(from), IpAddr::V6(to)) = (pod(1, 1)[V6], pod(1, 2)[V6]) else { unreachable!() };
    let build = |macs: [[u8; 6]; 2], hop_limit, offset: u16| {
        let header = Ipv6Header {
            hop_limit,
            source: from.octets(),
            destination: to.octets(),
            ..Ipv6Header::default()
        };
        let fragment = Ipv6FragmentHeader::new(IpNumber::UDP, offset.try_into().unwrap(), offset == 0, 7);
        let extensions = Ipv6Extensions { fragment: Some(fragment), ..Ipv6Extensions::default() };
        let builder = PacketBuilder::ethernet2(macs[0], macs[1]).ip(IpHeaders::Ipv6(header, extensions));
        let mut bytes = Vec::new();
        builder.udp(1, 2).write(&mut bytes, &[1; 24]).unwrap();
        bytes
    };
    let mut switch = Switch::node_1(V4);
    for offset in [0, 100] {
        let packet = build([pod_mac(1, 1).0, GATEWAY_MAC.0], 64, offset);
        let expected = build([GATEWAY_MAC.0, pod_mac(1, 2).0], 63, offset);
        assert_eq!(switch.pass(POD_1, &packet), Outcome::forwarded(2, expected));
    }
}

#[test]
fn ipv4_options_pass_untouched() {
    // Four bytes of no-operation options behind the fixed header.
    let with_options = |packet: Vec<u8>| {
        let mut longer = [&packet[..34], &[1, 1, 1, 1], &packet[34..]].concat();
        longer[14] = 0x46;
        let total_len = (longer.len() - 14) as u16;
        patch_ipv4(longer, 2, &total_len.to_be_bytes())
    };
    let mut switch = Switch::node_1(V4);
    let spec = from_pod(V4, pod(1, 2)[V4]);
    let outcome = switch.pass(POD_1, &with_options(spec.bytes()));
    assert_eq!(outcome, Outcome::forwarded(2, with_options(delivered(spec, 2))));
}
