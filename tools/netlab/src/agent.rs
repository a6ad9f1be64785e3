//! A node's heddle-agent: its start, and waiting until it has put an image in force.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::control::Control;
use crate::daemon::{Files, spawn, tail};
use crate::manifests::Directories;
use crate::names::Name;
use crate::observer::Observer;
use crate::process::Process;
use crate::ready::poll;

/// How long it may take until the first image.
const START: Duration = Duration::from_secs(15);

/// Starts the agent of a node.
pub(crate) fn start(binary: &Path, node: Name, files: &Files, manifests: &Directories) -> Result<Process> {
    let mut command = Command::new("setsid");
    command.arg(binary).arg("--node").arg(node.to_string()).arg("--socket").arg(&files.socket);
    // The user's first: the first definition holds.
    command.arg("--manifests").arg(&manifests.users).arg("--manifests").arg(&manifests.own);
    spawn(command, node, &files.agent_log)
}

/// Waits until the switch has an image: from then on pods can be added.
pub(crate) fn wait_ready(
    process: Process,
    files: &Files,
    control: &mut Control,
    observer: &dyn Observer,
) -> Result<()> {
    poll(START, observer, |late| {
        let has_image = control.status()?.policy.unwrap_or_default().generation != 0;
        let log = || tail(&files.agent_log);
        if !has_image && !process.is_alive() {
            bail!("heddle-agent ended at once; its log says:\n{}", log());
        }
        if !has_image && late {
            bail!("heddle-agent sends no policy image; its log says:\n{}", log());
        }
        Ok(has_image.then_some(()))
    })
}
