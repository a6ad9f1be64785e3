//! A limited pod gets and sends what its limit says, no more and hardly less: by TCP and by UDP, in both attach modes, from its own
//! node and from another, and after a restart of the switch.
#![allow(clippy::unwrap_used)]
#![allow(clippy::trivially_copy_pass_by_ref, reason = "namespaces are lent, as the lab lends them")]
#![allow(clippy::cast_precision_loss, reason = "rates are compared by the per cent")]

#[path = "common/attached.rs"]
mod attached;
mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use attached::{attach_again, endpoint};
use common::in_each_mode;
use heddle_api::{Bandwidth, PortMapping};
use heddle_netlab::{Lab, LabSpec, Namespace, Pod, STATE_DIR, find_binary};

/// Bits a second: far below what any machine does, so that the limit is what is measured.
const INGRESS: u64 = 30_000_000;
const EGRESS: u64 = 20_000_000;

/// Until a stream has its pace: TCP's slow start, and the bucket that was full.
const SETTLE: Duration = Duration::from_millis(700);
const MEASURE: Duration = Duration::from_secs(2);
/// A machine that does something else for a moment spoils a measurement, and a limit that does not hold spoils all.
const TRIES: usize = 5;

const LIMITS: Bandwidth =
    Bandwidth { ingress_rate: INGRESS, ingress_burst: 0, egress_rate: EGRESS, egress_burst: 0 };

/// How packets come.
#[derive(Debug, Clone, Copy)]
enum Stream {
    Tcp,
    Udp,
}

/// Bytes of Ethernet frames that the pod's interface has received. Of super-packets, which come in cached mode, one has a header for many.
fn received(pod: &Namespace) -> u64 {
    let table = pod.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix("eth0:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// What a stream's ends share.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    /// Bytes that the receiver has read.
    payload: AtomicU64,
}

/// Bits a second that arrive at `to` while `from` sends as fast as it can: payload, and frames.
fn rates(from: &Namespace, to: &Namespace, address: IpAddr, stream: Stream) -> [f64; 2] {
    let shared = Shared::default();
    std::thread::scope(|scope| {
        match stream {
            Stream::Tcp => start_tcp(scope, (from, to), address, &shared),
            Stream::Udp => start_udp(scope, (from, to), address, &shared),
        }
        let now = || [shared.payload.load(Ordering::Relaxed), received(to)];
        std::thread::sleep(SETTLE);
        let (start, before) = (Instant::now(), now());
        std::thread::sleep(MEASURE);
        let (after, elapsed) = (now(), start.elapsed().as_secs_f64());
        shared.over.store(true, Ordering::Relaxed);
        [0, 1].map(|which| (after[which] - before[which]) as f64 * 8.0 / elapsed)
    })
}

type Ends<'n> = (&'n Namespace, &'n Namespace);

fn start_tcp<'s>(
    scope: &'s std::thread::Scope<'s, '_>,
    (from, to): Ends<'_>,
    address: IpAddr,
    shared: &'s Shared,
) {
    let listener = to.run(|| TcpListener::bind((address, 0)).unwrap()).unwrap();
    let target = listener.local_addr().unwrap();
    let mut near = from.run(|| TcpStream::connect_timeout(&target, Duration::from_secs(5)).unwrap()).unwrap();
    let mut far = listener.accept().unwrap().0;
    near.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    scope.spawn(move || {
        let block = vec![0; 64 << 10];
        while !shared.over.load(Ordering::Relaxed) {
            if near.write_all(&block).is_err() {
                break;
            }
        }
    });
    scope.spawn(move || {
        let mut block = vec![0; 64 << 10];
        while let Ok(length @ 1..) = far.read(&mut block) {
            shared.payload.fetch_add(length as u64, Ordering::Relaxed);
        }
    });
}

