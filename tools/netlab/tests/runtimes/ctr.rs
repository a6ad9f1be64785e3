//! containerd's own command line, which says nothing of a pod: a container without a name is served all the same.

use std::process::Stdio;

use heddle_netlab::WORLD;

use crate::calls::record;
use crate::common::capsule::succeeds;
use crate::cri::start_containerd;
use crate::machine::{CGROUP, IMAGE, Machine};
use crate::pods::{SERVE, assert_serves};

#[test]
fn ctr_run() {
    let machine = Machine::up(&[]);
    start_containerd(&machine, CGROUP);
    let mut run = machine.command("ctr");
    run.args(["-n", CGROUP, "run", "--snapshotter", "native", "--cni", "--rm", IMAGE, "c1"]).args(SERVE);
    let container = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    let add = machine.await_call("ADD", "");
    assert!(add.success, "{add}");
    assert_eq!(add.variable("CNI_ARGS"), "", "ctr says no more than it must");
    assert!(add.variable("CNI_NETNS").starts_with("/proc/"), "{add}");
    assert_serves(&machine, &add.addresses());
    for (number, to) in WORLD.iter().enumerate() {
        let id = format!("ping{number}");
        let exec = ["-n", CGROUP, "tasks", "exec", "--exec-id", &id, "c1", "/bin/ping", "-c", "1", "-W", "5"];
        succeeds(machine.command("ctr").args(exec).arg(to.to_string()));
    }
    machine.run(&["ctr", "-n", CGROUP, "tasks", "kill", "-s", "KILL", "c1"]);
    let ended = container.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!said.contains("cni") && !said.contains("network"), "{said}");

    let calls = machine.calls();
    let verbs: Vec<_> = calls.iter().map(crate::calls::Call::verb).collect();
    assert!(verbs.contains(&"DEL"), "{verbs:?}");
    for call in &calls {
        assert!(call.success, "{call}");
    }
    record("ctr", &calls);
    machine.assert_only_the_labs_pod_is_left();
}
