//! `heddle-switch`: the daemon that moves pod traffic.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use heddle_switch::config::Config;
use heddle_switch::control::{self, Extent, Places};
use tracing_subscriber::EnvFilter;

/// `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: u8 = 78;

/// Moves pod traffic on this node: a userspace packet switch over AF_XDP.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file, TOML
    #[arg(long, value_name = "FILE", default_value = "/etc/heddle/switch.toml")]
    config: PathBuf,
    /// Check the configuration and end
    #[arg(long)]
    check: bool,
    /// Remove what a stopped daemon left: programs, interface heddle0 with its routes, nftables table, socket
    #[arg(long, conflicts_with = "check")]
    cleanup: bool,
    /// With --cleanup: also forget endpoints and routes
    #[arg(long, requires = "cleanup")]
    state: bool,
    /// What to log, such as "info" or `heddle_switch=debug`; the default is `RUST_LOG`, else "info"
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(problem) = start_log(arguments.log.as_deref()) {
        return complain(EXIT_CONFIG, &[problem]);
    }
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => return complain(EXIT_CONFIG, &error.to_string().lines().collect::<Vec<_>>()),
    };
    if arguments.check {
        println!("{}: good", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    if arguments.cleanup {
        let extent = if arguments.state { Extent::State } else { Extent::Daemon };
        let cleanup = control::clean_up(&Places::from(&config), extent);
        return if cleanup.failures.is_empty() { ExitCode::SUCCESS } else { complain(1, &cleanup.failures) };
    }
    match control::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(1, &[error.to_string()]),
    }
}

/// Says what is wrong, a line each.
fn complain(code: u8, problems: &[impl AsRef<str>]) -> ExitCode {
    for problem in problems {
        eprintln!("heddle-switch: {}", problem.as_ref());
    }
    ExitCode::from(code)
}

fn start_log(filter: Option<&str>) -> Result<(), String> {
    let from_environment = std::env::var("RUST_LOG").ok();
    let filter = filter.or(from_environment.as_deref()).unwrap_or("info");
    let filter =
        EnvFilter::try_new(filter).map_err(|error| format!("--log: {error}; write for example info"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}
