//! The thread that owns the kernel's map.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{RecvTimeoutError, Sender};
use foldhash::fast::RandomState;

use super::kernel::{CachedFlow, FlowMap, MapKey, NO_FENCE, Usage, Written};
use super::ledger::{Ledger, Offered, Record, needs_end};
use super::link::{Links, Message, Order, Resident};
use crate::pipeline::{News, Offer, Request};
use crate::stats::Counter;
use crate::tables::conntrack::{Direction, FlowEnd, FlowKey, Side, Unseen};
use crate::tables::{Hop, HopKind};
use crate::wire::ethernet;

/// How often the kernel is asked what it forwarded: the totals of connections and endpoints are that old at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Flows that are not used for this long leave the cache; then their connections age like all others. Less than the shortest
/// time that a connection with such a flow may be silent, 30 s.
const IDLE: Duration = Duration::from_secs(20);

/// Messages that are carried out together, with one system call for all flows to be written.
const AT_ONCE: usize = 256;

/// News that a worker hears between two rounds: some microseconds.
const NEWS_AT_ONCE: usize = 64;

/// What the keeper has done so far. It alone counts here.
#[derive(Debug, Default)]
pub struct KeeperStats {
    /// Flows in the map now, not a total.
    pub flows: AtomicU64,
    /// Flows written.
    pub inserted: Counter,
    /// Flows removed.
    pub removed: Counter,
    /// Flows not written because the map was full.
    pub refused: Counter,
}

/// See the [module](super).
pub struct Keeper<M> {
    map: M,
    pub(super) links: Links,
    ledger: Ledger,
    residents: HashMap<Hop, Resident, RandomState>,
    /// Records that all ends agree to, to be written.
    agreed: Vec<FlowKey>,
    /// What waits to be told, by worker.
    news: Vec<Vec<News>>,
    next_fence: u16,
    /// Flows in the map.
    cached: u64,
    stats: Arc<KeeperStats>,
    /// An error is logged once, until something works again.
    failing: bool,
    /// There may be flows in the map that nobody knows of, because a change of the map has failed.
    has_strays: bool,
    /// What nobody knew at the last look.
    suspects: HashSet<MapKey, RandomState>,
    /// What a former switch has left in the map is this keeper's now, or gone. Until then it is not for `look` to remove.
    has_taken_over: bool,
}

