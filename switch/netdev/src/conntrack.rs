//! The connections that Linux tracks (ctnetlink): finding some and making the kernel forget them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use crate::error::{Error, Result};

/// What tells a connection's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// IANA's number.
    pub protocol: u8,
    /// Address and port that its first packet was sent to.
    pub to: (IpAddr, u16),
    /// Address and port that its replies come from: others, where the destination was translated.
    pub replies_from: (IpAddr, u16),
}

/// Message types: subsystem `NFNL_SUBSYS_CTNETLINK` with `ctnl_msg_types` (`linux/netfilter/nfnetlink_conntrack.h`).
const NEW: u16 = 0x100;
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
/// `NLMSG_ERROR`, `NLMSG_DONE`, and flags of a request (linux/netlink.h).
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
/// Bytes of `nlmsghdr`, and of `nfgenmsg` behind it.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;
/// `ctattr_type`, and the attributes nested in a tuple.
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;

/// Makes the kernel forget the connections that `wanted` picks. Returns how many that were. Acts on the calling thread's network
/// namespace, and waits for the kernel.
pub fn delete(mut wanted: impl FnMut(&Connection) -> bool) -> Result<usize> {
    let failed = |error| Error::io("read the kernel's connections", error);
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed)?;
    socket.bind_auto().map_err(failed)?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
    let mut doomed = Vec::new();
    // Family 0: both.
    exchange(&socket, &message(GET, REQUEST | DUMP, 0, &[]), |body| {
        if parse(body).is_some_and(|connection| wanted(&connection)) {
            doomed.push(request_to_delete(body));
        }
    })?;
    let mut deleted = 0;
    for request in doomed {
        match exchange(&socket, &request, |_| ()) {
            Ok(()) => deleted += 1,
            // It has ended meanwhile.
            Err(error) if error.errno() == Some(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(deleted)
}

/// Sends a request and reads the answers to the last.
fn exchange(socket: &Socket, request: &[u8], mut answer: impl FnMut(&[u8])) -> Result<()> {
    let operation = "change the kernel's connections";
    socket.send(request, 0).map_err(|error| Error::io(operation, error))?;
    loop {
        let (datagram, _) = socket.recv_from_full().map_err(|error| Error::io(operation, error))?;
        let mut rest = datagram.as_slice();
        while let Some((kind, body, behind)) = next_message(rest) {
            rest = behind;
            match kind {
                DONE => return Ok(()),
                ERROR => {
                    let errno = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return match errno.saturating_abs() {
                        0 => Ok(()),
                        errno => {
                            let errno = Errno::from_raw(errno);
                            Err(Error::Refused { operation: operation.to_owned(), errno })
                        }
                    };
                }
                NEW => answer(body),
                _ => {}
            }
        }
    }
}

/// Type and content of the first message, and what is behind it.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = (HEADER + FAMILY_HEADER + attributes.len()) as u32;
    let mut message = Vec::with_capacity(length as usize);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    // Sequence number and port are the kernel's business on a connected socket with one request at a time.
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[family, 0, 0, 0]);
    message.extend_from_slice(attributes);
    message
}

/// The request that names the connection of an answer as the answer does.
fn request_to_delete(body: &[u8]) -> Vec<u8> {
    let family = body.first().copied().unwrap_or_default();
    let mut naming = Vec::new();
    let attributes = body.get(FAMILY_HEADER..).unwrap_or_default();
    for (kind, whole, _) in
        Attributes(attributes).filter(|(kind, ..)| matches!(*kind, TUPLE_ORIGINAL | ID | ZONE))
    {
        debug_assert!(kind <= ZONE);
        naming.extend_from_slice(whole);
        naming.resize(naming.len().next_multiple_of(4), 0);
    }
    message(DELETE, REQUEST | ACK, family, &naming)
}

