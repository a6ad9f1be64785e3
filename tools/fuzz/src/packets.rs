//! The whole packet path: what pods and other nodes send, through a switch with policy.
//!
//! An input is a byte that chooses where the packets come from and what is judged, then packets, each behind its length
//! in two bytes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use etherparse::{
    IpHeaders, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header, PacketBuilder, PacketBuilderStep,
};
use heddle_image::{Bitmap, PeerClass, PolicyClass, PolicyClassNumber, PortTable, Row, Rows, Rulebook};
use heddle_switch::DropReason;
use heddle_switch::pipeline::{Ingress, Outbox, Pipeline};
use heddle_switch::ports::{Batch, PortId};
use heddle_switch::stats::WorkerStats;
use heddle_switch::tables::{
    AttachMode, Endpoint, EndpointPolicy, HOST, NextHop, Tables, Tunnel, Uplink, Vtep,
};
use heddle_switch::wire::Mac;
use heddle_xsk::{Arena, Pool};

const GATEWAY: Mac = Mac([0x02, 0x68, 0x64, 0, 0, 1]);
const FRAMES: u32 = 64;
const MOST_PACKETS: usize = 16;

/// Bits of the first byte.
mod setting {
    /// Endpoint 0 to 2, or the uplink.
    pub(super) const INGRESS: u8 = 0b11;
    pub(super) const JUDGE_1: u8 = 1 << 2;
    pub(super) const JUDGE_2: u8 = 1 << 3;
    pub(super) const UNDERLAY_V6: u8 = 1 << 4;
    /// All pods share a trunk, and what comes comes by it.
    pub(super) const TRUNK: u8 = 1 << 5;
}

/// Every packet leaves or is dropped with a reason, an ICMP error is a packet more, and no frame is lost.
///
/// # Panics
///
/// When that does not hold.
pub fn check(input: &[u8]) {
    let Some((setting, mut rest)) = input.split_first() else { return };
    let arena = Arena::heap(FRAMES, 2048).expect("memory");
    let mut pool = Pool::new(Arc::clone(&arena));
    let mut batch = Batch::new();
    while let Some((length, behind)) = rest.split_first_chunk::<2>()
        && batch.len() < MOST_PACKETS
    {
        let (packet, behind) = behind.split_at(usize::from(u16::from_be_bytes(*length)).min(behind.len()));
        let mut frame = pool.take().expect("there are more frames than packets");
        if frame.copy_from(packet) {
            batch.push(frame);
        } else {
            pool.put(frame);
        }
        rest = behind;
    }
    let ingress = match setting & setting::INGRESS {
        _ if setting & setting::TRUNK != 0 => Ingress::Trunk,
        3 => Ingress::Uplink,
        number => Ingress::Endpoint(number.into()),
    };
    let stats = Arc::new(WorkerStats::default());
    let mut pipeline = Pipeline::new(0, Arc::clone(&stats), 8);
    let (packets, mut outbox) = (batch.len() as u64, Outbox::new());
    pipeline.run(Instant::now(), &tables(*setting), ingress, &mut pool, &mut batch, &mut outbox);
    let dropped: u64 = DropReason::ALL.iter().map(|reason| stats.drops(*reason)).sum();
    assert_eq!(outbox.len() as u64 + dropped, packets + stats.icmp_errors.get());
    outbox.drain(..).for_each(|(_, frame)| pool.put(frame));
    drop(pool);
    assert_eq!(arena.reserved(), FRAMES as usize, "every frame is back");
}

fn pod(node: u8, number: u8) -> [IpAddr; 2] {
    let v6 = [0xfd00, 0x10, 0x244, node.into(), 0, 0, 0, number.into()];
    [IpAddr::from([10, 244, node, number]), IpAddr::from(v6)]
}

fn node(number: u8) -> [IpAddr; 2] {
    [IpAddr::from([172, 31, 0, number]), IpAddr::from([0xfd00, 0x172, 0x31, 0, 0, 0, 0, u16::from(number)])]
}

fn mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([2, 0, a, b, c, d])
}

/// A node with two pods and one other node.
fn tables(setting: u8) -> Tables {
    let mut tables = Tables::default();
    let port = |slot| PortId { worker: 0, slot, serial: slot.into() };
    let ([IpAddr::V4(own_v4), IpAddr::V6(own_v6)], peer) = (node(1), node(2)) else { return tables };
    (tables.node.icmp_source_v4, tables.node.icmp_source_v6) = (own_v4, own_v6);
    let trunk = setting & setting::TRUNK != 0;
    let attach = if trunk { AttachMode::Cached } else { AttachMode::Direct };
    tables.node.uplink = Some(Uplink {
        tunnel: if trunk { Tunnel::Kernel { interface: 9 } } else { Tunnel::Switch },
        ports: vec![port(3)],
        mac: mac(8),
        address_v4: Some(own_v4),
        address_v6: Some(own_v6),
        vtep_mac: mac(9),
        mtu: 1550,
    });
    let judged = [false, setting & setting::JUDGE_1 != 0, setting & setting::JUDGE_2 != 0];
    for (number, judged) in (HOST..).zip(judged) {
        let addresses = if number == HOST { node(1) } else { pod(1, number as u8) }.to_vec();
        for address in &addresses {
            tables.fib.insert((*address).into(), NextHop::Endpoint(number));
        }
        let policy = if judged { EndpointPolicy::Class(PolicyClassNumber(0)) } else { EndpointPolicy::Open };
        let endpoint = Endpoint {
            addresses,
            mac: mac(number),
            port: port(number as u16),
            attach,
            interface: 0,
            delivery: heddle_switch::tables::Delivery::default(),
            mtu: 1500,
            policy,
            mapped: Vec::new(),
        };
        tables.endpoints.set(number, endpoint);
    }
    for (prefix, next_hop) in [
        ("0.0.0.0/0", NextHop::Endpoint(HOST)),
        ("::/0", NextHop::Endpoint(HOST)),
        ("10.244.1.0/24", NextHop::Unreachable),
        ("10.244.2.0/24", NextHop::Vtep(0)),
        ("fd00:10:244:2::/64", NextHop::Vtep(0)),
    ] {
        tables.fib.insert(prefix.parse().expect("a prefix"), next_hop);
    }
    let address = peer[usize::from(setting & setting::UNDERLAY_V6 != 0)];
    tables.vteps.set(0, Vtep { address, mac: mac(10), neighbor: Some(mac(11)) });
    // Pods of this node may come in; anything may go out.
    let mut peers = Bitmap::default();
    peers.insert(1);
    let ingress = Rulebook { ports: PortTable::new(&[(0, 0)]), rows: Rows::new(&[Row::Classes(peers)]) };
    let class = PolicyClass { ingress, egress: Rulebook::allow_all() };
    tables.policy.image.policy_classes.set(0, Arc::new(class));
    for address in pod(1, 1).into_iter().chain(pod(1, 2)) {
        tables.policy.image.set_pod(address, PeerClass(1));
    }
    tables
}

