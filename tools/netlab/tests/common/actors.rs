//! Those who talk in a scenario: their sockets, and what passes between them.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use heddle_netlab::{Lab, Namespace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::scenario::Closing;

const TCP_PORT: u16 = 8000;
const UDP_PORT: u16 = 4000;
/// From and to here go the datagrams that show who reaches whom.
const TRIAL_PORTS: [u16; 2] = [5000, 5001];
/// Numbers of connections, as the opener's ports.
const FIRST_PORT: u16 = 20_000;

/// How long what comes at all may take. A second SYN follows the first after one second.
const PATIENCE: Duration = Duration::from_millis(1300);
/// So often a trial is repeated that has brought nothing, and how long it gets.
const TRIALS: usize = 4;
const TRIAL: Duration = Duration::from_millis(60);

/// A pod or a node, with sockets of both families: IPv4, IPv6.
pub(crate) struct Actor {
    pub(crate) namespace: Namespace,
    pub(crate) addresses: [IpAddr; 2],
    listeners: [TcpListener; 2],
    servers: [UdpSocket; 2],
    triers: [UdpSocket; 2],
    tried: [UdpSocket; 2],
}

/// A connection, of which the test has both ends.
pub(crate) enum Link {
    Tcp { near: TcpStream, far: TcpStream },
    Udp { near: UdpSocket, target: SocketAddr },
}

impl Actor {
    pub(crate) fn enter(lab: &Lab, name: &str) -> Self {
        let (namespace, addresses) = if let Ok(pod) = lab.pod(name) {
            (pod.namespace, [false, true].map(|v6| pod.address(v6).unwrap()))
        } else {
            let node = lab.node(name).unwrap();
            (node.namespace, [false, true].map(|v6| node.address(v6).unwrap()))
        };
        let open = || {
            let udp = |port| addresses.map(|address| UdpSocket::bind((address, port)).unwrap());
            let actor = Self {
                namespace,
                addresses,
                listeners: addresses.map(|address| TcpListener::bind((address, TCP_PORT)).unwrap()),
                servers: udp(UDP_PORT),
                triers: udp(TRIAL_PORTS[0]),
                tried: udp(TRIAL_PORTS[1]),
            };
            actor.listeners.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
            actor.tried.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
            actor.servers.iter().for_each(|socket| socket.set_read_timeout(Some(PATIENCE)).unwrap());
            actor
        };
        namespace.run(open).unwrap()
    }

    fn server(&self, target: SocketAddr) -> &UdpSocket {
        &self.servers[usize::from(target.is_ipv6())]
    }
}

