//! The flow cache forwards nothing that the switch would not: a revoked permission stops a flow that runs in the kernel, a new pod
//! with an old one's address does not get its flows, and a crash of the switch changes neither.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use common::{TestLab, next_takes_the_lowest};
use heddle_netlab::{AttachMode, Lab, LabSpec, Name, Pod, Stream};

/// Closes pod n1p2 to everybody.
const CLOSE: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: close}
spec: {podSelector: {matchLabels: {pod: n1p2}}, policyTypes: [Ingress]}
";

/// How long what comes to be may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than is under way and in the buffers of both ends.
const MUCH: u64 = 64 << 20;

fn lab(nodes: u8, pods: u16) -> TestLab {
    TestLab::up(&LabSpec { mode: Some(AttachMode::Cached), ..LabSpec::new(nodes, pods) })
}

#[track_caller]
fn comes_to_be(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not in {} s: {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn close(lab: &Lab) {
    std::fs::write(lab.state().manifests.join("close.yaml"), CLOSE).unwrap();
}

fn open(lab: &Lab) {
    std::fs::remove_file(lab.state().manifests.join("close.yaml")).unwrap();
}

fn generation(lab: &Lab, node: &str) -> u32 {
    lab.node(node).unwrap().control().unwrap().status().unwrap().policy.unwrap().generation
}

/// Flows in the kernel's map.
fn cached(lab: &Lab, node: &str) -> u64 {
    lab.node(node).unwrap().control().unwrap().status().unwrap().flow_cache.unwrap().entries
}

/// Bytes of a packet that arrives at a pod, on average from now on, for as long as `during` takes.
fn bytes_per_packet(pod: &Pod, during: impl FnOnce()) -> u64 {
    let count = || {
        let links = pod.namespace.exec(&["ip", "-s", "-j", "link", "show", "eth0"]).unwrap();
        let links: serde_json::Value = serde_json::from_str(&links).unwrap();
        ["bytes", "packets"].map(|what| links[0]["stats64"]["rx"][what].as_u64().unwrap())
    };
    let before = count();
    during();
    let [bytes, packets] = [0, 1].map(|which| count()[which] - before[which]);
    bytes / packets.max(1)
}

#[test]
fn a_revoked_permission_stops_a_flow_in_the_kernel_and_a_renewed_one_lets_it_go_on() {
    let lab = lab(2, 2);
    let to = lab.pod("n1p2").unwrap();
    for from in ["n1p1", "n2p1"] {
        let from = lab.pod(from).unwrap();
        for v6 in [false, true] {
            let stream = Stream::start(&from.namespace, &to.namespace, to.address(v6).unwrap()).unwrap();
            comes_to_be("both directions are cached", || cached(&lab, "n1") == 2);
            stream.await_bytes(MUCH).unwrap();
            let before = generation(&lab, "n1");
            close(&lab);
            comes_to_be("the policy is in force", || generation(&lab, "n1") != before);
            let in_force = Instant::now();
            stream.await_standstill().unwrap();
            let after = stream.last_arrival().saturating_duration_since(in_force);
            println!(
                "{} → n1p2, IPv6 {v6}: the last byte came {after:?} after the policy was in force",
                from.namespace
            );
            assert_eq!(cached(&lab, "n1"), 0, "what is not allowed is not in the cache");
            open(&lab);
            stream.await_bytes(MUCH).unwrap();
            comes_to_be("both directions are cached again", || cached(&lab, "n1") == 2);
            drop(stream);
            comes_to_be("what is over is not cached", || cached(&lab, "n1") == 0);
        }
    }
}

/// Sends datagrams for as long as `during` takes.
fn with_datagrams<T>(from: &Pod, target: SocketAddr, during: impl FnOnce() -> T) -> T {
    let any: IpAddr = if target.is_ipv6() { [0; 16].into() } else { [0; 4].into() };
    let socket = from.namespace.run(|| UdpSocket::bind((any, 0)).unwrap()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // An error that came back from the far end is told here.
                let _ = socket.send_to(&[7; 64], target);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let _stop = Stop(&done);
        during()
    })
}

/// Ends the sender even when a test fails.
struct Stop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_new_pod_with_an_old_one_s_address_does_not_get_its_flows() {
    const PORT: u16 = 4000;
    let lab = lab(1, 1);
    let from = lab.pod("n1p1").unwrap();
    for v6 in [false, true] {
        let names: [Name; 2] = ["n1p2".parse().unwrap(), "n1p3".parse().unwrap()];
        next_takes_the_lowest(&lab);
        let old = lab.add_pods(&names[..1]).unwrap().remove(0);
        let address = old.address(v6).unwrap();
        // One that listens, so that the flow is not answered by errors.
        let _listener = old.namespace.run(|| UdpSocket::bind((address, PORT)).unwrap()).unwrap();
        with_datagrams(&from, (address, PORT).into(), || {
            comes_to_be("the flow is cached", || cached(&lab, "n1") == 1);
            lab.delete_pods(&names[..1]).unwrap();
            assert_eq!(cached(&lab, "n1"), 0, "a flow of a pod that is gone");
            // The new one may not be called by anybody.
            std::fs::write(lab.state().manifests.join("close.yaml"), CLOSE.replace("n1p2", "n1p3")).unwrap();
            next_takes_the_lowest(&lab);
            let new = lab.add_pods(&names[1..]).unwrap().remove(0);
            assert_eq!(new.address(v6).unwrap(), address, "the address is given again");
            let listener = new.namespace.run(|| UdpSocket::bind((address, PORT)).unwrap()).unwrap();
            let dropped = || lab.node("n1").unwrap().control().unwrap().dropped("policy_ingress").unwrap();
            let before = dropped();
            comes_to_be("datagrams are refused", || dropped() > before + 50);
            listener.set_nonblocking(true).unwrap();
            assert!(
                listener.recv(&mut [0; 64]).is_err(),
                "a datagram of the old pod's flow is at the new one"
            );
            assert_eq!(cached(&lab, "n1"), 0, "a flow that is not allowed");
        });
        std::fs::remove_file(lab.state().manifests.join("close.yaml")).unwrap();
        lab.delete_pods(&names[1..]).unwrap();
    }
}

fn connects(from: &Pod, to: &Pod) -> bool {
    let address = to.address(false).unwrap();
    let listener = to.namespace.run(|| TcpListener::bind((address, 0)).unwrap()).unwrap();
    let target = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&target, Duration::from_millis(1500));
    from.namespace.run(connect).unwrap().is_ok()
}

