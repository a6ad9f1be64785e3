//! Which ends have offered which flows.

use std::collections::HashMap;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::kernel::{CachedFlow, MapKey, Usage};
use crate::pipeline::{Offer, Party};
use crate::tables::conntrack::{FlowEnd, FlowKey, Side};
use crate::tables::{Hop, HopKind};

/// All flows that an end has offered, by the key of their packets.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    records: HashMap<FlowKey, Record, RandomState>,
    /// The youngest generation of hops that had another before.
    generations: HashMap<Hop, u32, RandomState>,
}

/// A flow.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) key: MapKey,
    pub(super) from: Party,
    pub(super) to: Party,
    original: bool,
    /// The ends that have offered it, the sender's first.
    ends: [Option<FlowEnd>; 2],
    /// Whether it is in the map.
    pub(super) cached: bool,
    /// What its workers and endpoints were told of.
    pub(super) told: Usage,
    /// When it was last offered or used.
    pub(super) since: Duration,
}

/// What an offer leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// All its ends agree: it is to be written.
    Agreed,
    /// Another end has yet to offer it, or it is in the map already.
    Noted,
    /// It was judged before something changed that it relies on.
    Outdated,
}

impl Ledger {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn get(&self, key: &FlowKey) -> Option<&Record> {
        self.records.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &FlowKey) -> Option<&mut Record> {
        self.records.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: &FlowKey) -> Option<Record> {
        self.records.remove(key)
    }

    /// Flows that match.
    pub(super) fn keys_of(&self, mut matches: impl FnMut(&Record) -> bool) -> Vec<FlowKey> {
        self.records.values().filter(|record| matches(record)).map(|record| record.key.flow).collect()
    }

    /// A record of the same packets that says something else about them, and has to go before `offer` can be noted.
    pub(super) fn contradicts(&self, offer: &Offer) -> bool {
        self.records.get(offer.key()).is_some_and(|record| {
            (record.from, record.to, record.key.interface, record.original)
                != (offer.from, offer.to, offer.interface, offer.is_original())
        })
    }

    /// Notes an offer that nothing contradicts.
    pub(super) fn offer(&mut self, offer: &Offer, now: Duration) -> Offered {
        if !self.is_current(offer.from) || !self.is_current(offer.to) {
            return Offered::Outdated;
        }
        let record = self.records.entry(*offer.key()).or_insert_with(|| Record {
            key: MapKey { flow: *offer.key(), interface: offer.interface },
            from: offer.from,
            to: offer.to,
            original: offer.is_original(),
            ends: [None, None],
            cached: false,
            told: Usage::default(),
            since: now,
        });
        record.ends[offer.end.seen as usize] = Some(offer.end);
        record.since = now;
        if !record.cached && record.is_agreed() { Offered::Agreed } else { Offered::Noted }
    }

    /// Notes a flow that is in the map, offered by all ends it needs.
    pub(super) fn adopt(&mut self, key: MapKey, flow: &CachedFlow, ends: [Option<FlowEnd>; 2], told: Usage) {
        let record = Record {
            key,
            from: flow.from,
            to: flow.to,
            original: flow.original,
            ends,
            cached: true,
            told,
            since: told.last_seen,
        };
        self.records.insert(key.flow, record);
    }

    /// The flow of `end`, if it has offered it.
    pub(super) fn offered_by(&self, end: &FlowEnd) -> Option<&Record> {
        let record = self.records.get(&end.key)?;
        let by_it = record.ends[end.seen as usize].is_some_and(|offered| offered.endpoint == end.endpoint);
        by_it.then_some(record)
    }

    /// The hop has a new generation. Returns the flows that are not to be cached any more.
    pub(super) fn outdate(&mut self, hop: Hop, generation: u32) -> Vec<FlowKey> {
        self.generations.insert(hop, generation);
        let is_old = |party: Party| party.hop == hop && party.generation < generation;
        self.keys_of(|record| is_old(record.from) || is_old(record.to))
    }

    pub(super) fn is_current(&self, party: Party) -> bool {
        self.generations.get(&party.hop).is_none_or(|generation| party.generation >= *generation)
    }
}

impl Record {
    /// The ends that have offered it.
    pub(super) fn ends(&self) -> impl Iterator<Item = FlowEnd> + use<> {
        self.ends.into_iter().flatten()
    }

    /// Whether all ends it needs have offered it.
    pub(super) fn is_agreed(&self) -> bool {
        needs_end(self.from.hop) <= self.ends[Side::Egress as usize].is_some()
            && needs_end(self.to.hop) <= self.ends[Side::Ingress as usize].is_some()
    }

    /// It is in the map from now on.
    pub(super) fn set_cached(&mut self, now: Duration) {
        self.cached = true;
        self.told = Usage { last_seen: now, ..Usage::default() };
    }

    /// As it is written.
    pub(super) fn flow(&self, fence: u16) -> CachedFlow {
        CachedFlow { from: self.from, to: self.to, original: self.original, fence }
    }
}

/// Whether somebody on this node has to judge what comes from or goes to this hop.
pub(super) fn needs_end(hop: Hop) -> bool {
    matches!(hop.kind(), HopKind::Endpoint(_))
}
