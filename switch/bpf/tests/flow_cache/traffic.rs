//! Streams of real TCP and UDP over cached flows stay in the kernel with their super-packets and unfinished checksums whole,
//! rewritten or not, and arrive byte by byte; a flow that opens under a stream lets nothing overtake.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use heddle_bpf::{Flow, FlowKey, Hook, Outcome, Side, Start};
use heddle_netdev::ethtool::{Offload, set_offload};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

use crate::common::sandbox;
use crate::connection::{Connection, LENGTH, PATIENCE, PORT, byte, dial, flows, listen};
use crate::node::{Node, PODS, Route, node, pod_addresses};

/// Of an Ethernet packet without TCP options.
const SEGMENT: usize = 1460;

/// A connection from pod 1 to pod 2, which it knows by `service`.
fn connect(node: &Node, v6: bool, service: Option<SocketAddr>) -> Connection {
    let to = SocketAddr::new(pod_addresses(v6)[1], PORT);
    let service = service.unwrap_or(to);
    let listener = node.pods[1].run(move || listen(to));
    let client = node.pods[0].run(move || dial(service));
    Connection::new(client, &listener, service, PODS)
}

fn plain_stream(hook: Option<Hook>, v6: bool) {
    sandbox(move || {
        let node = node(hook);
        connect(&node, v6, None).assert_stays_in_kernel(&node, SEGMENT);
    });
}

#[test]
fn a_tcp_stream_stays_in_the_kernel_v4() {
    plain_stream(None, false);
}

#[test]
fn a_tcp_stream_stays_in_the_kernel_v6() {
    plain_stream(None, true);
}

#[test]
fn a_tcp_stream_stays_in_the_kernel_by_clsact_filters() {
    plain_stream(Some(Hook::Clsact), false);
    plain_stream(Some(Hook::Clsact), true);
}

fn service(v6: bool) -> SocketAddr {
    let address: IpAddr = if v6 { "fd00:10:96::53:1" } else { "10.96.0.53" }.parse().unwrap();
    SocketAddr::new(address, 80)
}

/// Teaches the worker to rewrite both ways, for what does not stay in the kernel.
fn teach(node: &Node, v6: bool, ports: impl Iterator<Item = u16>) {
    let [one, two] = pod_addresses(v6);
    let (service, to) = (service(v6), SocketAddr::new(two, PORT));
    let mut routes = node.routes.lock().unwrap();
    for port in ports {
        let from = SocketAddr::new(one, port);
        let route = |hop, side, to| Route { hop, rewrite: Some((side, to)) };
        routes.rewrites.insert((from, service), route(2, Side::Destination, to));
        routes.rewrites.insert((to, from), route(1, Side::Source, service));
    }
}

fn switch_offload_off(node: &Node) {
    for pod in &node.pods {
        pod.run(|| set_offload("eth0", Offload::TxChecksum, false).unwrap());
    }
}

fn rewritten_stream(v6: bool, offload: bool) {
    sandbox(move || {
        let node = node(None);
        teach(&node, v6, 1024..=u16::MAX);
        if !offload {
            switch_offload_off(&node);
        }
        let mut connection = connect(&node, v6, Some(service(v6)));
        if offload {
            connection.assert_stays_in_kernel(&node, SEGMENT);
        } else {
            connection.insert(&node);
            connection.stream();
            // Every segment by itself, with its checksum complete.
            let [there, back] = connection.uses(&node);
            assert_eq!(node.count(Outcome::Hit), there.packets + back.packets);
        }
        assert_eq!(connection.client.peer_addr().unwrap(), service(v6));
        assert_eq!(connection.server.local_addr().unwrap().port(), PORT);
    });
}

#[test]
fn a_rewritten_tcp_stream_arrives_v4() {
    rewritten_stream(false, true);
}

#[test]
fn a_rewritten_tcp_stream_arrives_v6() {
    rewritten_stream(true, true);
}

#[test]
fn a_rewritten_tcp_stream_with_complete_checksums_arrives() {
    rewritten_stream(false, false);
    rewritten_stream(true, false);
}

/// Datagrams of `length` bytes, sent as one super-packet, arrive one by one; and the answer comes from the service.
fn rewritten_udp(v6: bool, offload: bool) {
    sandbox(move || {
        let node = node(None);
        let [one, two] = pod_addresses(v6);
        let (from, to, service) = (SocketAddr::new(one, 5000), SocketAddr::new(two, PORT), service(v6));
        if !offload {
            switch_offload_off(&node);
        }
        let client = node.pods[0].run(move || UdpSocket::bind(from).unwrap());
        let server = node.pods[1].run(move || UdpSocket::bind(to).unwrap());
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        client.connect(service).unwrap();
        let pairs = flows(17, from, service, to, PODS);
        for (key, flow) in pairs {
            node.insert(key, flow);
        }

        setsockopt(&client, sockopt::UdpGsoSegment, &1000).unwrap();
        let sent: Vec<u8> = (0..9500).map(byte).collect();
        client.send(&sent).unwrap();
        let mut received: Vec<u8> = Vec::new();
        for length in [1000; 9].into_iter().chain([500]) {
            let mut datagram = [0; 2000];
            let (got, source) = server.recv_from(&mut datagram).unwrap();
            assert_eq!((got, source), (length, from));
            received.extend_from_slice(&datagram[..got]);
        }
        assert_eq!(received, sent);
        server.send_to(b"thanks", from).unwrap();
        let mut answer = [0; 100];
        let (length, source) = client.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..length], source), (&b"thanks"[..], service));

        let used = node.flows.read(&pairs[0].0).unwrap().unwrap().1;
        let headers = if v6 { 48 } else { 28 };
        assert_eq!((used.packets, used.bytes), (10, 9500 + 10 * headers));
        assert_eq!(node.count(Outcome::Hit), if offload { 2 } else { 11 });
    });
}