#[test]
fn flows_outlive_a_crash_of_the_switch_and_are_judged_by_the_next() {
    let lab = lab(2, 2);
    // Policy is saved within a second or two: an image that is made now tells when the one that knows all pods has been.
    let up = std::time::SystemTime::now();
    std::fs::write(
        lab.state().manifests.join("other.yaml"),
        CLOSE.replace("name: close", "name: other").replace("n1p2", "none"),
    )
    .unwrap();
    let [from, to, far] = ["n1p1", "n1p2", "n2p1"].map(|name| lab.pod(name).unwrap());
    let near = Stream::start(&from.namespace, &to.namespace, to.address(false).unwrap()).unwrap();
    let across = Stream::start(&from.namespace, &far.namespace, far.address(true).unwrap()).unwrap();
    comes_to_be("both are cached", || cached(&lab, "n1") == 4 && cached(&lab, "n2") == 2);

    let saved = lab.node("n1").unwrap().state.socket.with_file_name("lib").join("switch");
    let is_saved = |name: &str| saved.join(name).metadata().is_ok_and(|file| file.modified().unwrap() >= up);
    comes_to_be("policy and routes are saved", || {
        is_saved("policy.image") && saved.join("routes.json").exists()
    });
    lab.kill_switch("n1").unwrap();
    let size = bytes_per_packet(&to, || near.await_bytes(4 * MUCH).unwrap());
    assert!(size > 2 * u64::from(to.state.mtu), "super-packets arrive whole, not in {size} bytes each");
    across.await_bytes(MUCH).unwrap();
    assert!(!connects(&from, &to), "a new connection without a switch to judge it");

    lab.start_switch("n1").unwrap();
    comes_to_be("new connections", || connects(&from, &to));
    let node = lab.node("n1").unwrap();
    for stream in [&near, &across] {
        let flows = node.control().unwrap().flows().unwrap();
        let ends = |flow: &heddle_api::Flow| (flow.source_port, flow.destination_port);
        let wanted = (u32::from(stream.local.port()), u32::from(stream.remote.port()));
        let found: Vec<_> = flows.iter().filter(|flow| ends(flow) == wanted).collect();
        let both = if stream.remote.is_ipv4() { 2 } else { 1 };
        assert_eq!(found.len(), both, "{stream:?} is known at its ends on this node: {flows:#?}");
        assert!(found.iter().all(|flow| flow.state == "established" && flow.offloaded), "{found:#?}");
        stream.await_bytes(MUCH).unwrap();
    }
    close(&lab);
    near.await_standstill().unwrap();
    across.await_bytes(MUCH).unwrap();
    open(&lab);
    near.await_bytes(MUCH).unwrap();
}
