//! `heddle-agent`: compiles policy for this node's switch.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use heddle_agent::{DirectorySource, Options, run};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Compiles network policies for the switch of this node, and keeps them in force.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Directory of Kubernetes manifests to watch: Namespaces, Pods, `NetworkPolicies`. Several are read as one, in this order
    #[arg(long, value_name = "DIR", required = true)]
    manifests: Vec<PathBuf>,
    /// Control socket of the switch
    #[arg(long, value_name = "PATH", default_value = heddle_api::DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Name of this node, as in the switch's configuration
    #[arg(long, value_name = "NAME")]
    node: String,
    /// What to log, such as "info" or `heddle_agent=debug`; the default is `RUST_LOG`, else "info"
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start_log(arguments.log.as_deref()).and_then(|()| serve(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("heddle-agent: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until a signal says to end.
fn serve(arguments: Arguments) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let outcome = runtime.block_on(async {
        let handler = |kind| signal(kind).map_err(|error| format!("cannot handle signals: {error}"));
        let (mut terminate, mut interrupt) =
            (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
        let source = DirectorySource::new(arguments.manifests).map_err(|error| error.to_string())?;
        let options = Options { socket: arguments.socket, node: arguments.node };
        tokio::select! {
            ended = run(options, source) => ended.map_err(|error| error.to_string()),
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    });
    // A look at a slow disk may be under way; it changes nothing.
    runtime.shutdown_background();
    if outcome.is_ok() {
        tracing::info!("stopped; the switch goes on with the policy it has");
    }
    outcome
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
