//! Whoever raises a lab sees how far it is, and can stop it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

use crate::names::Name;

/// A step of raising or taking down a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The wire between the nodes.
    Wire,
    /// A node and its switch.
    Node(Name),
    /// Routes and tunnel ends, on every node.
    Routes,
    /// Waiting until addresses are usable, and every switch knows the next hops towards the others.
    NextHops,
    /// Pods: this many are done, of this many.
    Pods(usize, usize),
    /// Pods are taken down.
    RemovePods,
    /// Switches are stopped.
    StopSwitches,
    /// Namespaces, mounts and files are removed.
    Sweep,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire => f.write_str("wire between the nodes"),
            Self::Node(name) => write!(f, "node {name}: namespace, uplink, heddle-switch"),
            Self::Routes => f.write_str("routes between the nodes"),
            Self::NextHops => f.write_str("next hops between the nodes"),
            Self::Pods(done, all) => write!(f, "pods: {done} of {all}"),
            Self::RemovePods => f.write_str("removing pods"),
            Self::StopSwitches => f.write_str("stopping switches"),
            Self::Sweep => f.write_str("removing namespaces, mounts and files"),
        }
    }
}

/// Follows the raising of a lab.
pub trait Observer {
    /// A step begins; for [`Step::Pods`], progress was made.
    fn step(&mut self, step: Step);

    /// Asked between steps: true makes raising fail, and so take down what was made.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Watches nothing.
impl Observer for () {
    fn step(&mut self, _: Step) {}
}

/// Set by SIGINT (Ctrl-C), SIGTERM and SIGHUP, so that a lab can be taken down before the process ends.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on, these signals set the flag and no longer end the process.
    pub fn catch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let setter = Arc::clone(&flag);
        let runtime = crate::control::runtime()?;
        // Handlers are installed before this returns, the thread only waits.
        let mut signals = {
            use tokio::signal::unix::{SignalKind, signal};
            let _inside = runtime.enter();
            let open = |kind| signal(kind).context("cannot handle signals");
            (open(SignalKind::interrupt())?, open(SignalKind::terminate())?, open(SignalKind::hangup())?)
        };
        let wait = async move {
            loop {
                tokio::select! {
                    _ = signals.0.recv() => {}
                    _ = signals.1.recv() => {}
                    _ = signals.2.recv() => {}
                }
                setter.store(true, Ordering::Relaxed);
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || runtime.block_on(wait)).context("cannot start a thread")?;
        Ok(Self(flag))
    }

    /// True once a signal came.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once a signal came.
    pub fn check(&self) -> Result<()> {
        if self.is_set() {
            bail!("interrupted");
        }
        Ok(())
    }
}
