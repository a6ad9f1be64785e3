//! The decoder takes what the encoder writes, and survives everything else: random bytes, cut images, and images with
//! a few octets changed. What it takes can be looked up without going out of bounds.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use heddle_image::{
    DecodeError, Direction, Image, Outside, PeerClass, PolicyClass, PolicyClassNumber, PortTable, Protocol,
    Row, Rows, Rulebook,
};
use proptest::prelude::*;

const PROTOCOLS: [Protocol; 4] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Other];

fn rulebook() -> impl Strategy<Value = Rulebook> {
    let row = prop_oneof![
        Just(Row::All),
        prop::collection::vec(0u32..700, 0..6)
            .prop_map(|members| Row::Classes(members.into_iter().collect()))
    ];
    let cuts = prop::collection::btree_map(1u32..200_000, any::<u16>(), 0..4);
    (prop::collection::vec(row, 1..4), cuts).prop_map(|(rows, cuts)| {
        let count = rows.len() as u16;
        let runs: Vec<_> = std::iter::once((0, 0))
            .chain(cuts.into_iter().map(|(key, class)| (key, class % count)))
            .collect();
        Rulebook { ports: PortTable::new(&runs), rows: Rows::new(&rows) }
    })
}

prop_compose! {
    fn image()(books in prop::collection::vec((rulebook(), rulebook()), 1..4),
               endpoints in prop::collection::btree_map("[a-z]{1,5}/[a-z]{1,5}", any::<u32>(), 0..6),
               v4 in prop::collection::btree_map(any::<u32>(), 0u32..700, 0..6),
               v6 in prop::collection::btree_map(any::<u128>(), 0u32..700, 0..6),
               cuts in prop::collection::btree_map(1..u32::MAX, 0u32..700, 0..4)) -> Image {
        let mut image = Image::default();
        let count = books.len() as u32;
        for (number, (ingress, egress)) in (0..).zip(books) {
            // Every second number stays free, as after a class is gone.
            image.policy_classes.set(number * 2, Arc::new(PolicyClass { ingress, egress }));
        }
        for (name, class) in endpoints {
            image.endpoints.insert(name.as_str().into(), PolicyClassNumber(class % count * 2));
        }
        for (address, class) in v4 { image.set_pod(Ipv4Addr::from_bits(address).into(), PeerClass(class)); }
        for (address, class) in v6 { image.set_pod(Ipv6Addr::from_bits(address).into(), PeerClass(class)); }
        let ranges: Vec<_> = std::iter::once((0, 3)).chain(cuts).map(|(start, class)| (start, PeerClass(class))).collect();
        image.outside_v4 = Outside::new(&ranges).unwrap();
        image
    }
}

/// Asks everything there is to ask.
fn look_up_everything(image: &Image) -> Vec<bool> {
    let addresses = image
        .pods_v4
        .iter()
        .map(|(a, _)| IpAddr::V4(*a))
        .chain(image.pods_v6.iter().map(|(a, _)| IpAddr::V6(*a)));
    let mut addresses: Vec<_> =
        addresses.chain(["1.2.3.4".parse().unwrap(), "fd00::1".parse().unwrap()]).collect();
    addresses.sort_unstable();
    let mut verdicts = Vec::new();
    for (number, _) in image.policy_classes.iter() {
        for address in &addresses {
            let peer = image.peer_class(*address);
            for direction in [Direction::Ingress, Direction::Egress] {
                for protocol in PROTOCOLS {
                    let ports = [0, 1, 80, 255, 256, 65535];
                    let ask = |port| image.allows(PolicyClassNumber(number), direction, peer, protocol, port);
                    verdicts.extend(ports.map(ask));
                }
            }
        }
    }
    verdicts
}

proptest! {
    #[test]
    fn what_was_encoded_comes_back(image in image()) {
        let bytes = image.encode();
        let decoded = Image::decode(&bytes).unwrap();
        prop_assert_eq!(look_up_everything(&image), look_up_everything(&decoded));
        for (name, class) in image.endpoints.iter() {
            let (namespace, pod) = name.split_once('/').unwrap();
            prop_assert_eq!(decoded.endpoint(namespace, pod), Some(*class));
        }
        prop_assert_eq!(decoded.encode(), bytes);
    }

    #[test]
    fn any_bytes_are_survived(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Image::decode(&tail).is_err());
        let headed = [b"HDPI\x01\0\x01\0".as_slice(), &tail].concat();
        if let Ok(image) = Image::decode(&headed) {
            look_up_everything(&image);
        }
    }

    #[test]
    fn changed_octets_are_survived(image in image(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = image.encode();
        for (at, octet) in changes {
            let at = at.index(bytes.len());
            bytes[at] = octet;
        }
        if let Ok(image) = Image::decode(&bytes) {
            look_up_everything(&image);
            prop_assert_eq!(Image::decode(&image.encode()).unwrap().encode(), image.encode());
        }
    }

    #[test]
    fn cut_or_continued_images_are_refused(image in image(), cut in any::<prop::sample::Index>()) {
        let mut bytes = image.encode();
        prop_assert!(Image::decode(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.push(0);
        prop_assert_eq!(Image::decode(&bytes).unwrap_err(), DecodeError::TooLong(bytes.len() - 1));
    }
}

/// One image whose every count is changed to the largest number: none may be believed.
#[test]
fn huge_counts_are_refused() {
    let mut image = Image::default();
    image.policy_classes.set(0, Arc::new(PolicyClass::allow_all()));
    image.endpoints.insert("a/b".into(), PolicyClassNumber(0));
    let bytes = image.encode();
    for at in (8..bytes.len() - 4).step_by(2) {
        let mut huge = bytes.clone();
        huge[at..at + 4].copy_from_slice(&[0xff; 4]);
        if let Ok(image) = Image::decode(&huge) {
            look_up_everything(&image);
        }
    }
}

#[test]
fn other_versions_are_named() {
    let mut bytes = Image::default().encode();
    bytes[4] = 9;
    assert_eq!(Image::decode(&bytes).unwrap_err(), DecodeError::Version(9));
    bytes[4] = 1;
    bytes[6] = 8;
    assert_eq!(Image::decode(&bytes).unwrap_err(), DecodeError::CellBits(8));
}
