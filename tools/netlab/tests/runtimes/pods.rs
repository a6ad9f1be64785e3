//! Whether containers can talk: with pods of the lab, next door and on the other node, and with the world.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use heddle_netlab::Namespace;

use crate::machine::{Machine, wait_for};

/// What every container's httpd has at `/greeting`.
pub(crate) const GREETING: &str = "well met\n";
/// Where it listens.
pub(crate) const PORT: u16 = 8080;
/// How busybox serves it.
pub(crate) const SERVE: [&str; 6] = ["/bin/httpd", "-f", "-p", "8080", "-h", "/etc"];

/// The greeting, as somebody in this namespace gets it.
pub(crate) fn fetch(from: Namespace, address: IpAddr, port: u16) -> Option<String> {
    let get = || {
        let mut stream =
            TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_secs(5)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET /greeting HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    };
    from.run(get).unwrap()
}

/// The node, a pod on it, and one on the other node get the greeting, over both families.
#[track_caller]
pub(crate) fn assert_serves(machine: &Machine, addresses: &[IpAddr]) {
    assert_eq!(addresses.len(), 2, "both families: {addresses:?}");
    let lab = machine.lab();
    let callers = ["n1p1", "n2p1"].map(|pod| lab.pod(pod).unwrap().namespace);
    for from in callers.into_iter().chain([lab.node("n1").unwrap().namespace]) {
        for address in addresses {
            // The server may need a moment to begin.
            let what = format!("an answer from {address} to {from}");
            let answer = wait_for(&what, || fetch(from, *address, PORT));
            assert_eq!(answer, GREETING, "{what}");
        }
    }
}
