//! A NetworkPolicy comes and goes: who reached a pod before, who does while it holds, and which rule says so.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use heddle_netlab::{Lab, Pod};
use heddle_policy::explain::{Place, Port};

use crate::output::table;
use crate::policy::load;

/// Whom the policy protects.
const SERVER: &str = "n2p1";
/// The only one it lets in, and where.
const CLIENT: &str = "n1p1";
const OPEN_PORT: u16 = 80;
const OTHER_PORT: u16 = 81;

/// Who tries to connect where, and whether the policy lets them.
const TRIES: [(&str, u16, bool); 4] = [
    (CLIENT, OPEN_PORT, true),
    (CLIENT, OTHER_PORT, false),
    ("n1p2", OPEN_PORT, false),
    ("n2p2", OPEN_PORT, false),
];

/// How long the change of a file may take to be in force on a busy machine, and what is allowed to connect.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection attempt is waited for that policy stops: longer than those that succeed take, shorter than the
/// second after which a SYN is repeated.
const NO_ANSWER: Duration = Duration::from_millis(500);

pub(super) fn check(lab: &Lab) -> Result<String> {
    let server = lab.pod(SERVER)?;
    let _listeners = server.namespace.run(|| [OPEN_PORT, OTHER_PORT].map(listen))?;
    for (from, port, _) in TRIES {
        ensure!(
            connects(lab, from, &server, port, PATIENCE)?,
            "{from} does not reach {SERVER} without a policy"
        );
    }
    let mut conversation = Conversation::open(&lab.pod("n1p2")?, &server)?;
    ensure!(conversation.goes_on()?, "a connection without policy stands still");

    let path = lab.state().manifests.join("demo-policy.yaml");
    std::fs::write(&path, manifest()).with_context(|| format!("cannot write {}", path.display()))?;
    let written = Instant::now();
    let held = conversation
        .last_word(PATIENCE)
        .and_then(|last| outcome_with_policy(lab, &server, last.saturating_duration_since(written)));
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    let text = held?;
    ensure!(
        connects(lab, "n2p2", &server, OPEN_PORT, PATIENCE)?,
        "n2p2 does not reach {SERVER} after the policy is gone"
    );
    Ok(text)
}

fn manifest() -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\n\
         kind: NetworkPolicy\n\
         metadata: {{name: {SERVER}-serves-{CLIENT}, namespace: default}}\n\
         spec:\n\
         \x20 podSelector: {{matchLabels: {{pod: {SERVER}}}}}\n\
         \x20 ingress:\n\
         \x20 - from: [{{podSelector: {{matchLabels: {{pod: {CLIENT}}}}}}}]\n\
         \x20   ports: [{{port: {OPEN_PORT}}}]\n"
    )
}

/// Tries everything again, in both families, and says what decided.
fn outcome_with_policy(lab: &Lab, server: &Pod, taken: Duration) -> Result<String> {
    let mut compiler = load(&lab.state().manifest_directories())?.compiler();
    let mut table = table(&["from", "to", "before", "with policy", "decided by"]);
    for (from, port, allowed) in TRIES {
        let patience = if allowed { PATIENCE } else { NO_ANSWER };
        let reached = connects(lab, from, server, port, patience)?;
        ensure!(reached == allowed, "with the policy, {from} to {SERVER} port {port}: reached is {reached}");
        let place = |pod: &str| format!("default/{pod}").parse::<Place>();
        let port_of_rule = format!("tcp/{port}").parse::<Port>()?;
        let explanation = compiler.explain(&place(from)?, &place(SERVER)?, port_of_rule)?.to_string();
        // The last line is about the server's side, where the policy is.
        let reason = explanation.lines().last().unwrap_or_default().trim().to_owned();
        let reason = reason.split_once(": ").map_or(reason.clone(), |(_, reason)| reason.to_owned());
        let mark = if reached { "reached" } else { "no answer" };
        table.add_row([from, &format!("{SERVER} tcp/{port}"), "reached", mark, &reason]);
    }
    Ok(format!(
        "{table}\nan open connection of n1p2 got its last byte through {} ms after the file was written",
        taken.as_millis()
    ))
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
}

/// True when a connection is made, over both families; false when it is over neither.
fn connects(lab: &Lab, from: &str, to: &Pod, port: u16, patience: Duration) -> Result<bool> {
    let from = lab.pod(from)?;
    let mut reached = [false; 2];
    for (reached, v6) in reached.iter_mut().zip([false, true]) {
        *reached = connect(&from, to.address(v6)?, port, patience)?.is_some();
    }
    match reached {
        [v4, v6] if v4 == v6 => Ok(v4),
        [v4, v6] => bail!("{} to {}: IPv4 {v4}, IPv6 {v6}", from.state.name, to.state.name),
    }
}

fn connect(from: &Pod, to: IpAddr, port: u16, patience: Duration) -> Result<Option<TcpStream>> {
    let attempt = || TcpStream::connect_timeout(&(to, port).into(), patience);
    match from.namespace.run(attempt)? {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => Ok(None),
        Err(error) => Err(error).context(format!("{} to {to} port {port}", from.state.name)),
    }
}

/// An established connection, on which a byte goes to and fro.
struct Conversation {
    near: TcpStream,
    far: TcpStream,
}

impl Conversation {
    fn open(from: &Pod, to: &Pod) -> Result<Self> {
        let listener = to.namespace.run(|| listen(0))??;
        let port = listener.local_addr()?.port();
        let near =
            connect(from, to.address(false)?, port, PATIENCE)?.context("no connection without policy")?;
        let (far, _) = listener.accept()?;
        for end in [&near, &far] {
            end.set_read_timeout(Some(NO_ANSWER))?;
            end.set_nodelay(true)?;
        }
        Ok(Self { near, far })
    }

    /// Sends a byte and waits for it at the other end.
    fn goes_on(&mut self) -> Result<bool> {
        self.near.write_all(b"?")?;
        match self.far.read(&mut [0; 64]) {
            Ok(read) => Ok(read > 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("an open connection"),
        }
    }

    /// Goes on until nothing gets through any more; when the last byte did.
    fn last_word(&mut self, patience: Duration) -> Result<Instant> {
        let deadline = Instant::now() + patience;
        let mut last = Instant::now();
        while self.goes_on()? {
            last = Instant::now();
            ensure!(last < deadline, "an open connection goes on although a policy forbids it");
        }
        Ok(last)
    }
}