#[test]
fn rewritten_udp_arrives_v4() {
    rewritten_udp(false, true);
    rewritten_udp(false, false);
}

#[test]
fn rewritten_udp_arrives_v6() {
    rewritten_udp(true, true);
    rewritten_udp(true, false);
}

/// Lets flows come and go under a stream, `times` times, each time after some packets went up.
fn come_and_go(node: &Node, pairs: [(FlowKey, Flow); 2], times: u16, done: &AtomicBool) {
    let wait = |what: &str, ready: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !ready() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    };
    for time in 0..times {
        let keys = pairs.map(|(key, _)| key);
        let before = node.sent_on(&keys);
        wait("nothing goes up", &|| node.sent_on(&keys) > before + 50);
        for (fence, (key, flow)) in (2 * time..).zip(pairs) {
            node.flows.reset_fence(fence).unwrap();
            node.insert(key, Flow { fence, pending_for: PATIENCE, ..flow });
        }
        let used = |key| node.flows.read(&key).unwrap().unwrap().1;
        wait("the flow does not open", &|| pairs.iter().all(|(key, _)| used(*key).packets > 10));
        node.flows.remove(&pairs.map(|(key, _)| key)).unwrap();
    }
    done.store(true, Ordering::Relaxed);
}

#[test]
fn flows_open_and_end_under_a_stream() {
    for v6 in [false, true] {
        sandbox(move || {
            let node = node(None);
            let mut connection = connect(&node, v6, None);
            let pairs = connection.flows;
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| come_and_go(&node, pairs, 20, &done));
                while !done.load(Ordering::Relaxed) {
                    connection.stream();
                }
            });
            assert!(node.count(Outcome::Pending) >= 40);
            assert_eq!(node.count(Outcome::Forced), 0);
        });
    }
}

/// Binds the calling thread to one processor.
fn pin() {
    let mut processor = CpuSet::new();
    processor.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &processor).unwrap();
}

/// Sends datagrams from pod 1 to pod 2 with a flow that comes when some of them are on their way, again and again. Returns how
/// many were overtaken.
fn overtaken(node: &Node, v6: bool, port: u16, pending_for: Duration) -> usize {
    let [from, to] = pod_addresses(v6).map(|address| SocketAddr::new(address, port));
    let sender = node.pods[0].run(move || UdpSocket::bind(from).unwrap());
    let receiver = node.pods[1].run(move || UdpSocket::bind(to).unwrap());
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let [(key, flow), _] = flows(17, from, to, to, PODS);
    let mut overtaken = 0;
    for fence in 0..200_u16 {
        node.flows.reset_fence(fence).unwrap();
        for number in 0..32_u8 {
            if number == 8 {
                node.insert(key, Flow { fence, pending_for, ..flow });
            }
            sender.send_to(&[number], to).unwrap();
            if number % 3 == 0 {
                // The worker's turn.
                std::thread::yield_now();
            }
        }
        let mut newest = 0;
        for _ in 0..32 {
            let mut number = [0];
            receiver.recv(&mut number).unwrap();
            overtaken += usize::from(number[0] < newest);
            newest = newest.max(number[0]);
        }
        node.flows.remove(&[key]).unwrap();
    }
    overtaken
}

#[test]
fn nothing_is_overtaken_when_a_flow_opens() {
    // On one processor nothing but the flow cache can change the order: veth keeps it for each processor that sends.
    for v6 in [false, true] {
        sandbox(move || {
            pin();
            let node = node(None);
            assert_eq!(overtaken(&node, v6, PORT, PATIENCE), 0);
            let [hits, pending] = [Outcome::Hit, Outcome::Pending].map(|outcome| node.count(outcome));
            assert!(hits > 100 && pending > 100, "{hits} forwarded, {pending} held up");
            assert_eq!(node.count(Outcome::Forced), 0);
            // Or else this proves nothing: without a fence there is much of it.
            assert!(overtaken(&node, v6, PORT + 1, Duration::ZERO) > 100);
        });
    }
}

#[test]
fn a_killed_switchs_flows_go_on_and_are_taken_over() {
    for hook in [None, Some(Hook::Clsact)] {
        sandbox(move || {
            let mut node = node(hook);
            let mut connection = connect(&node, false, None);
            connection.insert(&node);
            connection.stream();
            let [before, _] = connection.uses(&node);
            node.kill_switch();
            connection.stream();
            node.start_switch();
            assert_eq!(node.cache.as_ref().unwrap().start(), Start::TakenOver);
            let [between, _] = connection.uses(&node);
            assert!(between.bytes >= before.bytes + LENGTH as u64);
            connection.stream();
            let [after, _] = connection.uses(&node);
            assert!(after.bytes >= between.bytes + LENGTH as u64);
            // And what has no flow goes up to the new worker: the end of this connection, and another.
            drop(connection);
            connect(&node, true, None);
        });
    }
}
