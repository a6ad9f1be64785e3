//! Running `nft`: one script, which takes effect as a whole or not at all.

use std::io::Write;
use std::process::{Command, Stdio};

/// Why a script has no effect, in one line.
pub(super) fn run(script: &str) -> Result<(), String> {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child =
        nft.spawn().map_err(|error| format!("cannot run nft ({error}); apt-get install nftables"))?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
    let output = child.wait_with_output().map_err(|error| format!("cannot run nft: {error}"))?;
    if output.status.success() && written.is_ok() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(format!("nft refuses: {}", reason.lines().next().unwrap_or("no reason given")))
}

/// False where there is no `nft`.
pub(super) fn is_there() -> bool {
    let mut nft = Command::new("nft");
    nft.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    nft.status().is_ok()
}
