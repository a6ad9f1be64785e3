//! TCP between pods of two nodes, over a tunnel that loses, doubles and reorders packets: every byte arrives, in both
//! directions, over IPv4 and IPv6 at once; and the switches themselves drop nothing.
//!
//! The hosts are smoltcp's, which ask for the gateway by ARP and neighbor discovery as any host does. Clock and dice are
//! the test's own, so a run is the same every time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use common::cluster::{FAMILIES, GATEWAY_V6, UPLINK_SLOT, V4, V6, pod, pod_mac, tables};
use common::policy::{Rules, enforce};
use common::switch::Switch;
use heddle_image::Protocol;
use heddle_switch::pipeline::Ingress;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

/// Each way, on each connection.
const BYTES: usize = 1_000_000;
/// Largest IP packet of the pods: one that fits a tunnel over IPv6.
const MTU: usize = 1480;
/// Milliseconds of the test's clock after which the transfer counts as stuck.
const MAX_STEPS: u64 = 600_000;

/// `SplitMix64` (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.roll() % 100 < chance
    }
}

/// The underlay: packets come out after one step, later, twice or never.
struct Wire {
    dice: Dice,
    /// Number of the node they go to, and the packet, by when they arrive and the order they were sent in.
    under_way: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    sent: u64,
    lost: u64,
    doubled: u64,
    late: u64,
}

impl Wire {
    fn new(seed: u64) -> Self {
        Self { dice: Dice(seed), under_way: BTreeMap::new(), sent: 0, lost: 0, doubled: 0, late: 0 }
    }

    fn send(&mut self, now: u64, to: usize, packet: &[u8]) {
        if self.dice.percent(2) {
            self.lost += 1;
            return;
        }
        let copies = if self.dice.percent(2) { 2 } else { 1 };
        self.doubled += copies - 1;
        for _ in 0..copies {
            let late = self.dice.percent(5);
            self.late += u64::from(late);
            let delay = if late { 2 + self.dice.roll() % 10 } else { 1 };
            self.sent += 1;
            self.under_way.insert((now + delay, self.sent), (to, packet.to_vec()));
        }
    }

    /// Packets for node `to` that have arrived.
    fn arrived(&mut self, now: u64, to: usize) -> Vec<Vec<u8>> {
        let due: Vec<_> = self
            .under_way
            .range(..(now + 1, 0))
            .filter(|(_, (node, _))| *node == to)
            .map(|(key, _)| *key)
            .collect();
        due.into_iter().filter_map(|key| Some(self.under_way.remove(&key)?.1)).collect()
    }
}

/// A pod's interface, as smoltcp sees it.
#[derive(Default)]
struct Veth {
    to_host: VecDeque<Vec<u8>>,
    to_switch: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Veth {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        Some((Received(self.to_host.pop_front()?), Sending(&mut self.to_switch)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.to_switch))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU + 14;
        capabilities
    }
}

/// One end of a connection, and how far it is.
struct End {
    handle: SocketHandle,
    sent: usize,
    received: usize,
}

/// A pod with one connection for each family.
struct Host {
    seed: u8,
    interface: Interface,
    veth: Veth,
    sockets: SocketSet<'static>,
    ends: Vec<End>,
}

/// The `i`-th byte that a host with this seed sends.
fn byte(seed: u8, i: usize) -> u8 {
    (i.wrapping_mul(0x9e37_79b1) >> 11) as u8 ^ seed
}

