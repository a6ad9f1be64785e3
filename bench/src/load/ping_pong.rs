//! One byte there and one back over one TCP connection, again and again: how long a request waits for its answer when
//! nothing else is under way.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use super::counter::{Counter, Phase};
use super::{Span, Tally, announce};

/// No answer may take longer; one that does is an error, not a number.
const PATIENCE: Duration = Duration::from_secs(3);
/// Nanoseconds are kept with three digits.
const DIGITS: u8 = 3;

pub(super) fn serve(address: SocketAddr) -> Result<Tally> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    announce()?;
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut byte = [0];
    // Until the client hangs up.
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
    }
    Ok(Tally::default())
}

pub(super) fn measure(address: SocketAddr, span: Span) -> Result<Tally> {
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("no TCP connection to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut counter = Counter::of(span, Instant::now());
    let mut histogram = Histogram::<u64>::new(DIGITS)?;
    let mut byte = [0x5a];
    loop {
        let asked = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte).context("no answer")?;
        let answered = Instant::now();
        match counter.add(1, answered) {
            Phase::WarmUp => {}
            Phase::Counted => histogram.record(u64::try_from((answered - asked).as_nanos())?)?,
            Phase::Over => break,
        }
    }
    let latencies =
        histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
    Ok(Tally { latencies, ..counter.tally(Instant::now()) })
}