impl<M: FlowMap + 'static> Keeper<M> {
    /// Over `map`, with lines to all workers.
    pub fn new(map: M, links: Links, stats: Arc<KeeperStats>) -> Self {
        let news = links.news.iter().map(|_| Vec::new()).collect();
        Self {
            map,
            links,
            ledger: Ledger::default(),
            residents: HashMap::default(),
            agreed: Vec::new(),
            news,
            next_fence: 0,
            cached: 0,
            stats,
            failing: false,
            has_strays: false,
            suspects: HashSet::default(),
            has_taken_over: false,
        }
    }

    /// Runs on a thread of its own until it is told to stop.
    pub fn start(self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("flow-cache".to_owned()).spawn(move || self.run())
    }

    fn run(mut self) {
        let mut next_look = Instant::now() + LOOK_EVERY;
        loop {
            match self.links.messages.recv_deadline(next_look) {
                Ok(first) => {
                    if !self.obey(first) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Also when messages never cease: a deadline ends only waiting.
            if Instant::now() >= next_look {
                self.look();
                next_look = Instant::now() + LOOK_EVERY;
            }
        }
    }

    /// Carries out a message, and others that wait behind it. False when one says to stop.
    pub(super) fn obey(&mut self, first: Message) -> bool {
        let mut messages = 0;
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Request(Request::Offer(offer)) => self.offered(&offer),
                Message::Request(Request::Recall(end)) => self.recalled(&end),
                Message::Request(Request::Written(offers)) => self.written(&offers),
                Message::Order(Order::Stop) => return false,
                Message::Order(order) => self.ordered(order),
            }
            messages += 1;
            next = if messages < AT_ONCE { self.links.messages.try_recv().ok() } else { None };
        }
        self.write();
        self.tell();
        true
    }

    fn offered(&mut self, offer: &Offer) {
        if self.ledger.contradicts(offer) {
            self.drop_flows(&[*offer.key()]);
        }
        match self.ledger.offer(offer, self.map.now()) {
            Offered::Agreed => self.agreed.push(*offer.key()),
            Offered::Noted => {}
            Offered::Outdated => self.report(News::Dropped(offer.end, Unseen::default())),
        }
    }

    /// A worker has written flows itself, with what all ends have to say.
    fn written(&mut self, offers: &[Offer]) {
        for offer in offers {
            if self.ledger.contradicts(offer) {
                // Takes the new flow out of the map as well, as they have one key; it is written again.
                self.drop_flows(&[*offer.key()]);
                self.agreed.push(*offer.key());
            }
        }
        for offer in offers {
            match self.ledger.offer(offer, self.map.now()) {
                Offered::Agreed if !self.agreed.contains(offer.key()) => self.note_written(offer),
                Offered::Agreed | Offered::Noted => {}
                Offered::Outdated => {
                    self.remove(&[MapKey { flow: *offer.key(), interface: offer.interface }]);
                    self.report(News::Dropped(offer.end, Unseen::default()));
                }
            }
        }
        self.count();
    }

    fn note_written(&mut self, offer: &Offer) {
        let now = self.map.now();
        if let Some(record) = self.ledger.get_mut(offer.key()) {
            record.cached = true;
            record.told = Usage { last_seen: now, ..Usage::default() };
            self.stats.inserted.add(1);
            self.cached += 1;
        }
    }

    fn recalled(&mut self, end: &FlowEnd) {
        if self.ledger.offered_by(end).is_some() {
            self.drop_flows(&[end.key]);
        }
    }

    fn ordered(&mut self, order: Order) {
        match order {
            Order::Settle(hop, resident) => drop(self.residents.insert(hop, resident)),
            Order::Leave(hop) => {
                let gone = self.ledger.keys_of(|record| record.from.hop == hop || record.to.hop == hop);
                self.drop_flows(&gone);
                self.residents.remove(&hop);
            }
            Order::Generation(hop, generation) => {
                let outdated = self.ledger.outdate(hop, generation);
                self.drop_flows(&outdated);
            }
            Order::TakeOver(done) => self.take_over(&done),
            Order::Stop => {}
        }
    }

    /// Writes what was agreed.
    fn write(&mut self) {
        let agreed = std::mem::take(&mut self.agreed);
        let mut flows = Vec::with_capacity(agreed.len());
        for key in agreed {
            // Recalled meanwhile, perhaps offered again by one end only, or agreed twice.
            let is_due = |record: &&mut Record| !record.cached && record.is_agreed();
            let Some(record) = self.ledger.get_mut(&key).filter(is_due) else { continue };
            record.cached = true;
            record.told = Usage { last_seen: self.map.now(), ..Usage::default() };
            flows.push((record.key, record.flow(self.next_fence)));
            self.next_fence = (self.next_fence + 1) % NO_FENCE;
        }
        if flows.is_empty() {
            return;
        }
        let mut written = self.map.insert(&flows);
        // What nobody knows of is from a time before this keeper.
        let is_there = |written: &Written| *written == Written::Exists;
        if written.as_ref().is_ok_and(|written| written.iter().any(is_there)) {
            let keys: Vec<_> = flows.iter().map(|(key, _)| *key).collect();
            written = self.map.remove(&keys).and_then(|_| self.map.insert(&flows));
        }
        self.has_strays |= written.is_err();
        let written = self.succeeded(written).unwrap_or_else(|| vec![Written::Full; flows.len()]);
        for ((key, _), written) in flows.iter().zip(written) {
            if written == Written::New {
                self.stats.inserted.add(1);
                self.cached += 1;
            } else {
                self.stats.refused.add(1);
                self.forget(&key.flow, None);
            }
        }
        self.count();
    }

    /// Takes flows out of the map and tells their ends, one that has recalled it too: only so do both sides know that nothing is
    /// left of what was said before.
    fn drop_flows(&mut self, keys: &[FlowKey]) {
        let cached: Vec<MapKey> = keys
            .iter()
            .filter_map(|key| self.ledger.get(key).filter(|record| record.cached))
            .map(|record| record.key)
            .collect();
        let usage = if cached.is_empty() { None } else { self.remove(&cached) };
        let usage: HashMap<FlowKey, Usage, RandomState> = cached
            .iter()
            .zip(usage.unwrap_or_default())
            .filter_map(|(key, usage)| Some((key.flow, usage?)))
            .collect();
        self.stats.removed.add(cached.len() as u64);
        self.cached -= cached.len() as u64;
        for key in keys {
            self.forget(key, usage.get(key).copied());
        }
        self.count();
    }

    /// Takes flows out of the map. One that could not be removed is found at the next look, as one that nobody knows, and removed
    /// then.
    fn remove(&mut self, keys: &[MapKey]) -> Option<Vec<Option<Usage>>> {
        let removed = self.map.remove(keys);
        self.has_strays |= removed.is_err();
        self.succeeded(removed)
    }

    /// Forgets a flow that is not in the map any more, and tells its ends, with what it was used for since they were told.
    fn forget(&mut self, key: &FlowKey, usage: Option<Usage>) {
        let Some(record) = self.ledger.remove(key) else { return };
        let unseen = self.account(&record, usage.unwrap_or(record.told));
        record.ends().for_each(|end| self.report(News::Dropped(end, unseen)));
    }

    /// Counts what a flow was used for since its ends were told, at the endpoints.
    fn account(&self, record: &Record, usage: Usage) -> Unseen {
        let unseen = Unseen {
            packets: usage.packets.saturating_sub(record.told.packets),
            bytes: usage.bytes.saturating_sub(record.told.bytes),
            // One that was never used was seen when it was offered.
            idle: self.map.now().saturating_sub(usage.last_seen.max(record.since)),
        };
        // Ports count from the Ethernet header on.
        let bytes = (unseen.bytes + unseen.packets * ethernet::HEADER as u64) as usize;
        if let Some(sender) = self.residents.get(&record.from.hop) {
            sender.stats.rx.count_batch(unseen.packets as usize, bytes);
        }
        if let Some(receiver) = self.residents.get(&record.to.hop) {
            receiver.stats.tx.count_batch(unseen.packets as usize, bytes);
        }
        unseen
    }

    /// Asks the kernel what it forwarded, and drops what was not used for long.
    pub(super) fn look(&mut self) {
        if self.ledger.len() == 0 && !self.has_strays {
            return;
        }
        let now = self.map.now();
        let mut seen = Vec::new();
        let scanned = self.map.scan(&mut |key, _, usage| seen.push((key, usage)));
        self.has_strays &= self.succeeded(scanned).is_none();
        let mut unknown = Vec::new();
        for (key, usage) in seen {
            match self.ledger.get_mut(&key.flow) {
                Some(record) if record.cached && record.key == key => {
                    if usage.packets == record.told.packets {
                        continue;
                    }
                    let before = record.clone();
                    record.told = usage;
                    record.since = usage.last_seen;
                    let unseen = self.account(&before, usage);
                    before.ends().for_each(|end| self.report(News::Used(end, unseen)));
                }
                _ => unknown.push(key),
            }
        }
        let idle = self.ledger.keys_of(|record| now.saturating_sub(record.since) >= IDLE);
        self.drop_flows(&idle);
        self.remove_strays(unknown);
        self.tell();
    }

    /// Removes what nobody knows, if nobody knew it at the last look either: a worker may have written it just now, and what it
    /// says of it be on its way.
    fn remove_strays(&mut self, unknown: Vec<MapKey>) {
        if !self.has_taken_over {
            return;
        }
        let strays: Vec<_> = unknown.iter().copied().filter(|key| self.suspects.contains(key)).collect();
        if !strays.is_empty() {
            self.remove(&strays);
        }
        self.has_strays |= unknown.len() > strays.len();
        self.suspects = unknown.into_iter().collect();
    }

    /// Makes the map's flows this keeper's: of those whose endpoints are all here, and nothing has changed for. The others go.
    fn take_over(&mut self, done: &Sender<usize>) {
        let mut found = Vec::new();
        let scanned = self.map.scan(&mut |key, flow, usage| found.push((key, flow, usage)));
        self.succeeded(scanned);
        let mut gone = Vec::new();
        for (key, flow, usage) in found {
            match self.ledger.get(&key.flow) {
                None => {}
                // Offered anew, and written, before this.
                Some(record) if record.cached && record.key == key => continue,
                Some(_) => {
                    gone.push(key);
                    continue;
                }
            }
            let is_current = self.ledger.is_current(flow.from) && self.ledger.is_current(flow.to);
            match self.ends_of(key, &flow).filter(|_| is_current) {
                Some(ends) => self.adopt(key, &flow, ends, usage),
                None => gone.push(key),
            }
        }
        if !gone.is_empty() {
            self.remove(&gone);
        }
        self.has_taken_over = true;
        self.count();
        let _ = done.send(self.ledger.len());
    }

    /// The ends of a flow that are on this node; `None` when one should be and is not.
    fn ends_of(&self, key: MapKey, flow: &CachedFlow) -> Option<[Option<FlowEnd>; 2]> {
        let direction = if flow.original { Direction::Original } else { Direction::Reply };
        let end = |hop: Hop, seen| match hop.kind() {
            HopKind::Endpoint(endpoint) if self.residents.contains_key(&hop) => {
                Some(Some(FlowEnd { endpoint, seen, key: key.flow, direction }))
            }
            _ if needs_end(hop) => None,
            _ => Some(None),
        };
        Some([end(flow.from.hop, Side::Egress)?, end(flow.to.hop, Side::Ingress)?])
    }

    fn adopt(&mut self, key: MapKey, flow: &CachedFlow, ends: [Option<FlowEnd>; 2], usage: Usage) {
        let idle = self.map.now().saturating_sub(usage.last_seen);
        let unseen = Unseen { packets: usage.packets, bytes: usage.bytes, idle };
        ends.into_iter().flatten().for_each(|end| self.report(News::Found(end, unseen)));
        self.ledger.adopt(key, flow, ends, usage);
        self.cached += 1;
    }

    /// All ends that have offered a flow which nobody has recalled.
    #[cfg(test)]
    pub(super) fn ends(&self) -> Vec<FlowEnd> {
        let keys = self.ledger.keys_of(|_| true);
        keys.iter().filter_map(|key| self.ledger.get(key)).flat_map(Record::ends).collect()
    }

    /// Notes news for the worker of an end.
    fn report(&mut self, news: News) {
        let (News::Used(end, _) | News::Dropped(end, _) | News::Found(end, _)) = &news;
        let resident = Hop::endpoint(end.endpoint).and_then(|hop| self.residents.get(&hop));
        if let Some(waiting) = resident.and_then(|resident| self.news.get_mut(usize::from(resident.worker))) {
            waiting.push(news);
        }
    }

    /// Tells the workers what there is to tell.
    fn tell(&mut self) {
        for (waiting, line) in self.news.iter_mut().zip(&self.links.news) {
            for some in waiting.chunks(NEWS_AT_ONCE) {
                // Fails only when the worker is gone, and then the process is about to end.
                let _ = line.send(some.to_vec());
            }
            waiting.clear();
        }
    }

    fn count(&self) {
        self.stats.flows.store(self.cached, Ordering::Relaxed);
    }

    /// The value, or `None` and a line in the log.
    fn succeeded<T, E: std::fmt::Display>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => {
                self.failing = false;
                Some(value)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "flows cannot be cached; their packets pass the switch");
                }
                None
            }
        }
    }
}
