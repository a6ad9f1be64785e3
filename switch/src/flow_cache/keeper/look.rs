//! What the keeper learns from the map: what was forwarded, what is idle, and what nobody knows.

use std::time::Duration;

use crossbeam::channel::Sender;

use super::super::kernel::{CachedFlow, FlowMap, MapKey, Usage};
use super::super::ledger::needs_end;
use super::Keeper;
use crate::pipeline::News;
use crate::tables::conntrack::{Direction, FlowEnd, Side, Unseen};
use crate::tables::{Hop, HopKind};

/// Flows that are not used for this long leave the cache; then their connections age like all others. Less than the shortest
/// time that a connection with such a flow may be silent, 30 s.
const IDLE: Duration = Duration::from_secs(20);

impl<M: FlowMap + 'static> Keeper<M> {
    /// Asks the kernel what it forwarded, and drops what was not used for long.
    pub(in super::super) fn look(&mut self) {
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
    pub(super) fn take_over(&mut self, done: &Sender<usize>) {
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
}
