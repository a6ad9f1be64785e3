//! Limits of an endpoint's traffic: what may be asked for, and what it means for the kernel's token buckets.

use std::ops::RangeInclusive;

use heddle_api as api;
use heddle_netdev::Shape;
use serde::{Deserialize, Serialize};

use crate::wire::ethernet;

/// Bits a second. Below, one full packet takes a quarter of a second and TCP stalls; above, no limit is one.
const RATES: RangeInclusive<u64> = 64_000..=100_000_000_000;

/// Buckets count Ethernet frames; whoever measures counts frames, IP packets, or what they carry: of a full TCP segment 95.5 % over IPv4,
/// 94.1 % over IPv6. With two per cent more all of that is within five per cent of the rate.
const PERCENT: u64 = 102;

/// What runtimes ask for as burst when nobody has said one: Kubernetes has an annotation for the rate alone. Taken by its word, a
/// quarter of a gigabyte would pass before the limit begins.
const NO_OPINION: u64 = i32::MAX as u64;

/// How long a bucket takes to fill, if its size is the switch's choice: twenty milliseconds keep the sum over two seconds within a
/// per cent of the rate. More than 128 KiB, two of the largest super-packets, are good only against late timers, which two
/// milliseconds are enough for.
const FILL: u64 = 20;
const FILL_AT_LEAST: u64 = 2;
const ENOUGH: u64 = 128 << 10;

/// How much may wait, as time: what TCP needs to fill the rate over a wide-area round trip, and at high rates, where that is much
/// memory, over one in the cluster. At low rates some packets, whatever time they take.
const QUEUE: u64 = 50;
const QUEUE_AT_LEAST: u64 = 5;
const MUCH: u64 = 1 << 20;
const SOME_PACKETS: u64 = 16;

/// Both directions, seen from the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Bandwidth {
    /// What it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ingress: Option<Limit>,
    /// What it sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) egress: Option<Limit>,
}

/// The limit of one direction, as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Limit {
    /// Bits a second.
    rate: u64,
    /// Bits; 0 is the switch's choice.
    burst: u64,
}

impl Bandwidth {
    pub(super) fn is_unlimited(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }

    pub(super) fn to_message(self) -> Option<api::Bandwidth> {
        let pair = |limit: Option<Limit>| limit.map_or((0, 0), |limit| (limit.rate, limit.burst));
        let ((ingress_rate, ingress_burst), (egress_rate, egress_burst)) =
            (pair(self.ingress), pair(self.egress));
        let message = api::Bandwidth { ingress_rate, ingress_burst, egress_rate, egress_burst };
        (!self.is_unlimited()).then_some(message)
    }
}

impl Limit {
    /// What that is for an endpoint whose largest IP packet has `mtu` bytes.
    pub(super) fn shape(self, mtu: u16) -> Shape {
        let frame = u64::from(mtu) + ethernet::HEADER as u64;
        let rate = self.rate / 8 * PERCENT / 100;
        let in_milliseconds = |time: u64| rate * time / 1000;
        let usual = in_milliseconds(FILL).min(ENOUGH.max(in_milliseconds(FILL_AT_LEAST)));
        let burst = if matches!(self.burst, 0 | NO_OPINION..) { usual } else { self.burst / 8 };
        let burst = burst.max(2 * frame);
        let waiting = in_milliseconds(QUEUE).min(MUCH.max(in_milliseconds(QUEUE_AT_LEAST)));
        let queue = burst + waiting.max(SOME_PACKETS * frame);
        let number = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        Shape { rate, burst: number(burst), queue: number(queue) }
    }
}

/// Checks the limits of a request.
pub(super) fn parse(requested: Option<api::Bandwidth>) -> Result<Bandwidth, Vec<String>> {
    let requested = requested.unwrap_or_default();
    let mut mistakes = Vec::new();
    let mut limit = |direction, rate, burst| {
        limit(rate, burst).unwrap_or_else(|problem| {
            mistakes.push(format!("bandwidth: {direction}_{problem}"));
            None
        })
    };
    let ingress = limit("ingress", requested.ingress_rate, requested.ingress_burst);
    let egress = limit("egress", requested.egress_rate, requested.egress_burst);
    if mistakes.is_empty() { Ok(Bandwidth { ingress, egress }) } else { Err(mistakes) }
}

fn limit(rate: u64, burst: u64) -> Result<Option<Limit>, String> {
    match rate {
        0 if burst == 0 => Ok(None),
        0 => Err(format!("burst is {burst} without a rate; give both, or the rate alone")),
        _ if RATES.contains(&rate) => Ok(Some(Limit { rate, burst })),
        _ => Err(format!("rate is {rate}, write from {} to {} bits a second", RATES.start(), RATES.end())),
    }
}

#[cfg(test)]
mod tests {
    //! A bucket holds a packet and little more than the rate allows; absurd limits are refused by name.
    use super::*;

    fn shape(rate: u64, burst: u64) -> Shape {
        Limit { rate, burst }.shape(1450)
    }

    #[test]
    fn buckets_are_small_against_two_seconds_of_the_rate() {
        for rate in [1_000_000, 20_000_000, 200_000_000, 1_000_000_000, 10_000_000_000] {
            let shape = shape(rate, 0);
            assert_eq!(shape.rate, rate / 800 * 102);
            assert!(u64::from(shape.burst) * 100 <= shape.rate * 3, "{rate}: {shape:?}");
            assert!(shape.burst >= 2 * 1464 && shape.queue > shape.burst, "{rate}: {shape:?}");
        }
    }

    #[test]
    fn a_burst_is_taken_by_its_word_unless_nobody_meant_it() {
        assert_eq!(shape(20_000_000, 8_000_000).burst, 1_000_000);
        assert_eq!(shape(20_000_000, NO_OPINION), shape(20_000_000, 0));
        assert_eq!(shape(20_000_000, 8).burst, 2 * 1464, "a packet has to fit");
    }

    #[test]
    fn absurd_limits_are_refused() {
        for (field, bandwidth) in [
            ("ingress_rate", api::Bandwidth { ingress_rate: 1000, ..api::Bandwidth::default() }),
            ("egress_rate", api::Bandwidth { egress_rate: u64::MAX, ..api::Bandwidth::default() }),
            ("egress_burst", api::Bandwidth { egress_burst: 1000, ..api::Bandwidth::default() }),
        ] {
            let mistakes = parse(Some(bandwidth)).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].contains(field), "{mistakes:?}");
        }
        assert!(parse(None).unwrap().is_unlimited());
        assert!(parse(Some(api::Bandwidth::default())).unwrap().is_unlimited());
    }

    #[test]
    fn what_was_asked_for_is_what_is_told() {
        let asked = api::Bandwidth {
            ingress_rate: 1_000_000,
            egress_burst: 80_000,
            egress_rate: 2_000_000,
            ingress_burst: 0,
        };
        assert_eq!(parse(Some(asked)).unwrap().to_message(), Some(asked));
    }
}
