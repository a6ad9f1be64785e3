//! Leaving the node as it was before Heddle.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use heddle_netlab::inhabitants;
use heddle_switch::config::Config;
use heddle_switch::control::{self, Extent, Places};

use super::report::{Report, Step};
use super::take_away;
use crate::args::CleanupOptions;

const SWITCH: &str = "heddle-switch";

/// Removes everything of Heddle from the node, and says what it removed.
pub(crate) fn clean_up(options: &CleanupOptions) -> Result<()> {
    let places = places(&options.config)?;
    if let Some(pid) = running_switch()? {
        bail!(
            "{SWITCH} runs here (process {pid}) and would make everything anew: stop it first, for example with 'systemctl stop {SWITCH}' or 'kill {pid}'"
        );
    }
    let mut report = Report::new(options.format.output);
    // The runtime first, so that it adds no pod meanwhile.
    let mut failures = Vec::new();
    failures.extend(take_away(&options.places, true, &mut report).err().map(|error| format!("{error:#}")));
    let extent = Extent::Node { put_back: !options.keep_forwarding };
    let cleanup = control::clean_up(&places, extent);
    for (kind, name) in cleanup.removed {
        report.step(Step { what: "removed", kind: Some(kind.to_owned()), name })?;
    }
    failures.extend(cleanup.failures);
    report.finish()?;
    if failures.is_empty() {
        Ok(())
    } else {
        bail!("not everything could be removed: {}", failures.join("; "))
    }
}

/// Where the switch's files are. Its configuration may have gone already; one that is there and cannot be read would have us look in the
/// wrong places.
fn places(config: &Path) -> Result<Places> {
    if !config.exists() {
        return Ok(Places::default());
    }
    let config = Config::load(config).context("name another file with --config, or mend it")?;
    Ok(Places::from(&config))
}

/// A switch in this network namespace, whatever its configuration.
fn running_switch() -> Result<Option<u32>> {
    let here = inhabitants(&[PathBuf::from("/proc/self/ns/net")])?;
    Ok(here.into_iter().find(|process| process.is_alive() && process.runs(SWITCH)).map(|process| process.pid))
}
