//! What the lab tests share: turns, labs that are taken down whatever happens, and looking for what was left behind.
#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "every test binary uses a part")]

pub(crate) mod capsule;

use std::collections::BTreeSet;
use std::ops::Deref;
use std::path::Path;
use std::process::Command;

use heddle_netlab::{AttachMode, Lab, LabSpec, Lock, State, WhenTaken, take_down_any};

const TURNS: &str = "/run/heddle-lab-tests.lock";

/// A test's turn: there is one machine, so one lab at a time.
pub(crate) struct Turn {
    _lock: Lock,
}

impl Turn {
    /// Waits for it. A lab whose maker was killed is removed; one that somebody wants to have is not.
    pub(crate) fn wait() -> Self {
        let lock = Lock::take(Path::new(TURNS), WhenTaken::Wait).unwrap();
        let kept = State::current().is_ok_and(|state| state.kept);
        assert!(!kept, "a lab is up: take it down with 'heddle lab down' and test again");
        take_down_any(&mut ()).unwrap();
        Self { _lock: lock }
    }
}

/// A lab for the length of a test. Taken down at the end of it, however it ends; what cannot be taken down is a failure.
pub(crate) struct TestLab {
    lab: Option<Lab>,
    _turn: Turn,
}

impl TestLab {
    pub(crate) fn up(spec: &LabSpec) -> Self {
        let turn = Turn::wait();
        let lab = Lab::up(spec, &mut ()).unwrap_or_else(|error| panic!("{error:#}"));
        Self { lab: Some(lab), _turn: turn }
    }
}

/// Does the same in a lab of each attach mode, one after the other.
pub(crate) fn in_each_mode(spec: &LabSpec, test: impl Fn(&Lab)) {
    for mode in AttachMode::ALL {
        println!("attach mode: {mode}");
        test(&TestLab::up(&LabSpec { mode: Some(mode), ..spec.clone() }));
    }
}

impl Deref for TestLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        self.lab.as_ref().unwrap()
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        let Some(lab) = self.lab.take() else { return };
        if std::thread::panicking() {
            show_drops(&lab);
        }
        if let Err(error) = lab.down(&mut ())
            && !std::thread::panicking()
        {
            panic!("the lab did not go: {error:#}");
        }
    }
}

/// For the reader of a failed test: what the switches dropped, and the ends of their logs.
fn show_drops(lab: &Lab) {
    for node in lab.state().nodes {
        let drops = lab.node(&node.name.to_string()).and_then(|node| node.control()?.drops());
        let drops = drops.unwrap_or_default().into_iter().filter(|drop| drop.packets > 0);
        let list: Vec<_> = drops.map(|drop| format!("{} {}", drop.packets, drop.reason)).collect();
        eprintln!("{} dropped: {}", node.name, list.join(", "));
        for log in ["switch.log", "agent.log"] {
            let log = std::fs::read_to_string(node.socket.with_file_name(log)).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(10)..].join("\n"));
        }
    }
}

/// What a lab could leave behind, each thing on a line. Other tests and programs come and go on the same machine, so
/// only names that a lab gives count, and interfaces: none of a lab's is ever out here.
pub(crate) fn traces() -> BTreeSet<String> {
    let mut traces = BTreeSet::new();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let names = run("ip", &["netns", "list"]);
    let names = names.lines().map(|line| line.split(' ').next().unwrap());
    traces.extend(names.filter(|name| name.starts_with("hd-")).map(|name| format!("namespace {name}")));
    traces.extend(
        run("ip", &["-o", "link"]).lines().map(|line| format!("link {}", line.split(": ").nth(1).unwrap())),
    );
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().map(|line| line.split(' ').nth(4).unwrap());
    let of_a_lab = |mount: &&str| mount.starts_with("/run/heddle-lab") || mount.contains("/netns/hd-");
    traces.extend(mounts.filter(of_a_lab).map(|mount| format!("mount {mount}")));
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        // The test's own processes, by the files they are given.
        if command.contains("/run/heddle-lab/") {
            traces.insert(format!("process {command}"));
        }
    }
    for file in std::fs::read_dir("/run").unwrap().flatten() {
        let path = file.path();
        if path.to_str().is_some_and(|path| path.starts_with("/run/heddle-lab")) {
            traces.insert(format!("file {}", path.display()));
        }
    }
    traces
}

/// What a random test chooses by; it is printed, and `HEDDLE_SEED` chooses it.
pub(crate) fn seed() -> u64 {
    let chosen = std::env::var("HEDDLE_SEED").ok().map(|text| text.parse().expect("HEDDLE_SEED is a number"));
    let by_clock = || std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
    let seed = chosen.unwrap_or_else(by_clock);
    println!("HEDDLE_SEED={seed}");
    seed
}

/// Makes the plugin of node n1 begin anew with the lowest free addresses. It remembers the last ones it gave and lets freed ones rest, to
/// give others as long as it can.
pub(crate) fn next_takes_the_lowest(lab: &Lab) {
    let directory = lab.node("n1").unwrap().state.socket.with_file_name("lib").join("ipam");
    for file in std::fs::read_dir(&directory).unwrap().flatten() {
        if file.file_name().to_str().unwrap().contains(".rests-until-") {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    std::fs::write(directory.join("lock"), "").unwrap();
}
