//! Pods that come and go, sixteen at a time, leave nothing: no address, frame, interface, descriptor or memory.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use common::in_each_mode;
use heddle_netlab::{Lab, LabSpec, Name, tcp_transfer};

const PODS: u16 = 100;
/// Sockets are closed by the kernel after we let go of them, and their frames held back until then.
const SETTLE: Duration = Duration::from_secs(10);
/// The allocator may keep some; a leak of the rings of a hundred sockets is more than this.
const MEMORY_SLACK_KIB: u64 = 16 << 10;

/// A socket's frames for receiving are brought up to their number only when this many are missing (half a batch).
const FILL_SLACK: u64 = 32;

/// What could leak, counted.
#[derive(Debug, PartialEq, Eq)]
struct Inventory {
    addresses: BTreeSet<IpAddr>,
    endpoints: usize,
    routes: usize,
    interfaces: Vec<String>,
    descriptors: usize,
}

/// The inventory, and the frames that sockets have for receiving.
fn take_inventory(lab: &Lab) -> (Inventory, u64) {
    let node = lab.node("n1").unwrap();
    let mut control = node.control().unwrap();
    // Fails unless the frames add up: one that nobody has any more is missing from the sum.
    let census = control.settled_census(SETTLE).unwrap();
    let links = node.namespace.exec(&["ip", "-o", "link"]).unwrap();
    let mut interfaces: Vec<String> = links
        .lines()
        .map(|line| line.split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned())
        .collect();
    interfaces.sort();
    let inventory = Inventory {
        addresses: addresses(node.state.socket.parent().unwrap()),
        endpoints: control.endpoints().unwrap().len(),
        routes: control.fib().unwrap().len(),
        interfaces,
        descriptors: std::fs::read_dir(format!("/proc/{}/fd", node.state.switch.pid)).unwrap().count(),
    };
    (inventory, census.receiving)
}

/// The plugin keeps a file an address, named like it.
fn addresses(node_dir: &Path) -> BTreeSet<IpAddr> {
    let files = std::fs::read_dir(node_dir.join("lib/ipam")).unwrap().flatten();
    files.filter_map(|file| file.file_name().to_str()?.parse().ok()).collect()
}

fn resident_kib(lab: &Lab) -> u64 {
    let pid = lab.node("n1").unwrap().state.switch.pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Closing a connection to the switch, or a socket in the kernel, may take a moment.
fn await_inventory(lab: &Lab, wanted: &Inventory) -> u64 {
    let deadline = Instant::now() + SETTLE;
    loop {
        let (found, receiving) = take_inventory(lab);
        if found == *wanted {
            return receiving;
        }
        assert!(Instant::now() < deadline, "left behind:\n{found:#?}\nwhere it was:\n{wanted:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_hundred_pods_come_and_go_without_a_trace() {
    in_each_mode(&LabSpec::new(1, 2), |lab| {
        let names: Vec<Name> = (3..3 + PODS).map(|pod| Name::Pod(1, pod)).collect();
        // The first round fills caches and pools, which is no leak; the second must leave everything as it was.
        lab.add_pods(&names).unwrap();
        lab.delete_pods(&names).unwrap();
        let (before, receiving) = take_inventory(lab);
        let memory = resident_kib(lab);

        let pods = lab.add_pods(&names).unwrap();
        let unique: BTreeSet<IpAddr> = pods.iter().flat_map(|pod| pod.state.addresses.clone()).collect();
        assert_eq!(unique.len(), 2 * usize::from(PODS), "addresses were given twice");
        assert!(unique.is_disjoint(&before.addresses), "addresses of running pods were given again");
        let (during, _) = take_inventory(lab);
        assert_eq!(during.endpoints, before.endpoints + usize::from(PODS));
        for [from, to] in [[0, 99], [50, 1], [99, 98]] {
            let (from, to) = (&pods[from], &pods[to]);
            for v6 in [false, true] {
                tcp_transfer(&from.namespace, &to.namespace, to.address(v6).unwrap(), 1 << 20).unwrap();
            }
        }

        lab.delete_pods(&names).unwrap();
        let receiving_after = await_inventory(lab, &before);
        let slack = FILL_SLACK * u64::try_from(before.endpoints + 1).unwrap();
        assert!(
            receiving_after.abs_diff(receiving) <= slack,
            "{receiving} frames to receive into, now {receiving_after}"
        );
        let grown = resident_kib(lab).saturating_sub(memory);
        assert!(grown < MEMORY_SLACK_KIB, "the switch grew by {grown} KiB");
        // Those that stayed are served as before.
        let (from, to) = (lab.pod("n1p1").unwrap(), lab.pod("n1p2").unwrap());
        from.namespace.must_ping(to.address(false).unwrap()).unwrap();
    });
}

#[test]
fn traffic_of_others_goes_on_while_pods_come_and_go() {
    in_each_mode(&LabSpec::new(1, 2), |lab| {
        let (from, to) = (lab.pod("n1p1").unwrap(), lab.pod("n1p2").unwrap());
        let names: Vec<Name> = (3..19).map(|pod| Name::Pod(1, pod)).collect();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stream = scope.spawn(|| {
                let mut rounds = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    tcp_transfer(
                        &from.namespace,
                        &to.namespace,
                        to.address(rounds % 2 == 1).unwrap(),
                        4 << 20,
                    )?;
                    rounds += 1;
                }
                anyhow::Ok(rounds)
            });
            for _ in 0..3 {
                lab.add_pods(&names).unwrap();
                lab.delete_pods(&names).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(stream.join().unwrap().unwrap() > 0);
        });
    });
}
