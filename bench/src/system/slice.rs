//! A slice: one load between two pods, for a second or so.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use heddle_netlab::Interrupt;

use super::place::Place;
use crate::args::Placement;
use crate::load::{End, GRACE, Kind, READY, Span, Tally};

/// How often an interrupt, and the end that is not waited for, are looked at.
const TICK: Duration = Duration::from_millis(20);

/// What to send between whom.
#[derive(Debug)]
pub(crate) struct Slice<'a> {
    pub(crate) from: &'a Place,
    pub(crate) to: &'a Place,
    pub(crate) v6: bool,
    pub(crate) kind: Kind,
    pub(crate) span: Span,
    pub(crate) placement: Placement,
    pub(crate) port: u16,
}

/// What both ends counted; one that only helped counted nothing.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) server: Tally,
    pub(crate) client: Tally,
}

impl Slice<'_> {
    /// Runs it. No process of it is left when this returns.
    pub(crate) fn run(&self, interrupt: &Interrupt) -> Result<Counted> {
        let address = self.to.socket_address(self.v6, self.port)?;
        let deadline = Instant::now() + self.span.total() + 3 * GRACE;
        let wait = Wait { interrupt, deadline };
        let mut server = Running::start(self.to, End::Server, self, address)?;
        let said = server.next_line(None, wait)?;
        ensure!(said == READY, "the server said '{said}'");
        let mut client = Running::start(self.from, End::Client, self, address)?;
        let mut counted = Counted::default();
        if matches!(self.kind, Kind::Stream | Kind::Packets) {
            counted.server = parse(&server.next_line(Some(&mut client), wait)?)?;
        }
        if self.kind != Kind::Stream {
            counted.client = parse(&client.next_line(Some(&mut server), wait)?)?;
        }
        Ok(counted)
    }

    /// Where an end has to run, if it is not for the scheduler to decide. Streams and packets keep both ends busy, on as
    /// many cores as there are.
    fn core(&self, end: End) -> Option<usize> {
        let alternate = matches!(self.kind, Kind::PingPong | Kind::Connections);
        match (self.placement, end) {
            _ if !alternate => None,
            (Placement::Free, _) => None,
            (Placement::OneCore, _) | (Placement::TwoCores, End::Client) => Some(0),
            (Placement::TwoCores, End::Server) => Some(1),
        }
    }
}

fn parse(line: &str) -> Result<Tally> {
    serde_json::from_str(line).with_context(|| format!("a load said '{line}'"))
}

/// How long to wait.
#[derive(Clone, Copy)]
struct Wait<'a> {
    interrupt: &'a Interrupt,
    deadline: Instant,
}

/// One end, as a process in its pod. Dropping it ends it.
struct Running {
    child: Child,
    end: End,
    lines: Receiver<String>,
}

impl Running {
    fn start(place: &Place, end: End, slice: &Slice<'_>, address: SocketAddr) -> Result<Self> {
        // This very program, also when its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("heddle-bench").arg("load").args([name(&slice.kind), name(&end)]);
        command.args(["--address", &address.to_string()]);
        command.args(["--warm-up", &slice.span.warm_up.to_string()]);
        command.args(["--measure", &slice.span.measure.to_string()]);
        if let Some(core) = slice.core(end) {
            command.args(["--core", &core.to_string()]);
        }
        // Out of reach of the terminal's Ctrl-C: whoever started it ends it.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = place.netns()?.spawn(&mut command)?;
        let out = child.stdout.take().context("no output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { child, end, lines })
    }

    /// The next line it says. When the other end fails meanwhile, that is the error.
    fn next_line(&mut self, mut other: Option<&mut Self>, wait: Wait<'_>) -> Result<String> {
        loop {
            match self.lines.recv_timeout(TICK) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!("the {} ended with nothing to say ({status}){}", name(&self.end), self.complaint());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            wait.interrupt.check()?;
            if let Some(other) = other.as_deref_mut()
                && let Some(status) = other.child.try_wait()?
                && !status.success()
            {
                bail!("the {} failed{}", name(&other.end), other.complaint());
            }
            ensure!(Instant::now() < wait.deadline, "the {} does not end", name(&self.end));
        }
    }

    /// What it said on standard error, once it has ended.
    fn complaint(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        let text = text.trim().trim_start_matches("error: ");
        if text.is_empty() { String::new() } else { format!(": {text}") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As the command line has it.
fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    //! Ends that take turns are kept where they were asked to be, ends that both work are not.
    use super::*;

    #[test]
    fn only_ends_that_take_turns_are_placed() {
        let place = Place::named("hb-nowhere", Vec::new());
        let span = Span { warm_up: 1, measure: 1 };
        let cores = |kind, placement| {
            let slice = Slice { from: &place, to: &place, v6: false, kind, span, placement, port: 1 };
            [End::Client, End::Server].map(|end| slice.core(end))
        };
        for kind in [Kind::PingPong, Kind::Connections] {
            assert_eq!(cores(kind, Placement::OneCore), [Some(0), Some(0)]);
            assert_eq!(cores(kind, Placement::TwoCores), [Some(0), Some(1)]);
            assert_eq!(cores(kind, Placement::Free), [None, None]);
        }
        for kind in [Kind::Stream, Kind::Packets] {
            assert_eq!(cores(kind, Placement::OneCore), [None, None]);
        }
    }
}
