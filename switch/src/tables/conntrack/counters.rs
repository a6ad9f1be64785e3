//! What a table has done since it was made.

use super::state::State;

/// Totals; the fill is in [`Connections::len`](super::Connections::len) and
/// [`in_state`](super::Connections::in_state).
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Connections opened, those that replaced one that was over among them.
    pub opened: u64,
    /// Connections that replaced one that was over.
    pub reopened: u64,
    /// Connections forgotten because they were idle.
    pub expired: u64,
    /// Connections given up to make room while the table was full, by the [`State`] they were in.
    pub evicted: [u64; State::COUNT],
    /// Connections given up because more keys fell into two buckets of the index than fit. Stays 0 unless somebody
    /// knows the seed of the hash.
    pub collided: u64,
    /// Connections removed by the caller.
    pub removed: u64,
    /// Packets of a connection that lay outside its window, or were no sign of life for another reason, and were let
    /// through without effect.
    pub ignored: u64,
    /// Packets refused, by [`Fault`](super::Fault).
    pub refused: [u64; 3],
}
