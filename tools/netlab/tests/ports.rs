//! A port of the node leads to a pod, from everywhere, over both families, and the pod sees who it is, so policy does; it ends
//! with the pod.
#![allow(clippy::unwrap_used)]
#![allow(clippy::trivially_copy_pass_by_ref, reason = "namespaces are lent, as the lab lends them")]

#[path = "common/attached.rs"]
mod attached;
mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use attached::{attach_again, endpoint, request};
use common::{TestLab, in_each_mode};
use heddle_api::{AddEndpointRequest, PortMapping};
use heddle_netlab::{Lab, LabSpec, Namespace};

/// How long what comes at all may take: a SYN that was lost is repeated after a second.
const PATIENCE: Duration = Duration::from_millis(2500);

const HTTP: u16 = 8080;
const DNS: u16 = 5353;
/// Leads to the same, by the node's own address of IPv4 alone.
const OWN: u16 = 8081;
const POD_PORT: u16 = 80;

fn mapping(protocol: &str, host_port: u16, host_address: &str) -> PortMapping {
    let (host_port, pod_port) = (host_port.into(), POD_PORT.into());
    PortMapping { protocol: protocol.into(), host_port, pod_port, host_address: host_address.into() }
}

fn map(request: &mut AddEndpointRequest) {
    request.port_mappings =
        vec![mapping("tcp", HTTP, ""), mapping("udp", DNS, ""), mapping("tcp", OWN, "172.31.0.1")];
}

fn any(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// What a pod serves: TCP and UDP.
struct Server {
    listeners: [TcpListener; 2],
    sockets: [UdpSocket; 2],
}

impl Server {
    fn of(namespace: &Namespace) -> Self {
        let bind = || {
            // The IPv6 listener would take IPv4 as well: bound to the pod's own addresses they stay apart.
            let listeners = [false, true].map(|v6| {
                let address = SocketAddr::from((any(v6), POD_PORT));
                let domain =
                    if v6 { rustix::net::AddressFamily::INET6 } else { rustix::net::AddressFamily::INET };
                let socket = rustix::net::socket(domain, rustix::net::SocketType::STREAM, None).unwrap();
                if v6 {
                    rustix::net::sockopt::set_ipv6_v6only(&socket, true).unwrap();
                }
                rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
                rustix::net::bind(&socket, &address).unwrap();
                rustix::net::listen(&socket, 16).unwrap();
                TcpListener::from(socket)
            });
            let sockets = [false, true].map(|v6| {
                let domain =
                    if v6 { rustix::net::AddressFamily::INET6 } else { rustix::net::AddressFamily::INET };
                let socket = rustix::net::socket(domain, rustix::net::SocketType::DGRAM, None).unwrap();
                if v6 {
                    rustix::net::sockopt::set_ipv6_v6only(&socket, true).unwrap();
                }
                rustix::net::bind(&socket, &SocketAddr::from((any(v6), POD_PORT))).unwrap();
                let socket = UdpSocket::from(socket);
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket
            });
            for listener in &listeners {
                listener.set_nonblocking(true).unwrap();
            }
            Self { listeners, sockets }
        };
        namespace.run(bind).unwrap()
    }

    /// Connects from `client`, exchanges a few bytes, and tells whom the server saw.
    fn tcp(&self, client: &Namespace, target: SocketAddr) -> Option<IpAddr> {
        self.connect(client, target).map(|(near, far)| {
            exchange(&near, &far);
            far.peer_addr().unwrap().ip()
        })
    }

    fn connect(&self, client: &Namespace, target: SocketAddr) -> Option<(TcpStream, TcpStream)> {
        let near = client.run(|| TcpStream::connect_timeout(&target, PATIENCE)).unwrap().ok()?;
        let listener = &self.listeners[usize::from(target.is_ipv6())];
        let deadline = Instant::now() + PATIENCE;
        let far = loop {
            match listener.accept() {
                Ok((far, _)) => break far,
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => panic!("connected to {target}, but not to the pod: {error}"),
            }
        };
        far.set_nonblocking(false).unwrap();
        for end in [&near, &far] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Some((near, far))
    }

    /// The same by UDP, with several packets, so that a flow that could be cached is.
    fn udp(&self, client: &Namespace, target: SocketAddr) -> Option<IpAddr> {
        let near = client.run(|| UdpSocket::bind((any(target.is_ipv6()), 0)).unwrap()).unwrap();
        self.talk(&near, target)
    }

    fn talk(&self, near: &UdpSocket, target: SocketAddr) -> Option<IpAddr> {
        near.set_read_timeout(Some(PATIENCE)).unwrap();
        let far = &self.sockets[usize::from(target.is_ipv6())];
        let mut seen = None;
        for number in 0..40_u8 {
            // What the node itself refuses comes back as an error of this call.
            let _ = near.send_to(&[number], target);
            let mut byte = [0];
            let (_, peer) = far.recv_from(&mut byte).ok()?;
            far.send_to(&byte, peer).unwrap();
            let (_, from) = near.recv_from(&mut byte).unwrap();
            assert_eq!((from, byte), (target, [number]), "the answer comes from where the question went");
            seen = Some(peer.ip());
        }
        seen
    }
}

fn exchange(mut near: &TcpStream, mut far: &TcpStream) {
    let mut bytes = [0; 4];
    for _ in 0..20 {
        near.write_all(b"ping").unwrap();
        far.read_exact(&mut bytes).unwrap();
        far.write_all(b"pong").unwrap();
        near.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"pong");
    }
}

