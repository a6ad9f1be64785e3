//! Loads: what runs in the pods. Each is a server in one pod and a client in another, two processes of this program, and
//! every one ends by itself: none outlives its time by more than a few seconds, whatever becomes of the other or of its parent.

mod connections;
mod counter;
mod packets;
mod ping_pong;
mod stream;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::args::LoadOptions;

/// What a server says once it can be connected to.
pub(crate) const READY: &str = "ready";
/// How long beyond its time a load may take to end.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// One TCP connection, as much as goes through
    Stream,
    /// The smallest UDP packets, as many as can be sent
    Packets,
    /// One byte there and one back over one TCP connection, again and again
    PingPong,
    /// A TCP connection for each byte there and back
    Connections,
}

/// Which of the two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum End {
    /// Listens
    Server,
    /// Connects
    Client,
}

/// How long a load runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct Span {
    /// Milliseconds that do not count, first
    #[arg(long, value_name = "MS")]
    pub(crate) warm_up: u64,
    /// Milliseconds that count
    #[arg(long, value_name = "MS")]
    pub(crate) measure: u64,
}

/// What one end counted while it counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Bytes, packets, round trips or connections: what the load is about.
    pub(crate) amount: u64,
    /// As many with the warm-up, and what came after.
    pub(crate) total: u64,
    /// How long was counted.
    pub(crate) seconds: f64,
    /// Round trips by their length: (nanoseconds, how many).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) latencies: Vec<(u64, u64)>,
}

impl Span {
    pub(crate) fn warm_up(self) -> Duration {
        Duration::from_millis(self.warm_up)
    }

    pub(crate) fn measure(self) -> Duration {
        Duration::from_millis(self.measure)
    }

    pub(crate) fn total(self) -> Duration {
        self.warm_up() + self.measure()
    }
}

impl Tally {
    /// What was counted, by the second.
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.amount as f64 / self.seconds } else { 0.0 }
    }
}

/// Runs one end in this process, and prints its tally.
pub(crate) fn run(options: &LoadOptions) -> Result<()> {
    let LoadOptions { kind, end, address, core, span } = options;
    core.map(stay_on).transpose()?;
    end_in_time(*span)?;
    let tally = match (kind, end) {
        (Kind::Stream, End::Server) => stream::serve(*address, *span),
        (Kind::Stream, End::Client) => stream::send(*address),
        (Kind::Packets, End::Server) => packets::serve(*address, *span),
        (Kind::Packets, End::Client) => packets::send(*address, *span),
        (Kind::PingPong, End::Server) => ping_pong::serve(*address),
        (Kind::PingPong, End::Client) => ping_pong::measure(*address, *span),
        (Kind::Connections, End::Server) => connections::serve(*address),
        (Kind::Connections, End::Client) => connections::measure(*address, *span),
    }?;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &tally)?;
    writeln!(out)?;
    Ok(())
}

/// Says that clients may come.
fn announce() -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{READY}").and_then(|()| out.flush()).context("nobody listens")
}

fn stay_on(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores).with_context(|| format!("there is no core {core}"))
}

/// The last resort against a load that hangs in a system call: its pod's network may swallow everything.
fn end_in_time(span: Span) -> Result<()> {
    let watch = move || {
        // A client is started after its server, which therefore waits a little longer.
        std::thread::sleep(span.total() + 2 * GRACE);
        eprintln!("error: nothing came for {} s", (span.total() + 2 * GRACE).as_secs());
        std::process::exit(1);
    };
    std::thread::Builder::new().spawn(watch).map(drop).context("cannot start a thread")
}
