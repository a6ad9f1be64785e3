//! The ground that the peers are built on: namespaces with a prefix of their own, and one directory. Whatever happens to
//! the run, dropping the ground takes all of it away, and a run that was killed is cleared by the next, or by
//! `heddle-bench clean`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use heddle_netdev::ethtool::{Offload, set_offload};
use heddle_netdev::sysctl::write_sysctl;
use heddle_netdev::{NETNS_DIR, Netlink, Netns, create_named, delete_named, list_named};
use heddle_netlab::{Lock, Process, WhenTaken, inhabitants};
use rustix::process::Signal;

/// Prefix of the peers' namespaces. Heddle's own lab has another.
const PREFIX: &str = "hb-";
/// Everything the peers leave in the file system is here.
const DIR: &str = "/run/heddle-bench";
const LOCK_FILE: &str = "/run/heddle-bench.lock";
/// How long the kernel may take to make addresses usable.
const USABLE: Duration = Duration::from_secs(10);

/// Held by the one run there may be.
#[derive(Debug)]
pub(crate) struct Ground {
    cleared: bool,
    _lock: Lock,
}

impl Ground {
    /// Takes the lock and removes what a killed run has left.
    pub(crate) fn take() -> Result<Self> {
        let lock =
            Lock::take(Path::new(LOCK_FILE), WhenTaken::Fail).context("another heddle-bench is at work")?;
        sweep()?;
        std::fs::create_dir(DIR).with_context(|| format!("cannot make {DIR}"))?;
        Ok(Self { cleared: false, _lock: lock })
    }

    /// Takes everything away, and says what could not be.
    pub(crate) fn clear(mut self) -> Result<()> {
        self.cleared = true;
        sweep()
    }

    /// Where something of this name is, or can be made.
    #[allow(clippy::unused_self, reason = "nothing is made there without the ground")]
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::new(DIR).join(name)
    }

    /// A directory of one's own, empty.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if !self.cleared
            && let Err(error) = sweep()
        {
            eprintln!("not everything could be removed; run 'heddle-bench clean': {error:#}");
        }
    }
}

/// The name that a namespace of the peers has.
pub(crate) fn namespace_name(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Makes a namespace with its loopback up, where IPv6 addresses are usable at once: the lab's have the same settings.
pub(crate) fn create_namespace(name: &str) -> Result<Netns> {
    let netns = create_named(&namespace_name(name))?;
    netns.run(|| write_sysctl("net/ipv6/conf/default/accept_dad", "0"))??;
    in_namespace(&netns, async |netlink| Ok(netlink.set_up(&netlink.link("lo").await?).await?))?;
    Ok(netns)
}

/// Runs network configuration inside a namespace.
pub(crate) fn in_namespace<T>(netns: &Netns, work: impl AsyncFnOnce(&Netlink) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start an async runtime")?;
    runtime.block_on(async { work(&Netlink::open_in(netns)?).await })
}

/// Makes an interface of this namespace hand out complete packets only.
pub(crate) fn switch_off(netns: &Netns, interface: &str, offloads: &[Offload]) -> Result<()> {
    netns.run(|| offloads.iter().try_for_each(|offload| set_offload(interface, *offload, false)))??;
    Ok(())
}

/// Waits until every address of the peers is past duplicate address detection, which the kernel ends on a work queue
/// of its own also where it is switched off.
pub(crate) fn await_addresses() -> Result<()> {
    let deadline = Instant::now() + USABLE;
    for namespace in namespaces()? {
        let netns = Netns::open(&namespace)?;
        loop {
            let waiting = in_namespace(&netns, async |netlink| Ok(netlink.tentative_addresses().await?))?;
            if waiting.is_empty() {
                break;
            }
            ensure!(Instant::now() < deadline, "{waiting:?} in {} cannot be used", namespace.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

/// Removes what a killed run has left, unless one is at work. True when there was something.
pub(crate) fn clear_leftovers() -> Result<bool> {
    let _lock = Lock::take(Path::new(LOCK_FILE), WhenTaken::Fail).context("a heddle-bench is at work")?;
    let found = Path::new(DIR).exists() || !namespaces()?.is_empty();
    sweep().map(|()| found)
}

fn namespaces() -> Result<Vec<PathBuf>> {
    let names = list_named(PREFIX)?;
    Ok(names.iter().map(|name| Path::new(NETNS_DIR).join(name)).collect())
}

/// Goes on past errors, and reports them all.
fn sweep() -> Result<()> {
    let mut errors = Vec::new();
    let mut keep = |result: Result<()>| errors.extend(result.err().map(|error| format!("{error:#}")));
    for process in inhabitants(&namespaces()?)? {
        keep(end(process));
    }
    for name in list_named(PREFIX)? {
        keep(delete_named(&name).map(drop).map_err(Into::into));
    }
    match std::fs::remove_dir_all(DIR) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            keep(Err(anyhow::Error::new(error).context(format!("cannot remove {DIR}"))));
        }
        _ => {}
    }
    if errors.is_empty() { Ok(()) } else { bail!("{}", errors.join("; ")) }
}

/// One that is stopped does not hear that it is to end.
fn end(process: Process) -> Result<()> {
    process.signal(Signal::CONT)?;
    process.end().map(drop)
}
