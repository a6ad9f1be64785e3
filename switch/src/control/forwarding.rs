//! Lets Linux forward, for pods reach the world through it; and puts back what was there before when Heddle is removed.
//!
//! What was there is written down before it is changed, once: a later start finds Heddle's own values.

use std::collections::BTreeMap;

use heddle_netdev::sysctl::{read_sysctl, write_sysctl};

use super::error::StartError;
use super::host::has_ipv6;
use super::{PersistError, Store};

const IPV4: &str = "net/ipv4/ip_forward";
const IPV6: &str = "net/ipv6/conf/all/forwarding";

/// Where they are kept.
const FILE: &str = "forwarding.json";

/// Values by the names of their settings.
type Settings = BTreeMap<String, String>;

/// Switches forwarding on.
pub(super) fn turn_on(store: &Store) -> Result<(), StartError> {
    let wanted = wanted()?;
    let mut before = store.load_or_default::<Settings>(FILE)?;
    let known = before.len();
    for name in wanted.keys() {
        if !before.contains_key(name) {
            before.insert(name.clone(), read_sysctl(name)?);
        }
    }
    if before.len() > known {
        store.save_as(FILE, &before)?;
    }
    // Forwarding comes last: the moment it is on, router advertisements are ignored.
    let (last, first): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(name, _)| name == IPV6);
    for (name, value) in first.into_iter().chain(last) {
        write_sysctl(&name, value)?;
    }
    Ok(())
}

/// The settings that are not as they have to be, with what they are to be.
fn wanted() -> heddle_netdev::Result<BTreeMap<String, &'static str>> {
    let mut wanted = BTreeMap::new();
    if read_sysctl(IPV4)? != "1" {
        wanted.insert(IPV4.to_owned(), "1");
    }
    if !has_ipv6() || read_sysctl(IPV6)? == "1" {
        return Ok(wanted);
    }
    // A forwarding node ignores router advertisements unless told otherwise, and a node that had its own default route
    // from one would lose it within half an hour (accept_ra in Documentation/networking/ip-sysctl.rst).
    for entry in std::fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten() {
        let name = format!("net/ipv6/conf/{}/accept_ra", entry.file_name().to_string_lossy());
        if read_sysctl(&name).is_ok_and(|value| value == "1") {
            wanted.insert(name, "2");
        }
    }
    wanted.insert(IPV6.to_owned(), "1");
    Ok(wanted)
}

/// Puts back what was there before; returns what it changed, as people write it. What somebody else has changed since stays.
pub(super) fn put_back(store: &Store) -> Result<Vec<String>, PutBackError> {
    let mut changed = Vec::new();
    let before = store.load_or_default::<Settings>(FILE)?;
    // The order of the names has `all` before the interfaces, whose values it sets (`devinet_sysctl_forward`, net/ipv4/devinet.c).
    for (name, value) in &before {
        let ours = if name.ends_with("/accept_ra") { "2" } else { "1" };
        // An interface may have gone meanwhile.
        let Ok(now) = read_sysctl(name) else { continue };
        if now == ours && now != *value {
            write_sysctl(name, value)?;
            changed.push(format!("{} from {now} to {value}", name.replace('/', ".")));
        }
    }
    Ok(changed)
}

/// Why settings cannot be put back.
#[derive(Debug, thiserror::Error)]
pub(super) enum PutBackError {
    /// Nobody knows what they were.
    #[error(transparent)]
    Record(#[from] PersistError),
    /// The kernel refuses.
    #[error(transparent)]
    Kernel(#[from] heddle_netdev::Error),
}
