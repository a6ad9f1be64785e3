//! Who lives in a network namespace.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process::Process;

/// Every process in one of the network namespaces that these paths stand for. A path that is not there has none.
pub fn inhabitants(namespaces: &[PathBuf]) -> Result<Vec<Process>> {
    let identity = |path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let wanted: BTreeSet<_> = namespaces.iter().filter_map(identity).collect();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("cannot list processes")? {
        let entry = entry.context("cannot list processes")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Gone meanwhile, or a thread of the kernel: none of theirs.
        let Ok(meta) = std::fs::metadata(entry.path().join("ns/net")) else { continue };
        if wanted.contains(&(meta.dev(), meta.ino()))
            && let Ok(process) = Process::of_pid(pid)
        {
            found.push(process);
        }
    }
    Ok(found)
}
