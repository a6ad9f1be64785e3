//! Real workers, the keeper and a map in memory, with every delay between them: whatever happens, once all have heard from each
//! other, the map holds what both ends remember, allow and offer at today's generations, and nothing else.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use heddle_image::PolicyClassNumber;
use heddle_xsk::{Arena, Pool};
use proptest::prelude::*;

use super::super::{MapKey, Order};
use super::fake::{Bench, WORKERS};
use super::node::{ACK, ENDPOINTS, FIN, RST, SYN, SYN_ACK, address, hop_of, interface, packet, tables};
use crate::pipeline::{Ingress, Outbox, Pipeline};
use crate::ports::Batch;
use crate::tables::conntrack::{Direction, FlowEnd, FlowKey, Role, Side};
use crate::tables::{EndpointPolicy, HOST, Hop, HopKind, Tables};
use crate::wire::protocol;

/// So few connections that some make way for others.
const CONNECTIONS: usize = 24;

#[derive(Debug, Clone)]
enum Event {
    /// Packets of a flow between two of the five, there and back.
    Datagrams {
        from: u32,
        to: u32,
        port: u16,
        count: u8,
        answered: bool,
    },
    /// A connection is opened if it is not, and used.
    Talk {
        from: u32,
        to: u32,
        port: u16,
        count: u8,
    },
    /// Its next segment has these flags, either way.
    Segment {
        from: u32,
        to: u32,
        port: u16,
        flags: u8,
        back: bool,
    },
    /// A worker hears some, judges again, and asks.
    Round(usize),
    Keeper,
    Look,
    Wait(u64),
    /// An endpoint gets another policy: bit 0 lets connections in, bit 1 out.
    Policy(u32, u32),
    /// What flows rely on changes at a hop.
    Renew(u32),
    /// The map's next removal fails.
    FailRemoval,
}

struct World {
    bench: Bench,
    workers: Vec<Pipeline>,
    pool: Pool,
    tables: Tables,
    /// What the kernel's hops have.
    generations: BTreeMap<Hop, u32>,
    now: Instant,
    forwarded: u64,
}

impl World {
    fn new() -> Self {
        let mut bench = Bench::new(ENDPOINTS);
        bench.take_over();
        for link in &mut bench.links {
            link.set_map(Box::new(bench.map.clone()));
        }
        let mut tables = tables();
        let hops = (0..=ENDPOINTS).map(hop_of);
        let generations: BTreeMap<_, _> = hops.map(|hop| (hop, 1)).collect();
        for (hop, one) in &generations {
            tables.hop_generations.set(hop.number(), *one);
        }
        let workers = (0..WORKERS as u16).map(|worker| Pipeline::new(worker, Arc::default(), CONNECTIONS));
        Self {
            bench,
            workers: workers.collect(),
            pool: Pool::new(Arena::heap(64, 2048).unwrap()),
            tables,
            generations,
            now: Instant::now() + Duration::from_mins(10),
            forwarded: 0,
        }
    }

    /// A packet comes into the kernel, which forwards it or sends it up.
    fn send(&mut self, from: u32, to: u32, ports: (u16, u16), flags: Option<u8>) {
        let flow = FlowKey {
            source: address(from),
            destination: address(to),
            source_port: ports.0,
            destination_port: ports.1,
            protocol: if flags.is_some() { protocol::TCP } else { protocol::UDP },
            role: Role::Any,
        };
        let key = MapKey { flow, interface: interface(hop_of(from)) };
        let found = self.bench.map.contents().flows.get(&key).map(|(flow, _)| *flow);
        let is_current = |party: crate::pipeline::Party| self.generations[&party.hop] == party.generation;
        if flags.is_none_or(|flags| flags == ACK)
            && found.is_some_and(|flow| is_current(flow.from) && is_current(flow.to))
        {
            self.bench.map.forward(&key, 1, 100);
            self.forwarded += 1;
            return;
        }
        self.pass_worker(from, &packet(from, to, ports, flags));
    }

