//! What a run found: as rows, for programs in report.json, for people in report.html and on the terminal.

mod html;
mod rows;
mod svg;
pub(crate) mod table;
mod targets;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::facts::Facts;
use super::plan::Plan;
use super::results::{Failure, Results};
use super::scenario::{Scenario, SystemName};
use super::stats::Summary;
use crate::args::Placement;
use rows::Row;
use targets::Outcome;

/// Raised when a field changes its meaning or goes; fields may be added without.
const FORMAT: u32 = 1;

/// Everything there is to say about a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    format: u32,
    quick: bool,
    /// Rounds with traffic, all laps together.
    rounds: usize,
    slice_milliseconds: u64,
    warm_up_milliseconds: u64,
    /// Where both ends of requests and connections ran.
    placement: Placement,
    #[serde(flatten)]
    facts: Facts,
    /// Steps of a fixed computation in a microsecond, before every round.
    speed: Option<Summary>,
    stolen_percent: Option<f64>,
    rows: Vec<Row>,
    targets: Vec<Outcome>,
    latencies: Vec<Curve>,
    failures: Vec<Failure>,
    /// Rows that were to be measured, and have no single measurement.
    missing: usize,
}

/// Round trips of all rounds together.
#[derive(Debug, Serialize)]
struct Curve {
    scenario: Scenario,
    system: SystemName,
    /// (microseconds, share of the requests that were answered by then).
    points: Vec<(f64, f64)>,
}

impl Report {
    pub(crate) fn of(plan: &Plan, facts: Facts, results: Results) -> Self {
        let curves = results.latency_curves();
        let latencies = curves.map(|(scenario, system, points)| Curve { scenario, system, points }).collect();
        Self {
            format: FORMAT,
            quick: plan.quick,
            rounds: plan.laps.len() * plan.rounds as usize,
            slice_milliseconds: plan.span.measure,
            warm_up_milliseconds: plan.span.warm_up,
            placement: plan.placement,
            speed: facts.speed(),
            stolen_percent: facts.stolen_percent(),
            facts,
            rows: rows::of(&results),
            targets: targets::outcomes(&results),
            latencies,
            missing: rows::missing(plan, &results),
            failures: results.failures,
        }
    }

    /// Whether everything that was to be measured was, at least once.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Writes report.json and report.html.
    pub(crate) fn write(&self, directory: &Path) -> Result<[PathBuf; 2]> {
        let files = ["report.json", "report.html"].map(|name| directory.join(name));
        let json = serde_json::to_string_pretty(self)? + "\n";
        for (path, text) in files.iter().zip([json, html::page(self)]) {
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(files)
    }
}
