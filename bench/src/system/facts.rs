//! The machine and the versions that the numbers are of.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::scenario::SystemName;
use super::stats::Summary;
use super::systems::System;

/// How long the machine's speed is looked at, before every round.
const PROBE: Duration = Duration::from_millis(20);
/// A load average that can be overlooked.
const QUIET: f64 = 1.0;

/// Facts that go into the report beside the numbers.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Facts {
    /// When the run began.
    pub(crate) started: String,
    /// Programs that wanted to run, on average, in the minute before.
    pub(crate) load_before: f64,
    pub(crate) machine: Machine,
    pub(crate) versions: BTreeMap<&'static str, String>,
    /// What each system said of itself.
    pub(crate) systems: BTreeMap<SystemName, Vec<String>>,
    #[serde(skip)]
    speeds: Vec<f64>,
    #[serde(skip)]
    steal_before: Option<[u64; 2]>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    /// Whether Linux bridges hand packets to netfilter (`net.bridge.bridge-nf-call-iptables`).
    pub(crate) bridge_netfilter: String,
}

impl Facts {
    pub(crate) fn gather() -> Result<Self> {
        let cpu = read("/proc/cpuinfo");
        let machine = Machine {
            processor: field(&cpu, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().context("cannot tell the number of cores")?.get(),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal").and_then(kib).unwrap_or_default() / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            bridge_netfilter: match read("/proc/sys/net/bridge/bridge-nf-call-iptables").trim() {
                "1" => "on",
                "0" => "off",
                _ => "not there",
            }
            .to_owned(),
        };
        let mut versions = BTreeMap::from([("heddle-bench", env!("CARGO_PKG_VERSION").to_owned())]);
        for (name, program, arguments) in [
            ("Open vSwitch", "ovs-vswitchd", &["--version"][..]),
            ("bridge plugin", "dpkg-query", &["-W", "-f", "${Version}", "containernetworking-plugins"]),
        ] {
            versions.extend(first_line(program, arguments).map(|version| (name, version)));
        }
        let started = first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_default();
        let load_before = load_average(&read("/proc/loadavg")).unwrap_or_default();
        let steal_before = steal(&read("/proc/stat"));
        let (systems, speeds) = (BTreeMap::new(), Vec::new());
        Ok(Self { started, load_before, machine, versions, systems, speeds, steal_before })
    }

    /// What to say to who starts a run on a machine that has other things to do.
    pub(crate) fn warning(&self) -> Option<String> {
        (self.load_before > QUIET).then(|| {
            format!(
                "this machine is busy (load average {:.1}): ratios will be unfair to whoever needs a core of its own",
                self.load_before
            )
        })
    }

    /// Takes down what the systems say of themselves.
    pub(crate) fn note(&mut self, systems: &[&mut dyn System]) {
        for system in systems {
            self.systems.insert(system.name(), system.facts());
        }
    }

    /// Takes down how quick the machine is now.
    pub(crate) fn note_speed(&mut self) {
        self.speeds.push(steps_per_microsecond(PROBE));
    }

    /// Steps of a fixed computation in a microsecond, over the rounds: how much the machine changed its speed.
    pub(crate) fn speed(&self) -> Option<Summary> {
        Summary::of(self.speeds.iter().copied())
    }

    /// Percentage of the machine's time since the start that the hypervisor gave to others.
    #[allow(clippy::cast_precision_loss, reason = "a percentage")]
    pub(crate) fn stolen_percent(&self) -> Option<f64> {
        let [stolen, all] = steal(&read("/proc/stat"))?;
        let [stolen_before, all_before] = self.steal_before?;
        let passed = all.checked_sub(all_before).filter(|passed| *passed > 0)?;
        Some(stolen.saturating_sub(stolen_before) as f64 * 100.0 / passed as f64)
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The value behind the first line "name: value".
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// The first number of proc(5)'s `loadavg`: that of the last minute.
fn load_average(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

fn kib(value: &str) -> Option<u64> {
    value.strip_suffix(" kB")?.trim().parse().ok()
}

/// Ticks that were stolen, and all ticks: columns of the first line of proc(5)'s `stat`.
fn steal(stat: &str) -> Option<[u64; 2]> {
    let columns: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>().ok()?;
    // user nice system idle iowait irq softirq steal; guest time, behind it, is part of user's.
    let all = columns.get(..8)?;
    Some([all[7], all.iter().sum()])
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
}

#[allow(clippy::cast_precision_loss, reason = "a rate")]
fn steps_per_microsecond(during: Duration) -> f64 {
    const AT_ONCE: u32 = 10_000;
    let (start, mut word, mut steps) = (Instant::now(), 1u64, 0u64);
    while start.elapsed() < during {
        for _ in 0..AT_ONCE {
            // Each step waits for the one before: a linear congruential generator (Knuth, TAOCP 3.3.4).
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
        steps += u64::from(AT_ONCE);
        std::hint::black_box(word);
    }
    steps as f64 / start.elapsed().as_secs_f64() / 1e6
}

#[cfg(test)]
mod tests {
    //! What the kernel says of the machine is understood.
    use super::*;

    #[test]
    fn fields_of_proc_files() {
        let cpu = "processor\t: 0\nmodel name\t: Some Processor: fast\nmodel name\t: Other\n";
        assert_eq!(field(cpu, "model name"), Some("Some Processor: fast"));
        assert_eq!(field(cpu, "bogomips"), None);
        assert_eq!(field("MemTotal:        8000000 kB\n", "MemTotal").and_then(kib), Some(8_000_000));
    }

    #[test]
    fn load() {
        assert_eq!(load_average("7.41 6.54 5.77 9/233 1234\n"), Some(7.41));
        assert_eq!(load_average(""), None);
    }

    #[test]
    fn stolen_time() {
        let stat = "cpu  10 1 20 60 4 0 2 3 5 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(steal(stat), Some([3, 100]));
        assert_eq!(steal("cpu 1 2 3"), None);
        assert_eq!(steal(""), None);
    }

    #[test]
    fn the_machine_has_a_speed() {
        assert!(steps_per_microsecond(Duration::from_millis(1)) > 1.0);
    }
}