    fn pass_worker(&mut self, from: u32, packet: &[u8]) {
        // What comes from another node has a worker of its own, whoever it is for.
        let worker = from as usize % WORKERS;
        let mut frame = self.pool.take().unwrap();
        assert!(frame.copy_from(packet));
        let (mut batch, mut outbox) = (Batch::from_iter([frame]), Outbox::new());
        self.workers[worker].run(
            self.now,
            &self.tables,
            Ingress::Trunk,
            &mut self.pool,
            &mut batch,
            &mut outbox,
        );
        for (port, mut frame) in outbox.drain(..) {
            if usize::from(port.worker) != worker
                && let Some(HopKind::Endpoint(number)) = crate::pipeline::addressee(&frame)
            {
                self.workers[usize::from(port.worker)].arrive(self.now, &self.tables, number, &mut frame);
            }
            self.pool.put(frame);
        }
    }

    /// The end of a worker's round.
    fn ask(&mut self, worker: usize) {
        let (pipeline, link) = (&mut self.workers[worker], &mut self.bench.links[worker]);
        pipeline.ask(&self.tables, link);
    }

    fn round(&mut self, worker: usize) {
        let (pipeline, link) = (&mut self.workers[worker], &mut self.bench.links[worker]);
        link.catch_up();
        link.news().into_iter().flatten().for_each(|news| pipeline.hear(&news));
        pipeline.sweep(&self.tables);
        self.ask(worker);
    }

    fn keeper(&mut self) {
        while let Ok(message) = self.bench.keeper.links.messages.try_recv() {
            assert!(self.bench.keeper.obey(message));
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Datagrams { from, to, port, count, answered } => {
                for _ in 0..count {
                    self.send(from, to, (port, 53), None);
                    if answered {
                        self.send(to, from, (53, port), None);
                    }
                }
            }
            Event::Talk { from, to, port, count } => {
                for (back, flags) in [(false, SYN), (true, SYN_ACK)] {
                    self.segment(from, to, port, flags, back);
                }
                for _ in 0..count {
                    self.segment(from, to, port, ACK, false);
                    self.segment(from, to, port, ACK, true);
                }
            }
            Event::Segment { from, to, port, flags, back } => self.segment(from, to, port, flags, back),
            Event::Round(worker) => self.round(worker),
            Event::Keeper => self.keeper(),
            Event::Look => self.bench.keeper.look(),
            Event::Wait(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.bench.pass_time(Duration::from_secs(seconds));
                self.workers.iter_mut().for_each(|worker| worker.tick(self.now));
            }
            Event::Policy(number, class) => {
                (0..WORKERS).for_each(|worker| self.ask(worker));
                let mut endpoint = self.tables.endpoints.get(number).unwrap().clone();
                endpoint.policy = EndpointPolicy::Class(PolicyClassNumber(class));
                self.tables.endpoints.set(number, endpoint);
                self.tables.policy.generation += 1;
            }
            Event::Renew(number) => {
                let (hop, next) = (hop_of(number), self.generations.values().max().unwrap() + 1);
                // First the kernel, then the workers, then the keeper: as control does it.
                self.generations.insert(hop, next);
                (0..WORKERS).for_each(|worker| self.ask(worker));
                self.tables.hop_generations.set(hop.number(), next);
                self.bench
                    .orders
                    .try_send(super::super::Message::Order(Order::Generation(hop, next)))
                    .unwrap();
            }
            Event::FailRemoval => self.bench.map.contents().failing_removals = 1,
        }
    }

    fn segment(&mut self, from: u32, to: u32, port: u16, flags: u8, back: bool) {
        if back {
            self.send(to, from, (80, port), Some(flags));
        } else {
            self.send(from, to, (port, 80), Some(flags));
        }
    }

    /// All hear what there is to hear, and the keeper looks for what it has lost: twice, before it is sure.
    fn settle(&mut self) {
        for look in [false, true, true, false] {
            self.bench.map.contents().failing_removals = 0;
            if look {
                self.bench.keeper.look();
            }
            for _ in 0..8 {
                (0..WORKERS).for_each(|worker| self.round(worker));
                self.keeper();
            }
        }
        assert!(self.workers.iter().all(|worker| !worker.is_sweeping()));
    }