fn parse(body: &[u8]) -> Option<Connection> {
    let attributes = body.get(FAMILY_HEADER..)?;
    let tuple = |wanted| find(attributes, wanted).and_then(parse_tuple);
    let (original, reply) = (tuple(TUPLE_ORIGINAL)?, tuple(TUPLE_REPLY)?);
    Some(Connection { protocol: original.protocol, to: original.destination, replies_from: reply.source })
}

struct Tuple {
    protocol: u8,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
}

fn parse_tuple(content: &[u8]) -> Option<Tuple> {
    let (ip, protocol) = (find(content, TUPLE_IP)?, find(content, TUPLE_PROTOCOL)?);
    // `ctattr_ip`: source and destination, 1 and 2 for IPv4, 3 and 4 for IPv6; `ctattr_l4proto`.
    let address = |v4, v6| match (find(ip, v4), find(ip, v6)) {
        (Some(octets), _) => octets.try_into().ok().map(|octets: [u8; 4]| IpAddr::V4(Ipv4Addr::from(octets))),
        (_, Some(octets)) => {
            octets.try_into().ok().map(|octets: [u8; 16]| IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => None,
    };
    let port =
        |kind| find(protocol, kind).and_then(|port| port.try_into().ok()).map_or(0, u16::from_be_bytes);
    Some(Tuple {
        protocol: *find(protocol, 1)?.first()?,
        source: (address(1, 3)?, port(2)),
        destination: (address(2, 4)?, port(3)),
    })
}

fn find(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(attributes).find(|(kind, ..)| *kind == wanted).map(|(_, _, content)| content)
}

/// Attributes in a row: type without flags, all of it, content.
struct Attributes<'b>(&'b [u8]);

impl<'b> Iterator for Attributes<'b> {
    type Item = (u16, &'b [u8], &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        // NLA_TYPE_MASK: the upper two bits are flags.
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & 0x3fff;
        let (whole, content) = (self.0.get(..length)?, self.0.get(4..length)?);
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, whole, content))
    }
}

#[cfg(test)]
mod tests {
    //! Answers are understood, and the request to delete names what the answer named.
    use super::*;

    fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + content.len() as u16).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn tuple(kind: u16, source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> Vec<u8> {
        let ip = [attribute(1, &source.0), attribute(2, &destination.0)].concat();
        let ports = [attribute(2, &source.1.to_be_bytes()), attribute(3, &destination.1.to_be_bytes())];
        let protocol = [attribute(1, &[17]), ports.concat()].concat();
        attribute(0x8000 | kind, &[attribute(0x8001, &ip), attribute(0x8002, &protocol)].concat())
    }

    fn answer() -> Vec<u8> {
        let original = tuple(TUPLE_ORIGINAL, ([192, 0, 2, 1], 5000), ([172, 31, 0, 1], 53));
        let reply = tuple(TUPLE_REPLY, ([10, 244, 1, 2], 5353), ([192, 0, 2, 1], 5000));
        let id = attribute(ID, &[1, 2, 3, 4]);
        [vec![2, 0, 0, 0], original, reply, attribute(3, &[0, 0, 0, 1]), id].concat()
    }

    #[test]
    fn an_answer_is_understood() {
        let connection = parse(&answer()).unwrap();
        let expected = Connection {
            protocol: 17,
            to: ([172, 31, 0, 1].into(), 53),
            replies_from: ([10, 244, 1, 2].into(), 5353),
        };
        assert_eq!(connection, expected);
        for length in 0..answer().len() {
            let _ = parse(&answer()[..length]);
        }
    }

    #[test]
    fn deletion_names_the_connection_and_nothing_else() {
        let request = request_to_delete(&answer());
        let (kind, body, rest) = next_message(&request).unwrap();
        assert_eq!((kind, body[0], rest.len()), (DELETE, 2, 0));
        let kinds: Vec<_> = Attributes(&body[FAMILY_HEADER..]).map(|(kind, ..)| kind).collect();
        assert_eq!(kinds, [TUPLE_ORIGINAL, ID]);
    }
}