/// Everybody who may want something of pod n1p1, with the address that it should see; none for the node's own.
fn clients(lab: &Lab, v6: bool) -> Vec<(String, Namespace, Option<IpAddr>)> {
    let pod = |name: &str| lab.pod(name).unwrap();
    let node = |name: &str| lab.node(name).unwrap();
    let mut clients: Vec<_> = ["n1p2", "n2p1", "n2p2"]
        .map(|name| (name.to_owned(), pod(name).namespace, Some(pod(name).address(v6).unwrap())))
        .into();
    clients.push(("n1p1 itself".into(), pod("n1p1").namespace, None));
    for name in ["n1", "n2"] {
        clients.push((name.into(), node(name).namespace, Some(node(name).address(v6).unwrap())));
    }
    let world = if v6 { "fd00:172:31::254" } else { "172.31.0.254" };
    clients.push(("the world".into(), lab.world(), Some(world.parse().unwrap())));
    clients
}

#[test]
fn a_port_leads_to_the_pod_from_everywhere() {
    in_each_mode(&LabSpec { workers: 2, ..LabSpec::new(2, 2) }, |lab| {
        let added = attach_again(lab, "n1", "n1p1", map);
        assert_eq!(added.port_mappings.len(), 3);
        let server = Server::of(&lab.pod("n1p1").unwrap().namespace);
        for v6 in [false, true] {
            let node = lab.node("n1").unwrap().address(v6).unwrap();
            for (who, client, address) in clients(lab, v6) {
                let seen = Some(address.unwrap_or(node));
                assert_eq!(server.tcp(&client, (node, HTTP).into()), seen, "TCP from {who}, IPv6 {v6}");
                assert_eq!(server.udp(&client, (node, DNS).into()), seen, "UDP from {who}, IPv6 {v6}");
                if !v6 {
                    assert_eq!(server.tcp(&client, (node, OWN).into()), seen, "to one address, from {who}");
                }
            }
            assert_eq!(
                server.tcp(
                    &lab.node("n1").unwrap().namespace,
                    (lab.pod("n1p1").unwrap().address(v6).unwrap(), POD_PORT).into()
                ),
                Some(node),
                "the pod's own port goes on to work"
            );
            let direct = (lab.pod("n1p1").unwrap().address(v6).unwrap(), POD_PORT).into();
            let client = lab.pod("n2p1").unwrap();
            assert_eq!(server.tcp(&client.namespace, direct), Some(client.address(v6).unwrap()));
        }
        let (node, loopback) = (lab.node("n1").unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let seen = node.address(false).ok();
        assert_eq!(server.tcp(&node.namespace, (loopback, HTTP).into()), seen);
        assert_eq!(server.udp(&node.namespace, (loopback, DNS).into()), seen);
        assert_eq!(server.tcp(&node.namespace, (loopback, OWN).into()), None, "is for another address");
    });
}

const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server}
spec:
  podSelector: {matchLabels: {pod: n1p1}}
  ingress: [{from: [{podSelector: {matchLabels: {pod: n2p1}}}], ports: [{port: 80}]}]
