//! The harness end to end, on the one system that needs nothing of Heddle's: it measures, reports, and leaves nothing behind,
//! also when it is told to stop or is killed half-way.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// One run at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bench(out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heddle-bench"));
    command.arg("system").arg("--out").arg(out).args(["--quick", "--systems", "bridge"]).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn tiny(out: &Path) -> Output {
    bench(out, &["--rounds", "2", "--slice", "40"]).output().unwrap()
}

/// Everything that a run could leave behind.
fn traces() -> BTreeSet<String> {
    let names = |dir: &str, prefix: &str| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(prefix)).collect()
    };
    let mut traces = BTreeSet::from_iter(names("/run/netns", "hb-"));
    traces.extend(names("/run", "heddle-bench"));
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.starts_with("heddle-bench load ") || command.contains("/run/heddle-bench/") {
            traces.insert(command);
        }
    }
    traces
}

/// Starts a run and waits until it has made something.
fn half_way(out: &Path) -> Child {
    let mut run = bench(out, &["--rounds", "50"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !traces().iter().any(|trace| trace.starts_with("heddle-bench load ")) {
        assert_eq!(run.try_wait().unwrap(), None, "it ended early");
        assert!(Instant::now() < deadline, "no load in 30 s");
        std::thread::sleep(Duration::from_millis(10));
    }
    run
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).join("\n")
}

#[test]
fn a_run_reports_what_it_measured() {
    let _turn = turn();
    let out = tempfile::tempdir().unwrap();
    let output = tiny(out.path());
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(traces(), BTreeSet::new());

    let report = std::fs::read_to_string(out.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let metrics: BTreeSet<_> =
        rows.iter().map(|row| (row["scenario"].as_str().unwrap(), row["metric"].as_str().unwrap())).collect();
    let starts = ["pod-start", "pod-start-16-at-once"]
        .into_iter()
        .flat_map(|scenario| ["add_p50", "add_p99", "del_p50", "del_p99"].map(|metric| (scenario, metric)));
    let expected = [
        ("same-node-tcp-stream", "throughput"),
        ("same-node-tcp-stream-ipv6", "throughput"),
        ("same-node-udp-64", "delivered"),
        ("same-node-udp-64", "sent"),
        ("same-node-tcp-request-response", "p50"),
        ("same-node-tcp-request-response", "p99"),
        ("same-node-tcp-request-response", "round_trips"),
        ("same-node-tcp-connections", "rate"),
    ];
    assert_eq!(metrics, expected.into_iter().chain(starts).collect());
    for row in rows {
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
        assert!(
            number("value") > 0.0 && number("min") <= number("value") && number("value") <= number("max")
        );
        assert_eq!((&row["system"], &row["baseline"]), (&"bridge".into(), &"bridge".into()));
        assert_eq!((&row["ratio_to_baseline"], &row["rounds"]), (&Value::Null, &2.into()));
        assert!(["higher", "lower"].contains(&row["better"].as_str().unwrap()));
    }
    assert_eq!((&report["rounds"], &report["failures"]), (&2.into(), &Value::Array(Vec::new())));
    assert!(report["targets"].as_array().unwrap().iter().all(|target| target["met"].is_null()));
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);

    let page = std::fs::read_to_string(out.path().join("report.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(page.matches("<svg").count() == 17 && page.contains("<polyline"), "16 numbers and a curve");
    for loads_something in ["<script", "<link", "<img", "url(", "@import"] {
        assert!(!page.contains(loads_something), "{loads_something}");
    }
    assert!(said(&output).contains("same-node-tcp-stream"), "the table");
}

#[test]
fn told_to_stop_it_cleans_up() {
    let _turn = turn();
    let out = tempfile::tempdir().unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let run = half_way(out.path());
        kill(Pid::from_raw(run.id().try_into().unwrap()), signal).unwrap();
        let output = run.wait_with_output().unwrap();
        assert!(!output.status.success() && said(&output).contains("interrupted"), "{}", said(&output));
        assert_eq!(traces(), BTreeSet::new(), "{signal}");
    }
}

#[test]
fn the_next_run_cleans_up_after_one_that_was_killed() {
    let _turn = turn();
    let out = tempfile::tempdir().unwrap();
    let mut run = half_way(out.path());
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(traces().contains("hb-bridge"));
    let output = tiny(out.path());
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(traces(), BTreeSet::new());
}

#[test]
fn what_is_missing_is_said_with_the_way_to_get_it() {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_heddle-bench"));
    command.args(["system", "--systems", "ovs", "--out"]).arg(out.path()).env("PATH", "");
    let output = command.output().unwrap();
    let said = said(&output);
    assert!(!output.status.success());
    assert!(said.contains("ovs-vswitchd") && said.contains("apt-get install"), "{said}");
    assert!(said.contains("openvswitch-switch"), "{said}");
}
