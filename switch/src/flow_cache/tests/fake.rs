//! A map in memory that forwards, fills up and fails like the kernel's, and a keeper over it.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};

use super::super::{
    CachedFlow, FlowMap, Keeper, KeeperStats, Link, MapError, MapKey, Message, Order, Resident, Usage,
    Written, connect,
};
use crate::pipeline::{News, Offer, Party, Request};
use crate::stats::PortStats;
use crate::tables::Hop;
use crate::tables::conntrack::{Direction, FlowEnd, FlowKey, Role, Side};
use crate::wire::protocol;

/// Workers of a [`Bench`]; endpoint n is at worker n modulo this.
pub(super) const WORKERS: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) flows: HashMap<MapKey, (CachedFlow, Usage)>,
    pub(super) capacity: usize,
    pub(super) now: Duration,
    /// Calls that are to fail from now on, by kind.
    pub(super) failing_inserts: u32,
    pub(super) failing_removals: u32,
    /// Calls of `insert` and `remove`.
    pub(super) calls: [u32; 2],
}

/// Shared with the keeper, as the kernel's is with the programs.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeMap(Arc<Mutex<Contents>>);

impl FakeMap {
    pub(super) fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap()
    }

    /// As the kernel's program, when it has forwarded something.
    pub(super) fn forward(&self, key: &MapKey, packets: u64, bytes: u64) {
        let mut contents = self.contents();
        let now = contents.now;
        let (_, usage) = contents.flows.get_mut(key).expect("a flow that is not there forwards nothing");
        usage.packets += packets;
        usage.bytes += bytes;
        usage.last_seen = now;
    }
}

fn fails(left: &mut u32) -> Result<(), MapError> {
    if *left == 0 {
        return Ok(());
    }
    *left -= 1;
    Err(MapError("told to fail".to_owned()))
}

impl FlowMap for FakeMap {
    fn insert(&mut self, flows: &[(MapKey, CachedFlow)]) -> Result<Vec<Written>, MapError> {
        let mut contents = self.contents();
        contents.calls[0] += 1;
        let mut written = Vec::new();
        for (key, flow) in flows {
            // As the real one: what comes before the failure is done.
            fails(&mut contents.failing_inserts)?;
            written.push(if contents.flows.contains_key(key) {
                Written::Exists
            } else if contents.flows.len() == contents.capacity {
                Written::Full
            } else {
                contents.flows.insert(*key, (*flow, Usage::default()));
                Written::New
            });
        }
        Ok(written)
    }

    fn remove(&mut self, keys: &[MapKey]) -> Result<Vec<Option<Usage>>, MapError> {
        let mut contents = self.contents();
        contents.calls[1] += 1;
        let mut removed = Vec::new();
        for key in keys {
            fails(&mut contents.failing_removals)?;
            removed.push(contents.flows.remove(key).map(|(_, usage)| usage));
        }
        Ok(removed)
    }

    fn scan(&mut self, visit: &mut dyn FnMut(MapKey, CachedFlow, Usage)) -> Result<(), MapError> {
        let flows: Vec<_> = self.contents().flows.iter().map(|(key, value)| (*key, *value)).collect();
        for (key, (flow, usage)) in flows {
            visit(key, flow, usage);
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        self.contents().now
    }
}

/// A keeper, driven by hand.
pub(super) struct Bench {
    pub(super) map: FakeMap,
    pub(super) keeper: Keeper<FakeMap>,
    pub(super) links: Vec<Link>,
    pub(super) orders: Sender<Message>,
    pub(super) stats: Arc<KeeperStats>,
    /// What was forwarded for each endpoint.
    pub(super) residents: Vec<Arc<PortStats>>,
}

impl Bench {
    /// With so many endpoints, numbered from 0.
    pub(super) fn new(endpoints: u32) -> Self {
        Self::over(FakeMap::default(), endpoints)
    }

