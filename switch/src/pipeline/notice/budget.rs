//! How many notices a worker may send (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 f), and how many of them about
//! one sender's packets, so that none uses up what the others need to learn a path's MTU.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::tables::EndpointNumber;

/// All senders together. One notice a millisecond in the long run: 1,000 a second, as Linux allows by default
/// (`icmp_msgs_per_sec`); the burst may go out at once after a pause.
const TOTAL: Rate = Rate { interval: Duration::from_millis(1), burst: 64 };

/// One sender: an eighth in the long run, a quarter of a burst.
const SHARE: Rate = Rate { interval: Duration::from_millis(8), burst: 16 };

/// Shares there is room for. Senders whose hashes meet have one together; the key makes that chance.
const SHARES: usize = 256;

/// Whose packet a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// An endpoint of this node, whatever address it uses. The host is one, with the world behind it.
    Endpoint(EndpointNumber),
    /// A source behind another node, which has checked that it is its own.
    Remote(IpAddr),
}

/// What is left to send, in memory that does not grow with the senders.
#[derive(Debug)]
pub(in crate::pipeline) struct Budget {
    total: Bucket,
    shares: Box<[Bucket; SHARES]>,
    key: RandomState,
}

impl Default for Budget {
    fn default() -> Self {
        let shares = Box::new([Bucket::default(); SHARES]);
        Self { total: Bucket::default(), shares, key: RandomState::new() }
    }
}

impl Budget {
    /// Takes one notice about a packet of `who` out of the budget; false when there is none. Who has used up its share
    /// takes nothing from the others.
    pub(super) fn spend(&mut self, now: Instant, who: Who) -> bool {
        let place = self.key.hash_one(who) as usize % SHARES;
        let Some(share) = self.shares.get_mut(place) else { return false };
        let (Some(share_left), Some(total_left)) = (share.take(SHARE, now), self.total.take(TOTAL, now))
        else {
            return false;
        };
        (*share, self.total) = (share_left, total_left);
        true
    }
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    interval: Duration,
    burst: u32,
}

/// A token bucket, kept as the time at which it is full again.
#[derive(Debug, Default, Clone, Copy)]
struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// The bucket with one token less; `None` when it is empty.
    fn take(self, rate: Rate, now: Instant) -> Option<Self> {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + rate.interval;
        (full_at.duration_since(now) <= rate.interval * rate.burst).then_some(Self { full_at: Some(full_at) })
    }
}

#[cfg(test)]
mod tests {
    //! The budget bounds bursts and the long run, comes back with time, and is not one sender's to use up.
    use super::*;

    fn spent(budget: &mut Budget, now: Instant, who: Who) -> usize {
        (0..1000).filter(|_| budget.spend(now, who)).count()
    }

    /// Two senders with shares of their own.
    fn strangers(budget: &Budget) -> [Who; 2] {
        let place = |who: &Who| budget.key.hash_one(who) as usize % SHARES;
        let one = Who::Endpoint(1);
        let other = (2..1000).map(Who::Endpoint).find(|who| place(who) != place(&one)).unwrap();
        [one, other]
    }

    #[test]
    fn a_sender_gets_a_burst_then_its_rate() {
        let mut budget = Budget::default();
        let start = Instant::now();
        let who = Who::Endpoint(7);
        assert_eq!(spent(&mut budget, start, who), SHARE.burst as usize);
        assert!(!budget.spend(start + SHARE.interval / 2, who));
        assert!(budget.spend(start + SHARE.interval, who));
        assert!(!budget.spend(start + SHARE.interval, who));
        let later = start + Duration::from_hours(1);
        assert_eq!(spent(&mut budget, later, who), SHARE.burst as usize);
    }

    #[test]
    fn all_together_get_a_burst_then_the_rate() {
        let mut budget = Budget::default();
        let start = Instant::now();
        let crowd = || (0..1000_u32).map(|n| Who::Remote(IpAddr::from([10, 244, (n >> 8) as u8, n as u8])));
        let all = |budget: &mut Budget, now| crowd().filter(|who| budget.spend(now, *who)).count();
        assert_eq!(all(&mut budget, start), TOTAL.burst as usize);
        assert_eq!(all(&mut budget, start + TOTAL.interval * 5), 5);
    }

    #[test]
    fn a_flood_leaves_the_others_theirs() {
        let mut budget = Budget::default();
        let start = Instant::now();
        let [flood, other] = strangers(&budget);
        for millisecond in 0..1000 {
            let now = start + Duration::from_millis(millisecond);
            spent(&mut budget, now, flood);
            assert_eq!(budget.spend(now, other), millisecond < 18 || millisecond % 8 == 0, "{millisecond}");
        }
    }

    #[test]
    fn time_that_steps_back_gives_nothing_away() {
        let mut budget = Budget::default();
        let start = Instant::now() + Duration::from_secs(10);
        let who = Who::Endpoint(1);
        while budget.spend(start, who) {}
        assert!(!budget.spend(start.checked_sub(Duration::from_secs(5)).unwrap(), who));
    }
}
