//! Conformance cases with real packets: what the tables of a case say of two pods is what happens between them, over both
//! families, on one node and across nodes.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/probes.rs"]
mod probes;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use common::TestLab;
use heddle_netlab::{AttachMode, LabSpec};
use probes::{Probe, Probing, Transport};
use serde_json::{Value, json};

/// How long a policy may take to be in force on all nodes of a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const NODES: u8 = 2;

/// Pods of the case in turns on the lab's nodes, so that neighbors in the table are on different ones.
fn lab_pod(index: usize) -> String {
    let nodes = usize::from(NODES);
    format!("n{}p{}", index % nodes + 1, index / nodes + 1)
}

/// The namespaces and pods of a case, with the names that the lab's pods have.
fn cluster_manifest(cluster: &Value) -> String {
    let mut text = String::new();
    for (name, labels) in cluster["namespaces"].as_object().unwrap() {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        writeln!(text, "---\n{namespace}").unwrap();
    }
    let ports: Vec<_> = [80, 81]
        .into_iter()
        .flat_map(|port| ["tcp", "udp", "sctp"].map(|protocol| (port, protocol)))
        .map(|(port, protocol)| {
            let name = format!("serve-{port}-{protocol}");
            json!({"name": name, "containerPort": port, "protocol": protocol.to_uppercase()})
        })
        .collect();
    for (index, pod) in cluster["pods"].as_array().unwrap().iter().enumerate() {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": lab_pod(index), "namespace": pod["namespace"], "labels": pod["labels"]},
            "spec": {"containers": [{"name": "serve", "ports": ports}]},
        });
        writeln!(text, "---\n{pod}").unwrap();
    }
    text
}

/// The verdicts of a step, on both families.
fn expected(step: &Value) -> BTreeMap<(Probe, (usize, usize)), bool> {
    let mut all = BTreeMap::new();
    for (name, rows) in step["expect"].as_object().unwrap() {
        let (transport, port) = name.split_once('/').unwrap();
        let transport = match transport {
            "TCP" => Transport::Tcp,
            "UDP" => Transport::Udp,
            "SCTP" => Transport::Sctp,
            // Named ports are numbers on the wire, and ICMP has none.
            _ => continue,
        };
        let Ok(port) = port.parse() else { continue };
        if !probes::PORTS.contains(&port) {
            continue;
        }
        for (from, row) in rows.as_array().unwrap().iter().enumerate() {
            for (to, verdict) in row.as_str().unwrap().chars().enumerate().filter(|(_, c)| *c != '-') {
                for v6 in [false, true] {
                    all.insert((Probe { transport, port, v6 }, (from, to)), verdict == '.');
                }
            }
        }
    }
    all
}

/// Cases about addresses name those of the file's pods, which the lab's do not have; and some change who is there.
fn suits(case: &Value, cluster: &Value) -> bool {
    let who = |cluster: &Value| {
        let pods = cluster["pods"].as_array().unwrap();
        pods.iter().map(|pod| (pod["namespace"].clone(), pod["name"].clone())).collect::<Vec<_>>()
    };
    let stays = |step: &Value| step.get("cluster").is_none_or(|changed| who(changed) == who(cluster));
    !case.to_string().contains("ipBlock") && case["steps"].as_array().unwrap().iter().all(stays)
}

/// Runs every `step`-th case of a file that suits.
fn run(mode: AttachMode, file: &Value, step: usize) {
    let cluster = &file["cluster"];
    let pods = cluster["pods"].as_array().unwrap().len();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        // Moved into place, so that no agent reads half of it.
        std::fs::write(dir.path().join("new"), text).unwrap();
        std::fs::rename(dir.path().join("new"), dir.path().join(name)).unwrap();
    };
    write("cluster.yaml", &cluster_manifest(cluster));
    let pods_per_node = pods.div_ceil(usize::from(NODES)) as u16;
    let manifests = Some(dir.path().to_owned());
    let spec = LabSpec { manifests, mode: Some(mode), ..LabSpec::new(NODES, pods_per_node) };
    let lab = TestLab::up(&spec);
    let mut probing = Probing::new((0..pods).map(|index| lab.pod(&lab_pod(index)).unwrap()).collect());
    let cases = file["cases"].as_array().unwrap().iter().filter(|case| suits(case, cluster));
    let mut verdicts = 0;
    for case in cases.step_by(step) {
        for (index, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            write("cluster.yaml", &cluster_manifest(step.get("cluster").unwrap_or(cluster)));
            let policies = step["policies"].as_array().unwrap();
            write(
                "policies.yaml",
                &policies.iter().fold(String::new(), |text, policy| text + &format!("---\n{policy}\n")),
            );
            let expected = expected(step);
            let deadline = Instant::now() + PATIENCE;
            loop {
                let wrong = probing.compare(&expected);
                if wrong.is_empty() {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "{}, step {index}: of {} verdicts {} are wrong (probe, pair, what was found): {wrong:?}",
                    case["name"],
                    expected.len(),
                    wrong.len()
                );
            }
            verdicts += expected.len();
        }
    }
    println!("{verdicts} verdicts on {pods} pods, each with a packet of its own");
    assert!(verdicts > 100, "a file without cases proves nothing");
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn own_cases(mode: AttachMode) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy-compiler/tests/cases.json");
    run(mode, &read(&path), 1);
}

#[test]
fn own_cases_in_direct_mode() {
    own_cases(AttachMode::Direct);
}

#[test]
fn own_cases_in_cached_mode() {
    own_cases(AttachMode::Cached);
}

/// A selection: a case takes a second or two. In the mode where a verdict may outlive its packet.
#[test]
fn published_cases() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/networkpolicy.json");
    let path = std::env::var_os("HEDDLE_CONFORMANCE").map_or(beside, Into::into);
    if path.exists() {
        run(AttachMode::Cached, &read(&path), 8);
    } else {
        println!("{} is not here; own cases have a selection of their own", path.display());
    }
}