";

#[test]
fn policy_sees_who_comes_by_a_port() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policy.yaml"), POLICY).unwrap();
    in_each_mode(&LabSpec { manifests: Some(dir.path().to_owned()), ..LabSpec::new(2, 2) }, |lab| {
        attach_again(lab, "n1", "n1p1", map);
        let server = Server::of(&lab.pod("n1p1").unwrap().namespace);
        for v6 in [false, true] {
            let node = lab.node("n1").unwrap().address(v6).unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            let reaches = |who: &str| server.tcp(&lab.pod(who).unwrap().namespace, (node, HTTP).into());
            while reaches("n2p1").is_none() {
                assert!(Instant::now() < deadline, "the one who may, IPv6 {v6}");
            }
            for who in ["n1p2", "n2p2"] {
                assert_eq!(reaches(who), None, "{who} may not, IPv6 {v6}");
            }
            assert_eq!(server.tcp(&lab.world(), (node, HTTP).into()), None, "the world may not");
            // The node always reaches its pods.
            let own = server.tcp(&lab.node("n1").unwrap().namespace, (node, HTTP).into());
            assert_eq!(own, Some(node));
        }
    });
}

#[test]
fn connections_by_a_port_outlive_the_switch() {
    in_each_mode(&LabSpec::new(2, 2), |lab| {
        attach_again(lab, "n1", "n1p1", map);
        let server = Server::of(&lab.pod("n1p1").unwrap().namespace);
        let connect = |who: &Namespace, v6| {
            let node = lab.node("n1").unwrap().address(v6).unwrap();
            server.connect(who, (node, HTTP).into()).unwrap()
        };
        let whos = [lab.pod("n2p1").unwrap().namespace, lab.pod("n1p2").unwrap().namespace, lab.world()];
        let links: Vec<_> = whos.iter().flat_map(|who| [false, true].map(|v6| connect(who, v6))).collect();
        // Routes are on disk a second later, and a switch that is killed knows no more.
        std::thread::sleep(Duration::from_millis(1500));
        lab.kill_switch("n1").unwrap();
        lab.start_switch("n1").unwrap();
        for (near, far) in &links {
            // The pod is the first to speak.
            exchange(far, near);
        }
        let mut control = lab.node("n1").unwrap().control().unwrap();
        assert_eq!(endpoint(&mut control, "n1p1").port_mappings.len(), 3);
        for who in &whos {
            connect(who, false);
        }
    });
}

#[test]
fn a_port_has_one_owner_and_goes_with_it() {
    let lab = TestLab::up(&LabSpec::new(1, 3));
    let node = lab.node("n1").unwrap();
    let target = SocketAddr::from((node.address(false).unwrap(), DNS));
    attach_again(&lab, "n1", "n1p1", map);
    let mut control = node.control().unwrap();
    let taken = AddEndpointRequest { id: "other/eth0".into(), ..request(&endpoint(&mut control, "n1p2")) };
    let mut taken = AddEndpointRequest { port_mappings: vec![mapping("udp", DNS, "172.31.0.1")], ..taken };
    let second = endpoint(&mut control, "n1p2").id;
    control.remove_endpoint(&second).unwrap();
    let error = format!("{:#}", control.add_endpoint(taken.clone()).unwrap_err());
    assert!(error.contains("udp port 5353") && error.contains("n1p1"), "{error}");
    // A flow that never pauses moves to the next owner of the port.
    let first = Server::of(&lab.pod("n1p1").unwrap().namespace);
    let second = Server::of(&lab.pod("n1p2").unwrap().namespace);
    let client = lab.world().run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    assert!(first.talk(&client, target).is_some());
    let id = endpoint(&mut control, "n1p1").id;
    control.remove_endpoint(&id).unwrap();
    assert!(first.talk(&client, target).is_none());
    taken.id = "next/eth0".into();
    control.add_endpoint(taken).unwrap();
    assert!(second.talk(&client, target).is_some(), "the flow goes on to the pod that has the port now");
    control.remove_endpoint("next/eth0").unwrap();
    let rules = node.namespace.exec(&["nft", "list", "table", "inet", "heddle"]).unwrap();
    assert!(!rules.contains("5353") && !rules.contains("elements"), "{rules}");
}
