//! One TCP connection, as much as goes through. The receiver counts: what is still on its way has not arrived.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::counter::{Counter, Phase};
use super::{Span, Tally, announce};

/// Bytes written or read at once, as iperf3 does.
const BLOCK: usize = 128 * 1024;
/// How often a receiver that gets nothing looks at the clock.
const TICK: Duration = Duration::from_millis(50);

pub(super) fn serve(address: SocketAddr, span: Span) -> Result<Tally> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    announce()?;
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(TICK))?;
    receive(stream, span)
}

fn receive(mut from: impl Read, span: Span) -> Result<Tally> {
    let mut counter = Counter::of(span, Instant::now());
    let mut block = vec![0; BLOCK];
    loop {
        let length = match from.read(&mut block) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error).context("receiving"),
        };
        let now = Instant::now();
        if counter.add(length as u64, now) == Phase::Over {
            return Ok(counter.tally(now));
        }
    }
}

pub(super) fn send(address: SocketAddr) -> Result<Tally> {
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("no TCP connection to {address}"))?;
    let block = vec![0x5a; BLOCK];
    loop {
        match stream.write(&block) {
            Ok(_) => {}
            // The receiver has seen enough.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                return Ok(Tally::default());
            }
            Err(error) => return Err(error).context("sending"),
        }
    }
}

#[cfg(test)]
mod tests {
    //! What arrives in the window counts, a stall counts as nothing received and not as less time.
    use super::*;

    /// Gives a block at every look, then nothing for ever.
    struct Source(u32);

    impl Read for Source {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            std::thread::sleep(Duration::from_millis(1));
            if self.0 == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.0 -= 1;
            Ok(into.len())
        }
    }

    #[test]
    fn a_stall_costs_rate() {
        let tally = receive(Source(3), Span { warm_up: 0, measure: 60 }).unwrap();
        assert_eq!(tally.amount, 3 * BLOCK as u64);
        assert!((tally.seconds - 0.06).abs() < 1e-9);
    }

    #[test]
    fn the_warm_up_does_not_count() {
        let tally = receive(Source(1), Span { warm_up: 500, measure: 20 }).unwrap();
        assert_eq!(tally.amount, 0);
    }
}
