//! Taking a lab down: by what its record says, and by the names of what is there, so that a lab whose maker was killed at
//! any moment goes as completely as one that is whole. An error is kept for the end and stops nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use heddle_netdev::{delete_named, list_named};

use crate::cni::Plugin;
use crate::control::Control;
use crate::daemon::Files;
use crate::inhabitants::inhabitants;
use crate::lock::{Lock, WhenTaken};
use crate::names::{NAMESPACE_PREFIX, Name};
use crate::namespace::Namespace;
use crate::observer::{Observer, Step};
use crate::process::Process;
use crate::state::{LOCK_FILE, STATE_DIR, State};
use crate::{binaries, parallel};

const SWITCH: &str = "heddle-switch";
/// How long mounts and namespaces may stay busy after their last process has gone.
const SETTLE: Duration = Duration::from_secs(2);

/// Takes down the lab that is there, or what is left of one. False when there was nothing.
pub fn take_down_any(observer: &mut dyn Observer) -> Result<bool> {
    if !rustix::process::geteuid().is_root() {
        bail!("a lab needs root");
    }
    let _lock = Lock::take(Path::new(LOCK_FILE), WhenTaken::Fail)?;
    let found = find_trace()?.is_some();
    take_down(observer)?;
    Ok(found)
}

/// Something of a lab that is there, if anything is.
pub(crate) fn find_trace() -> Result<Option<String>> {
    if Path::new(STATE_DIR).exists() {
        return Ok(Some(STATE_DIR.to_owned()));
    }
    Ok(namespaces()?.first().map(|name| format!("network namespace {}", name.namespace())))
}

/// The lock is held by the caller.
pub(crate) fn take_down(observer: &mut dyn Observer) -> Result<()> {
    let mut errors = Vec::new();
    let names = keep(&mut errors, namespaces()).unwrap_or_default();
    // A damaged record is no error here: names tell the same, if less exactly.
    let state = State::load(Path::new(STATE_DIR)).ok().flatten();

    observer.step(Step::RemovePods);
    // Programs in pods, and plugins whose maker was killed, first: nobody is to add while we remove.
    end_processes(&names, |process| !process.runs(SWITCH), &mut errors);
    remove_pods(&names, &mut errors);
    observer.step(Step::StopSwitches);
    for node in state.iter().flat_map(|state| &state.nodes) {
        let ended =
            node.agent.map(Process::end).transpose().with_context(|| format!("agent of {}", node.name));
        keep(&mut errors, ended);
        let ended = node.switch.end().with_context(|| format!("switch of {}", node.name));
        keep(&mut errors, ended);
    }
    end_processes(&names, |_| true, &mut errors);
    observer.step(Step::Sweep);
    keep(&mut errors, unmount_all());
    for name in &names {
        keep(&mut errors, delete_named(&name.namespace()).map_err(Into::into));
    }
    match std::fs::remove_dir_all(STATE_DIR) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            keep(
                &mut errors,
                Err::<(), _>(anyhow::Error::new(error).context(format!("cannot remove {STATE_DIR}"))),
            );
        }
        _ => {}
    }
    if errors.is_empty() {
        return Ok(());
    }
    let list: Vec<_> = errors.iter().map(|error| format!("{error:#}")).collect();
    bail!("{}", list.join("; "))
}

fn keep<T>(errors: &mut Vec<anyhow::Error>, result: Result<T>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

fn namespaces() -> Result<Vec<Name>> {
    Ok(list_named(NAMESPACE_PREFIX)?.iter().filter_map(|namespace| Name::of_namespace(namespace)).collect())
}

/// DEL for every pod whose switch answers. Where it does not, the pod goes with its namespace.
fn remove_pods(names: &[Name], errors: &mut Vec<anyhow::Error>) {
    let answers = |node: Name| {
        let socket = Files::of(Path::new(STATE_DIR), node).socket;
        Control::connect(&socket).and_then(|mut control| control.describe()).is_ok()
    };
    let Ok(binary) = binaries::find("heddle-cni") else { return };
    let serving: Vec<Name> =
        names.iter().copied().filter(|name| matches!(name, Name::Node(_)) && answers(*name)).collect();
    let pods: Vec<(Name, Name)> = names
        .iter()
        .filter_map(|name| match name {
            Name::Pod(node, _) => Some((*name, Name::Node(*node))),
            _ => None,
        })
        .filter(|(_, node)| serving.contains(node))
        .collect();
    for result in parallel::map(&pods, |(pod, node)| Plugin::of_node(&binary, *node).del(*pod)) {
        keep(errors, result);
    }
}

fn end_processes(names: &[Name], choose: impl Fn(&Process) -> bool, errors: &mut Vec<anyhow::Error>) {
    let found = keep(errors, processes_in(names)).unwrap_or_default();
    let chosen: Vec<Process> = found.into_iter().filter(choose).collect();
    for result in parallel::map(&chosen, |process| process.end()) {
        keep(errors, result);
    }
}

/// A switch that was not recorded yet, programs in pods.
fn processes_in(names: &[Name]) -> Result<Vec<Process>> {
    inhabitants(&names.iter().map(|name| Namespace::of(*name).path()).collect::<Vec<_>>())
}

/// Unmounts what is mounted in the lab's directory; the pins in a BPF file system go with it.
fn unmount_all() -> Result<()> {
    let deadline = Instant::now() + SETTLE;
    for mount in mounts()? {
        loop {
            match nix::mount::umount(&mount) {
                Ok(()) | Err(nix::errno::Errno::EINVAL) => break,
                // The switch that has just ended may be held up in the kernel still.
                Err(nix::errno::Errno::EBUSY) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot unmount {}", mount.display()));
                }
            }
        }
    }
    Ok(())
}

/// Mount points in the lab's directory, the last made first.
fn mounts() -> Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("cannot list mounts")?;
    // Field 5 of proc(5)'s mountinfo. The lab's names hold nothing that would be escaped there.
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut mounts: Vec<_> = points.filter(|point| point.starts_with(STATE_DIR)).collect();
    mounts.reverse();
    Ok(mounts)
}
