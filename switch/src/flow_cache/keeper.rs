//! The thread that owns the kernel's map.

mod look;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::RecvTimeoutError;
use foldhash::fast::RandomState;

use super::kernel::{FlowMap, MapKey, NO_FENCE, Usage, Written};
use super::ledger::{Ledger, Offered, Record};
use super::link::{Links, Message, Order, Resident};
use crate::pipeline::{News, Offer, Request};
use crate::stats::Counter;
use crate::tables::Hop;
use crate::tables::conntrack::{FlowEnd, FlowKey, Unseen};
use crate::wire::ethernet;

/// How often the kernel is asked what it forwarded: the totals of connections and endpoints are that old at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the keeper rests after each batch of messages. While it does, more gather, and sending them costs a worker no wake-up of
/// this thread: two flows a connection come and go, and waking it for each costs a worker more than writing them.
const REST: Duration = Duration::from_millis(1);

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
                    std::thread::sleep(REST);
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
            record.set_cached(now);
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
            record.set_cached(self.map.now());
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