fn ip(from: IpAddr, to: IpAddr) -> PacketBuilderStep<IpHeaders> {
    let headers = match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let (source, destination) = (from.octets(), to.octets());
            let header = Ipv6Header { hop_limit: 64, source, destination, ..Ipv6Header::default() };
            IpHeaders::Ipv6(header, Ipv6Extensions::default())
        }
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (source, destination) = (from.octets(), to.octets());
            let header = Ipv4Header { time_to_live: 64, source, destination, ..Ipv4Header::default() };
            IpHeaders::Ipv4(header, Ipv4Extensions::default())
        }
        _ => unreachable!("addresses of one family"),
    };
    PacketBuilder::ethernet2(mac(1).0, GATEWAY.0).ip(headers)
}

/// TCP, UDP and ICMP from pod 1, in both families, to every kind of destination; and the same in a tunnel.
pub fn seeds() -> Vec<Vec<u8>> {
    const JUDGED: u8 = setting::JUDGE_1 | setting::JUDGE_2;
    let mut seeds = Vec::new();
    for family in [0, 1] {
        let world = [IpAddr::from([192, 0, 2, 1]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])][family];
        let gateway = [IpAddr::from([169, 254, 1, 1]), IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1])][family];
        for to in [pod(1, 2)[family], pod(2, 1)[family], node(1)[family], gateway, world] {
            let packets = packets(pod(1, 1)[family], to);
            seeds.push(input(1 | JUDGED, &packets));
        }
        let inner = packets(pod(2, 1)[family], pod(1, 1)[family]);
        for (underlay, bit) in [(0, 0), (1, setting::UNDERLAY_V6)] {
            let outer: Vec<_> = inner.iter().map(|inner| tunnelled(underlay, inner)).collect();
            seeds.push(input(3 | JUDGED | bit, &outer));
        }
    }
    seeds
}

fn packets(from: IpAddr, to: IpAddr) -> Vec<Vec<u8>> {
    let payload = [7; 32];
    let mut packets = vec![Vec::new(); 5];
    let [udp, syn, ack, echo, error] = packets.as_mut_slice() else { unreachable!("five packets") };
    let written = [
        ip(from, to).udp(5000, 53).write(udp, &payload),
        ip(from, to).tcp(5000, 80, 1, 1000).syn().write(syn, &[]),
        ip(from, to).tcp(5000, 80, 2, 1000).ack(1).write(ack, &payload),
        if from.is_ipv4() {
            ip(from, to).icmpv4_echo_request(1, 1).write(echo, &payload)
        } else {
            ip(from, to).icmpv6_echo_request(1, 1).write(echo, &payload)
        },
        if from.is_ipv4() {
            ip(from, to).icmpv4_raw(3, 3, [0; 4]).write(error, &udp_back(to, from))
        } else {
            ip(from, to).icmpv6_raw(1, 4, [0; 4]).write(error, &udp_back(to, from))
        },
    ];
    assert!(written.iter().all(Result::is_ok), "packets of this size can be built");
    packets
}

/// The start of the packet that an error is about, without Ethernet.
fn udp_back(from: IpAddr, to: IpAddr) -> Vec<u8> {
    let mut packet = Vec::new();
    ip(from, to).udp(53, 5000).write(&mut packet, &[]).expect("a small packet");
    packet.split_off(14)
}

fn tunnelled(underlay: usize, inner: &[u8]) -> Vec<u8> {
    // The flags and VNI 1 (RFC 7348, section 5), and the inner MACs that the other node would write.
    let mut payload = vec![8, 0, 0, 0, 0, 0, 1, 0];
    payload.extend([mac(9).0, mac(10).0].concat());
    payload.extend(&inner[12..]);
    let mut packet = Vec::new();
    let outer = ip(node(2)[underlay], node(1)[underlay]).udp(50_000, 4789);
    outer.write(&mut packet, &payload).expect("a packet that fits");
    packet[..12].copy_from_slice(&[mac(8).0, mac(11).0].concat());
    packet
}

fn input(setting: u8, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut input = vec![setting];
    for packet in packets {
        input.extend((packet.len() as u16).to_be_bytes());
        input.extend(packet);
    }
    input
}
