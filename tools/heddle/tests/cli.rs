//! The command line as programs and people use it: JSON, tables, exit codes, one-line errors, against real switches.
#![allow(clippy::unwrap_used)]

#[path = "../../netlab/tests/common/mod.rs"]
mod common;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use common::{TestLab, Turn};
use heddle_netlab::{LabSpec, Ping};
use serde_json::Value;

fn heddle(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heddle"));
    command.args(arguments.split(' ')).stdin(Stdio::null()).output().unwrap()
}

fn json(arguments: &str) -> Value {
    let output = heddle(arguments);
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The one line that a failed command says.
fn complaint(arguments: &str) -> String {
    let output = heddle(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments}");
    assert!(output.stdout.is_empty(), "{arguments}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("error: ") && text.trim_end().lines().count() == 1, "{text}");
    text
}

#[test]
fn json_tells_what_is_there() {
    let lab = TestLab::up(&LabSpec::new(2, 2));
    let pod = lab.pod("n1p1").unwrap();
    pod.namespace.must_ping(lab.pod("n2p1").unwrap().address(false).unwrap()).unwrap();

    let status = json("--node n1 status -o json");
    assert_eq!(status["node"]["name"], "n1");
    assert_eq!(status["node"]["pod_cidrs"], serde_json::json!(["10.244.1.0/24", "fd00:10:244:1::/64"]));
    assert_eq!(status["uplink"]["vtep"]["address"], "172.31.0.1");
    let frames = status["frames"].as_object().unwrap();
    assert!(frames["total"].as_u64().unwrap() > 0);

    let endpoints = json("--node n1 endpoints -o json");
    let endpoint = endpoints.as_array().unwrap().iter().find(|e| e["pod_name"] == "n1p1").unwrap();
    let addresses: Vec<String> = serde_json::from_value(endpoint["addresses"].clone()).unwrap();
    assert_eq!(addresses, pod.state.addresses.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(endpoint["mac"], pod.state.mac.as_str());
    assert!(endpoint["rx"]["packets"].as_u64().unwrap() >= 3);

    let fib = json("--node n1 fib -o json");
    let entry =
        |prefix: &str| fib.as_array().unwrap().iter().find(|e| e["prefix"] == prefix).unwrap().clone();
    assert_eq!(entry("10.244.2.0/24")["vtep"]["node"], "n2");
    assert_eq!(entry("0.0.0.0/0")["next_hop"], "host");
    assert_eq!(entry(&format!("{}/128", pod.address(true).unwrap()))["endpoint"], endpoint["id"]);
}

#[test]
fn drops_add_up_over_the_lab() {
    let lab = TestLab::up(&LabSpec::new(2, 1));
    for name in ["n1p1", "n2p1"] {
        // The pod ranges are the cluster's own, but nobody has this address.
        let pong =
            lab.pod(name).unwrap().namespace.ping("10.244.99.9".parse().unwrap(), &Ping::default()).unwrap();
        assert_eq!(pong.answered, 0);
    }
    let all = json("drops -o json");
    let reason = all.as_array().unwrap().iter().find(|drop| drop["reason"] == "unreachable").unwrap().clone();
    let of = |node: &str| reason["nodes"][node].as_u64().unwrap();
    assert_eq!((of("n1"), of("n2")), (3, 3));
    assert_eq!(reason["packets"], 6);
    let one = json("drops --node n1 -o json");
    let reason = one.as_array().unwrap().iter().find(|drop| drop["reason"] == "unreachable").unwrap().clone();
    assert_eq!(reason["packets"], 3);
    let table = String::from_utf8(heddle("drops").stdout).unwrap();
    assert!(table.contains("unreachable") && !table.contains('\x1b'), "{table}");
}

#[test]
fn tables_fit_a_hundred_columns() {
    let _lab = TestLab::up(&LabSpec::new(2, 2));
    for command in ["status", "endpoints", "fib", "drops --all"] {
        let output = heddle(&format!("--node n1 {command}"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.lines().count() > 2, "{command}: {text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{command}: {line}");
        }
    }
}

#[test]
fn exec_passes_everything_through() {
    let _lab = TestLab::up(&LabSpec::new(1, 1));
    let mut child = Command::new(env!("CARGO_BIN_EXE_heddle"))
        .args(["lab", "exec", "n1p1", "--", "sh", "-c", "cat; ip -o link show eth0 >&2; exit 7"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"in and out").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, b"in and out");
    assert!(String::from_utf8_lossy(&output.stderr).contains("eth0@"));
    assert_eq!(heddle("lab exec n1p1 -- /no/such/program").status.code(), Some(127));
    // A signal ends the command itself, not a wrapper around it.
    let killed = heddle("lab exec n1 -- sh -c kill$IFS-9$IFS$$");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.status), Some(9));
}

#[test]
fn errors_are_one_line_that_says_what_to_do() {
    let turn = Turn::wait();
    assert!(complaint("lab status").contains("heddle lab up"));
    assert!(complaint("lab exec n1p1 -- true").contains("heddle lab up"));
    assert!(complaint("--node n1 status").contains("heddle lab up"));
    assert!(complaint("--socket /nonexistent.sock status").contains("/nonexistent.sock"));
    assert!(
        complaint("lab up --manifests /nowhere")
            .contains("--manifests: cannot read the manifests in /nowhere")
    );
    assert_eq!(heddle("lab up --nodes 17").status.code(), Some(2));
    let wrong = heddle("lab up --mode fast");
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(wrong.status.code() == Some(2) && said.contains("direct") && said.contains("cached"), "{said}");
    assert_eq!(heddle("nonsense").status.code(), Some(2));
    assert_eq!(String::from_utf8(heddle("lab down").stdout).unwrap(), "no lab was up\n");
    drop(turn);
}
