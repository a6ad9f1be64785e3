//! What a node with many pods costs while none of them sends anything.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use heddle_netlab::Process;

use super::ground::Ground;
use super::metric::Metric;
use super::plan::IdlePlan;
use super::progress::Progress;
use super::results::Results;
use super::scenario::{IDLE_PODS, Scenario, SystemName};
use super::systems::one_node;

/// What the last pod has started may come to its end first: address detection, router solicitation, the agent's image.
const SETTLE: Duration = Duration::from_secs(3);
/// How often an interrupt is looked at.
const TICK: Duration = Duration::from_millis(100);

pub(crate) fn measure(
    name: SystemName,
    plan: IdlePlan,
    ground: &Ground,
    results: &mut Results,
    progress: &mut Progress,
) -> Result<()> {
    let lab = one_node(name, IDLE_PODS, ground, progress)?;
    progress.say(&format!("watching {IDLE_PODS} idle pods of {name}"));
    pause(SETTLE, progress)?;
    let node = lab.node("n1")?.state;
    let agent = node.agent.context("the node has no agent")?;
    for window in 0..plan.windows {
        let (start, before) = (Instant::now(), [cpu_time(node.switch)?, cpu_time(agent)?]);
        pause(Duration::from_secs_f64(plan.seconds), progress)?;
        let (elapsed, after) = (start.elapsed(), [cpu_time(node.switch)?, cpu_time(agent)?]);
        for (index, metric) in [Metric::SwitchCpu, Metric::AgentCpu].into_iter().enumerate() {
            let share = after[index].saturating_sub(before[index]).as_secs_f64() / elapsed.as_secs_f64();
            results.add((Scenario::Idle, name), metric, window, share * 100.0);
        }
    }
    lab.down(progress)
}

fn pause(length: Duration, progress: &Progress) -> Result<()> {
    let end = Instant::now() + length;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        progress.interrupt().check()?;
        std::thread::sleep(left.min(TICK));
    }
    Ok(())
}

/// How long all threads of a process have run. The scheduler counts nanoseconds; proc(5)'s `stat` counts ticks of 10 ms,
/// and misses who is never running when the clock ticks.
fn cpu_time(process: Process) -> Result<Duration> {
    let tasks = format!("/proc/{}/task", process.pid);
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(&tasks).with_context(|| format!("{tasks}: has the process ended?"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += parse_run_time(&text).with_context(|| format!("schedstat says '{text}'"))?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The first of three numbers (Documentation/scheduler/sched-stats.rst): time spent on the CPU.
fn parse_run_time(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    //! CPU time is read, and grows while a process works.
    use super::*;

    #[test]
    fn run_time_is_the_first_number() {
        assert_eq!(parse_run_time("1726839 53423 12\n"), Some(1_726_839));
        assert_eq!(parse_run_time(""), None);
    }

    #[test]
    fn work_is_seen() {
        let own = Process::of_pid(std::process::id()).unwrap();
        let before = cpu_time(own).unwrap();
        while cpu_time(own).unwrap() < before + Duration::from_millis(20) {
            std::hint::black_box((0..10_000u64).sum::<u64>());
        }
    }
}
