//! Writers and parsers are inverse, checksums agree with a slow one and with etherparse, other implementations read what
//! is written here, and no bytes make a parser panic.
#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{ArpEthIpv4Packet, ArpPacketSlice, Ipv4HeaderSlice, Ipv6HeaderSlice, UdpHeaderSlice};
use proptest::collection::vec;
use proptest::prelude::*;

use super::checksum::{Sum, updated};
use super::*;

/// RFC 1071, written down word by word.
fn slow_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

proptest! {
    #[test]
    fn checksum_agrees_with_a_slow_one(bytes in vec(any::<u8>(), 0..3000), cut in 0..1500_usize) {
        prop_assert_eq!(Sum::new().with(&bytes).finish(), slow_checksum(&bytes));
        let (head, tail) = bytes.split_at((cut * 2).min(bytes.len() / 2 * 2));
        prop_assert_eq!(Sum::new().with(head).with(tail).finish(), slow_checksum(&bytes));
        let (words, rest) = bytes.as_chunks();
        let numbers = words.iter().map(|word| u32::from_be_bytes(*word));
        let sum = numbers.fold(Sum::new(), Sum::with_number);
        prop_assert_eq!(sum.with(rest).finish(), slow_checksum(&bytes));
    }

    #[test]
    fn checksum_of_extreme_bytes(byte in prop_oneof![Just(0_u8), Just(0xff)], len in 0..70_000_usize) {
        let bytes = vec![byte; len];
        prop_assert_eq!(Sum::new().with(&bytes).finish(), slow_checksum(&bytes));
    }

    #[test]
    fn checksum_agrees_with_smoltcp(bytes in vec(any::<u8>(), 1..200), source: u32, destination: u32) {
        use smoltcp::phy::ChecksumCapabilities;
        use smoltcp::wire::{IpProtocol, UdpPacket, UdpRepr};
        let (source, destination) = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
        let mut datagram = vec![0; 8 + bytes.len()];
        let repr = UdpRepr { src_port: 1, dst_port: 2 };
        let (from, to) = (source.into(), destination.into());
        let mut packet = UdpPacket::new_unchecked(&mut datagram);
        repr.emit(&mut packet, &from, &to, bytes.len(), |p| p.copy_from_slice(&bytes), &ChecksumCapabilities::default());
        let len = datagram.len() as u32;
        let sum = Sum::pseudo_header(source.into(), destination.into(), IpProtocol::Udp.into(), len);
        prop_assert_eq!(sum.with(&datagram).finish(), 0);
    }

    #[test]
    fn updated_checksum_is_the_whole_one(words in vec(any::<u16>(), 1..40), at: prop::sample::Index, new: u16) {
        let bytes = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>();
        let before = slow_checksum(&bytes(&words));
        let mut changed = words.clone();
        let at = at.index(words.len());
        changed[at] = new;
        // RFC 1624 (section 3): the one case where both representations of zero meet is all words zero.
        prop_assume!(changed.iter().any(|word| *word != 0));
        prop_assert_eq!(updated(before, words[at], new), slow_checksum(&bytes(&changed)));
    }

    #[test]
    fn ethernet_round_trips(destination in mac(), source in mac(), ether_type: u16, payload in vec(any::<u8>(), 0..64)) {
        let mut header = [0; ethernet::HEADER];
        ethernet::write(&mut header, destination, source, ether_type);
        let bytes = [&header[..], &payload].concat();
        let view = ethernet::Ethernet::parse(&bytes).unwrap();
        prop_assert_eq!((view.destination(), view.source(), view.ether_type()), (destination, source, ether_type));
        prop_assert_eq!(view.payload, payload);
    }

    #[test]
    fn arp_round_trips(request: bool, sender_mac in mac(), target_mac in mac(), sender: u32, target: u32) {
        let operation = if request { arp::Operation::Request } else { arp::Operation::Reply };
        let (sender, target) = (sender.into(), target.into());
        let message = arp::Arp { operation, sender_mac, sender, target_mac, target };
        let mut bytes = [0; arp::MESSAGE];
        message.write(&mut bytes);
        prop_assert_eq!(arp::Arp::parse(&bytes), Ok(message));
        let theirs: ArpEthIpv4Packet = ArpPacketSlice::from_slice(&bytes).unwrap().to_packet().try_into().unwrap();
        prop_assert_eq!(theirs.sender_ipv4, sender.octets());
        prop_assert_eq!(theirs.target_mac, target_mac.0);
        prop_assert_eq!(theirs.operation.0, operation as u16);
    }

    #[test]
    fn ipv4_round_trips(
        source: u32, destination: u32, protocol: u8, ttl in 1_u8.., traffic_class: u8, other_class: u8,
        payload in vec(any::<u8>(), 0..64), padding in vec(any::<u8>(), 0..20),
    ) {
        let (source, destination) = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
        let fields = ipv4::Header { source, destination, protocol, ttl, traffic_class, payload_len: payload.len() };
        let mut header = [0; ipv4::HEADER];
        fields.write(&mut header);
        let bytes = [&header[..], &payload, &padding].concat();
        let view = ipv4::Ipv4::parse(&bytes).unwrap();
        prop_assert_eq!((view.source(), view.destination()), (source, destination));
        prop_assert_eq!((view.protocol(), view.ttl(), view.traffic_class()), (protocol, ttl, traffic_class));
        prop_assert_eq!((view.payload, view.len()), (&payload[..], ipv4::HEADER + payload.len()));
        prop_assert_eq!((view.fragment(), view.dont_fragment()), (Fragment::Whole, true));
        let theirs = Ipv4HeaderSlice::from_slice(&header).unwrap();
        prop_assert_eq!(theirs.to_header().calc_header_checksum(), theirs.header_checksum());

        // Each change keeps the checksum right.
        ipv4::decrement_ttl(&mut header);
        ipv4::set_traffic_class(&mut header, other_class);
        let bytes = [&header[..], &payload].concat();
        let view = ipv4::Ipv4::parse(&bytes).unwrap();
        prop_assert_eq!((view.ttl(), view.traffic_class()), (ttl - 1, other_class));
        ipv4::turn_around(&mut header, 64);
        let bytes = [&header[..], &payload].concat();
        let view = ipv4::Ipv4::parse(&bytes).unwrap();
        prop_assert_eq!((view.source(), view.destination(), view.ttl()), (destination, source, 64));
    }

    #[test]
    fn ipv6_round_trips(
        source: u128, destination: u128, protocol: u8, hop_limit in 1_u8.., traffic_class: u8, other_class: u8,
        payload in vec(any::<u8>(), 0..64), padding in vec(any::<u8>(), 0..20),
    ) {
        let (source, destination) = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
        let fields = ipv6::Header { source, destination, protocol, hop_limit, traffic_class, payload_len: payload.len() };
        let mut header = [0; ipv6::HEADER];
        fields.write(&mut header);
        let theirs = Ipv6HeaderSlice::from_slice(&header).unwrap();
        prop_assert_eq!(theirs.traffic_class(), traffic_class);
        prop_assert_eq!((theirs.next_header().0, theirs.flow_label().value()), (protocol, 0));
        ipv6::decrement_hop_limit(&mut header);
        ipv6::set_traffic_class(&mut header, other_class);
        let bytes = [&header[..], &payload, &padding].concat();
        let view = ipv6::Ipv6::parse(&bytes).unwrap();
        prop_assert_eq!((view.source(), view.destination()), (source, destination));
        prop_assert_eq!((view.hop_limit(), view.traffic_class()), (hop_limit - 1, other_class));
        prop_assert_eq!((view.payload, view.len()), (&payload[..], ipv6::HEADER + payload.len()));
        ipv6::turn_around(&mut header, 9);
        let bytes = [&header[..], &payload].concat();
        let view = ipv6::Ipv6::parse(&bytes).unwrap();
        prop_assert_eq!((view.source(), view.destination(), view.hop_limit()), (destination, source, 9));
    }

    #[test]
    fn udp_and_vxlan_round_trip(source: u16, destination: u16, vni in 0..1_u32 << 24, inner in vec(any::<u8>(), 0..64)) {
        let mut bytes = vec![0; udp::HEADER + vxlan::HEADER];
        let (udp_header, vxlan_header) = bytes.split_first_chunk_mut().unwrap();
        udp::write(udp_header, source, destination, vxlan::HEADER + inner.len());
        vxlan_header.copy_from_slice(&vxlan::header(vni));
        bytes.extend(&inner);
        let theirs = UdpHeaderSlice::from_slice(&bytes).unwrap();
        prop_assert_eq!((theirs.source_port(), usize::from(theirs.length())), (source, bytes.len()));
        bytes.extend([0xee; 5]);
        let view = udp::Udp::parse(&bytes).unwrap();
        prop_assert_eq!((view.source_port(), view.destination_port(), view.checksum()), (source, destination, 0));
        let view = vxlan::Vxlan::parse(view.payload).unwrap();
        prop_assert_eq!((view.vni(), view.payload), (vni, &inner[..]));
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in vec(any::<u8>(), 0..128), version in 4..7_u8) {
        let _ = ethernet::Ethernet::parse(&bytes);
        let _ = arp::Arp::parse(&bytes);
        let _ = udp::Udp::parse(&bytes);
        let _ = vxlan::Vxlan::parse(&bytes);
        let _ = flow::ports(&bytes);
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = version << 4 | 5;
        }
        if let Ok(packet) = ipv4::Ipv4::parse(&bytes) {
            prop_assert_eq!(packet.len(), packet.header_len() + packet.payload.len());
        }
        if let Ok(packet) = ipv6::Ipv6::parse(&bytes) && let Ok(upper) = packet.upper_layer() {
            prop_assert!(upper.offset <= packet.len());
        }
    }

    #[test]
    fn ipv6_walks_as_etherparse_does(
        kinds in vec(prop::sample::select(vec![0_u8, 43, 60]), 0..6),
        sizes in vec(0..3_u8, 6),
        fragment in prop::option::of((0..3_u16, any::<bool>())),
    ) {
        // Hop-by-hop options come first or not at all; etherparse insists on the rule, the walk does not care.
        let kinds: Vec<_> = kinds.into_iter().filter(|kind| *kind != 0).collect();
        let mut chain: Vec<(u8, Vec<u8>)> =
            kinds.iter().zip(sizes).map(|(kind, units)| (*kind, [&[0, units][..], &vec![0; 6 + usize::from(units) * 8]].concat())).collect();
        if let Some((offset, more)) = fragment {
            let field = (offset << 3 | u16::from(more)).to_be_bytes();
            chain.push((44, vec![0, 0, field[0], field[1], 0, 0, 0, 9]));
        }
        let first = chain.first().map_or(17, |(kind, _)| *kind);
        let nexts: Vec<_> = chain.iter().skip(1).map(|(kind, _)| *kind).chain([17]).collect();
        let mut payload: Vec<u8> = Vec::new();
        for ((_, mut bytes), next) in chain.into_iter().zip(nexts) {
            bytes[0] = next;
            payload.extend(bytes);
        }
        let offset = ipv6::HEADER + payload.len();
        payload.extend([0; 8]);
        let (source, destination) = (Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        let header = ipv6::Header { source, destination, protocol: first, hop_limit: 1, traffic_class: 0, payload_len: payload.len() };
        let mut bytes = [0; ipv6::HEADER];
        header.write(&mut bytes);
        let bytes = [&bytes[..], &payload].concat();
        let expected = match fragment {
            None | Some((0, false)) => Fragment::Whole,
            Some((0, true)) => Fragment::First,
            Some(_) => Fragment::Later,
        };
        let found = ipv6::Ipv6::parse(&bytes).unwrap().upper_layer().unwrap();
        let identification = if fragment.is_some() { 9 } else { 0 };
        prop_assert_eq!(found, ipv6::UpperLayer { protocol: 17, offset, fragment: expected, identification });
    }
}

