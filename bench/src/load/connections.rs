//! A TCP connection for each byte there and back, one after the other: connect, ask, be answered, close.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result};

use super::counter::{Counter, Phase};
use super::{Span, Tally, announce};

/// Most connections of one load: the ports of a client towards one port of a server are 28,231
/// (`net.ipv4.ip_local_port_range`), and each stays in use for a minute after the close.
const MOST: u64 = 25_000;

pub(super) fn serve(address: SocketAddr) -> Result<Tally> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    announce()?;
    // Until the client is done and this process is ended.
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)?;
        // The client closes first, as clients of most protocols do.
        let _ = stream.read(&mut byte);
    }
    Ok(Tally::default())
}

pub(super) fn measure(address: SocketAddr, span: Span) -> Result<Tally> {
    let mut counter = Counter::of(span, Instant::now());
    for number in 1.. {
        one(address).with_context(|| format!("connection {number} to {address}"))?;
        let now = Instant::now();
        if counter.add(1, now) == Phase::Over || number == MOST {
            break;
        }
    }
    Ok(counter.tally(Instant::now()))
}

fn one(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let mut byte = [0x5a];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)
}
