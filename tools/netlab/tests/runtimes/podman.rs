//! podman with its CNI backend: a container with a published port, and what it asks of a plugin before it calls it.

use heddle_netlab::WORLD;

use crate::calls::record;
use crate::machine::{CGROUP, Machine, wait_for};
use crate::pods::{GREETING, SERVE, assert_serves, fetch};

const CONFIGURATION: &str = r#"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"#;
/// On the node.
const PUBLISHED: u16 = 8088;

struct Podman<'a>(&'a Machine);

impl Podman<'_> {
    fn run(&self, words: &[&str]) -> String {
        let own =
            ["env", "CONTAINERS_CONF=/etc/containers/containers.conf", "podman", "--storage-driver", "vfs"];
        self.0.run(&[&own, words].concat())
    }
}

/// A container with a port of the node that leads to its own.
fn publish(chain: &[&str], name: &str) {
    let machine = Machine::up(chain);
    machine.write("/etc/containers/containers.conf", CONFIGURATION);
    machine.root_file_system("/run/root");
    let podman = Podman(&machine);
    let port = format!("{PUBLISHED}:8080");
    let options = ["run", "-d", "--name", "web", "--network", "heddle", "-p", &port];
    // Who lacks CAP_SYS_RESOURCE cannot raise limits, as podman does by default.
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--cgroup-parent", CGROUP];
    podman.run(&[&options[..], &limits, &["--rootfs", "/run/root"], &SERVE].concat());

    let add = machine.await_call("ADD", "");
    assert_serves(&machine, &add.addresses());
    let node = machine.lab().node("n1").unwrap();
    for (v6, world) in [false, true].into_iter().zip(WORLD) {
        let address = node.address(v6).unwrap();
        let what = format!("an answer from the published port of {address}");
        let greeting = wait_for(&what, || fetch(machine.lab().world(), address, PUBLISHED));
        assert_eq!(greeting, GREETING, "{what}");
        podman.run(&["exec", "web", "/bin/ping", "-c", "1", "-W", "5", &world.to_string()]);
    }
    podman.run(&["rm", "-f", "-t", "0", "web"]);
    let address = node.address(false).unwrap();
    assert_eq!(fetch(machine.lab().world(), address, PUBLISHED), None, "the port is open still");

    let calls = machine.calls();
    for call in &calls {
        assert!(call.success, "{call}");
    }
    record(name, &calls);
    machine.assert_only_the_labs_pod_is_left();
}

#[test]
fn podman_publishes_by_portmap() {
    publish(&["portmap"], "podman");
}

#[test]
fn podman_publishes_by_heddle() {
    publish(&[], "podman-native");
}
