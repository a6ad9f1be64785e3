//! What Heddle is to reach, and whether it did in this run.

use serde::Serialize;

use crate::system::metric::Metric;
use crate::system::results::Results;
use crate::system::scenario::{Crowd, Reach, Scenario, SystemName};
use crate::system::stats::{Summary, ratio};

/// A bound on a number, or on its ratio to another system's.
#[derive(Debug, Clone, Copy)]
struct Target {
    system: SystemName,
    scenario: Scenario,
    metric: Metric,
    /// The number itself when nobody is named.
    against: Option<SystemName>,
    bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Under(f64),
}

/// What became of a target.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub(crate) target: String,
    pub(crate) system: SystemName,
    pub(crate) scenario: Scenario,
    pub(crate) metric: Metric,
    pub(crate) against: Option<SystemName>,
    pub(crate) wanted: String,
    /// Of this run; absent when it was not measured.
    pub(crate) value: Option<f64>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) met: Option<bool>,
    /// In percent of what was wanted.
    pub(crate) missed_by_percent: Option<f64>,
}

/// In the order of the report. Heddle has a policy on every pod, the others have none.
fn all() -> Vec<Target> {
    use Bound::{AtLeast, AtMost, Under};
    use Reach::{AcrossNodes, SameNode};
    use SystemName::{Bridge, BridgeVxlan, HeddleCached, HeddleDirect, Ovs};
    let to = |system, scenario, metric, against, bound| Target { system, scenario, metric, against, bound };
    let stream = Scenario::Stream;
    let ping_pong = Scenario::PingPong;
    let packets = Scenario::Packets(SameNode);
    let [alone, crowd] = [Crowd::Alone, Crowd::Sixteen].map(Scenario::PodStart);
    vec![
        to(HeddleCached, stream(SameNode), Metric::Throughput, Some(Bridge), AtLeast(1.1)),
        to(HeddleCached, packets, Metric::Delivered, Some(Bridge), AtLeast(1.5)),
        to(HeddleCached, ping_pong(SameNode), Metric::LatencyP50, Some(Bridge), AtMost(0.9)),
        to(HeddleCached, stream(AcrossNodes), Metric::Throughput, Some(BridgeVxlan), AtLeast(1.0)),
        to(HeddleCached, ping_pong(AcrossNodes), Metric::LatencyP50, Some(BridgeVxlan), AtMost(0.75)),
        to(HeddleDirect, packets, Metric::Delivered, Some(Ovs), AtLeast(1.3)),
        to(HeddleCached, stream(SameNode), Metric::Throughput, Some(Ovs), AtLeast(4.0)),
        to(HeddleCached, Scenario::Connections(SameNode), Metric::ConnectionRate, Some(Bridge), AtLeast(0.8)),
        to(HeddleCached, Scenario::Idle, Metric::SwitchCpu, None, Under(1.0)),
        to(HeddleDirect, Scenario::Idle, Metric::SwitchCpu, None, Under(1.0)),
        to(HeddleCached, alone, Metric::AddP50, Some(Bridge), AtMost(0.5)),
        to(HeddleCached, alone, Metric::AddP99, Some(Bridge), AtMost(0.5)),
        to(HeddleCached, crowd, Metric::AddP50, Some(Bridge), AtMost(0.5)),
        to(HeddleCached, crowd, Metric::AddP99, Some(Bridge), AtMost(0.5)),
    ]
}

pub(super) fn outcomes(results: &Results) -> Vec<Outcome> {
    all().iter().map(|target| target.outcome(results)).collect()
}

impl Target {
    fn outcome(&self, results: &Results) -> Outcome {
        let Self { system, scenario, metric, against, bound } = *self;
        let own = results.samples(scenario, system, metric);
        let measured = match against {
            Some(other) => ratio(own, results.samples(scenario, other, metric)),
            None => Summary::of(own.iter().map(|sample| sample.value)),
        };
        let value = measured.map(|measured| measured.median);
        let (unit, title) = (metric.about().unit, metric.about().title);
        Outcome {
            target: match against {
                Some(other) => format!("{system} against {other}, {}: {title}", scenario.title()),
                None => format!("{system}, {}: {title} ({unit})", scenario.title()),
            },
            system,
            scenario,
            metric,
            against,
            wanted: format!("{bound}{}", if against.is_some() { "×" } else { "" }),
            value,
            min: measured.map(|measured| measured.min),
            max: measured.map(|measured| measured.max),
            met: value.map(|value| bound.holds(value)),
            missed_by_percent: value.filter(|value| !bound.holds(*value)).map(|value| bound.missed_by(value)),
        }
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
            Self::Under(bound) => value < bound,
        }
    }

    /// In percent of the bound.
    fn missed_by(self, value: f64) -> f64 {
        let (Self::AtLeast(bound) | Self::AtMost(bound) | Self::Under(bound)) = self;
        (value - bound).abs() * 100.0 / bound
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
            Self::Under(bound) => write!(f, "< {bound}"),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Met and missed are computed from the run, by ratios of rounds; what was not measured is neither.
    use super::*;

    fn outcome(direct: &[f64], ovs: &[f64]) -> Outcome {
        let mut results = Results::default();
        let scenario = Scenario::Packets(Reach::SameNode);
        for (system, values) in [(SystemName::HeddleDirect, direct), (SystemName::Ovs, ovs)] {
            for (round, value) in values.iter().enumerate() {
                results.add((scenario, system), Metric::Delivered, round, *value);
            }
        }
        let outcomes = outcomes(&results);
        assert_eq!(
            outcomes.iter().filter(|outcome| outcome.met.is_some()).count(),
            usize::from(!ovs.is_empty())
        );
        outcomes.into_iter().find(|outcome| outcome.against == Some(SystemName::Ovs)).unwrap()
    }

    #[test]
    fn met() {
        let met = outcome(&[130.0, 280.0, 150.0], &[100.0, 200.0, 100.0]);
        assert_eq!((met.met, met.value, met.missed_by_percent), (Some(true), Some(1.4), None));
        assert_eq!(met.wanted, "≥ 1.3×");
    }

    #[test]
    fn missed() {
        let missed = outcome(&[104.0], &[100.0]);
        assert_eq!(missed.met, Some(false));
        assert!((missed.missed_by_percent.unwrap() - 20.0).abs() < 1e-9);
        let late = Bound::AtMost(0.75);
        assert!(late.holds(0.75) && !late.holds(0.76) && (late.missed_by(0.9) - 20.0).abs() < 1e-9);
        assert!(!Bound::Under(1.0).holds(1.0) && Bound::Under(1.0).holds(0.99));
    }

    #[test]
    fn not_measured() {
        let none = outcome(&[104.0], &[]);
        assert_eq!((none.met, none.value), (None, None));
    }
}
