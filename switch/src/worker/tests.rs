//! Workers over in-memory ports: frames find their port on whichever worker it is, in order; none is lost without a count,
//! none leaks, and a sleeping worker wakes.
#![allow(clippy::unwrap_used)]

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use heddle_xsk::{Arena, HeldFrames, Pool};
use ipnet::IpNet;

use super::wake::EventFd;
use super::{Crew, Plan, TICK};
use crate::DropReason;
use crate::config::{Polling, WorkersConfig};
use crate::pipeline::Ingress;
use crate::ports::{Batch, MemoryPort, MemoryWire, Port, PortId};
use crate::stats::PortStats;
use crate::tables::conntrack::Side;
use crate::tables::publish::Publisher;
use crate::tables::{AttachMode, Endpoint, EndpointPolicy, NextHop, Node, Tables};
use crate::wire::Mac;

const FRAMES: u32 = 4096;

/// A crew with one endpoint a port, numbered from 1, at 10.0.0.N.
struct Rig {
    arena: Arc<Arena>,
    crew: Crew,
    publisher: Publisher<Tables>,
    tables: Tables,
    wires: Vec<MemoryWire>,
    stats: Vec<Arc<PortStats>>,
    ports: Vec<PortId>,
}

/// A port that is watched instead of looked at every millisecond; its descriptor never becomes readable.
struct Watched(MemoryPort, EventFd);

impl Port for Watched {
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) {
        self.0.receive(pool, batch);
    }
    fn transmit(&mut self, pool: &mut Pool, batch: &mut Batch) {
        self.0.transmit(pool, batch);
    }
    fn reap(&mut self, pool: &mut Pool) {
        self.0.reap(pool);
    }
    fn has_received(&mut self) -> bool {
        self.0.has_received()
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.1.as_fd())
    }
    fn frames(&self) -> HeldFrames {
        self.0.frames()
    }
}

fn mac(endpoint: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, endpoint as u8])
}

impl Rig {
    /// `owners` says which worker has the port of each endpoint.
    fn new(workers: u16, owners: &[u16]) -> Self {
        Self::with_tick(workers, owners, TICK)
    }

    fn with_tick(workers: u16, owners: &[u16], tick: Duration) -> Self {
        let arena = Arena::heap(FRAMES, 2048).unwrap();
        let config =
            WorkersConfig { count: workers, cores: vec![], polling: Polling::Adaptive, connections: 1024 };
        let (publisher, readers) = Publisher::new(Tables::default(), usize::from(workers));
        let crew =
            Crew::start(Plan { config: &config, arena: &arena, readers, links: Vec::new(), tick }).unwrap();
        let tables = Tables::default();
        let (wires, stats, ports) = (vec![], vec![], vec![]);
        let mut rig = Self { arena, crew, publisher, tables, wires, stats, ports };
        for owner in owners {
            let (port, wire) = MemoryPort::new(Arc::clone(&rig.arena), 512);
            rig.add(*owner, Box::new(port), wire);
        }
        rig
    }

    fn add(&mut self, worker: u16, port: Box<dyn Port>, wire: MemoryWire) {
        let number = self.wires.len() + 1;
        let stats = Arc::<PortStats>::default();
        let ingress = Ingress::Endpoint(number as u32);
        let port = self.crew.attach(worker, ingress, port, Arc::clone(&stats)).unwrap();
        let address: std::net::IpAddr = [10, 0, 0, number as u8].into();
        let endpoint = Endpoint {
            addresses: vec![address],
            mac: mac(number),
            port,
            attach: AttachMode::Direct,
            interface: 0,
            delivery: crate::tables::Delivery::default(),
            mtu: 1500,
            policy: EndpointPolicy::Open,
            mapped: Vec::new(),
        };
        self.tables.endpoints.set(number as u32, endpoint);
        self.tables.fib.insert(IpNet::from(address), NextHop::Endpoint(number as u32));
        self.publisher.publish(self.tables.clone());
        self.wires.push(wire);
        self.stats.push(stats);
        self.ports.push(port);
    }

    fn send(&mut self, from: usize, to: usize, number: u32) -> bool {
        let gateway = Node::default().gateway_mac;
        let mut packet = Vec::new();
        PacketBuilder::ethernet2(mac(from).0, gateway.0)
            .ipv4([10, 0, 0, from as u8], [10, 0, 0, to as u8], 64)
            .udp(1000, 2000)
            .write(&mut packet, &number.to_be_bytes())
            .unwrap();
        self.wires[from - 1].inject(&packet)
    }

    /// Sends, waiting for room.
    fn send_patiently(&mut self, from: usize, to: usize, number: u32) {
        within(|| self.send(from, to, number));
    }

