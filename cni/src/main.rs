//! `heddle-cni`: installed in the CNI plugin directory, executed by the container runtime.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let reply = heddle_cni::run(|name| std::env::var_os(name), std::io::stdin().lock());
    let mut stdout = std::io::stdout();
    let written =
        reply.output.map_or(Ok(()), |text| writeln!(stdout, "{text}").and_then(|()| stdout.flush()));
    if reply.success && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
