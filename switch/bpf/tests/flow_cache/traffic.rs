//! Streams of real TCP and UDP over cached flows stay in the kernel with their super-packets and unfinished checksums whole,
//! rewritten or not, and arrive byte by byte; a flow that opens under a stream lets nothing overtake.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use heddle_bpf::{Flow, FlowKey, Hook, Outcome, Rewrite, Side};
use heddle_netdev::ethtool::{Offload, set_offload};
use nix::sys::socket::{setsockopt, sockopt};

use crate::bench::flow;
use crate::common::sandbox;
use crate::node::{Node, Route, key, node, parties, pod_addresses};

const LENGTH: usize = 16 << 20;
const PORT: u16 = 8080;
/// Only a fault reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

fn byte(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

/// Sends `LENGTH` bytes and waits until the other end has read and answered.
fn stream(client: &mut TcpStream, server: &mut TcpStream) {
    for socket in [&*client, &*server] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let bytes: Vec<u8> = (0..LENGTH).map(byte).collect();
            client.write_all(&bytes).unwrap();
            let mut answer = [0; 4];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"done");
        });
        scope.spawn(|| {
            let mut received = vec![0; LENGTH];
            server.read_exact(&mut received).unwrap();
            assert!(received.iter().enumerate().all(|(at, got)| *got == byte(at)));
            server.write_all(b"done").unwrap();
        });
    });
}

/// A connection from pod 1, at `from`, to pod 2, which it knows by `service`.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    from: SocketAddr,
    service: SocketAddr,
    to: SocketAddr,
}

fn connect(node: &Node, v6: bool, service: Option<SocketAddr>) -> Connection {
    let [one, two] = pod_addresses(v6);
    let to = SocketAddr::new(two, PORT);
    let service = service.unwrap_or(to);
    let listener = node.pods[1].run(move || TcpListener::bind(to).unwrap());
    // A window that is never more than the trunk's rings hold, so that nothing is lost and whatever is out of order was
    // overtaken.
    setsockopt(&listener, sockopt::RcvBuf, &(64 << 10)).unwrap();
    let client = node.pods[0].run(move || TcpStream::connect_timeout(&service, PATIENCE).unwrap());
    let from = client.local_addr().unwrap();
    assert_eq!(from.ip(), one);
    let (server, _) = listener.accept().unwrap();
    Connection { client, server, from, service, to }
}

/// The flows of a connection, both ways, with what they rewrite.
fn flows(connection: &Connection, protocol: u8) -> [(FlowKey, Flow); 2] {
    let Connection { from, service, to, .. } = connection;
    let rewrite = |side, address: SocketAddr| {
        (service != to).then_some(Rewrite { side, address: address.ip(), port: address.port() })
    };
    let one_way = |pod| flow(parties(pod).0, parties(pod).1);
    [
        (key(protocol, 0, *from, *service), Flow { rewrite: rewrite(Side::Destination, *to), ..one_way(0) }),
        (
            key(protocol, 1, *to, *from),
            Flow { rewrite: rewrite(Side::Source, *service), original: false, ..one_way(1) },
        ),
    ]
}

/// The data of a stream over open flows: all in the kernel, and most of it in super-packets.
fn assert_stays_in_kernel(node: &Node, connection: &mut Connection) {
    let flows = flows(connection, 6);
    for (key, flow) in flows {
        node.insert(key, flow);
    }
    let (before, up) = (node.counters(), node.went_up.load(Ordering::Relaxed));
    stream(&mut connection.client, &mut connection.server);
    let after = node.counters();
    let hits = after.get(Outcome::Hit) - before.get(Outcome::Hit);
    // Unusual is what the pods' kernels say on their own, to routers and groups.
    let of_flows = |(outcome, _): &(_, _)| !matches!(outcome, Outcome::Hit | Outcome::Unusual);
    for (outcome, count) in after.iter().filter(of_flows) {
        assert_eq!(count, before.get(outcome), "{outcome:?}");
    }
    assert_eq!(node.went_up.load(Ordering::Relaxed), up);
    let used = flows.map(|(key, _)| node.flows.read(&key).unwrap().unwrap().1);
    let segments = used[0].packets + used[1].packets;
    // 16 MiB are at least 11,491 segments of 1,460 bytes, and 257 super-packets of 64 KiB.
    assert!(used[0].packets >= 11_491 && used[0].bytes > LENGTH as u64, "{used:?}");
    assert!(hits < segments / 2, "{hits} super-packets of {segments} segments");
    node.flows.remove(&flows.map(|(key, _)| key)).unwrap();
}

