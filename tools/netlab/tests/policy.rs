//! Policies in a directory are in force on every node: pods are who their manifests say, from their first packet on, and an agent or a
//! switch that is away opens nothing.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Turn, in_each_mode};
use heddle_netlab::{Lab, LabSpec};

/// Pods n1p1 and n2p1 of namespace shop: a client and a server that only clients may reach.
const SHOP: &str = "apiVersion: v1
kind: Pod
metadata: {name: n1p1, namespace: shop, labels: {app: client}}
---
apiVersion: v1
kind: Pod
metadata: {name: n2p1, namespace: shop, labels: {app: server}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: shop}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
";

/// Closes pod n1p2, which has the labels that the lab gives.
const CLOSE: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: close}
spec: {podSelector: {matchLabels: {pod: n1p2, node: n1}}, policyTypes: [Ingress]}
";

fn reaches(lab: &Lab, from: &str, to: &str, v6: bool) -> bool {
    let target = lab.pod(to).unwrap().address(v6).unwrap().to_string();
    // Not `Namespace::ping`, whose patience would make every denial a long wait.
    let mut ping = Command::new("ping");
    let output = lab.pod(from).unwrap().namespace.output(ping.args(["-n", "-c", "1", "-W", "1", &target]));
    output.unwrap().status.success()
}

/// Asks until the answer is `expected`, over both families.
#[track_caller]
fn comes_to_reach(lab: &Lab, from: &str, to: &str, expected: bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    for v6 in [false, true] {
        while reaches(lab, from, to, v6) != expected {
            assert!(Instant::now() < deadline, "{from} → {to}, IPv6 {v6}: not {expected}");
        }
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

#[test]
fn manifests_are_in_force_on_every_node() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "shop.yaml", SHOP);
    in_each_mode(&LabSpec { manifests: Some(dir.path().to_owned()), ..LabSpec::new(2, 2) }, |lab| {
        let namespaces: Vec<_> = lab.state().pods.iter().map(|pod| pod.pod_namespace.clone()).collect();
        assert_eq!(namespaces, ["shop", "default", "shop", "default"]);
        // Of those that may not, nobody gets through at any time.
        assert!(!reaches(lab, "n1p2", "n2p1", false) && !reaches(lab, "n2p2", "n2p1", true));
        // The server's node has to hear of the client's address.
        comes_to_reach(lab, "n1p1", "n2p1", true);
        let denied = lab.node("n2").unwrap().control().unwrap().dropped("policy_ingress").unwrap();
        assert!(denied >= 1, "{denied}");
        // The node itself always reaches its own pods.
        let server = lab.pod("n2p1").unwrap().address(false).unwrap();
        lab.node("n2").unwrap().namespace.must_ping(server).unwrap();

        write(dir.path(), "close.yaml", CLOSE);
        comes_to_reach(lab, "n1p1", "n1p2", false);
        comes_to_reach(lab, "n2p2", "n1p2", false);
        // It may still call others.
        comes_to_reach(lab, "n1p2", "n2p2", true);
        std::fs::remove_file(dir.path().join("close.yaml")).unwrap();
        comes_to_reach(lab, "n2p2", "n1p2", true);
        // Relabelled, the client is none any more.
        write(dir.path(), "shop.yaml", &SHOP.replace("labels: {app: client}", "labels: {app: other}"));
        comes_to_reach(lab, "n1p1", "n2p1", false);
        // For the next lab.
        write(dir.path(), "shop.yaml", SHOP);
    });
}

#[test]
fn without_its_agent_a_node_goes_on_and_adds_nothing() {
    in_each_mode(&LabSpec::new(1, 2), |lab| {
        let manifests = lab.state().manifests;
        write(&manifests, "close.yaml", CLOSE);
        comes_to_reach(lab, "n1p1", "n1p2", false);
        let node = lab.node("n1").unwrap();
        node.state.agent.unwrap().end().unwrap();
        assert!(!reaches(lab, "n1p1", "n1p2", false));
        comes_to_reach(lab, "n1p2", "n1p1", true);

        let error = lab.add_pods(&["n1p3".parse().unwrap()]).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("no policy image names pod default/n1p3"), "{error}");
        assert_eq!(node.control().unwrap().endpoints().unwrap().len(), 3, "the host and two pods");
        let status = node.control().unwrap().status().unwrap().policy.unwrap();
        assert_eq!((status.mode.as_str(), status.closed_endpoints), ("enforced", 0));
    });
}

/// Counts what arrives of a stream that never ends by itself; ends with the sender.
fn stream(lab: &Lab, from: &str, to: &str, count: Arc<AtomicU64>) -> TcpStream {
    let [from, to] = [from, to].map(|name| lab.pod(name).unwrap());
    let listener = to.namespace.run(|| TcpListener::bind("0.0.0.0:0")).unwrap().unwrap();
    let target = (to.address(false).unwrap(), listener.local_addr().unwrap().port());
    let sender = from.namespace.run(|| TcpStream::connect(target)).unwrap().unwrap();
    let (mut far_end, _) = listener.accept().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = far_end.read(&mut buffer) {
            count.fetch_add(length as u64, Ordering::Relaxed);
        }
    });
    let mut writer = sender.try_clone().unwrap();
    std::thread::spawn(move || while writer.write_all(&[7; 1 << 14]).is_ok() {});
    sender
}

/// Waits until the count grows, or until it does not any more.
#[track_caller]
fn comes_to_flow(received: &AtomicU64, expected: bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut before = received.load(Ordering::Relaxed);
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = received.load(Ordering::Relaxed);
        if (now > before) == expected {
            return;
        }
        assert!(Instant::now() < deadline, "flowing: not {expected}");
        before = now;
    }
}

#[test]
fn a_revoked_permission_stops_a_running_transfer_and_a_renewed_one_lets_it_go_on() {
    in_each_mode(&LabSpec::new(2, 2), |lab| {
        let manifests = lab.state().manifests;
        let received = Arc::<AtomicU64>::default();
        // To the pod that CLOSE closes: from its own node and from another.
        for from in ["n1p1", "n2p1"] {
            let sender = stream(lab, from, "n1p2", Arc::clone(&received));
            comes_to_flow(&received, true);
            write(&manifests, "close.yaml", CLOSE);
            comes_to_flow(&received, false);
            std::fs::remove_file(manifests.join("close.yaml")).unwrap();
            comes_to_flow(&received, true);
            sender.shutdown(Shutdown::Both).unwrap();
            comes_to_flow(&received, false);
        }
    });
}

#[test]
fn a_directory_that_is_none_is_refused() {
    let _turn = Turn::wait();
    let spec = LabSpec { manifests: Some("/nowhere".into()), ..LabSpec::new(1, 1) };
    assert!(format!("{:#}", Lab::up(&spec, &mut ()).unwrap_err()).contains("/nowhere"));
}
