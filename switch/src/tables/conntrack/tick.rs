//! The table's idea of time.

use std::time::Duration;

/// Eighths of a second since the switch started: coarse enough to read once a batch, and 32 bits of them last for
/// 17 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(u32);

/// Ticks in a second.
const PER_SECOND: u32 = 8;
/// Nanoseconds in a tick.
const NANOS: u32 = 1_000_000_000 / PER_SECOND;

impl Tick {
    /// The tick at `elapsed` since the start.
    pub fn at(elapsed: Duration) -> Self {
        let ticks = elapsed.as_secs() * u64::from(PER_SECOND) + u64::from(elapsed.subsec_nanos() / NANOS);
        Self(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// Ticks gone by since `earlier`; 0 if it is not earlier.
    #[inline]
    pub(super) const fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }

    /// The tick that was `time` ago; the start, if that was later.
    pub(super) fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(Self::at(time).0))
    }

    /// `seconds` in ticks.
    pub(super) const fn count(seconds: u32) -> u32 {
        seconds * PER_SECOND
    }

    /// How long `ticks` last.
    pub(super) fn duration(ticks: u32) -> Duration {
        Duration::from_millis(u64::from(ticks) * 1000 / u64::from(PER_SECOND))
    }
}
