//! What the benchmarks share: packets, tables of a realistic size, and a switch over ports in memory.

use std::time::Duration;

pub mod packets;
pub mod rig;

/// The time that `count` runs take when each takes as long as the median one. Criterion's own mean of a sample has in it
/// every time the benchmark lost its core to something else, which on a shared machine is most of what changes.
pub fn typical(count: u64, run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<_> = std::iter::repeat_with(run).take(count as usize).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    *median * count as u32
}
