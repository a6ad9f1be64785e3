//! TCP headers and flow keys are read as they are on the wire, and broken ones not at all.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::super::key::Key;
use super::super::{FlowKey, Role, Segment, Side, flags};
use super::tools::address;
use crate::wire::protocol;

/// A SYN from port 0x1234 to 80, with options after 20 bytes of header.
fn syn(options: &[u8]) -> Vec<u8> {
    let offset = ((20 + options.len()) as u8 / 4) << 4;
    let mut bytes =
        vec![0x12, 0x34, 0, 80, 0, 0, 1, 0, 0, 0, 2, 0, offset, flags::SYN, 0xfa, 0xf0, 0, 0, 0, 0];
    bytes.extend_from_slice(options);
    bytes
}

#[test]
fn a_header_is_read() {
    // Maximum segment size, SACK permitted, no-operation, window scale 7.
    let bytes = syn(&[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7, 0, 0]);
    let segment = Segment::parse(&bytes, bytes.len() + 9).unwrap();
    let expected = Segment {
        sequence: 256,
        acknowledgement: 512,
        payload: 9,
        window: 64_240,
        flags: flags::SYN,
        scale: Some(7),
    };
    assert_eq!(segment, expected);
}

#[test]
fn options_end_where_they_say_or_break() {
    for (options, scale) in [
        (&[3, 3, 15, 0][..], Some(14)),
        (&[0, 3, 3, 7][..], None),
        (&[8, 0, 3, 3, 3, 3, 7, 0][..], None),
        (&[2, 200, 3, 3, 3, 3, 7, 0][..], None),
        (&[3, 4, 7, 0][..], None),
        (&[1, 1, 3, 3][..], None),
    ] {
        let bytes = syn(options);
        assert_eq!(Segment::parse(&bytes, bytes.len()).unwrap().scale, scale, "{options:?}");
    }
    let mut bytes = syn(&[3, 3, 7, 0]);
    bytes[13] = flags::ACK;
    assert_eq!(Segment::parse(&bytes, bytes.len()).unwrap().scale, None);
}

#[test]
fn broken_headers_are_not_read() {
    let bytes = syn(&[1, 1, 1, 1]);
    assert!(Segment::parse(&bytes[..23], 24).is_none(), "cut off in its options");
    assert!(Segment::parse(&bytes[..19], 24).is_none(), "cut off");
    assert!(Segment::parse(&bytes, 23).is_none(), "longer than the packet");
    let mut short = syn(&[]);
    short[12] = 4 << 4;
    assert!(Segment::parse(&short, 20).is_none(), "shorter than a header");
}

#[test]
fn keys_are_read_from_eight_bytes() {
    let (a, b) = (address("10.0.0.1"), address("10.0.0.2"));
    let key = |number, bytes: &[u8]| FlowKey::parse(a, b, number, bytes);
    let tcp = key(protocol::TCP, &[0x9c, 0x40, 0, 80, 1, 2, 3, 4]).unwrap();
    assert_eq!((tcp.source_port, tcp.destination_port, tcp.role), (40_000, 80, Role::Any));
    let request = key(protocol::ICMP, &[8, 0, 0, 0, 0, 9, 0, 1]).unwrap();
    let reply = FlowKey::parse(b, a, protocol::ICMP, &[0, 0, 0, 0, 0, 9, 0, 1]).unwrap();
    assert_eq!(request.reverse(), reply);
    assert_eq!(key(protocol::ICMP, &[3, 4, 0, 0, 0, 0, 0, 0]), None, "an error is no flow");
    assert_eq!(key(protocol::ICMPV6, &[135, 0, 0, 0, 0, 0, 0, 0]), None, "neighbor discovery is no flow");
    assert_eq!(key(protocol::UDP, &[0, 1, 0]), None, "cut off");
    assert_eq!(key(47, &[]).map(|key| key.source_port), Some(0));
}

fn any_flow() -> impl Strategy<Value = FlowKey> {
    let role = prop_oneof![Just(Role::Any), Just(Role::Query), Just(Role::Answer)];
    (any::<[std::net::IpAddr; 2]>(), any::<[u16; 2]>(), any::<u8>(), role).prop_map(
        |([source, destination], [source_port, destination_port], protocol, role)| FlowKey {
            source,
            destination,
            source_port,
            destination_port,
            protocol,
            role,
        },
    )
}

proptest! {
    #[test]
    fn a_packed_key_is_the_same_both_ways_and_unpacks(flow in any_flow(), endpoint: u32) {
        let leaving = Key::new(endpoint, Side::Egress, &flow);
        prop_assert_eq!(leaving, Key::new(endpoint, Side::Ingress, &flow.reverse()));
        prop_assert_eq!(leaving.flow(Side::Egress), flow);
        prop_assert_eq!(leaving.flow(Side::Ingress), flow.reverse());
        prop_assert_eq!((leaving.endpoint(), leaving.protocol()), (endpoint, flow.protocol));
        prop_assert!(!leaving.is_free());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), len in 0usize..100) {
        let _ = Segment::parse(&bytes, len);
        let _ = FlowKey::parse(address("::1"), address("::2"), bytes.first().copied().unwrap_or(6), &bytes);
    }
}
