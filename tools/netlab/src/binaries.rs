//! Where the programs are that a lab runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Names a directory to look in, instead of the one the running program is in.
pub const BIN_DIR_VARIABLE: &str = "HEDDLE_BIN_DIR";

/// The program `name`: in `$HEDDLE_BIN_DIR`, else beside the running program; for a test, that is the directory above.
pub fn find(name: &str) -> Result<PathBuf> {
    let dirs = if let Some(dir) = std::env::var_os(BIN_DIR_VARIABLE) {
        vec![PathBuf::from(dir)]
    } else {
        let running = std::env::current_exe().context("cannot tell where this program is")?;
        running.ancestors().skip(1).take(2).map(Path::to_owned).collect()
    };
    for dir in &dirs {
        let path = dir.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!(
        "there is no {name} in {}: run 'cargo build --workspace' first, or set {BIN_DIR_VARIABLE}",
        dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(" or ")
    )
}
