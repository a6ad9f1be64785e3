//! Connections with their flows, and streams over them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use heddle_bpf::{Flow, FlowKey, Outcome, Party, Rewrite, Side};
use nix::sys::socket::{setsockopt, sockopt};

use crate::bench::{flow, ifindex};
use crate::node::Node;

pub(crate) const LENGTH: usize = 16 << 20;
pub(crate) const PORT: u16 = 8080;
/// Only a fault reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn byte(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

/// Sends `LENGTH` bytes and waits until the other end has read and answered.
pub(crate) fn stream(client: &mut TcpStream, server: &mut TcpStream) {
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

/// One end: who it is to the flow cache, and the interface it sends by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) party: Party,
    pub(crate) interface: &'static str,
}

/// A connection, opened by the client.
pub(crate) struct Connection {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
    /// Both ways, as the client's packets and as the server's.
    pub(crate) flows: [(FlowKey, Flow); 2],
}

/// Listens, in the calling thread's namespace.
pub(crate) fn listen(at: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(at).unwrap();
    // A window that is never more than the trunk's rings hold, so that nothing is lost and whatever is out of order was
    // overtaken.
    setsockopt(&listener, sockopt::RcvBuf, &(64 << 10)).unwrap();
    listener
}

/// Connects, in the calling thread's namespace.
pub(crate) fn dial(to: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&to, PATIENCE).unwrap()
}

impl Connection {
    /// `client` connected to `service`, which is where `listener` is or is rewritten to it.
    pub(crate) fn new(
        client: TcpStream,
        listener: &TcpListener,
        service: SocketAddr,
        places: [Place; 2],
    ) -> Self {
        let (from, to) = (client.local_addr().unwrap(), listener.local_addr().unwrap());
        let (server, peer) = listener.accept().unwrap();
        assert_eq!(peer, from);
        Self { client, server, flows: flows(6, from, service, to, places) }
    }

    pub(crate) fn stream(&mut self) {
        stream(&mut self.client, &mut self.server);
    }

    pub(crate) fn keys(&self) -> [FlowKey; 2] {
        self.flows.map(|(key, _)| key)
    }

    pub(crate) fn insert(&self, node: &Node) {
        for (key, flow) in self.flows {
            node.insert(key, flow);
        }
    }

    pub(crate) fn uses(&self, node: &Node) -> [heddle_bpf::Use; 2] {
        self.keys().map(|key| node.flows.read(&key).unwrap().unwrap().1)
    }

    /// Streams over open flows: all in the kernel, and most of it in super-packets of segments of at most `segment` bytes.
    pub(crate) fn assert_stays_in_kernel(&mut self, node: &Node, segment: usize) {
        self.insert(node);
        let (before, up) = (node.counters(), node.sent_on(&self.keys()));
        self.stream();
        let after = node.counters();
        let hits = after.get(Outcome::Hit) - before.get(Outcome::Hit);
        assert_eq!(node.sent_on(&self.keys()), up);
        // Others are what the pods' kernels say on their own, and last words of an older connection.
        let never = |(outcome, _): &(_, _)| {
            !matches!(outcome, Outcome::Hit | Outcome::Unusual | Outcome::Miss | Outcome::Delivered)
        };
        for (outcome, count) in after.iter().filter(never) {
            assert_eq!(count, before.get(outcome), "{outcome:?}");
        }
        let used = self.uses(node);
        let segments = used[0].packets + used[1].packets;
        assert!(used[0].packets as usize >= LENGTH / segment && used[0].bytes > LENGTH as u64, "{used:?}");
        assert!(hits < segments / 2, "{hits} packets of {segments} segments");
        node.flows.remove(&self.keys()).unwrap();
    }
}

/// The flows of a connection from `from` to `service`, which is rewritten to `to`.
pub(crate) fn flows(
    protocol: u8,
    from: SocketAddr,
    service: SocketAddr,
    to: SocketAddr,
    places: [Place; 2],
) -> [(FlowKey, Flow); 2] {
    let rewrite = |side, address: SocketAddr| {
        (service != to).then_some(Rewrite { side, address: address.ip(), port: address.port() })
    };
    let key = |place: Place, source: SocketAddr, destination: SocketAddr| FlowKey {
        source: source.ip(),
        destination: destination.ip(),
        source_port: source.port(),
        destination_port: destination.port(),
        protocol,
        ifindex: ifindex(place.interface),
    };
    let [client, server] = places;
    let there = flow(client.party, server.party);
    let back = flow(server.party, client.party);
    [
        (key(client, from, service), Flow { rewrite: rewrite(Side::Destination, to), ..there }),
        (key(server, to, from), Flow { rewrite: rewrite(Side::Source, service), original: false, ..back }),
    ]
}
