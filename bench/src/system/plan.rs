//! What a run is going to do.

use anyhow::{Result, ensure};
use clap::ValueEnum;

use super::scenario::{Crowd, Scenario, SystemName};
use crate::args::{Placement, SystemOptions};
use crate::load::Span;

/// What is measured, how often and how long.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) quick: bool,
    pub(crate) systems: Vec<SystemName>,
    pub(crate) scenarios: Vec<Scenario>,
    /// One after the other. There can be one lab at a time, so Heddle's modes take turns in laps; the peers are up, and
    /// measured, in all of them.
    pub(crate) laps: Vec<Lap>,
    /// In each lap.
    pub(crate) rounds: u32,
    pub(crate) span: Span,
    pub(crate) placement: Placement,
    pub(crate) idle: IdlePlan,
    pub(crate) pod_start: PodStartPlan,
}

/// The systems that are up together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lap {
    pub(crate) heddle: Option<SystemName>,
    pub(crate) peers: Vec<SystemName>,
}

/// How the idle node is watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdlePlan {
    pub(crate) windows: usize,
    pub(crate) seconds: f64,
}

/// How often pods come and go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodStartPlan {
    pub(crate) rounds: usize,
    /// In each round, one after the other, and in a crowd.
    pub(crate) pods: [usize; 2],
}

impl Plan {
    pub(crate) fn of(options: &SystemOptions) -> Result<Self> {
        let mut systems = options.systems.clone();
        if systems.is_empty() {
            systems = SystemName::value_variants().to_vec();
        }
        systems.sort_unstable();
        systems.dedup();
        let chosen = |scenario: &Scenario| {
            let name = scenario.to_string();
            options.scenarios.is_empty() || options.scenarios.iter().any(|word| name.contains(word.as_str()))
        };
        let somebody_runs =
            |scenario: &Scenario| scenario.systems().iter().any(|name| systems.contains(name));
        let scenarios: Vec<_> = Scenario::all().into_iter().filter(chosen).filter(somebody_runs).collect();
        ensure!(!scenarios.is_empty(), "no scenario has such a name, or none has such a system");
        let quick = options.quick;
        let (repeat, rounds, measure, warm_up) = if quick { (1, 3, 700, 150) } else { (2, 5, 1500, 250) };
        Ok(Self {
            quick,
            laps: laps(&systems, repeat),
            systems,
            scenarios,
            rounds: options.rounds.unwrap_or(rounds),
            span: Span { warm_up, measure: options.slice.unwrap_or(measure) },
            placement: options.placement,
            idle: if quick {
                IdlePlan { windows: 3, seconds: 1.5 }
            } else {
                IdlePlan { windows: 5, seconds: 4.0 }
            },
            pod_start: PodStartPlan {
                rounds: options.rounds.map_or(if quick { 3 } else { 8 }, |rounds| rounds as usize),
                pods: if quick { [60, 96] } else { [120, 192] },
            },
        })
    }

    /// The modes of Heddle that are measured while idle.
    pub(crate) fn idle_systems(&self) -> Vec<SystemName> {
        let idle = self.scenarios.contains(&Scenario::Idle);
        self.systems.iter().copied().filter(|name| idle && name.mode().is_some()).collect()
    }

    /// Scenarios in which pods come and go.
    pub(crate) fn pod_starts(&self) -> impl Iterator<Item = Crowd> {
        self.scenarios.iter().filter_map(|scenario| match scenario {
            Scenario::PodStart(crowd) => Some(*crowd),
            _ => None,
        })
    }

    /// Scenarios with traffic: those of a round.
    pub(crate) fn of_a_round(&self) -> impl Iterator<Item = Scenario> {
        self.scenarios.iter().copied().filter(|scenario| scenario.traffic().is_some())
    }

    /// Loads to run in all.
    pub(crate) fn slices(&self) -> usize {
        let of_lap = |lap: &Lap| self.of_a_round().map(|scenario| lap.turn(scenario, 0).len()).sum::<usize>();
        self.laps.iter().map(of_lap).sum::<usize>() * self.rounds as usize
    }
}

impl Lap {
    /// The systems that take part in a scenario, in the order of a round: every round another one begins, so that none is
    /// always measured behind the same one.
    pub(crate) fn turn(&self, scenario: Scenario, round: usize) -> Vec<SystemName> {
        let up = |name: &&SystemName| self.heddle == Some(**name) || self.peers.contains(name);
        let mut turn: Vec<_> = scenario.systems().iter().filter(up).copied().collect();
        if !turn.is_empty() {
            let first = round % turn.len();
            turn.rotate_left(first);
        }
        turn
    }
}

fn laps(systems: &[SystemName], repeat: usize) -> Vec<Lap> {
    let (modes, peers): (Vec<_>, Vec<_>) = systems.iter().copied().partition(|name| name.mode().is_some());
    let with = |heddle| Lap { heddle, peers: peers.clone() };
    let once: Vec<Lap> = if modes.is_empty() {
        vec![with(None)]
    } else {
        modes.into_iter().map(|mode| with(Some(mode))).collect()
    };
    std::iter::repeat_n(once, repeat).flatten().collect()
}

#[cfg(test)]
mod tests {
    //! Every system takes its turn, each round in another order, beside the one it is compared with.
    use std::path::PathBuf;

    use super::*;

    fn plan(systems: &[SystemName], scenarios: &[&str]) -> Result<Plan> {
        let scenarios = scenarios.iter().map(ToString::to_string).collect();
        let systems = systems.to_vec();
        let (out, placement) = (PathBuf::new(), Placement::Free);
        Plan::of(&SystemOptions {
            out,
            quick: true,
            systems,
            placement,
            scenarios,
            rounds: Some(2),
            slice: Some(50),
        })
    }

    #[test]
    fn modes_take_turns_in_laps_and_peers_are_in_all() {
        use SystemName::{Bridge, HeddleCached, HeddleDirect, Ovs};
        let lap = |heddle| Lap { heddle, peers: vec![Bridge, Ovs] };
        let all = [HeddleCached, HeddleDirect, Bridge, Ovs];
        let (cached, direct) = (lap(Some(HeddleCached)), lap(Some(HeddleDirect)));
        assert_eq!(laps(&all, 2), [cached.clone(), direct.clone(), cached, direct]);
        assert_eq!(laps(&all[2..], 1), [lap(None)]);
    }

    #[test]
    fn every_round_another_one_begins() {
        use SystemName::{Bridge, HeddleDirect, Ovs};
        let plan = plan(&[HeddleDirect, Bridge, Ovs], &["same-node-udp"]).unwrap();
        let turn = |round| plan.laps[0].turn(plan.scenarios[0], round);
        assert_eq!(turn(0), [HeddleDirect, Bridge, Ovs]);
        assert_eq!(turn(1), [Bridge, Ovs, HeddleDirect]);
        assert_eq!(turn(3), turn(0));
        assert_eq!(plan.slices(), 3 * 2);
    }

    #[test]
    fn only_what_was_asked_for() {
        let plan_of_two = plan(&[SystemName::Bridge], &["tcp-stream", "idle"]).unwrap();
        let names: Vec<_> = plan_of_two.scenarios.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["same-node-tcp-stream", "same-node-tcp-stream-ipv6"]);
        assert!(plan_of_two.idle_systems().is_empty());
        assert!(plan(&[SystemName::Bridge], &["across"]).is_err());
        assert!(plan(&[SystemName::Bridge], &["nothing-of-this-name"]).is_err());
    }
}
