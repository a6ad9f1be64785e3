//! Waiting until what was set up forwards, so that the first packet passes as every other.

use std::collections::BTreeSet;
use std::net::IpAddr;
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
use crate::spec::AttachMode;
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

/// Waits until every node knows the next hop towards every VTEP it has routes to. Setting a route is done before that: the
/// kernel has to ask on the wire. Meanwhile a switch that writes outer headers itself drops packets; where the kernel does, in
/// cached mode, it keeps a few and drops the rest.
pub(crate) fn await_next_hops(nodes: &[NodeState], observer: &dyn Observer) -> Result<()> {
    let deadline = Instant::now() + RESOLVE;
    for node in nodes {
        let mut control = Control::connect(&node.socket)?;
        poll(deadline.saturating_duration_since(Instant::now()), observer, |late| {
            let fib = control.fib()?;
            let missing = match node.attach_mode {
                Some(AttachMode::Cached) => unresolved_by_kernel(node, &fib)?,
                _ => unresolved(&fib, |_, known| known.is_some()),
            };
            if late && !missing.is_empty() {
                let missing: Vec<_> = missing.into_iter().collect();
                let log = Files::of(Path::new(STATE_DIR), node.name).log;
                bail!(
                    "{} found no next hop towards {} in {} s: nobody answers on the wire; its switch's log says:\n{}",
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

/// VTEPs with a route to them and no next hop; `resolved` is given each, and the MAC that the switch knows, if it knows one.
fn unresolved(
    fib: &[api::FibEntry],
    resolved: impl Fn(&api::Vtep, Option<&str>) -> bool,
) -> BTreeSet<String> {
    let vtep = |entry: &api::FibEntry| match &entry.next_hop {
        Some(api::fib_entry::NextHop::Vtep(vtep)) => {
            let known = Some(entry.neighbor_mac.as_str()).filter(|mac| !mac.is_empty());
            (!resolved(vtep, known)).then(|| format!("{} ({})", vtep.node, vtep.address))
        }
        _ => None,
    };
    fib.iter().filter_map(vtep).collect()
}

/// The same, by the node's own routes and neighbor entries, which it is told to resolve: outer packets of its vxlan device take
/// them, and nobody has sent any yet.
fn unresolved_by_kernel(node: &NodeState, fib: &[api::FibEntry]) -> Result<BTreeSet<String>> {
    let netns = Netns::open(Namespace::of(node.name).path())?;
    let addresses = fib.iter().filter_map(|entry| match &entry.next_hop {
        Some(api::fib_entry::NextHop::Vtep(vtep)) => vtep.address.parse::<IpAddr>().ok(),
        _ => None,
    });
    let addresses: BTreeSet<IpAddr> = addresses.collect();
    let usable = wire::in_namespace(&netns, async |netlink| {
        let mut usable = BTreeSet::new();
        for address in addresses {
            let route = netlink.lookup_route(address).await?;
            let next_hop = route.gateway.unwrap_or(address);
            if netlink.find_neighbor(route.interface, next_hop).await?.is_some_and(|it| it.mac.is_some()) {
                usable.insert(address);
            } else {
                netlink.resolve_neighbor(route.interface, next_hop).await?;
            }
        }
        Ok(usable)
    })?;
    Ok(unresolved(fib, |vtep, _| vtep.address.parse().is_ok_and(|address| usable.contains(&address))))
}

#[cfg(test)]
mod tests {
    //! Only routes through a tunnel wait for anything, each VTEP is told once; whose knowledge counts is the caller's choice.
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
        let by_switch = |_: &api::Vtep, known: Option<&str>| known.is_some();
        assert_eq!(unresolved(&fib, by_switch), BTreeSet::new());
        fib.extend([entry(vtep("x3", "fd00::3"), ""), entry(vtep("x3", "fd00::3"), "")]);
        assert_eq!(unresolved(&fib, by_switch), BTreeSet::from(["x3 (fd00::3)".to_owned()]));
        let by_others = |vtep: &api::Vtep, _: Option<&str>| vtep.node == "x3";
        assert_eq!(unresolved(&fib, by_others), BTreeSet::from(["n2 (172.31.0.2)".to_owned()]));
    }
}