impl Host {
    fn new(node: u8) -> Self {
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(pod_mac(node, 1).0)));
        config.random_seed = node.into();
        let mut veth = Veth::default();
        let mut interface = Interface::new(config, &mut veth, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            for (address, len) in pod(node, 1).into_iter().zip([24, 64]) {
                addresses.push(IpCidr::new(address.into(), len)).unwrap();
            }
        });
        interface.routes_mut().add_default_ipv4_route(gateway_v4(node)).unwrap();
        interface.routes_mut().add_default_ipv6_route(GATEWAY_V6).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let ends = FAMILIES.map(|_| {
            let buffer = || SocketBuffer::new(vec![0; 65535]);
            End { handle: sockets.add(Socket::new(buffer(), buffer())), sent: 0, received: 0 }
        });
        Self { seed: node, interface, veth, sockets, ends: ends.into() }
    }

    fn listen(&mut self) {
        for (end, family) in self.ends.iter().zip(FAMILIES) {
            self.sockets.get_mut::<Socket>(end.handle).listen(80 + family as u16).unwrap();
        }
    }

    fn connect(&mut self, node: u8) {
        for (end, family) in self.ends.iter().zip(FAMILIES) {
            let remote = (pod(node, 1)[family], 80 + family as u16);
            let socket = self.sockets.get_mut::<Socket>(end.handle);
            socket.connect(self.interface.context(), remote, 50_000 + family as u16).unwrap();
        }
    }

    /// Sends and receives what the sockets have room for. `peer_seed` says what is to be received.
    fn work(&mut self, now: u64, peer_seed: u8) {
        let time = Instant::from_millis(i64::try_from(now).unwrap());
        self.interface.poll(time, &mut self.veth, &mut self.sockets);
        for end in &mut self.ends {
            let socket = self.sockets.get_mut::<Socket>(end.handle);
            socket.set_timeout(Some(Duration::from_secs(120)));
            if socket.can_recv() {
                end.received += socket
                    .recv(|bytes| {
                        let expected = (end.received..).map(|i| byte(peer_seed, i));
                        assert!(
                            bytes.iter().copied().eq(expected.take(bytes.len())),
                            "the bytes that were sent"
                        );
                        (bytes.len(), bytes.len())
                    })
                    .unwrap();
            }
            if socket.can_send() && end.sent < BYTES {
                end.sent += socket
                    .send(|room| {
                        let n = room.len().min(BYTES - end.sent);
                        room[..n]
                            .iter_mut()
                            .enumerate()
                            .for_each(|(i, to)| *to = byte(self.seed, end.sent + i));
                        (n, n)
                    })
                    .unwrap();
            }
            if end.sent == BYTES && socket.state() == State::Established {
                socket.close();
            }
        }
        self.interface.poll(time, &mut self.veth, &mut self.sockets);
    }

    fn is_done(&self) -> bool {
        self.ends.iter().all(|end| end.received >= BYTES && end.sent == BYTES)
    }
}

/// smoltcp believes ARP only from its own prefix, so here the gateway has an address of the pods' prefix.
fn gateway_v4(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node, 1)
}

fn switch(node: u8, peer: u8, underlay: usize) -> Switch {
    let mut tables = tables(node, peer, underlay);
    tables.node.gateway_v4 = gateway_v4(node);
    // Only the way to the listening ports is allowed, so replies pass for being replies.
    let peers = FAMILIES.map(|family| (pod(peer, 1)[family], Some((Protocol::Tcp, 80 + family as u16))));
    enforce(&mut tables, 1, Rules::only(&peers, &peers));
    Switch::new(tables)
}

/// Everything a node's switch has to do in one step.
fn forward(switch: &mut Switch, host: &mut Host, wire: &mut Wire, now: u64, node: usize) {
    let sent = std::mem::take(&mut host.veth.to_switch);
    for (ingress, packets) in [(Ingress::Endpoint(1), sent), (Ingress::Uplink, wire.arrived(now, node))] {
        for batch in packets.chunks(64) {
            let outcome = switch.pass_all(ingress, batch);
            assert!(outcome.drops.is_empty(), "only the wire may drop: {:?}", outcome.drops);
            for (slot, packet) in outcome.sent {
                match slot {
                    1 => host.veth.to_host.push_back(packet),
                    UPLINK_SLOT => wire.send(now, 1 - node, &packet),
                    other => panic!("a packet by slot {other}"),
                }
            }
        }
    }
}

fn transfer(seed: u64, underlay: usize) {
    let mut switches = [switch(1, 2, underlay), switch(2, 1, underlay)];
    let mut hosts = [Host::new(1), Host::new(2)];
    let mut wire = Wire::new(seed);
    hosts[1].listen();
    hosts[0].connect(2);
    let mut now = 0;
    while !hosts.iter().all(Host::is_done) {
        now += 1;
        assert!(
            now < MAX_STEPS,
            "stuck: {:?}",
            hosts.map(|host| host.ends.iter().map(|e| (e.sent, e.received)).collect::<Vec<_>>())
        );
        for node in 0..2 {
            hosts[node].work(now, hosts[1 - node].seed);
            forward(&mut switches[node], &mut hosts[node], &mut wire, now, node);
        }
    }
    for host in &hosts {
        assert!(host.ends.iter().all(|end| end.received == BYTES), "not a byte too much");
    }
    assert!(wire.lost > 50 && wire.doubled > 50 && wire.late > 100, "the wire was as bad as promised");
    for switch in switches {
        assert_eq!(switch.missing_frames(), 0);
    }
}

#[test]
fn over_ipv4() {
    (1..=2).for_each(|seed| transfer(seed, V4));
}

#[test]
fn over_ipv6() {
    (3..=4).for_each(|seed| transfer(seed, V6));
}
