//! A machine for a container runtime: the network of a lab's node, in a capsule.

use std::ops::Deref;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heddle_netlab::{Lab, LabSpec, find_binary};

use crate::calls::{self, Call};
use crate::common::TestLab;
use crate::common::capsule::{Capsule, succeeds};

/// What only a fault takes longer than, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(30);
/// What containers are started from.
pub(crate) const IMAGE: &str = "heddle.test/busybox:1";
/// What busybox is called by in it.
const PROGRAMS: [&str; 6] = ["httpd", "ip", "nc", "ping", "sh", "sleep"];

/// See the module.
pub(crate) struct Machine {
    // Goes before the lab it is in.
    capsule: Capsule,
    lab: TestLab,
}

impl Machine {
    /// Node n1 of a lab of two nodes with a pod each, and Heddle installed for the runtime, with these plugins behind it.
    pub(crate) fn up(chain: &[&str]) -> Self {
        let lab = TestLab::up(&LabSpec::new(2, 1));
        let node = lab.node("n1").unwrap();
        let files = node.state.socket.parent().unwrap().to_str().unwrap();
        let start = || Capsule::start(include_str!("node.sh"), &[files]);
        let machine = Self { capsule: node.namespace.run(start).unwrap(), lab };
        machine.install(chain);
        machine
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// As the node's operator does it; the recorder comes in between.
    fn install(&self, chain: &[&str]) {
        let (heddle, plugin) = (find_binary("heddle").unwrap(), find_binary("heddle-cni").unwrap());
        let mut install = self.command(heddle.to_str().unwrap());
        install.arg("install").arg("--plugin").arg(plugin);
        for plugin in chain {
            install.args(["--chain", plugin]);
        }
        succeeds(&mut install);
        let place = self.path("/opt/cni/bin/heddle-cni");
        std::fs::rename(&place, place.with_extension("real")).unwrap();
        std::fs::write(&place, include_str!("recorder.sh")).unwrap();
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A file system with busybox and nothing else.
    pub(crate) fn root_file_system(&self, path: &str) {
        let root = self.path(path);
        for directory in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("these tests need Debian's busybox-static");
        for program in PROGRAMS {
            symlink("busybox", root.join("bin").join(program)).unwrap();
        }
        std::fs::write(root.join("etc/greeting"), "well met\n").unwrap();
    }

    /// What the runtime has called, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        calls::read(&self.path("/run/calls"))
    }

    /// The first call of this kind that was answered, once there is one.
    pub(crate) fn await_call(&self, verb: &str, container: &str) -> Call {
        let found = || {
            let mut calls = self.calls().into_iter();
            calls.find(|call| call.verb() == verb && call.container().starts_with(container))
        };
        wait_for(&format!("{verb} of {container}"), found)
    }

    /// Nothing of a container is left: no interface, no address, no endpoint.
    #[track_caller]
    pub(crate) fn assert_only_the_labs_pod_is_left(&self) {
        let node = self.lab.node("n1").unwrap();
        let pods = self.run(&["ip", "-o", "link"]).lines().filter(|line| line.contains(": hdl")).count();
        assert_eq!(pods, 1, "{}", self.run(&["ip", "-o", "link"]));
        let endpoints = node.control().unwrap().endpoints().unwrap();
        let ids: Vec<_> = endpoints.iter().filter(|e| e.number != 0).map(|e| e.id.as_str()).collect();
        assert_eq!(ids, ["lab-n1p1/eth0"]);
        let files = std::fs::read_dir(self.path("/var/lib/heddle/ipam")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let addresses: Vec<_> = names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
        assert_eq!(addresses.len(), 2, "{addresses:?}");
    }
}

impl Deref for Machine {
    type Target = Capsule;

    fn deref(&self) -> &Capsule {
        &self.capsule
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for call in self.calls() {
                eprintln!("{call}");
            }
        }
        self.capsule.end();
        sweep_cgroups();
    }
}

/// Waits until there is an answer.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, answer: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The cgroup that the tests' containers are in, directly below the root of each hierarchy. Those of containers that ended with their
/// machine are left there, empty.
pub(crate) const CGROUP: &str = "heddle-test";

fn sweep_cgroups() {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let roots = hierarchies.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
    for group in roots.map(|root| root.join(CGROUP)).filter(|group| group.is_dir()) {
        remove_groups(&group);
    }
}

fn remove_groups(group: &Path) {
    for below in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&below.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}
