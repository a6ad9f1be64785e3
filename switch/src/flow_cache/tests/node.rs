//! A node whose endpoints are all cached, with policies to choose from, and what is sent on it.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::sync::Arc;

use etherparse::PacketBuilder;
use heddle_image::{Bitmap, PolicyClass, PolicyClassNumber, PortTable, Row, Rows, Rulebook};

use super::fake::{WORKERS, endpoint, vtep};
use crate::ports::PortId;
use crate::tables::{AttachMode, Endpoint, EndpointPolicy, Hop, NextHop, Node, Tables, Tunnel, Uplink, Vtep};
use crate::wire::Mac;

/// Endpoints 0 to 3 (0 is the host, which is open) and one other node.
pub(super) const ENDPOINTS: u32 = 4;

pub(super) const FIN: u8 = 0x11;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const SYN_ACK: u8 = 0x12;
pub(super) const ACK: u8 = 0x10;

pub(super) fn hop_of(number: u32) -> Hop {
    if number < ENDPOINTS { endpoint(number) } else { vtep(0) }
}

pub(super) fn address(number: u32) -> IpAddr {
    if number < ENDPOINTS { [10, 0, 0, 1 + number as u8].into() } else { [10, 0, 9, 1].into() }
}

pub(super) fn interface(hop: Hop) -> u32 {
    100 + hop.number()
}

fn rulebook(allows: bool) -> Rulebook {
    let nothing =
        || Rulebook { ports: PortTable::new(&[(0, 0)]), rows: Rows::new(&[Row::Classes(Bitmap::default())]) };
    if allows { Rulebook::allow_all() } else { nothing() }
}

pub(super) fn tables() -> Tables {
    let mut tables = Tables::default();
    tables.policy.generation = 1;
    for class in 0..4 {
        let (ingress, egress) = (rulebook(class & 1 != 0), rulebook(class & 2 != 0));
        tables.policy.image.policy_classes.set(class, Arc::new(PolicyClass { ingress, egress }));
    }
    let port = |worker: u32| PortId { worker: worker as u16, slot: 0, serial: worker };
    for number in 0..ENDPOINTS {
        let class = EndpointPolicy::Class(PolicyClassNumber(3));
        let endpoint = Endpoint {
            addresses: vec![address(number)],
            mac: Mac([2, 0, 0, 0, 0, number as u8]),
            port: port(number % WORKERS as u32),
            attach: AttachMode::Cached,
            interface: interface(endpoint(number)),
            delivery: crate::tables::Delivery::default(),
            mtu: 1500,
            policy: if number == 0 { EndpointPolicy::Open } else { class },
            mapped: Vec::new(),
        };
        tables.endpoints.set(number, endpoint);
        tables.fib.insert(address(number).into(), NextHop::Endpoint(number));
    }
    tables.fib.insert("10.0.9.0/24".parse().unwrap(), NextHop::Vtep(0));
    tables.vteps.set(0, Vtep { address: [172, 31, 0, 2].into(), mac: Mac::default(), neighbor: None });
    tables.node.uplink = Some(Uplink {
        tunnel: Tunnel::Kernel { interface: interface(vtep(0)) },
        ports: (0..WORKERS as u32).map(port).collect(),
        mac: Mac::default(),
        address_v4: None,
        address_v6: None,
        vtep_mac: Mac([2, 1, 0, 0, 0, 1]),
        mtu: 1550,
    });
    tables
}

/// The packet as it goes up.
pub(super) fn packet(from: u32, to: u32, ports: (u16, u16), flags: Option<u8>) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (address(from), address(to)) else { unreachable!() };
    let [a, b, c, d] = hop_of(from).number().to_be_bytes();
    let router = if from < ENDPOINTS { Node::default().gateway_mac } else { Mac([2, 1, 0, 0, 0, 1]) };
    let builder = PacketBuilder::ethernet2([2, 0x4d, a, b, c, d], router.0);
    let builder = builder.ipv4(source.octets(), destination.octets(), 64);
    let mut packet = Vec::new();
    match flags {
        None => builder.udp(ports.0, ports.1).write(&mut packet, &[7; 10]).unwrap(),
        Some(flags) => {
            // Both ends start at 0 and have sent their SYN; nothing else counts.
            let syn = flags & SYN != 0;
            let mut tcp = builder.tcp(ports.0, ports.1, u32::from(!syn), 1000);
            tcp = if syn { tcp.syn() } else { tcp };
            tcp = if flags & ACK != 0 { tcp.ack(1) } else { tcp };
            tcp = if flags & 1 != 0 { tcp.fin() } else { tcp };
            tcp = if flags & RST != 0 { tcp.rst() } else { tcp };
            tcp.write(&mut packet, &[]).unwrap();
        }
    }
    packet
}
