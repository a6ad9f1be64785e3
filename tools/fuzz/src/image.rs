//! The decoder of policy images. An image comes from another process, and packets are judged by what is in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use heddle_image::{
    Bitmap, Direction, Image, OTHER_KEY, PeerClass, PolicyClass, PolicyClassNumber, PortTable, Protocol, Row,
    Rows, Rulebook, port_key,
};

/// Bytes are either refused, or an image that every lookup works in, and that survives being sent on.
///
/// # Panics
///
/// When that does not hold.
pub fn check(bytes: &[u8]) {
    let Ok(image) = Image::decode(bytes) else { return };
    // Not always to the same bytes: what nothing refers to is left out, and what is there twice is written once.
    let encoded = image.encode();
    assert!(encoded.len() <= bytes.len(), "an image is no longer than what it was decoded from");
    let again = Image::decode(&encoded).expect("what was encoded can be decoded");
    assert!(again.encode() == encoded, "and is the same image then");
    let mut addresses: Vec<IpAddr> = image.pods_v4.iter().map(|(address, _)| (*address).into()).collect();
    addresses.extend(image.pods_v6.iter().map(|(address, _)| IpAddr::from(*address)));
    addresses.extend([IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv4Addr::BROADCAST.into()]);
    addresses.extend([IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from([0xff; 16])]);
    let classes: Vec<_> = image.policy_classes.iter().map(|(number, _)| PolicyClassNumber(number)).collect();
    for address in addresses {
        let peer = image.peer_class(address);
        for class in classes.iter().copied().chain([PolicyClassNumber(u32::MAX)]) {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Other] {
                for port in [0, 80, u16::MAX] {
                    image.allows(class, Direction::Ingress, peer, protocol, port);
                    image.allows(class, Direction::Egress, peer, protocol, port);
                }
            }
        }
    }
    for (name, class) in image.endpoints.iter() {
        assert!(image.policy_class(*class).is_some(), "{name} has a class that is there");
    }
}

/// Images with every kind of content.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut image = Image::default();
    let mut seeds = vec![image.encode()];
    image.set_pod([10, 0, 0, 1].into(), PeerClass(1));
    image.set_pod([0xfd00, 0, 0, 0, 0, 0, 0, 1].into(), PeerClass(70));
    let mut peers = Bitmap::default();
    peers.insert(1);
    peers.insert(70);
    let http = port_key(Protocol::Tcp, 80);
    let book = Rulebook {
        ports: PortTable::new(&[(0, 0), (http, 1), (http + 1, 0), (OTHER_KEY, 2)]),
        rows: Rows::new(&[Row::Classes(Bitmap::default()), Row::Classes(peers), Row::All]),
    };
    let class = PolicyClass { ingress: book, egress: Rulebook::allow_all() };
    image.policy_classes.set(0, Arc::new(PolicyClass::allow_all()));
    image.policy_classes.set(2, Arc::new(class));
    image.endpoints.insert("default/web".into(), PolicyClassNumber(2));
    image.endpoints.insert("default/db".into(), PolicyClassNumber(0));
    seeds.push(image.encode());
    seeds
}