/// The header of RFC 1071-style examples: known bytes, known checksum.
#[test]
fn known_checksums() {
    let header = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
    assert_eq!(Sum::new().with(&header).finish(), 0xb861);
    // RFC 1624, section 4: the case that equation 2 gets wrong.
    assert_eq!(updated(0xdd2f, 0x5555, 0x3285), 0x0000);
}

#[test]
fn icmp_kinds_keep_their_checksum() {
    let mut message = [8, 0, 0, 0, 0x12, 0x34, 0, 1, 0xaa, 0xbb];
    let checksum = Sum::new().with(&message).finish();
    let (header, _) = message.split_first_chunk_mut().unwrap();
    icmp::set_checksum(header, checksum);
    icmp::set_kind(header, icmp::v4::ECHO_REPLY);
    assert_eq!(Sum::new().with(&message).finish(), 0);
}

#[test]
fn fragments_are_told_apart() {
    let fields = ipv4::Header {
        source: Ipv4Addr::LOCALHOST,
        destination: Ipv4Addr::LOCALHOST,
        protocol: protocol::UDP,
        ttl: 1,
        traffic_class: 0,
        payload_len: 0,
    };
    for (flags_and_offset, expected, dont_fragment) in [
        (0x4000_u16, Fragment::Whole, true),
        (0, Fragment::Whole, false),
        (0x2000, Fragment::First, false),
        (0x2001, Fragment::Later, false),
        (0x1fff, Fragment::Later, false),
    ] {
        let mut header = [0; ipv4::HEADER];
        fields.write(&mut header);
        header[6..8].copy_from_slice(&flags_and_offset.to_be_bytes());
        header[10..12].copy_from_slice(&[0, 0]);
        let checksum = Sum::new().with(&header).finish();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        let packet = ipv4::Ipv4::parse(&header).unwrap();
        assert_eq!((packet.fragment(), packet.dont_fragment()), (expected, dont_fragment));
    }
}

#[test]
fn every_field_of_a_flow_moves_its_hash() {
    let v4 = |n: u32| IpAddr::V4(Ipv4Addr::from(n));
    let v6 = |n: u128| IpAddr::V6(Ipv6Addr::from(n));
    let hashes = [
        flow::hash(v4(1), v4(2), 6, 7),
        flow::hash(v4(2), v4(1), 6, 7),
        flow::hash(v4(1), v4(3), 6, 7),
        flow::hash(v4(1), v4(2), 17, 7),
        flow::hash(v4(1), v4(2), 6, 8),
        flow::hash(v6(1), v6(2), 6, 7),
        flow::hash(v6(2), v6(1), 6, 7),
        flow::hash(v6(1 << 64), v6(2), 6, 7),
        flow::hash(v6(1), v6(2 << 64), 6, 7),
    ];
    let low_bits: std::collections::BTreeSet<_> = hashes.iter().map(|hash| hash & 0x3fff).collect();
    assert_eq!(low_bits.len(), hashes.len());
}
