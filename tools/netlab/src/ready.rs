//! Waiting until what was set up forwards, so that the first packet passes as every other.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use heddle_api as api;
use heddle_netdev::Netns;

use crate::control::Control;
use crate::daemon::{self, Files};
use crate::names::Name;
use crate::namespace::Namespace;
use crate::observer::Observer;
use crate::state::{NodeState, STATE_DIR};
use crate::{parallel, wire};

/// How long the next hops may take. The switch asks anew every second, and the answer is a moment away.
const RESOLVE: Duration = Duration::from_secs(30);
/// How long the kernel may take to make addresses usable.
const USABLE: Duration = Duration::from_secs(30);

/// Asks every few milliseconds until there is an answer. `ask` is told when `patience` is over, and then has to have one or fail;
/// an interrupt ends the waiting as well.
pub(crate) fn poll<T>(
    patience: Duration,
    observer: &dyn Observer,
    mut ask: impl FnMut(bool) -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let late = Instant::now() > deadline;
        if let Some(answer) = ask(late)? {
            return Ok(answer);
        }
        ensure!(!late, "not in {} s", patience.as_secs());
        ensure!(!observer.is_interrupted(), "interrupted");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until every IPv6 address in these namespaces is usable. Even where duplicate address detection is switched off,
/// the kernel ends it on a work queue of its own, and meanwhile nothing is sent from a link-local address.
pub(crate) fn await_addresses(names: &[Name], observer: &dyn Observer) -> Result<()> {
    poll(USABLE, observer, |late| {
        let waiting = parallel::map(names, |name| -> Result<_> {
            let netns = Netns::open(Namespace::of(*name).path())?;
            let tentative = wire::in_namespace(&netns, async |link| Ok(link.tentative_addresses().await?))?;
            Ok((!tentative.is_empty()).then(|| format!("{tentative:?} in {name}")))
        });
        let waiting: Vec<String> =
            waiting.into_iter().filter_map(Result::transpose).collect::<Result<_>>()?;
        ensure!(
            waiting.is_empty() || !late,
            "not usable after {} s: {}; is the interface without a carrier?",
            USABLE.as_secs(),
            waiting.join(", ")
        );
        Ok(waiting.is_empty().then_some(()))
    })
}

/// Waits until every switch knows the next hop towards every VTEP it has routes to. Setting a route is done before that:
/// the kernel has to ask on the wire, and meanwhile packets are dropped.
pub(crate) fn await_next_hops(nodes: &[NodeState], observer: &dyn Observer) -> Result<()> {
    let deadline = Instant::now() + RESOLVE;
    for node in nodes {
        let mut control = Control::connect(&node.socket)?;
        poll(deadline.saturating_duration_since(Instant::now()), observer, |late| {
            let missing = unresolved(&control.fib()?);
            if late && !missing.is_empty() {
                let missing: Vec<_> = missing.into_iter().collect();
                let log = Files::of(Path::new(STATE_DIR), node.name).log;
                bail!(
                    "the switch of {} found no next hop towards {} in {} s: nobody answers on the wire; its log says:\n{}",
                    node.name,
                    missing.join(" and "),
                    RESOLVE.as_secs(),
                    daemon::tail(&log)
                );
            }
            Ok(missing.is_empty().then_some(()))
        })?;
    }
    Ok(())
}

/// VTEPs with a route to them and no next hop.
fn unresolved(fib: &[api::FibEntry]) -> BTreeSet<String> {
    let vtep = |entry: &api::FibEntry| match &entry.next_hop {
        Some(api::fib_entry::NextHop::Vtep(vtep)) if entry.neighbor_mac.is_empty() => {
            Some(format!("{} ({})", vtep.node, vtep.address))
        }
        _ => None,
    };
    fib.iter().filter_map(vtep).collect()
}

#[cfg(test)]
mod tests {
    //! Only routes through a tunnel wait for anything, each VTEP is told once.
    use api::fib_entry::NextHop;

    use super::*;

    fn entry(next_hop: NextHop, neighbor_mac: &str) -> api::FibEntry {
        let neighbor_mac = neighbor_mac.to_owned();
        api::FibEntry { next_hop: Some(next_hop), neighbor_mac, ..api::FibEntry::default() }
    }

    #[test]
    fn vteps_without_a_neighbor_are_told_once() {
        let vtep = |node: &str, address: &str| {
            let (node, address) = (node.to_owned(), address.to_owned());
            NextHop::Vtep(api::Vtep { node, address, ..api::Vtep::default() })
        };
        let mut fib = vec![
            entry(NextHop::Host(api::Host {}), ""),
            entry(NextHop::Endpoint("lab-n1p1/eth0".to_owned()), ""),
            entry(NextHop::Unreachable(api::Unreachable {}), ""),
            entry(vtep("n2", "172.31.0.2"), "02:00:00:00:00:02"),
        ];
        assert_eq!(unresolved(&fib), BTreeSet::new());
        fib.extend([entry(vtep("x3", "fd00::3"), ""), entry(vtep("x3", "fd00::3"), "")]);
        assert_eq!(unresolved(&fib), BTreeSet::from(["x3 (fd00::3)".to_owned()]));
    }
}