/// Datagrams at more than twice the rate, in every half millisecond some. One socket would wait for its datagrams to leave the queue,
/// and never fill it.
fn start_udp<'s>(
    scope: &'s std::thread::Scope<'s, '_>,
    (from, to): Ends<'_>,
    address: IpAddr,
    shared: &'s Shared,
) {
    let far = to.run(|| UdpSocket::bind((address, 0)).unwrap()).unwrap();
    let target = far.local_addr().unwrap();
    let any: IpAddr = if address.is_ipv6() { [0; 16].into() } else { [0; 4].into() };
    let open = || UdpSocket::bind((any, 0)).unwrap();
    let near = from.run(|| [0; 4].map(|_| open())).unwrap();
    for socket in &near {
        socket.connect(target).unwrap();
        socket.set_nonblocking(true).unwrap();
    }
    far.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    scope.spawn(move || {
        while !shared.over.load(Ordering::Relaxed) {
            for socket in &near {
                let _ = socket.send(&[0; 1200]);
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    });
    scope.spawn(move || {
        let mut datagram = [0; 2048];
        while !shared.over.load(Ordering::Relaxed) {
            let length = far.recv(&mut datagram).unwrap_or_default();
            shared.payload.fetch_add(length as u64, Ordering::Relaxed);
        }
    });
}

#[track_caller]
fn holds(from: &Pod, to: &Pod, v6: bool, stream: Stream, limit: u64) {
    let mut tried = Vec::new();
    for _ in 0..TRIES {
        let rates = rates(&from.namespace, &to.namespace, to.address(v6).unwrap(), stream);
        let [payload, frames] = rates.map(|rate| rate * 100.0 / limit as f64);
        println!(
            "{} → {} {stream:?}, IPv6 {v6}: {payload:.1} % of {limit} arrive, {frames:.1} % with headers",
            from.state.name, to.state.name
        );
        if payload >= 95.0 && payload.max(frames) <= 105.0 {
            return;
        }
        tried.push([payload, frames]);
    }
    panic!("{} → {} {stream:?}, IPv6 {v6}: {tried:?} % of {limit}", from.state.name, to.state.name);
}

fn both_directions(lab: &Lab, limited: &str, peer: &str, v6: bool, stream: Stream) {
    let (limited, peer) = (lab.pod(limited).unwrap(), lab.pod(peer).unwrap());
    holds(&peer, &limited, v6, stream, INGRESS);
    holds(&limited, &peer, v6, stream, EGRESS);
}

#[test]
fn limits_hold_in_both_directions() {
    in_each_mode(&LabSpec::new(2, 2), |lab| {
        let added = attach_again(lab, "n1", "n1p1", |request| request.bandwidth = Some(LIMITS));
        assert_eq!(added.bandwidth, Some(LIMITS));
        for v6 in [false, true] {
            lab.pod("n1p2")
                .unwrap()
                .namespace
                .must_ping(lab.pod("n1p1").unwrap().address(v6).unwrap())
                .unwrap();
        }
        both_directions(lab, "n1p1", "n1p2", false, Stream::Tcp);
        both_directions(lab, "n1p1", "n2p1", true, Stream::Tcp);
        both_directions(lab, "n1p1", "n1p2", true, Stream::Udp);
        both_directions(lab, "n1p1", "n2p1", false, Stream::Udp);
        let mut control = lab.node("n1").unwrap().control().unwrap();
        for reason in ["bandwidth_ingress", "bandwidth_egress"] {
            assert!(control.dropped(reason).unwrap() > 0, "{reason}");
        }
    });
}

#[test]
fn limits_outlive_the_switch_and_go_with_the_pod() {
    in_each_mode(&LabSpec::new(1, 2), |lab| {
        attach_again(lab, "n1", "n1p1", |request| request.bandwidth = Some(LIMITS));
        lab.kill_switch("n1").unwrap();
        lab.start_switch("n1").unwrap();
        let node = lab.node("n1").unwrap();
        assert_eq!(endpoint(&mut node.control().unwrap(), "n1p1").bandwidth, Some(LIMITS));
        both_directions(lab, "n1p1", "n1p2", false, Stream::Tcp);
        let shapers = || node.namespace.exec(&["ip", "-o", "link"]).unwrap().matches("heddle-q").count();
        let limits = || node.namespace.exec(&["tc", "qdisc"]).unwrap().matches("tbf").count();
        assert!(shapers() > 0 && limits() == 2);
        // Without limits, and far beyond them.
        let unlimited = attach_again(lab, "n1", "n1p1", |request| request.bandwidth = None);
        assert_eq!(unlimited.bandwidth, None);
        assert_eq!((shapers(), limits()), (0, 0));
        let (one, other) = (lab.pod("n1p1").unwrap(), lab.pod("n1p2").unwrap());
        for (from, to) in [(&one, &other), (&other, &one)] {
            let [rate, _] = rates(&from.namespace, &to.namespace, to.address(false).unwrap(), Stream::Tcp);
            assert!(rate > 1.5 * INGRESS as f64, "{rate}");
        }
    });
}

#[test]
fn clean_up_removes_limits_and_ports() {
    in_each_mode(&LabSpec::new(1, 1), |lab| {
        attach_again(lab, "n1", "n1p1", |request| {
            request.bandwidth = Some(LIMITS);
            request.port_mappings = vec![PortMapping {
                protocol: "tcp".into(),
                host_port: 8080,
                pod_port: 80,
                host_address: String::new(),
            }];
        });
        let node = lab.node("n1").unwrap().namespace;
        lab.kill_switch("n1").unwrap();
        let config = std::path::Path::new(STATE_DIR).join("n1/switch.toml");
        let mut clean_up = Command::new(find_binary("heddle-switch").unwrap());
        let output = node.output(clean_up.arg("--config").arg(config).arg("--cleanup")).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let left = ["ip -o link", "tc qdisc", "nft list ruleset"]
            .map(|command| node.exec(&command.split(' ').collect::<Vec<_>>()).unwrap());
        assert!(!left.iter().any(|text| text.contains("heddle") || text.contains("tbf")), "{left:#?}");
    });
}
