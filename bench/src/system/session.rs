//! The run itself: laps, rounds, and every system's turn.

use anyhow::{Context, Result};

use super::PORTS;
use super::facts::Facts;
use super::ground::{self, Ground};
use super::idle;
use super::metric::Metric;
use super::plan::{Lap, Plan};
use super::pod_start;
use super::progress::Progress;
use super::results::{Failure, Results};
use super::scenario::{Scenario, SystemName};
use super::slice::Slice;
use super::systems::{Heddle, System, raise_peer};

/// Measures everything. An error takes down what is up; a load that fails is noted, and the others go on.
pub(crate) fn measure(
    plan: &Plan,
    ground: &Ground,
    facts: &mut Facts,
    progress: &mut Progress,
) -> Result<Results> {
    let mut session = Session { plan, results: Results::default(), round: 0, port: PORTS.start };
    let mut peers = Vec::new();
    for &name in plan.systems.iter().filter(|name| name.mode().is_none()) {
        progress.say(&format!("raising {name}"));
        peers
            .push(raise_peer(name, ground, progress.interrupt()).with_context(|| format!("raising {name}"))?);
    }
    ground::await_addresses()?;
    for lap in &plan.laps {
        let mut heddle = None;
        if let Some(name) = lap.heddle {
            let interrupt = progress.interrupt().clone();
            heddle = Some(
                Heddle::raise(name, ground, &interrupt, progress)
                    .with_context(|| format!("raising {name}"))?,
            );
        }
        let mut up: Vec<&mut dyn System> =
            peers.iter_mut().map(|peer| &mut **peer as &mut dyn System).collect();
        up.extend(heddle.as_mut().map(|heddle| heddle as &mut dyn System));
        facts.note(&up);
        for _ in 0..plan.rounds {
            facts.note_speed();
            session.round(lap, &mut up, progress)?;
        }
        if let Some(heddle) = heddle {
            heddle.down(progress)?;
        }
    }
    for name in plan.idle_systems() {
        idle::measure(name, plan.idle, ground, &mut session.results, progress)
            .with_context(|| format!("idle node of {name}"))?;
    }
    if plan.pod_starts().next().is_some() {
        pod_start::measure(plan, ground, &mut session.results, progress)?;
    }
    Ok(session.results)
}

struct Session<'a> {
    plan: &'a Plan,
    results: Results,
    round: usize,
    port: u16,
}

impl Session<'_> {
    fn round(&mut self, lap: &Lap, up: &mut [&mut dyn System], progress: &mut Progress) -> Result<()> {
        for scenario in self.plan.of_a_round() {
            for name in lap.turn(scenario, self.round) {
                let Some(system) = up.iter_mut().find(|system| system.name() == name) else { continue };
                progress.slice(self.round, scenario, name);
                let measured = self.slice(scenario, &mut **system, progress);
                // That is not the system's failure.
                progress.interrupt().check()?;
                if let Err(error) = measured {
                    let failure =
                        Failure { scenario, system: name, round: self.round, error: format!("{error:#}") };
                    progress.complain(&failure);
                    self.results.failures.push(failure);
                }
            }
        }
        self.round += 1;
        Ok(())
    }

    fn slice(&mut self, scenario: Scenario, system: &mut dyn System, progress: &Progress) -> Result<()> {
        let Some((reach, kind, v6)) = scenario.traffic() else { return Ok(()) };
        let of = (scenario, system.name());
        system.wake()?;
        let before = system.map_operations()?;
        let [from, to] = system.ends(reach).context("it has no pods so far apart")?;
        let (span, placement) = (self.plan.span, self.plan.placement);
        let slice = Slice { from, to, v6, kind, span, placement, port: self.next_port() };
        let counted = slice.run(progress.interrupt());
        system.rest()?;
        let counted = counted?;
        self.results.add_slice(of, kind, self.round, &counted)?;
        if kind == crate::load::Kind::Connections {
            let operations = system.map_operations()?.zip(before).map(|(after, before)| after - before);
            self.note_operations(of, operations, counted.client.total);
        }
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "a ratio")]
    fn note_operations(&mut self, of: (Scenario, SystemName), operations: Option<u64>, connections: u64) {
        if let Some(operations) = operations {
            self.results.add(of, Metric::MapOperations, self.round, operations as f64 / connections as f64);
        }
    }

    fn next_port(&mut self) -> u16 {
        let port = self.port;
        self.port = if port + 1 < PORTS.end { port + 1 } else { PORTS.start };
        port
    }
}
