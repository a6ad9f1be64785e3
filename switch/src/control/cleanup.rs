//! Removing what daemons left, and with them all of Heddle. Everything is found by its name, whatever is recorded or not.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use heddle_netdev::{Netlink, ROUTE_PROTOCOL};
use tokio::runtime::Builder;

use super::plane::{Plane, shaper, trunk};
use super::{Store, forwarding, host, preflight, segment};
use crate::config::Config;

/// Interfaces of pods: `hdl` and eleven hexadecimal digits (cni/README.md).
const POD: (&str, usize) = ("hdl", 11);
/// nftables tables, of whatever family: this name, and this name with something behind a dash.
const TABLE: &str = "heddle";
/// What the plugin keeps beside the switch's directory.
const PLUGIN_STATE: [&str; 2] = ["ipam", "attachments"];

/// Where a daemon leaves files.
#[derive(Debug, Clone)]
pub struct Places {
    /// The control socket.
    pub socket: PathBuf,
    /// Pinned programs, maps and links.
    pub bpffs: PathBuf,
    /// State, the plugin's too.
    pub state_dir: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        let [socket, bpffs, state_dir] =
            ["/run/heddle/switch.sock", "/sys/fs/bpf/heddle", "/var/lib/heddle"].map(PathBuf::from);
        Self { socket, bpffs, state_dir }
    }
}

impl From<&Config> for Places {
    fn from(config: &Config) -> Self {
        let Config { socket, bpffs, state_dir, .. } = config.clone();
        Self { socket, bpffs, state_dir }
    }
}

/// How much goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What a daemon makes anew when it starts.
    Daemon,
    /// Also what it remembers.
    State,
    /// Everything: pods are cut off, and their addresses forgotten.
    Node {
        /// Whether the kernel forwards packets, and takes router advertisements, as it did before.
        put_back: bool,
    },
}

/// What was done.
#[derive(Debug, Default)]
pub struct Cleanup {
    /// A kind, such as interface, and a name.
    pub removed: Vec<(&'static str, String)>,
    /// What could not be, and why.
    pub failures: Vec<String>,
}

impl Cleanup {
    fn attempt<E: ToString>(
        &mut self,
        kind: &'static str,
        result: Result<impl IntoIterator<Item = String>, E>,
    ) {
        match result {
            Ok(names) => self.removed.extend(names.into_iter().map(|name| (kind, name))),
            Err(error) => self.failures.push(error.to_string()),
        }
    }
}

/// Removes what the daemon left in kernel and file system. Goes on past failures and tells all of them.
pub fn clean_up(places: &Places, extent: Extent) -> Cleanup {
    let mut done = Cleanup::default();
    // Under a running daemon's feet this would cut off its pods.
    let lock = match lock(&places.state_dir) {
        Ok(lock) => lock,
        Err(error) => {
            done.failures.push(error);
            return done;
        }
    };
    let node = matches!(extent, Extent::Node { .. });
    done.attempt("pin", remove_pins(&places.bpffs));
    // Where nothing was kept, nothing is made to read it.
    let store = places.state_dir.join("switch").exists().then(|| Store::open(&places.state_dir));
    let store = store.and_then(|store| store.map_err(|error| done.failures.push(error.to_string())).ok());
    remove_from_kernel(node, store.as_ref(), &mut done);
    done.attempt("nftables table", remove_tables());
    done.attempt("file", remove_file(&places.socket));
    if let Some(store) = store.filter(|_| extent == Extent::Node { put_back: true }) {
        done.attempt("setting", forwarding::put_back(&store));
    }
    drop(lock);
    if extent != Extent::Daemon {
        done.attempt("directory", remove_tree(&places.state_dir.join("switch")));
    }
    if node {
        for name in PLUGIN_STATE {
            done.attempt("directory", remove_tree(&places.state_dir.join(name)));
        }
        // What is in there besides is not known to us.
        done.attempt("directory", remove_empty(&places.state_dir));
        let run = places.socket.parent().filter(|dir| dir.file_name().is_some_and(|name| name == TABLE));
        done.attempt("directory", run.map_or(Ok(None), remove_empty));
    }
    done
}

/// Nothing is made for it: where no daemon ever was, there is nobody to lock out.
fn lock(state_dir: &Path) -> Result<Option<std::fs::File>, String> {
    if !state_dir.join("switch").exists() {
        return Ok(None);
    }
    preflight::lock(state_dir).map(Some).map_err(|error| error.to_string())
}

fn remove_pins(bpffs: &Path) -> Result<Vec<String>, String> {
    let mut before = Vec::new();
    list_files(bpffs, &mut before);
    Plane::clean_up(bpffs)?;
    let names = before.iter().filter(|path| !path.exists());
    Ok(names.map(|path| path.display().to_string()).collect())
}

fn list_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { list_files(&path, files) } else { files.push(path) }
    }
}

