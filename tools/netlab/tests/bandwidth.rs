//! A limited pod gets and sends what its limit says, no more and hardly less: by TCP and by UDP, in both attach modes, from its own
//! node and from another, and after a restart of the switch.
#![allow(clippy::unwrap_used)]
#![allow(clippy::cast_precision_loss, reason = "rates are compared by the per cent")]

#[path = "common/attached.rs"]
mod attached;
mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use attached::{attach_again, endpoint};
use common::in_each_mode;
use heddle_api::Bandwidth;
use heddle_netlab::{Lab, LabSpec, Namespace, Pod};

/// Bits a second: far below what any machine does, so that the limit is what is measured.
const INGRESS: u64 = 60_000_000;
const EGRESS: u64 = 30_000_000;

/// Until a stream has its pace: TCP's slow start, and the bucket that was full.
const SETTLE: Duration = Duration::from_millis(700);
const MEASURE: Duration = Duration::from_secs(2);
/// A machine that does something else for a moment spoils a measurement, and a limit that does not hold spoils all.
const TRIES: usize = 3;

const LIMITS: Bandwidth =
    Bandwidth { ingress_rate: INGRESS, ingress_burst: 0, egress_rate: EGRESS, egress_burst: 0 };

/// How packets come.
#[derive(Debug, Clone, Copy)]
enum Stream {
    Tcp,
    Udp,
}

/// What the pod's interface has received: bytes of Ethernet frames, as the limits count them.
fn received(pod: &Namespace) -> u64 {
    let table = pod.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix("eth0:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Bits a second that arrive at `to` while `from` sends as fast as it can.
fn rate(from: &Namespace, to: &Namespace, address: IpAddr, stream: Stream) -> f64 {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        match stream {
            Stream::Tcp => start_tcp(scope, (from, to), address, &over),
            Stream::Udp => start_udp(scope, (from, to), address, &over),
        }
        std::thread::sleep(SETTLE);
        let (start, before) = (Instant::now(), received(to));
        std::thread::sleep(MEASURE);
        let bits = (received(to) - before) as f64 * 8.0;
        let rate = bits / start.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        rate
    })
}

type Ends<'n> = (&'n Namespace, &'n Namespace);

fn start_tcp<'s>(
    scope: &'s std::thread::Scope<'s, '_>,
    (from, to): Ends<'_>,
    address: IpAddr,
    over: &'s AtomicBool,
) {
    let listener = to.run(|| TcpListener::bind((address, 0)).unwrap()).unwrap();
    let target = listener.local_addr().unwrap();
    let mut near = from.run(|| TcpStream::connect_timeout(&target, Duration::from_secs(5)).unwrap()).unwrap();
    let mut far = listener.accept().unwrap().0;
    near.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    scope.spawn(move || {
        let block = vec![0; 64 << 10];
        while !over.load(Ordering::Relaxed) && near.write_all(&block).is_ok() {}
    });
    scope.spawn(move || {
        let mut block = vec![0; 64 << 10];
        while far.read(&mut block).is_ok_and(|length| length > 0) {}
    });
}

/// Datagrams at twice the rate or more, in every half millisecond some.
fn start_udp<'s>(
    scope: &'s std::thread::Scope<'s, '_>,
    (from, to): Ends<'_>,
    address: IpAddr,
    over: &'s AtomicBool,
) {
    let far = to.run(|| UdpSocket::bind((address, 0)).unwrap()).unwrap();
    let target = far.local_addr().unwrap();
    let any: IpAddr = if address.is_ipv6() { [0; 16].into() } else { [0; 4].into() };
    let near = from.run(|| UdpSocket::bind((any, 0)).unwrap()).unwrap();
    near.connect(target).unwrap();
    far.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    scope.spawn(move || {
        while !over.load(Ordering::Relaxed) {
            for _ in 0..8 {
                let _ = near.send(&[0; 1200]);
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    });
    scope.spawn(move || {
        let mut datagram = [0; 2048];
        while !over.load(Ordering::Relaxed) {
            let _ = far.recv(&mut datagram);
        }
    });
}

#[track_caller]
fn holds(from: &Pod, to: &Pod, v6: bool, stream: Stream, limit: u64) {
    let mut rates = Vec::new();
    for _ in 0..TRIES {
        let percent =
            rate(&from.namespace, &to.namespace, to.address(v6).unwrap(), stream) * 100.0 / limit as f64;
        println!("{} → {} {stream:?}, IPv6 {v6}: {percent:.1} % of {limit}", from.state.name, to.state.name);
        if (95.0..=105.0).contains(&percent) {
            return;
        }
        rates.push(percent);
    }
    panic!("{} → {} {stream:?}, IPv6 {v6}: {rates:?} % of {limit}", from.state.name, to.state.name);
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
            let rate = rate(&from.namespace, &to.namespace, to.address(false).unwrap(), Stream::Tcp);
            assert!(rate > 2.0 * INGRESS as f64, "{rate}");
        }
    });
}
