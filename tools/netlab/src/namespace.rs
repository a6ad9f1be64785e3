//! A namespace of the lab, and what can be done inside: run a command, run a closure, ping.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use heddle_netdev::{NETNS_DIR, Netns};

use crate::names::Name;

/// How long an answer to an echo request may take before it counts as lost. An error that comes back ends the wait.
const PING_PATIENCE: Duration = Duration::from_secs(5);

/// One of the lab's network namespaces, by name: it is opened only while something runs inside, so that nothing here
/// keeps it alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespace(Name);

impl Namespace {
    /// That of the pod, node, peer or wire of this name, whether it is there or not.
    pub fn of(name: Name) -> Self {
        Self(name)
    }

    /// Whose it is.
    pub fn name(&self) -> Name {
        self.0
    }

    /// Where it can be opened.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(NETNS_DIR).join(self.0.namespace())
    }

    /// Runs a closure inside, on a thread of its own. Sockets made there stay in the namespace and can be used anywhere.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        Ok(Netns::open(self.path())?.run(work)?)
    }

    /// Becomes the command, inside, with a /sys that shows the namespace's interfaces and not the machine's. Comes back only
    /// with the reason why it cannot.
    pub fn run_in_place(&self, command: &mut Command) -> Result<std::io::Error> {
        use std::os::unix::process::CommandExt;
        // The thread that enters the namespace is the one that becomes the command, and the others end with that.
        let become_it = || own_sysfs().map_or_else(|error| error, |()| command.exec());
        self.run(become_it)
    }

    /// Runs a command inside and waits for it.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = Netns::open(self.path())?.spawn(command)?;
        child.wait_with_output().with_context(|| format!("waiting for {command:?} in {self}"))
    }

    /// Runs a command inside that has to succeed; its output.
    pub fn exec(&self, arguments: &[&str]) -> Result<String> {
        let (program, arguments) = arguments.split_first().context("no command")?;
        let mut command = Command::new(program);
        let output = self.output(command.args(arguments))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "'{program} {}' in {self}: {}\n{text}{complaint}",
            arguments.join(" "),
            output.status
        );
        Ok(text.into_owned())
    }

    /// Sends echo requests, one after the other, and says how many of them were answered, and what errors came back.
    pub fn ping(&self, to: IpAddr, ping: &Ping) -> Result<Pong> {
        let mut result = Pong { sent: ping.count, answered: 0, text: String::new() };
        for _ in 0..ping.count {
            result.answered += self.ping_once(to, ping, &mut result.text)?;
        }
        Ok(result)
    }

    /// Each request is a call of its own: once ping has seen an answer, it waits for the next only as long as its interval,
    /// and a busy machine may take longer.
    fn ping_once(self, to: IpAddr, ping: &Ping, text: &mut String) -> Result<u32> {
        let mut command = Command::new("ping");
        let wait = PING_PATIENCE.as_secs().to_string();
        command.args(["-n", "-c", "1", "-W", &wait, "-s", &ping.payload.to_string()]);
        if ping.dont_fragment {
            command.args(["-M", "do"]);
        }
        if let Some(ttl) = ping.ttl {
            command.args(["-t", &ttl.to_string()]);
        }
        let output =
            self.output(command.arg(to.to_string())).context("ping (Debian: apt install iputils-ping)")?;
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let answered =
            said.lines().find_map(|line| line.split_once(" received")?.0.rsplit(' ').next()?.parse().ok());
        text.push_str(&said);
        // A ping that could not even start has no such line.
        answered.with_context(|| format!("ping {to} in {self}: {}", said.trim()))
    }

    /// Fails unless every one of three echo requests is answered.
    pub fn must_ping(&self, to: IpAddr) -> Result<()> {
        let pong = self.ping(to, &Ping::default())?;
        ensure!(
            pong.all(),
            "{self} to {to}: {} of {} pings answered\n{}",
            pong.answered,
            pong.sent,
            pong.text
        );
        Ok(())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How to ping.
#[derive(Debug, Clone, Copy)]
pub struct Ping {
    /// Echo requests.
    pub count: u32,
    /// Bytes after the ICMP header.
    pub payload: u16,
    /// Forbid fragmentation, by others and by the sender itself.
    pub dont_fragment: bool,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
}

impl Default for Ping {
    fn default() -> Self {
        Self { count: 3, payload: 56, dont_fragment: false, ttl: None }
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Pong {
    /// Echo requests that were to be sent.
    pub sent: u32,
    /// Echo replies.
    pub answered: u32,
    /// All that ping said, errors from the way among it.
    pub text: String,
}

impl Pong {
    /// True when every request was answered.
    pub fn all(&self) -> bool {
        self.answered == self.sent
    }
}

/// Puts a sysfs of the thread's network namespace on /sys, seen by this thread and what it becomes, as `ip netns exec` does.
fn own_sysfs() -> std::io::Result<()> {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_SLAVE | MsFlags::MS_REC, NOTHING)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NOTHING)?;
    Ok(())
}
