//! Routed mode: pods have addresses of the network that the node is in, and the node answers for them there.
//!
//! Linux keeps the NIC and does the answering: for each address of a pod a proxy entry in its neighbor table (ARP and neighbor
//! discovery), and a route to the switch. What others on the segment send to a pod comes by the host's port, with their address;
//! what pods send leaves by it. Nothing is encapsulated.
//!
//! Everything here carries Heddle's protocol number ([`ROUTE_PROTOCOL`]), so that it is found again. The uplink's settings that
//! have to change are written down first, and put back at tear-down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use heddle_netdev::sysctl::{read_sysctl, write_sysctl};
use heddle_netdev::{Netlink, ROUTE_PROTOCOL, Route};
use ipnet::IpNet;

use super::facts::{NodeFacts, UplinkFacts};
use super::host::has_ipv6;
use super::persist::Store;
use crate::config::Family;
use crate::tables::Node;

/// The file of settings as they were.
const BEFORE: &str = "sysctls.json";

/// The node's place in the network of its pods.
#[derive(Debug)]
pub(super) struct Segment {
    /// Index of the uplink.
    uplink: u32,
    /// Index of Linux's end of the host's port.
    host: u32,
    /// What the node sends from, by family.
    sources: [Option<IpAddr>; 2],
}

impl Segment {
    /// Makes the uplink ready to answer for pods.
    pub(super) fn set_up(
        facts: &NodeFacts,
        host: u32,
        uplink: &UplinkFacts,
        store: &Store,
    ) -> Result<Self, String> {
        for (name, value) in settings(&uplink.interface) {
            change(store, &name, value)?;
        }
        let sources = [Family::Ipv4, Family::Ipv6].map(|family| facts.address(family));
        Ok(Self { uplink: uplink.index, host, sources })
    }

    /// Lets the segment reach a pod's addresses here. What of it is there already is fine.
    pub(super) async fn announce(
        &self,
        netlink: &Netlink,
        addresses: &[IpAddr],
    ) -> heddle_netdev::Result<()> {
        for address in addresses {
            netlink.replace_route(&self.route(*address)).await?;
            netlink.add_proxy(self.uplink, *address).await?;
        }
        Ok(())
    }

    /// Ends that. Goes on past failures, and returns the first.
    pub(super) async fn withdraw(
        &self,
        netlink: &Netlink,
        addresses: &[IpAddr],
    ) -> heddle_netdev::Result<()> {
        let mut result = Ok(());
        for address in addresses {
            let proxy = netlink.delete_proxy(self.uplink, *address).await;
            let route = netlink.delete_route(&self.route(*address)).await;
            result = result.and(proxy.and(route).map(drop));
        }
        result
    }

    /// Removes what is left of pods that are gone.
    pub(super) async fn keep_only(
        &self,
        netlink: &Netlink,
        wanted: &BTreeSet<IpAddr>,
    ) -> heddle_netdev::Result<()> {
        for (interface, address) in netlink.proxies().await? {
            if interface != self.uplink || !wanted.contains(&address) {
                netlink.delete_proxy(interface, address).await?;
            }
        }
        for route in netlink.routes().await? {
            let ours = route.protocol == ROUTE_PROTOCOL && route.interface == self.host;
            if ours && !wanted.contains(&route.destination.addr()) {
                netlink.delete_route(&route).await?;
            }
        }
        Ok(())
    }

    fn route(&self, address: IpAddr) -> Route {
        let gateway = Node::default();
        let (via, source) = match address {
            IpAddr::V4(_) => (gateway.gateway_v4.into(), self.sources[0]),
            IpAddr::V6(_) => (gateway.gateway_v6.into(), self.sources[1]),
        };
        Route { source, ..Route::via_on_link(IpNet::from(address), via, self.host) }
    }
}

/// Removes all proxies of Heddle's, and puts the settings back; routes go with the host's port. For a switch that is in no segment,
/// or no more.
pub(super) async fn tear_down(netlink: &Netlink, store: &Store) -> Result<(), String> {
    remove_proxies(netlink).await.map_err(|error| error.to_string())?;
    put_back(store).map(drop)
}

/// Nobody is answered for any more; returns for whom the node did.
pub(super) async fn remove_proxies(netlink: &Netlink) -> heddle_netdev::Result<Vec<String>> {
    let mut removed = Vec::new();
    for (interface, address) in netlink.proxies().await? {
        netlink.delete_proxy(interface, address).await?;
        removed.push(address.to_string());
    }
    Ok(removed)
}

/// The uplink's settings, as they have to be. An answer for another is held back for up to 0.8 s otherwise (`proxy_delay`, arp(7)), and
/// IPv6 is answered for at all only where that is said.
fn settings(uplink: &str) -> Vec<(String, &'static str)> {
    let mut settings = vec![(format!("net/ipv4/neigh/{uplink}/proxy_delay"), "0")];
    if has_ipv6() {
        settings.push((format!("net/ipv6/neigh/{uplink}/proxy_delay"), "0"));
        settings.push((format!("net/ipv6/conf/{uplink}/proxy_ndp"), "1"));
    }
    settings
}

type Before = BTreeMap<String, String>;

/// Changes a setting, after its old value is on disk.
fn change(store: &Store, name: &str, value: &str) -> Result<(), String> {
    let now = read_sysctl(name).map_err(|error| error.to_string())?;
    if now == value {
        return Ok(());
    }
    let mut before: Before = store.load_or_default(BEFORE).map_err(|error| error.to_string())?;
    // What an earlier run has found counts, not what others have made of it since.
    before.entry(name.to_owned()).or_insert(now);
    store.save_as(BEFORE, before).map_err(|error| error.to_string())?;
    write_sysctl(name, value).map_err(|error| error.to_string())
}

/// Puts all settings back; returns what it changed, as people write it. An interface that is gone took its own along.
pub(super) fn put_back(store: &Store) -> Result<Vec<String>, String> {
    let before: Before = store.load_or_default(BEFORE).map_err(|error| error.to_string())?;
    let mut changed = Vec::new();
    for (name, value) in &before {
        if read_sysctl(name).is_ok() {
            write_sysctl(name, value).map_err(|error| error.to_string())?;
            changed.push(format!("{} to {value}", name.replace('/', ".")));
        }
    }
    store.remove(BEFORE).map_err(|error| error.to_string())?;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    //! Settings are remembered as they were before the first change, and forgotten once they are put back.
    use super::*;

    #[test]
    fn a_setting_that_is_right_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let name = "kernel/ostype";
        change(&store, name, "Linux").unwrap();
        assert_eq!(store.load_or_default::<Before>(BEFORE).unwrap(), Before::new());
        // Nobody can write this one; its value is on disk all the same before it is tried.
        change(&store, name, "Other").unwrap_err();
        let known = Before::from([(name.to_owned(), "Linux".to_owned())]);
        assert_eq!(store.load_or_default::<Before>(BEFORE).unwrap(), known);
        store
            .save_as(BEFORE, Before::from([("net/ipv4/neigh/gone0/proxy_delay".into(), "80".into())]))
            .unwrap();
        put_back(&store).unwrap();
        assert_eq!(store.load_or_default::<Before>(BEFORE).unwrap(), Before::new());
    }
}