    fn check(&self) {
        let ends = |pipeline: &Pipeline| pipeline.connections().ends_that_pass_unseen();
        let offloaded: HashSet<FlowEnd> = self.workers.iter().flat_map(ends).collect();
        let offered: HashSet<FlowEnd> = self.bench.keeper.ends().into_iter().collect();
        assert_eq!(offloaded, offered, "workers and keeper know of the same flows");
        for (key, (flow, _)) in &self.bench.map.contents().flows {
            for party in [flow.from, flow.to] {
                assert_eq!(party.generation, self.generations[&party.hop], "{key:?}");
            }
            for (hop, seen) in [(flow.from.hop, Side::Egress), (flow.to.hop, Side::Ingress)] {
                let HopKind::Endpoint(number) = hop.kind() else { continue };
                let end = offloaded
                    .iter()
                    .find(|end| (end.endpoint, end.seen, end.key) == (number, seen, key.flow));
                let end = end.unwrap_or_else(|| panic!("{number} does not know of {key:?}"));
                let opened = if end.direction == Direction::Original { seen } else { seen.opposite() };
                // Between a node and its own endpoints policy has no say.
                let with_host = flow.from.hop.number() == HOST || flow.to.hop.number() == HOST;
                assert!(with_host || self.allows(number, opened), "endpoint {number} does not allow {key:?}");
            }
        }
    }

    /// What policy says now of connections that are opened on this side of an endpoint.
    fn allows(&self, number: u32, opened: Side) -> bool {
        match self.tables.endpoints.get(number).unwrap().policy {
            EndpointPolicy::Class(PolicyClassNumber(class)) => {
                class & if opened == Side::Ingress { 1 } else { 2 } != 0
            }
            _ => true,
        }
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let pair = || (0..=ENDPOINTS, 0..=ENDPOINTS).prop_filter("two of them", |(from, to)| from != to);
    let port = || 40_000_u16..40_003;
    let flags = prop_oneof![Just(FIN), Just(RST), Just(SYN), Just(SYN_ACK), Just(ACK)];
    prop_oneof![
        4 => (pair(), port(), 1u8..20, any::<bool>()).prop_map(|((from, to), port, count, answered)| {
            Event::Datagrams { from, to, port, count, answered }
        }),
        6 => (pair(), port(), 1u8..20)
            .prop_map(|((from, to), port, count)| Event::Talk { from, to, port, count }),
        3 => (pair(), port(), flags, any::<bool>()).prop_map(|((from, to), port, flags, back)| {
            Event::Segment { from, to, port, flags, back }
        }),
        8 => (0..WORKERS).prop_map(Event::Round),
        6 => Just(Event::Keeper),
        1 => Just(Event::Look),
        1 => (1u64..40).prop_map(Event::Wait),
        1 => (1..ENDPOINTS, 0u32..4).prop_map(|(number, class)| Event::Policy(number, class)),
        1 => (0..=ENDPOINTS).prop_map(Event::Renew),
        1 => Just(Event::FailRemoval),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_map_holds_what_both_ends_allow_today(events in prop::collection::vec(any_event(), 1..120)) {
        let mut world = World::new();
        for (number, event) in events.iter().enumerate() {
            world.happen(event);
            if number % 40 == 39 {
                world.settle();
                world.check();
            }
        }
        world.settle();
        world.check();
    }
}

/// Of every kind of pair, so that the test above is about something.
#[test]
fn traffic_gets_into_the_map() {
    for (from, to) in [(1, 2), (1, 3), (1, 4), (4, 2), (0, 1), (3, 0), (4, 0)] {
        for tcp in [false, true] {
            let mut world = World::new();
            let port = 40_000;
            let event = if tcp {
                Event::Talk { from, to, port, count: 20 }
            } else {
                Event::Datagrams { from, to, port, count: 20, answered: true }
            };
            world.happen(&event);
            world.settle();
            world.check();
            assert_eq!(world.bench.cached().len(), 2, "{event:?}");
            let before = world.forwarded;
            world.segment(from, to, port, ACK, true);
            world.send(from, to, (port, 53), None);
            assert_eq!(world.forwarded - before, 1);
        }
    }
}
