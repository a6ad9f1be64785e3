//! Whatever happens to a lab or its maker, taking it down leaves nothing.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{TestLab, Turn, traces};
use heddle_netlab::{AttachMode, Ending, Lab, LabSpec, Name, Namespace, Process, find_binary};
use rustix::process::Signal;

/// A lab comes up in a few seconds; a machine may be busy.
const PATIENCE: Duration = Duration::from_mins(1);

fn heddle(arguments: &[&str]) -> Command {
    let mut command = Command::new(find_binary("heddle").unwrap());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts raising a lab and waits until `path` is there.
fn up_until(path: &Path) -> Child {
    let mut child = heddle(&["lab", "up", "--nodes", "2", "--pods", "3"]).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(child.try_wait().unwrap().is_none(), "the lab was up, or failed, before {}", path.display());
        assert!(Instant::now() < deadline, "no {}", path.display());
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

/// Moments of raising a lab, by what is there.
fn moments() -> [std::path::PathBuf; 4] {
    [
        Namespace::of(Name::Node(1)).path(),
        "/run/heddle-lab/n1/switch.log".into(),
        "/run/heddle-lab/n2/switch.sock".into(),
        Namespace::of(Name::Pod(1, 2)).path(),
    ]
}

#[test]
#[allow(clippy::zombie_processes, reason = "ending the lab collects it")]
fn down_leaves_nothing() {
    let turn = Turn::wait();
    let before = traces();
    for mode in AttachMode::ALL {
        let lab = Lab::up(&LabSpec { mode: Some(mode), ..LabSpec::new(2, 2) }, &mut ()).unwrap();
        assert_ne!(traces(), before, "traces are seen");
        let pod = lab.pod("n1p1").unwrap();
        let sleeper = pod.namespace.run(|| Command::new("sleep").arg("1000").spawn()).unwrap().unwrap();
        let sleeper = Process::of_pid(sleeper.id()).unwrap();
        lab.down(&mut ()).unwrap();
        assert!(!sleeper.is_alive(), "a program in a pod lives on");
        assert_eq!(traces(), before, "{mode}");
    }
    drop(turn);
}

#[test]
fn a_killed_maker_leaves_nothing_that_down_does_not_find() {
    let turn = Turn::wait();
    let before = traces();
    for moment in moments() {
        let mut maker = up_until(&moment);
        maker.kill().unwrap();
        maker.wait().unwrap();
        let refused = heddle(&["lab", "up"]).output().unwrap();
        assert!(!refused.status.success());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("heddle lab down"), "{said}");
        let down = heddle(&["lab", "down"]).output().unwrap();
        assert!(down.status.success(), "at {}: {}", moment.display(), String::from_utf8_lossy(&down.stderr));
        assert_eq!(traces(), before, "killed at {}", moment.display());
    }
    drop(turn);
}

#[test]
fn an_interrupted_maker_takes_down_what_it_made() {
    let turn = Turn::wait();
    let before = traces();
    for (moment, signal) in moments().into_iter().zip([Signal::INT, Signal::TERM, Signal::INT, Signal::HUP]) {
        let maker = up_until(&moment);
        Process::of_pid(maker.id()).unwrap().signal(signal).unwrap();
        let output = maker.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "at {}: {said}", moment.display());
        assert!(said.contains("interrupted"), "at {}: {said}", moment.display());
        assert_eq!(traces(), before, "interrupted at {}", moment.display());
    }
    drop(turn);
}

#[test]
fn a_lost_record_is_no_hindrance() {
    let turn = Turn::wait();
    let before = traces();
    for damage in
        [|path: &Path| std::fs::remove_file(path), |path: &Path| std::fs::write(path, "{\"spec\": ")]
    {
        let lab = Lab::up(&LabSpec::new(1, 1), &mut ()).unwrap();
        lab.keep().unwrap();
        damage(Path::new("/run/heddle-lab/state.json")).unwrap();
        let down = heddle(&["lab", "down"]).output().unwrap();
        assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
        assert_eq!(traces(), before);
    }
    drop(turn);
}

#[test]
fn a_switch_heeds_sigterm() {
    let lab = TestLab::up(&LabSpec::new(1, 2));
    let (node, from, to) = (lab.node("n1").unwrap(), lab.pod("n1p1").unwrap(), lab.pod("n1p2").unwrap());
    from.namespace.must_ping(to.address(false).unwrap()).unwrap();
    assert_eq!(node.state.switch.end().unwrap(), Ending::Terminated);
    assert!(!node.state.socket.exists(), "the socket is left");
    // Nobody forwards, and nothing passes by another way.
    let once = heddle_netlab::Ping { count: 1, ..heddle_netlab::Ping::default() };
    let pong = from.namespace.ping(to.address(false).unwrap(), &once).unwrap();
    assert_eq!(pong.answered, 0, "{}", pong.text);
}

#[test]
fn a_killed_switch_is_told_as_not_running_at_once() {
    let lab = TestLab::up(&LabSpec::new(1, 2));
    let running = || {
        let output = heddle(&["lab", "status", "-o", "json"]).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        status["nodes"][0]["running"].as_bool().unwrap()
    };
    assert!(running());
    let switch = lab.node("n1").unwrap().state.switch;
    assert!(switch.signal(Signal::KILL).unwrap());
    assert!(!running());
}

#[test]
fn a_switch_that_fails_to_start_says_why() {
    let turn = Turn::wait();
    let before = traces();
    let dir = tempfile::tempdir().unwrap();
    for name in ["heddle-switch", "heddle-cni", "heddle-agent"] {
        let script = dir.path().join(name);
        std::fs::write(&script, "#!/bin/sh\necho no luck today\nexit 3\n").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let output = heddle(&["lab", "up"]).env("HEDDLE_BIN_DIR", dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("node n1 did not come up") && said.contains("no luck today"), "{said}");
    assert_eq!(traces(), before);
    drop(turn);
}
