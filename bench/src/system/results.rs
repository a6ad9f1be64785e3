//! What was measured.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::metric::Metric;
use super::scenario::{Scenario, SystemName};
use super::slice::Counted;
use super::stats::Sample;
use crate::load::Kind;

/// Digits that latencies keep.
const DIGITS: u8 = 3;

/// Everything that was measured in a run.
#[derive(Debug, Default)]
pub(crate) struct Results {
    samples: BTreeMap<(Scenario, SystemName, Metric), Vec<Sample>>,
    latencies: BTreeMap<(Scenario, SystemName), Histogram<u64>>,
    pub(crate) failures: Vec<Failure>,
}

/// A load that could not be measured. The run goes on without it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    pub(crate) scenario: Scenario,
    pub(crate) system: SystemName,
    pub(crate) round: usize,
    pub(crate) error: String,
}

impl Results {
    pub(crate) fn add(
        &mut self,
        (scenario, system): (Scenario, SystemName),
        metric: Metric,
        round: usize,
        value: f64,
    ) {
        self.samples.entry((scenario, system, metric)).or_default().push(Sample { round, value });
    }

    /// Takes the tallies of a load apart.
    pub(crate) fn add_slice(
        &mut self,
        of: (Scenario, SystemName),
        kind: Kind,
        round: usize,
        counted: &Counted,
    ) -> Result<()> {
        let Counted { server, client } = counted;
        match kind {
            Kind::Stream => self.add(of, Metric::Throughput, round, server.per_second() * 8.0 / 1e9),
            Kind::Packets => {
                self.add(of, Metric::Delivered, round, server.per_second() / 1e3);
                self.add(of, Metric::Sent, round, client.per_second() / 1e3);
            }
            Kind::Connections => self.add(of, Metric::ConnectionRate, round, client.per_second()),
            Kind::PingPong => {
                let mut histogram = Histogram::<u64>::new(DIGITS)?;
                for &(nanoseconds, times) in &client.latencies {
                    histogram.record_n(nanoseconds, times)?;
                }
                for (metric, quantile) in [(Metric::LatencyP50, 0.5), (Metric::LatencyP99, 0.99)] {
                    self.add(of, metric, round, microseconds(histogram.value_at_quantile(quantile)));
                }
                self.add(of, Metric::RoundTrips, round, client.per_second());
                match self.latencies.get_mut(&of) {
                    Some(all) => all.add(&histogram).context("latencies")?,
                    None => drop(self.latencies.insert(of, histogram)),
                }
            }
        }
        Ok(())
    }

    /// What there is of a system in a scenario.
    pub(crate) fn samples(&self, scenario: Scenario, system: SystemName, metric: Metric) -> &[Sample] {
        self.samples.get(&(scenario, system, metric)).map_or(&[], Vec::as_slice)
    }

    /// Everything, in the order of the report.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Scenario, SystemName, Metric, &[Sample])> {
        self.samples
            .iter()
            .map(|(&(scenario, system, metric), samples)| (scenario, system, metric, samples.as_slice()))
    }

    /// All round trips of all rounds: the share of requests (0 to 1) that were answered within so many microseconds.
    pub(crate) fn latency_curves(&self) -> impl Iterator<Item = (Scenario, SystemName, Vec<(f64, f64)>)> {
        self.latencies.iter().map(|(&(scenario, system), histogram)| {
            let steps = histogram.iter_quantiles(8);
            let curve =
                steps.map(|step| (microseconds(step.value_iterated_to()), step.quantile_iterated_to()));
            (scenario, system, curve.collect())
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

#[cfg(test)]
mod tests {
    //! Tallies become numbers of the right size and unit, and rounds' latencies one curve.
    use super::*;
    use crate::load::Tally;
    use crate::system::scenario::Reach;

    fn counted(server: u64, client: u64, latencies: &[(u64, u64)]) -> Counted {
        let tally = |amount| Tally { amount, total: amount, seconds: 0.5, latencies: latencies.to_vec() };
        Counted { server: tally(server), client: tally(client) }
    }

    fn one(results: &Results, scenario: Scenario, metric: Metric) -> f64 {
        let [sample] = results.samples(scenario, SystemName::Bridge, metric) else { panic!("{metric:?}") };
        assert_eq!(sample.round, 3);
        sample.value
    }

    #[test]
    fn units_are_right() {
        let mut results = Results::default();
        let of = |scenario: fn(Reach) -> Scenario| (scenario(Reach::SameNode), SystemName::Bridge);
        let (stream, packets, connections) =
            (of(Scenario::Stream), of(Scenario::Packets), of(Scenario::Connections));
        results.add_slice(stream, Kind::Stream, 3, &counted(500_000_000, 0, &[])).unwrap();
        results.add_slice(packets, Kind::Packets, 3, &counted(100_000, 400_000, &[])).unwrap();
        results.add_slice(connections, Kind::Connections, 3, &counted(0, 1500, &[])).unwrap();
        let close = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-9, "{value}");
        close(one(&results, stream.0, Metric::Throughput), 8.0);
        close(one(&results, packets.0, Metric::Delivered), 200.0);
        close(one(&results, packets.0, Metric::Sent), 800.0);
        close(one(&results, connections.0, Metric::ConnectionRate), 3000.0);
        assert_eq!(results.all().count(), 4);
    }

    #[test]
    fn latencies_of_all_rounds_become_one_curve() {
        let mut results = Results::default();
        let of = (Scenario::PingPong(Reach::SameNode), SystemName::Bridge);
        results.add_slice(of, Kind::PingPong, 3, &counted(0, 100, &[(10_000, 98), (50_000, 2)])).unwrap();
        let about = |value: f64, expected: f64| assert!((value / expected - 1.0).abs() < 0.002, "{value}");
        about(one(&results, of.0, Metric::LatencyP50), 10.0);
        about(one(&results, of.0, Metric::LatencyP99), 50.0);
        results.add_slice(of, Kind::PingPong, 4, &counted(0, 100, &[(20_000, 200)])).unwrap();
        let (_, _, curve) = results.latency_curves().next().unwrap();
        let share_within = |limit: f64| {
            curve.iter().filter(|(value, _)| *value <= limit).map(|(_, share)| *share).fold(0.0, f64::max)
        };
        assert!(curve.is_sorted());
        assert!((0.25..0.5).contains(&share_within(15.0)), "{curve:?}");
        about(share_within(60.0), 1.0);
    }
}