    /// (sender, number) of every packet that came out at `at`.
    fn collect(&mut self, at: usize) -> Vec<(u8, u32)> {
        let mut seen = Vec::new();
        self.wires[at - 1].collect_all(|packet| {
            let number = u32::from_be_bytes(packet[packet.len() - 4..].try_into().unwrap());
            seen.push((packet[29], number));
        });
        seen
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.crew.stats().map(|stats| stats.drops(reason)).sum()
    }

    fn all_drops(&self) -> u64 {
        DropReason::ALL.iter().map(|reason| self.drops(*reason)).sum()
    }

    /// Frames in all places but the wires' own pools.
    fn census(&self) -> usize {
        let reports = self.crew.reports().unwrap();
        let held = |r: &super::Report| r.free + r.handoff + (r.held.receiving + r.held.sending) as usize;
        reports.iter().map(held).sum::<usize>() + self.arena.reserved()
    }

    /// Stops everything; all frames must be back.
    fn finish(mut self) {
        self.wires.clear();
        within(|| self.census() == FRAMES as usize);
        self.crew.stop();
        assert_eq!(self.arena.reserved(), FRAMES as usize);
    }
}

fn within(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "nothing happened for ten seconds");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn everyone_to_everyone(workers: u16, owners: &[u16]) {
    const PACKETS: u32 = 300;
    let mut rig = Rig::new(workers, owners);
    let endpoints = owners.len();
    let mut received = vec![Vec::new(); endpoints];
    for number in 0..PACKETS {
        for from in 1..=endpoints {
            for to in (1..=endpoints).filter(|to| *to != from) {
                rig.send_patiently(from, to, number);
            }
        }
        // So few are under way that no ring overflows, however long a worker has to wait for a core.
        if number % 50 == 49 {
            for at in 1..=endpoints {
                within(|| {
                    received[at - 1].extend(rig.collect(at));
                    received[at - 1].len() >= (number as usize + 1) * (endpoints - 1)
                });
            }
        }
    }
    let expected = PACKETS as usize * (endpoints - 1);
    for (at, received) in received.iter().enumerate() {
        for from in (1..=endpoints).filter(|from| *from != at + 1) {
            let flow = received.iter().filter(|(sender, _)| usize::from(*sender) == from).map(|(_, n)| *n);
            assert!(flow.eq(0..PACKETS), "flow {from} → {}", at + 1);
        }
        assert_eq!(rig.stats[at].tx.packets.get(), expected as u64);
        assert_eq!(rig.stats[at].rx.packets.get(), expected as u64);
        // 14 Ethernet + 20 IPv4 + 8 UDP + 4 of payload.
        assert_eq!(rig.stats[at].tx.bytes.get(), expected as u64 * 46);
    }
    let total: u64 = rig.crew.stats().map(|stats| stats.ports.rx.packets.get()).sum();
    assert_eq!(total, (expected * endpoints) as u64);
    assert_eq!(rig.all_drops(), 0);
    rig.finish();
}

#[test]
fn one_worker_keeps_flows_in_order() {
    everyone_to_everyone(1, &[0, 0, 0]);
}

#[test]
fn frames_cross_between_workers_in_order() {
    everyone_to_everyone(3, &[0, 1, 2, 0]);
}

#[test]
fn a_detached_port_gets_nothing_and_nothing_is_lost_uncounted() {
    let mut rig = Rig::new(2, &[0, 1]);
    let mut sent = 0;
    for number in 0..200 {
        sent += u64::from(rig.send(1, 2, number));
    }
    let port = rig.ports[1];
    // Tables still name the port: frames reach the worker that had it.
    let detached = rig.crew.detach(port).unwrap();
    assert!(detached.is_some());
    assert!(rig.crew.detach(port).unwrap().is_none());
    let received_before = rig.collect(2).len() as u64;
    for number in 200..400 {
        within(|| rig.send(1, 2, number));
        sent += 1;
    }
    within(|| received_before + rig.all_drops() == sent);
    assert!(rig.drops(DropReason::PortGone) >= 200);
    assert_eq!(rig.drops(DropReason::PortGone), rig.all_drops());
    assert_eq!(rig.collect(2), []);
    drop(detached);
    rig.finish();
}

#[test]
fn a_successor_in_the_slot_gets_nothing_meant_for_the_one_before() {
    let mut rig = Rig::new(1, &[0, 0]);
    drop(rig.crew.detach(rig.ports[1]).unwrap());
    let (port, wire) = MemoryPort::new(Arc::clone(&rig.arena), 512);
    let successor = rig.crew.attach(0, Ingress::Endpoint(9), Box::new(port), Arc::default()).unwrap();
    assert_eq!(successor.slot, rig.ports[1].slot);
    assert_ne!(successor.serial, rig.ports[1].serial);
    rig.wires[1] = wire;
    assert!(rig.send(1, 2, 0));
    within(|| rig.drops(DropReason::PortGone) == 1);
    assert_eq!(rig.collect(2), []);
    rig.finish();
}