fn remove_from_kernel(node: bool, store: Option<&Store>, done: &mut Cleanup) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return done.failures.push(error.to_string()),
    };
    runtime.block_on(async {
        let netlink = match Netlink::open() {
            Ok(netlink) => netlink,
            Err(error) => return done.failures.push(error.to_string()),
        };
        if let Some(store) = store {
            done.attempt("limit", clear_limits(&netlink, store).await);
            done.attempt("setting", segment::put_back(store));
        }
        done.attempt("proxy", segment::remove_proxies(&netlink).await);
        // With the interfaces go their routes, addresses, programs and queueing disciplines; those elsewhere are found by who made them.
        done.attempt("route", netlink.remove_routes_of(ROUTE_PROTOCOL).await);
        done.attempt("rule", netlink.remove_rules_of(ROUTE_PROTOCOL).await);
        done.attempt("interface", remove_interfaces(&netlink, node).await);
    });
}

/// Takes the limits off pods that stay.
async fn clear_limits(netlink: &Netlink, store: &Store) -> heddle_netdev::Result<Vec<String>> {
    let mut cleared = Vec::new();
    // What cannot be read names nothing to remove.
    for saved in store.load_endpoints().unwrap_or_default() {
        if !saved.spec.bandwidth.is_unlimited()
            && let Some(link) = netlink.find_link(&saved.spec.host_interface).await?
        {
            netlink.clear_queueing(&link).await?;
            cleared.push(link.name);
        }
    }
    Ok(cleared)
}

async fn remove_interfaces(netlink: &Netlink, node: bool) -> heddle_netdev::Result<Vec<String>> {
    let is_ours = |name: &str| {
        [host::LINUX_SIDE, host::SWITCH_SIDE].contains(&name)
            || trunk::is_ours(name)
            || shaper::is_ours(name)
            || (node && is_pods(name))
    };
    let names = netlink.links().await?.into_iter().map(|link| link.name).filter(|name| is_ours(name));
    let names: Vec<_> = names.collect();
    for name in &names {
        // Its other end may have taken it along.
        netlink.delete_link(name).await?;
    }
    Ok(names)
}

fn is_pods(name: &str) -> bool {
    let digits = name.strip_prefix(POD.0).unwrap_or_default();
    digits.len() == POD.1 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn remove_tables() -> Result<Vec<String>, String> {
    let list = match Command::new("nft").args(["list", "tables"]).output() {
        Ok(output) => output,
        // Who has no nft has no table of ours.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot run nft: {error}")),
    };
    let text = String::from_utf8_lossy(&list.stdout);
    let mut removed = Vec::new();
    for line in text.lines().filter(|line| is_our_table(line)) {
        let deleted = Command::new("nft").arg("delete").args(line.split_whitespace()).output();
        let deleted = deleted.map_err(|error| format!("cannot run nft: {error}"))?;
        if !deleted.status.success() {
            return Err(format!(
                "nft delete {line}: {}",
                String::from_utf8_lossy(&deleted.stderr).trim().replace('\n', " ")
            ));
        }
        removed.push(line.trim_start_matches("table ").to_owned());
    }
    Ok(removed)
}

/// A line of `nft list tables`: "table inet heddle".
fn is_our_table(line: &str) -> bool {
    let name = line.split_whitespace().nth(2).and_then(|name| name.strip_prefix(TABLE));
    name.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn remove_file(path: &Path) -> Result<Option<String>, String> {
    gone(path, std::fs::remove_file(path))
}

fn remove_tree(path: &Path) -> Result<Option<String>, String> {
    gone(path, std::fs::remove_dir_all(path))
}

/// One that is not empty, or a mount point, stays.
fn remove_empty(path: &Path) -> Result<Option<String>, String> {
    match std::fs::remove_dir(path) {
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy) => {
            Ok(None)
        }
        result => gone(path, result),
    }
}

fn gone(path: &Path, result: std::io::Result<()>) -> Result<Option<String>, String> {
    match result {
        Ok(()) => Ok(Some(path.display().to_string())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(format!("cannot remove {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    //! Only Heddle's own names are taken for Heddle's.
    use super::*;

    #[test]
    fn tables() {
        for (line, ours) in [
            ("table inet heddle", true),
            ("table ip heddle-ports", true),
            ("table inet heddles", false),
            ("table inet filter", false),
            ("table heddle", false),
            ("", false),
        ] {
            assert_eq!(is_our_table(line), ours, "{line}");
        }
    }

    #[test]
    fn interfaces() {
        assert!(is_pods("hdl0123456789a"));
        for name in ["hdl", "hdl1", "hdlxyzxyzxyzxy", "heddle0", "eth0"] {
            assert!(!is_pods(name), "{name}");
        }
        for name in ["heddle-t0", "heddle-t12-sw", "heddle-vx"] {
            assert!(trunk::is_ours(name), "{name}");
        }
        for name in ["heddle-t", "heddle-tx", "heddle-vx1", "heddle0", "heddle-t0-sw-sw"] {
            assert!(!trunk::is_ours(name), "{name}");
        }
    }

    #[test]
    fn where_nothing_is_nothing_is_made() {
        let directory = tempfile::tempdir().unwrap();
        assert!(lock(directory.path()).unwrap().is_none());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(remove_tree(&directory.path().join("none")), Ok(None));
        std::fs::write(directory.path().join("anybody's"), "").unwrap();
        assert_eq!(remove_empty(directory.path()), Ok(None), "somebody else's file keeps it");
    }
}