/// Connects, from a port that tells which connection it is.
pub(crate) fn connect(from: &Actor, to: &Actor, v6: bool, id: u16) -> Option<Link> {
    let which = usize::from(v6);
    let (local, target) = ((from.addresses[which], FIRST_PORT + id), (to.addresses[which], TCP_PORT));
    let connect = || {
        let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(local)).unwrap();
        let _ = rustix::net::connect(&socket, &SocketAddr::from(target));
        let patience = Timespec { tv_sec: 0, tv_nsec: 0 };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
            poll(&mut fds, Some(&patience)).unwrap();
            if !fds[0].revents().is_empty() {
                return sockopt::socket_error(&socket).unwrap().is_ok().then(|| TcpStream::from(socket));
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let near = from.namespace.run(connect).unwrap()?;
    let deadline = Instant::now() + PATIENCE;
    let far = loop {
        match to.listeners[which].accept() {
            // Others may have got through whose opener had given up.
            Ok((far, peer)) if peer.port() == local.1 => break far,
            Err(_) if Instant::now() > deadline => return None,
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    for end in [&near, &far] {
        end.set_nonblocking(false).unwrap();
        end.set_nodelay(true).unwrap();
        end.set_read_timeout(Some(PATIENCE)).unwrap();
        end.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    Some(Link::Tcp { near, far })
}

pub(crate) fn bind(from: &Actor, to: &Actor, v6: bool, id: u16) -> Link {
    let which = usize::from(v6);
    let local = (from.addresses[which], FIRST_PORT + id);
    let near = from.namespace.run(|| UdpSocket::bind(local).unwrap()).unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    Link::Udp { near, target: (to.addresses[which], UDP_PORT).into() }
}

impl Link {
    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }

    /// Messages there and back, one after the other; false as soon as one does not arrive.
    pub(crate) fn exchange(&mut self, to: &Actor, count: u64) -> bool {
        (0..count).all(|number| match self {
            Self::Tcp { near, far } => {
                let message = number.to_be_bytes();
                pass(near, far, &message) && pass(far, near, &message)
            }
            Self::Udp { near, target } => {
                let server = to.server(*target);
                let message =
                    [u64::from(near.local_addr().unwrap().port()), fresh()].map(u64::to_be_bytes).concat();
                let there = || near.send_to(&message, *target).is_ok() && arrives(server, &message);
                there()
                    && server.send_to(&message, near.local_addr().unwrap()).is_ok()
                    && arrives(near, &message)
            }
        })
    }

    /// Bytes one way; datagrams one after the other, so that none is lost for want of room.
    pub(crate) fn bulk(&mut self, to: &Actor, bytes: u64) -> bool {
        match self {
            Self::Tcp { near, far } => std::thread::scope(|scope| {
                let sent = scope.spawn(|| near.write_all(&vec![7; bytes as usize]).is_ok());
                let received = far.read_exact(&mut vec![0; bytes as usize]).is_ok();
                sent.join().unwrap() && received
            }),
            Self::Udp { near, target } => (0..=bytes / 8192).all(|_| {
                let message =
                    [u64::from(near.local_addr().unwrap().port()), fresh()].map(u64::to_be_bytes).concat();
                near.send_to(&message, *target).is_ok() && arrives(to.server(*target), &message)
            }),
        }
    }

    /// Closes the connection. What is left of it, if something is, and whether the ends noticed.
    pub(crate) fn close(self, how: Closing) -> (Option<Self>, bool) {
        let Self::Tcp { mut near, mut far } = self else { return (None, true) };
        let ends = |from: &TcpStream, to: &mut TcpStream| {
            from.shutdown(std::net::Shutdown::Write).is_ok() && matches!(to.read(&mut [0]), Ok(0))
        };
        match how {
            Closing::Half => {
                let noticed = ends(&near, &mut far);
                (Some(Self::Tcp { near, far }), noticed)
            }
            Closing::Both => {
                let noticed = ends(&near, &mut far) && ends(&far, &mut near);
                (None, noticed)
            }
            Closing::Reset => {
                sockopt::set_socket_linger(&near, Some(Duration::ZERO)).unwrap();
                drop(near);
                let noticed = far
                    .read(&mut [0])
                    .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
                sockopt::set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
                (None, noticed)
            }
        }
    }
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, message: &[u8]) -> bool {
    let mut got = vec![0; message.len()];
    from.write_all(message).is_ok() && to.read_exact(&mut got).is_ok() && got == message
}

/// Waits for this datagram; others are late ones.
fn arrives(at: &UdpSocket, message: &[u8]) -> bool {
    let mut got = [0; 64];
    loop {
        match at.recv(&mut got) {
            Ok(length) if got[..length] == *message => return true,
            // An error that came back for one sent before.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Err(_) => return false,
            Ok(_) => {}
        }
    }
}

/// Another number each time.
fn fresh() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Sends a datagram each of these ways, several times if nothing arrives, and tells where it did.
pub(crate) fn trial(actors: &[Actor], ways: &[super::scenario::Way]) -> Vec<bool> {
    let mark = fresh().to_be_bytes();
    let mut arrived = vec![false; ways.len()];
    for _ in 0..TRIALS {
        for (way, _) in ways.iter().zip(&arrived).filter(|(_, arrived)| !**arrived) {
            let which = usize::from(way.v6);
            let target = (actors[way.to].addresses[which], TRIAL_PORTS[1]);
            let message = [&mark[..], &[way.from as u8]].concat();
            let _ = actors[way.from].triers[which].send_to(&message, target);
        }
        std::thread::sleep(TRIAL);
        for (to, actor) in actors.iter().enumerate() {
            for (socket, v6) in actor.tried.iter().zip([false, true]) {
                let mut got = [0; 16];
                while let Ok(length) = socket.recv(&mut got) {
                    if length != 9 || got[..8] != mark {
                        continue;
                    }
                    let from = usize::from(got[8]);
                    let way = super::scenario::Way { from, to, v6 };
                    arrived[ways.iter().position(|it| *it == way).unwrap()] = true;
                }
            }
        }
        if arrived.iter().all(|arrived| *arrived) {
            break;
        }
    }
    arrived
}
