//! What was decided about a first fragment, for the fragments behind it.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use foldhash::quality::SeedableRandomState;

use super::super::EndpointNumber;
use super::key::{Key, Side};
use super::tick::Tick;

/// How long later fragments may be under way. 30 s: Linux `ipfrag_time`, after which it has given up reassembly.
const TIMEOUT: u32 = Tick::count(30);
/// Fragmented packets with the same hash that are remembered.
const WAYS: usize = 8;

/// What the fragments of a packet have in common (RFC 791; RFC 8200, section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentKey {
    /// Address it comes from.
    pub source: IpAddr,
    /// Address it goes to.
    pub destination: IpAddr,
    /// What the layer above IP is; 0 for IPv6, where it is none of what they have in common.
    pub protocol: u8,
    /// Identification: 16 bits of IPv4, 32 of the IPv6 fragment header.
    pub identification: u32,
}

/// First fragments seen lately at one worker's endpoints, each with what was decided (a `D`: the verdict, and whatever
/// the caller needs to apply it again). Bounded: the oldest makes way.
///
/// Only the first fragment has ports, so only it can be judged. One that arrives behind a later fragment is too late for
/// that one: [`find`](Self::find) knows nothing, and the packet must be dropped and counted. Holding fragments back until
/// the first arrives would be a buffer that anybody can fill, for a reordering that a path without parallel links does
/// not make; the sender repeats the packet.
#[derive(Debug)]
pub struct Fragments<D> {
    sets: Box<[[Option<Packet<D>>; WAYS]]>,
    seed: SeedableRandomState,
    displaced: u64,
}

#[derive(Debug, Clone, Copy)]
struct Packet<D> {
    key: Key,
    seen_at: Tick,
    decision: D,
}

impl<D: Copy> Fragments<D> {
    /// Room for at least `capacity` packets.
    pub fn new(capacity: usize) -> Self {
        let sets = capacity.div_ceil(WAYS).next_power_of_two();
        Self { sets: vec![[None; WAYS]; sets].into(), seed: SeedableRandomState::random(), displaced: 0 }
    }

    /// Remembers what was decided about a first fragment. The last decision counts: somebody may send two first
    /// fragments, and what lies behind them must go the way of the one that the receiver puts it together with.
    pub fn decide(
        &mut self,
        now: Tick,
        endpoint: EndpointNumber,
        seen: Side,
        fragment: &FragmentKey,
        decision: D,
    ) {
        let key = key(endpoint, seen, fragment);
        let set = self.set(&key);
        let ways = &mut self.sets[set];
        let same = ways.iter().position(|way| way.is_some_and(|packet| packet.key == key));
        // `None` sorts before every tick, so an empty way is the oldest.
        let oldest = || (0..WAYS).min_by_key(|&way| ways[way].map(|packet| packet.seen_at));
        let way = same.or_else(oldest).unwrap_or_default();
        let replaced = ways[way].replace(Packet { key, seen_at: now, decision });
        self.displaced += u64::from(replaced.is_some_and(|old| old.key != key && old.is_live(now)));
    }

    /// What was decided about the first fragment of the packet that a later fragment belongs to.
    pub fn find(&self, now: Tick, endpoint: EndpointNumber, seen: Side, fragment: &FragmentKey) -> Option<D> {
        let key = key(endpoint, seen, fragment);
        let mut packets = self.sets[self.set(&key)].iter().flatten();
        packets.find(|packet| packet.key == key && packet.is_live(now)).map(|packet| packet.decision)
    }

    /// Packets forgotten before their time because there was no room.
    pub fn displaced(&self) -> u64 {
        self.displaced
    }

    fn set(&self, key: &Key) -> usize {
        let mut hasher = self.seed.build_hasher();
        key.hash(&mut hasher);
        hasher.finish() as usize & (self.sets.len() - 1)
    }
}

impl<D> Packet<D> {
    fn is_live(&self, now: Tick) -> bool {
        now.since(self.seen_at) <= TIMEOUT
    }
}

fn key(endpoint: EndpointNumber, seen: Side, fragment: &FragmentKey) -> Key {
    let addresses = [fragment.source, fragment.destination];
    Key::of_fragment(endpoint, seen, addresses, fragment.protocol, fragment.identification)
}
