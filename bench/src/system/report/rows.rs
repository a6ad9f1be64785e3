//! One row for each number: a system's metric in a scenario.

use serde::Serialize;

use crate::system::metric::{Better, Metric};
use crate::system::plan::Plan;
use crate::system::results::Results;
use crate::system::scenario::{Scenario, SystemName};
use crate::system::stats::{Summary, ratio};

/// A number and what it is compared with.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    pub(crate) system: SystemName,
    pub(crate) metric: Metric,
    /// The median of all rounds.
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Rounds that gave a value.
    pub(crate) rounds: usize,
    /// Who is 1 in the scenario.
    pub(crate) baseline: Option<SystemName>,
    /// The median of the rounds' ratios; absent for the baseline itself and where there is none.
    pub(crate) ratio_to_baseline: Option<f64>,
    /// To each of the others, with its spread.
    pub(crate) ratios: Vec<Ratio>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ratio {
    pub(crate) to: SystemName,
    #[serde(flatten)]
    pub(crate) summary: Summary,
}

/// All rows, in the order of scenarios, then systems.
pub(super) fn of(results: &Results) -> Vec<Row> {
    let mut rows: Vec<Row> = results
        .all()
        .filter_map(|(scenario, system, metric, _)| row(results, scenario, system, metric))
        .collect();
    let order = Scenario::all();
    // Stable: within a scenario the order of the results stays.
    rows.sort_by_key(|row| order.iter().position(|scenario| *scenario == row.scenario));
    rows
}

fn row(results: &Results, scenario: Scenario, system: SystemName, metric: Metric) -> Option<Row> {
    let samples = results.samples(scenario, system, metric);
    let Summary { min, median, max } = Summary::of(samples.iter().map(|sample| sample.value))?;
    let others = scenario.systems().iter().filter(|other| **other != system);
    let ratios: Vec<Ratio> = others
        .filter_map(|&to| {
            let summary = ratio(samples, results.samples(scenario, to, metric))?;
            Some(Ratio { to, summary })
        })
        .collect();
    let baseline = scenario.baseline();
    let to_baseline = ratios.iter().find(|ratio| Some(ratio.to) == baseline);
    let about = metric.about();
    Some(Row {
        scenario,
        system,
        metric,
        value: median,
        unit: about.unit,
        better: about.better,
        min,
        max,
        rounds: samples.len(),
        baseline,
        ratio_to_baseline: to_baseline.map(|ratio| ratio.summary.median),
        ratios,
    })
}

/// Systems that were to take part in a scenario and gave nothing at all.
pub(super) fn missing(plan: &Plan, results: &Results) -> usize {
    let expected = plan.scenarios.iter().flat_map(|scenario| {
        let systems = scenario.systems().iter().filter(|system| plan.systems.contains(system));
        systems.map(move |system| (*scenario, *system))
    });
    expected
        .filter(|wanted| !results.all().any(|(scenario, system, ..)| (scenario, system) == *wanted))
        .count()
}

#[cfg(test)]
mod tests {
    //! Rows have the median and the ratio to whom the scenario is compared with.
    use super::*;
    use crate::system::scenario::Reach;

    const SCENARIO: Scenario = Scenario::Stream(Reach::SameNode);

    fn results() -> Results {
        let mut results = Results::default();
        let systems = [(SystemName::HeddleDirect, 2.0), (SystemName::Bridge, 4.0), (SystemName::Ovs, 1.0)];
        for (round, speed) in [1.0, 1.0, 3.0].into_iter().enumerate() {
            for (system, value) in systems {
                results.add((SCENARIO, system), Metric::Throughput, round, value * speed);
            }
        }
        results
    }

    #[test]
    fn a_row_has_all_there_is_to_say() {
        let rows = of(&results());
        assert_eq!(rows.len(), 3);
        let json = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!(json["scenario"], "same-node-tcp-stream");
        assert_eq!((&json["system"], &json["metric"]), (&"heddle-direct".into(), &"throughput".into()));
        assert_eq!((&json["unit"], &json["better"]), (&"Gb/s".into(), &"higher".into()));
        assert_eq!(json["value"], 2.0);
        assert_eq!((&json["min"], &json["max"], &json["rounds"]), (&2.0.into(), &6.0.into(), &3.into()));
        assert_eq!((&json["baseline"], &json["ratio_to_baseline"]), (&"bridge".into(), &0.5.into()));
        assert_eq!(
            json["ratios"][1],
            serde_json::json!({"to": "ovs", "min": 2.0, "median": 2.0, "max": 2.0})
        );
    }

    #[test]
    fn the_baseline_is_not_compared_with_itself() {
        let rows = of(&results());
        let bridge = rows.iter().find(|row| row.system == SystemName::Bridge).unwrap();
        assert_eq!(bridge.ratio_to_baseline, None);
        assert_eq!(bridge.ratios.len(), 2);
    }
}
