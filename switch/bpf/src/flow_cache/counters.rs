//! What became of packets: `enum outcome`, `c/flow_cache.h`.

use std::ops::AddAssign;

/// What became of a packet in the flow cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Outcome {
    /// Forwarded by its flow.
    Hit,
    /// Went up: no such flow.
    Miss,
    /// Went up: there is a flow, but one of its hops is not what it was.
    Revoked,
    /// Went up: the flow's older packets were still on their way through the worker.
    Pending,
    /// Forwarded without waiting longer for a packet that was lost; counted as a hit too.
    Forced,
    /// Went up: no packet in the middle of a TCP or UDP flow.
    Unusual,
    /// Went up: larger than the next hop takes.
    TooBig,
    /// Went up, marked: the source MAC was not the endpoint's.
    Spoofed,
    /// Went up, marked: from a VTEP that is no peer.
    UnknownPeer,
    /// Came down from the worker, and went where it said.
    Delivered,
    /// Dropped: nobody is known behind the interface, or there is no trunk.
    NoPort,
    /// Dropped: of another VNI.
    OtherVni,
    /// Dropped: came down for a hop that is not there.
    NoHop,
    /// Dropped: on a trunk, but without the worker's tag.
    BadTag,
    /// Dropped: for a VTEP, but the tunnel header was refused.
    NoTunnel,
}

impl Outcome {
    /// All of them, in the order of the programs' numbers.
    pub const ALL: [Self; 15] = [
        Self::Hit,
        Self::Miss,
        Self::Revoked,
        Self::Pending,
        Self::Forced,
        Self::Unusual,
        Self::TooBig,
        Self::Spoofed,
        Self::UnknownPeer,
        Self::Delivered,
        Self::NoPort,
        Self::OtherVni,
        Self::NoHop,
        Self::BadTag,
        Self::NoTunnel,
    ];

    /// Its name, as in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Revoked => "revoked",
            Self::Pending => "pending",
            Self::Forced => "forced",
            Self::Unusual => "unusual",
            Self::TooBig => "too_big",
            Self::Spoofed => "spoofed",
            Self::UnknownPeer => "unknown_peer",
            Self::Delivered => "delivered",
            Self::NoPort => "no_port",
            Self::OtherVni => "other_vni",
            Self::NoHop => "no_hop",
            Self::BadTag => "bad_tag",
            Self::NoTunnel => "no_tunnel",
        }
    }

    /// The packet is gone.
    pub fn is_drop(self) -> bool {
        matches!(self, Self::NoPort | Self::OtherVni | Self::NoHop | Self::BadTag | Self::NoTunnel)
    }
}

/// How often each [`Outcome`] came, since the maps were made. Super-packets count once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters([u64; Outcome::ALL.len()]);

impl Counters {
    /// How often `outcome` came.
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }

    /// All of them with their outcomes.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        Outcome::ALL.into_iter().map(|outcome| (outcome, self.get(outcome)))
    }

    /// Of one processor, as the map has them.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut counters = Self::default();
        for (count, field) in counters.0.iter_mut().zip(bytes.as_chunks().0) {
            *count = u64::from_ne_bytes(*field);
        }
        counters
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.wrapping_add(theirs);
        }
    }
}
