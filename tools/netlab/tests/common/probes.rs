//! Real packets from every pod to every other, all at once: what arrives is what policy allows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use heddle_netlab::Pod;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

/// Ports that every pod serves.
pub(crate) const PORTS: [u16; 2] = [80, 81];

/// How long what is to arrive may take: a lost SYN is repeated after one second, and again after two.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long what is not to arrive is given to do so, behind all that did.
const GRACE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transport {
    Tcp,
    Udp,
    /// Packets with an SCTP header, from and to raw sockets: that works whether the kernel has SCTP or not.
    Sctp,
}

/// One kind of packet, from everybody to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Probe {
    pub(crate) transport: Transport,
    pub(crate) port: u16,
    pub(crate) v6: bool,
}

/// Index of the sender and of the receiver.
type Pair = (usize, usize);

/// Sockets of one pod, in its network namespace.
struct Sockets {
    /// The kernel completes handshakes by itself, as long as there is room in the queue.
    listeners: Vec<TcpListener>,
    /// By port.
    udp: Vec<UdpSocket>,
    /// By family: IPv4, IPv6.
    clients: [UdpSocket; 2],
    sctp: [OwnedFd; 2],
}

impl Sockets {
    fn open() -> Self {
        let listen = |port| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        let serve = |port| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
        let sockets = Self {
            listeners: PORTS.map(listen).into(),
            udp: PORTS.map(serve).into(),
            clients: any.map(|any| UdpSocket::bind((any, 0)).unwrap()),
            sctp: [AddressFamily::INET, AddressFamily::INET6].map(|family| {
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                rustix::net::socket_with(family, SocketType::RAW, flags, Some(ipproto::SCTP)).unwrap()
            }),
        };
        sockets.udp.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        sockets.listeners.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        sockets
    }
}

/// Everybody's sockets.
pub(crate) struct Probing {
    pods: Vec<(Pod, Sockets)>,
    round: u32,
    /// Pairs between which nothing was to arrive in the round before, if that was so then.
    forbidden: BTreeSet<(Probe, Pair)>,
}

impl Probing {
    pub(crate) fn new(pods: Vec<Pod>) -> Self {
        let open = |pod: Pod| {
            let sockets = pod.namespace.run(Sockets::open).unwrap();
            (pod, sockets)
        };
        Self { pods: pods.into_iter().map(open).collect(), round: 0, forbidden: BTreeSet::new() }
    }

    /// Sends what `expected` names and returns where the outcome differs: pairs with what was found.
    pub(crate) fn compare(
        &mut self,
        expected: &BTreeMap<(Probe, Pair), bool>,
    ) -> BTreeMap<(Probe, Pair), bool> {
        self.round += 1;
        // Makes room for the round's connections.
        let listeners = self.pods.iter().flat_map(|(_, sockets)| &sockets.listeners);
        listeners.for_each(|listener| while listener.accept().is_ok() {});
        self.nothing_came_late();
        let mut arrived = BTreeSet::new();
        let mut connecting = Vec::new();
        for &(probe, pair) in expected.keys() {
            match probe.transport {
                Transport::Tcp => connecting.push(((probe, pair), self.connect(probe, pair))),
                Transport::Udp => self.send_udp(probe, pair),
                Transport::Sctp => self.send_sctp(probe, pair),
            }
        }
        let allowed = expected.iter().filter(|(_, allowed)| **allowed).map(|(key, _)| *key);
        let allowed: BTreeSet<_> = allowed.collect();
        let deadline = Instant::now() + PATIENCE;
        while !allowed.is_subset(&arrived) && Instant::now() < deadline {
            self.look(&mut connecting, &mut arrived);
        }
        let grace = Instant::now() + GRACE;
        while Instant::now() < grace {
            self.look(&mut connecting, &mut arrived);
        }
        let found = expected.iter().map(|(key, allowed)| (*key, *allowed, arrived.contains(key)));
        let differences: BTreeMap<_, _> = found
            .filter(|(_, expected, found)| expected != found)
            .map(|(key, _, found)| (key, found))
            .collect();
        let forbidden = expected.iter().filter(|(_, allowed)| !**allowed).map(|(key, _)| *key);
        self.forbidden = if differences.is_empty() { forbidden.collect() } else { BTreeSet::new() };
        differences
    }

    fn address(&self, pod: usize, v6: bool) -> IpAddr {
        self.pods[pod].0.address(v6).unwrap()
    }