fn plain_stream(hook: Option<Hook>, v6: bool) {
    sandbox(move || {
        let node = node(hook);
        let mut connection = connect(&node, v6, None);
        assert_stays_in_kernel(&node, &mut connection);
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

fn rewritten_stream(v6: bool, offload: bool) {
    sandbox(move || {
        let node = node(None);
        teach(&node, v6, 1024..=u16::MAX);
        if !offload {
            for pod in &node.pods {
                pod.run(|| set_offload("eth0", Offload::TxChecksum, false).unwrap());
            }
        }
        let mut connection = connect(&node, v6, Some(service(v6)));
        if offload {
            assert_stays_in_kernel(&node, &mut connection);
        } else {
            for (key, flow) in flows(&connection, 6) {
                node.insert(key, flow);
            }
            let before = node.count(Outcome::Hit);
            stream(&mut connection.client, &mut connection.server);
            // Every segment by itself, with its checksum complete.
            assert!(node.count(Outcome::Hit) - before >= 11_491);
        }
        assert_eq!(connection.client.peer_addr().unwrap(), service(v6));
        assert_eq!(connection.server.local_addr().unwrap(), connection.to);
        for pod in &node.pods {
            assert_eq!(pod.statistic("TCPOFOQueue"), 0);
        }
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
            for pod in &node.pods {
                pod.run(|| set_offload("eth0", Offload::TxChecksum, false).unwrap());
            }
        }
        let client = node.pods[0].run(move || UdpSocket::bind(from).unwrap());
        let server = node.pods[1].run(move || UdpSocket::bind(to).unwrap());
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        client.connect(service).unwrap();
        let rewrite = |side, to: SocketAddr| Some(Rewrite { side, address: to.ip(), port: to.port() });
        let there = key(17, 0, from, service);
        node.insert(
            there,
            Flow { rewrite: rewrite(Side::Destination, to), ..flow(parties(0).0, parties(0).1) },
        );
        let back = Flow { rewrite: rewrite(Side::Source, service), ..flow(parties(1).0, parties(1).1) };
        node.insert(key(17, 1, to, from), back);

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

        let used = node.flows.read(&there).unwrap().unwrap().1;
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
        let before = node.went_up.load(Ordering::Relaxed);
        wait("nothing goes up", &|| node.went_up.load(Ordering::Relaxed) > before + 50);
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
fn nothing_is_overtaken_when_flows_open_under_a_stream() {
    for v6 in [false, true] {
        sandbox(move || {
            let node = node(None);
            let mut connection = connect(&node, v6, None);
            let pairs = flows(&connection, 6);
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| come_and_go(&node, pairs, 50, &done));
                while !done.load(Ordering::Relaxed) {
                    stream(&mut connection.client, &mut connection.server);
                }
            });
            assert!(node.count(Outcome::Pending) >= 100);
            assert_eq!(node.count(Outcome::Forced), 0);
            for pod in &node.pods {
                assert_eq!(pod.statistic("TCPOFOQueue"), 0, "segments were overtaken, or lost");
            }
        });
    }
}

#[test]
fn a_killed_switchs_flows_go_on_and_are_taken_over() {
    for hook in [None, Some(Hook::Clsact)] {
        sandbox(move || {
            let mut node = node(hook);
            let mut connection = connect(&node, false, None);
            let flows = flows(&connection, 6);
            for (key, flow) in flows {
                node.insert(key, flow);
            }
            stream(&mut connection.client, &mut connection.server);
            let before = node.flows.read(&flows[0].0).unwrap().unwrap().1;
            node.kill_switch();
            stream(&mut connection.client, &mut connection.server);
            node.start_switch();
            assert_eq!(node.cache.as_ref().unwrap().start(), heddle_bpf::Start::TakenOver);
            let between = node.flows.read(&flows[0].0).unwrap().unwrap().1;
            assert!(between.bytes >= before.bytes + LENGTH as u64);
            stream(&mut connection.client, &mut connection.server);
            let after = node.flows.read(&flows[0].0).unwrap().unwrap().1;
            assert!(after.bytes >= between.bytes + LENGTH as u64);
            // And what has no flow goes up to the new worker: the end of this connection, and another.
            drop(connection);
            connect(&node, true, None);
        });
    }
}