#[test]
fn a_full_port_drops_and_counts() {
    let mut rig = Rig::new(1, &[0, 0]);
    // The receiver's queue holds 512 and nobody takes anything out of it.
    (0..600).for_each(|number| rig.send_patiently(1, 2, number));
    within(|| rig.drops(DropReason::TxRingFull) == 88);
    assert_eq!(rig.stats[1].tx.packets.get(), 512);
    assert_eq!(rig.collect(2).len(), 512);
    rig.finish();
}

#[test]
fn a_sleeping_worker_is_woken_for_a_handoff() {
    // Nobody wakes by itself while the test lasts.
    let mut rig = Rig::with_tick(2, &[0], Duration::from_hours(1));
    let (port, wire) = MemoryPort::new(Arc::clone(&rig.arena), 512);
    rig.add(1, Box::new(Watched(port, EventFd::new().unwrap())), wire);
    let sleeps = |rig: &Rig| rig.crew.stats().nth(1).unwrap().sleeps.get();
    let mut slept = 0;
    for number in 0..20 {
        within(|| sleeps(&rig) > slept);
        slept = sleeps(&rig);
        std::thread::sleep(Duration::from_millis(2));
        assert!(rig.send(1, 2, number));
        within(|| !rig.collect(2).is_empty());
    }
    rig.finish();
}

/// Puts both endpoints under a policy that allows everything, so that what they do is remembered.
fn judge_all(rig: &mut Rig) {
    rig.tables.policy.image.policy_classes.set(0, Arc::new(heddle_image::PolicyClass::allow_all()));
    for number in 1..=rig.wires.len() as u32 {
        let mut endpoint = rig.tables.endpoints.get(number).unwrap().clone();
        endpoint.policy = EndpointPolicy::Class(heddle_image::PolicyClassNumber(0));
        rig.tables.endpoints.set(number, endpoint);
    }
    rig.publisher.publish(rig.tables.clone());
}

#[test]
fn each_end_of_a_connection_is_remembered_by_its_own_worker() {
    let mut rig = Rig::new(2, &[0, 1]);
    judge_all(&mut rig);
    let flows = |rig: &Rig| rig.crew.flows().unwrap();
    let connections =
        |rig: &Rig| rig.crew.reports().unwrap().iter().map(|r| r.connections).collect::<Vec<_>>();
    // A worker may use the tables of before for a batch.
    within(|| {
        rig.send(1, 2, 0);
        !rig.collect(2).is_empty() && connections(&rig) == [1, 1]
    });
    let mut ends: Vec<_> = flows(&rig).iter().map(|flow| (flow.endpoint, flow.side)).collect();
    ends.sort_by_key(|end| end.0);
    assert_eq!(ends, [(1, Side::Egress), (2, Side::Ingress)]);

    drop(rig.crew.detach(rig.ports[1]).unwrap());
    within(|| connections(&rig) == [1, 0]);
    assert!(flows(&rig).iter().all(|flow| flow.endpoint == 1));
    rig.finish();
}

#[test]
fn what_arrives_at_another_worker_is_judged_there() {
    let mut rig = Rig::new(2, &[0, 1]);
    let mut endpoint = rig.tables.endpoints.get(2).unwrap().clone();
    endpoint.policy = EndpointPolicy::Closed;
    rig.tables.endpoints.set(2, endpoint);
    rig.publisher.publish(rig.tables.clone());
    within(|| {
        rig.send(1, 2, 0);
        rig.collect(2);
        rig.drops(DropReason::PolicyPending) > 0
    });
    let of_receiver = rig.crew.stats().nth(1).unwrap().drops(DropReason::PolicyPending);
    assert_eq!(of_receiver, rig.drops(DropReason::PolicyPending));
    rig.finish();
}

#[test]
fn silent_ports_are_not_polled() {
    let mut rig = Rig::new(1, &[]);
    for _ in 0..100 {
        let (port, wire) = MemoryPort::new(Arc::clone(&rig.arena), 8);
        rig.add(0, Box::new(Watched(port, EventFd::new().unwrap())), wire);
    }
    within(|| rig.crew.reports().unwrap()[0].polled == 0);
    assert_eq!(rig.crew.reports().unwrap()[0].ports, 100);
    rig.finish();
}

#[test]
fn cores_that_are_not_there_are_refused() {
    let arena = Arena::heap(1, 2048).unwrap();
    let config = WorkersConfig { count: 1, cores: vec![60_000], polling: Polling::Busy, connections: 1 };
    let (_publisher, readers) = Publisher::new(Tables::default(), 1);
    let error = Crew::start(Plan { config: &config, arena: &arena, readers, links: Vec::new(), tick: TICK })
        .err()
        .unwrap();
    assert!(error.to_string().starts_with("workers.cores: there is no core 60000"), "{error}");
}
