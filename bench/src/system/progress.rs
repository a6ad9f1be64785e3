//! Where the run is, on standard error: one line that is rewritten on a terminal, a line each elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use heddle_netlab::{Interrupt, Observer, Step};

use super::plan::Plan;
use super::results::Failure;
use super::scenario::{Scenario, SystemName};

/// Shows steps, and heeds Ctrl-C.
pub(crate) struct Progress {
    interrupt: Interrupt,
    rewrite: bool,
    slices: usize,
    done: usize,
    of_slice: Duration,
    started: Instant,
}

impl Progress {
    pub(crate) fn new(plan: &Plan) -> Result<Self> {
        Ok(Self {
            interrupt: Interrupt::catch()?,
            rewrite: std::io::stderr().is_terminal(),
            slices: plan.slices(),
            done: 0,
            of_slice: plan.span.total(),
            started: Instant::now(),
        })
    }

    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    pub(crate) fn say(&self, text: &str) {
        if self.rewrite {
            eprint!("\r\x1b[K{text} …");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{:4} s  {text}", self.started.elapsed().as_secs());
        }
    }

    /// The next load begins.
    pub(crate) fn slice(&mut self, round: usize, scenario: Scenario, system: SystemName) {
        self.done += 1;
        let left = self.of_slice * u32::try_from(self.slices.saturating_sub(self.done)).unwrap_or_default();
        let place = format!("{}/{}", self.done, self.slices);
        self.say(&format!(
            "{place}, round {}, {}: {system} (at least {} s of loads left)",
            round + 1,
            scenario.title(),
            left.as_secs()
        ));
    }

    /// A load has failed.
    pub(crate) fn complain(&self, failure: &Failure) {
        let Failure { scenario, system, round, error } = failure;
        self.done();
        eprintln!("round {}, {}, {system}: {error}", round + 1, scenario.title());
    }

    /// Clears the line that was shown last.
    pub(crate) fn done(&self) {
        if self.rewrite {
            eprint!("\r\x1b[K");
        }
    }
}

impl Observer for Progress {
    fn step(&mut self, step: Step) {
        self.say(&format!("lab: {step}"));
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.is_set()
    }
}