    /// Over what a former keeper has left.
    pub(super) fn over(map: FakeMap, endpoints: u32) -> Self {
        {
            let mut contents = map.contents();
            contents.capacity = contents.capacity.max(100);
            contents.now = contents.now.max(Duration::from_secs(1000));
        }
        let (links, keepers, orders) = connect(WORKERS);
        let stats = Arc::<KeeperStats>::default();
        let keeper = Keeper::new(map.clone(), keepers, Arc::clone(&stats));
        let mut bench = Self { map, keeper, links, orders, stats, residents: Vec::new() };
        for number in 0..endpoints {
            let stats = Arc::<PortStats>::default();
            let worker = (number as usize % WORKERS) as u16;
            bench.residents.push(Arc::clone(&stats));
            bench.order(Order::Settle(endpoint(number), Resident { worker, stats }));
        }
        bench
    }

    pub(super) fn order(&mut self, order: Order) {
        assert!(self.keeper.obey(Message::Order(order)));
    }

    /// Requests that the keeper finds waiting all at once.
    pub(super) fn ask_together(&mut self, requests: Vec<Request>) {
        let mut requests = requests.into_iter();
        let first = requests.next().expect("something to ask");
        requests.for_each(|request| self.orders.try_send(Message::Request(request)).unwrap());
        assert!(self.keeper.obey(Message::Request(first)));
    }

    /// Requests one by one.
    pub(super) fn ask(&mut self, requests: Vec<Request>) {
        for request in requests {
            self.ask_together(vec![request]);
        }
    }

    pub(super) fn take_over(&mut self) -> usize {
        let (done, flows) = bounded(1);
        self.order(Order::TakeOver(done));
        flows.recv().unwrap()
    }

    /// What the workers have heard since the last call, the first worker's first.
    pub(super) fn news(&mut self) -> Vec<News> {
        let heard = |link: &mut Link| std::iter::from_fn(|| link.news()).flatten().collect::<Vec<_>>();
        self.links.iter_mut().flat_map(heard).collect()
    }

    pub(super) fn pass_time(&mut self, time: Duration) {
        self.map.contents().now += time;
    }

    /// Keys of the flows in the map.
    pub(super) fn cached(&self) -> Vec<MapKey> {
        self.map.contents().flows.keys().copied().collect()
    }
}

pub(super) fn endpoint(number: u32) -> Hop {
    Hop::endpoint(number).unwrap()
}

pub(super) fn vtep(number: u32) -> Hop {
    Hop::vtep(number).unwrap()
}

/// The packets of flow `number`.
pub(super) fn packets(number: u16) -> FlowKey {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    FlowKey {
        source: address("fd00::1"),
        destination: address("fd00::2"),
        source_port: 40_000 + number,
        destination_port: 80,
        protocol: protocol::TCP,
        role: Role::Any,
    }
}

/// A flow between two hops, both at generation 1.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) number: u16,
    pub(super) from: Party,
    pub(super) to: Party,
}

impl Way {
    pub(super) fn new(number: u16, from: Hop, to: Hop) -> Self {
        Self { number, from: Party { hop: from, generation: 1 }, to: Party { hop: to, generation: 1 } }
    }

    pub(super) fn end(self, seen: Side) -> FlowEnd {
        let hop = if seen == Side::Egress { self.from.hop } else { self.to.hop };
        let endpoint = hop.number();
        FlowEnd { endpoint, seen, key: packets(self.number), direction: Direction::Original }
    }

    pub(super) fn offer(self, seen: Side) -> Request {
        let interface = 100 + self.from.hop.number();
        Request::Offer(Offer { end: self.end(seen), interface, from: self.from, to: self.to })
    }

    pub(super) fn recall(self, seen: Side) -> Request {
        Request::Recall(self.end(seen))
    }

    pub(super) fn both(self) -> Vec<Request> {
        vec![self.offer(Side::Egress), self.offer(Side::Ingress)]
    }

    pub(super) fn key(self) -> MapKey {
        MapKey { flow: packets(self.number), interface: 100 + self.from.hop.number() }
    }
}