    fn connect(&self, probe: Probe, (from, to): Pair) -> OwnedFd {
        let target = SocketAddr::new(self.address(to, probe.v6), probe.port);
        let connect = || {
            let family = if probe.v6 { AddressFamily::INET6 } else { AddressFamily::INET };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).unwrap();
            let begun = rustix::net::connect(&socket, &target);
            assert!(begun.is_ok() || begun == Err(rustix::io::Errno::INPROGRESS), "{target}: {begun:?}");
            socket
        };
        self.pods[from].0.namespace.run(connect).unwrap()
    }

    fn send_udp(&self, probe: Probe, pair: Pair) {
        let target = SocketAddr::new(self.address(pair.1, probe.v6), probe.port);
        // What the kernel refuses does not arrive, which shows.
        let _ = self.pods[pair.0].1.clients[usize::from(probe.v6)].send_to(&self.token(pair), target);
    }

    fn send_sctp(&self, probe: Probe, pair: Pair) {
        let target = SocketAddr::new(self.address(pair.1, probe.v6), 0);
        // Source port, destination port, verification tag and checksum (RFC 9260, section 3.1), then what stands for chunks.
        let mut packet = vec![0x13, 0x88];
        packet.extend(probe.port.to_be_bytes());
        packet.extend([0; 8]);
        packet.extend(self.token(pair));
        let socket = &self.pods[pair.0].1.sctp[usize::from(probe.v6)];
        let _ = rustix::net::sendto(socket, &packet, SendFlags::empty(), &target);
    }

    /// Twelve bytes that say who sent it to whom, and when.
    fn token(&self, (from, to): Pair) -> [u8; 12] {
        let mut token = [0; 12];
        for (place, value) in token.chunks_exact_mut(4).zip([self.round, from as u32, to as u32]) {
            place.copy_from_slice(&value.to_be_bytes());
        }
        token
    }

    /// Takes in what has arrived by now; waits a little if nothing has.
    fn look(&self, connecting: &mut Vec<((Probe, Pair), OwnedFd)>, arrived: &mut BTreeSet<(Probe, Pair)>) {
        connecting.retain(|(key, socket)| {
            let mut fds = [PollFd::new(socket, PollFlags::OUT)];
            poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
            if fds[0].revents().is_empty() {
                return true;
            }
            if fds[0].revents().contains(PollFlags::OUT)
                && rustix::net::sockopt::socket_error(socket).unwrap().is_ok()
            {
                arrived.insert(*key);
            }
            false
        });
        arrived.extend(self.received(self.round));
        std::thread::sleep(Duration::from_millis(2));
    }

    /// Datagrams of a round that wait at their receivers; others are thrown away.
    fn received(&self, round: u32) -> BTreeSet<(Probe, Pair)> {
        let mut all = BTreeSet::new();
        let mut note = |to: usize, transport, port, v6, token: &[u8]| {
            let Some((token, _)) = token.as_chunks::<4>().0.split_first_chunk::<3>() else { return };
            let [sent_in, from, sent_to] = token.map(|word| u32::from_be_bytes(word) as usize);
            assert_eq!(sent_to, to, "a packet is at the wrong pod");
            if sent_in == round as usize {
                all.insert((Probe { transport, port, v6 }, (from, to)));
            }
        };
        for (to, (_, sockets)) in self.pods.iter().enumerate() {
            let mut buffer = [0; 128];
            for (socket, port) in sockets.udp.iter().zip(PORTS) {
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let IpAddr::V6(from) = from.ip() else { unreachable!("an IPv6 socket") };
                    note(to, Transport::Udp, port, from.to_ipv4_mapped().is_none(), &buffer[..length]);
                }
            }
            for (socket, v6) in sockets.sctp.iter().zip([false, true]) {
                while let Ok((length, _)) = rustix::net::recv(socket, &mut buffer, RecvFlags::empty()) {
                    let packet = &buffer[..length];
                    // Raw IPv4 sockets get the IP header as well (raw(7)).
                    let packet = if v6 { packet } else { &packet[20..] };
                    let port = u16::from_be_bytes([packet[2], packet[3]]);
                    note(to, Transport::Sctp, port, v6, &packet[12..]);
                }
            }
        }
        all
    }

    /// What was not to arrive in the round before has not done so since.
    fn nothing_came_late(&self) {
        let late = self.received(self.round - 1);
        let wrong: Vec<_> = late.intersection(&self.forbidden).collect();
        assert!(wrong.is_empty(), "arrived although nothing was to: {wrong:?}");
    }
}
