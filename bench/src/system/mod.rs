//! `heddle-bench system`: raises Heddle and its peers, measures them in turn, and reports.

mod facts;
mod ground;
mod idle;
mod metric;
mod place;
mod plan;
mod pod_start;
mod preflight;
mod progress;
mod report;
mod results;
mod scenario;
mod session;
mod slice;
mod stats;
mod systems;

use std::ops::Range;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::args::SystemOptions;
use facts::Facts;
use ground::Ground;
use plan::Plan;
use progress::Progress;
use report::Report;
pub(crate) use scenario::SystemName;

/// Where loads listen. Each has a port of its own, so that connections that are still being closed are in nobody's way.
const PORTS: Range<u16> = 20_000..30_000;

pub(crate) fn run(options: &SystemOptions) -> Result<ExitCode> {
    let plan = Plan::of(options)?;
    preflight::check(&plan)?;
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    let mut progress = Progress::new(&plan)?;
    let mut facts = Facts::gather()?;
    if let Some(warning) = facts.warning() {
        eprintln!("warning: {warning}");
    }
    let ground = Ground::take()?;
    let results = session::measure(&plan, &ground, &mut facts, &mut progress)?;
    ground.clear()?;
    progress.done();
    let report = Report::of(&plan, facts, results);
    let files = report.write(&options.out)?;
    report::table::print(&report)?;
    println!("\n{} and {}", files[0].display(), files[1].display());
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Removes what a run that was killed has left behind, its lab included; a lab that somebody wants to have stays.
pub(crate) fn clean() -> Result<ExitCode> {
    let peers = ground::clear_leftovers()?;
    let kept = heddle_netlab::State::current().is_ok_and(|state| state.kept);
    let lab = !kept && heddle_netlab::take_down_any(&mut ())?;
    println!("{}", if lab || peers { "removed what was left" } else { "nothing was left" });
    Ok(ExitCode::SUCCESS)
}
