//! `heddle policy`: what policies mean, without a switch.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use heddle_netlab::State;
use heddle_policy::explain::{Place, Port};
use heddle_policy::manifests::Manifests;
use heddle_policy::{check, conformance};
use serde::Serialize;

use crate::args::{Format, Output};
use crate::output::{print, print_json};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Finds everything that is wrong in a directory of manifests
    Check(CheckOptions),
    /// Says whether a connection is allowed, and which rules say so
    Explain(ExplainOptions),
    /// Compares the compiled bitmaps with a file of cases
    Conformance(ConformanceOptions),
}

#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// Directory of Kubernetes manifests, YAML or JSON
    directory: PathBuf,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainOptions {
    /// Directory of Kubernetes manifests, YAML or JSON; may be given several times [default: those of the lab that is up]
    #[arg(long, value_name = "DIR")]
    manifests: Vec<PathBuf>,
    /// Who connects: a pod, or an address
    #[arg(long, value_name = "NS/POD|ADDRESS")]
    from: Place,
    /// Whom to
    #[arg(long, value_name = "NS/POD|ADDRESS")]
    to: Place,
    /// At which port: tcp/80, udp/53, sctp/9, or icmp
    #[arg(long, value_name = "PROTOCOL/PORT")]
    port: Port,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ConformanceOptions {
    /// File of cases, in the format docs/policy.md describes
    file: PathBuf,
    #[command(flatten)]
    format: Format,
}

/// Does what the command line asks for. Fails when something is wrong with what it was given; an explanation of a denial is none.
pub(crate) fn run(command: PolicyCommand) -> Result<ExitCode> {
    let fine = match command {
        PolicyCommand::Check(options) => {
            let report = check::check_dir(&options.directory)?;
            show(&report, options.format)?;
            report.is_ok()
        }
        PolicyCommand::Explain(options) => explain(&options)?,
        PolicyCommand::Conformance(options) => {
            let name = options.file.display();
            let text =
                std::fs::read_to_string(&options.file).with_context(|| format!("cannot read {name}"))?;
            let report = conformance::run(&text).with_context(|| format!("cannot run {name}"))?;
            show(&report, options.format)?;
            report.is_ok()
        }
    };
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Explains by the valid manifests; the others are named on standard error, because they may be what was meant to decide.
fn explain(options: &ExplainOptions) -> Result<bool> {
    let manifests = if options.manifests.is_empty() {
        let lab = State::current().context("no --manifests DIR, and no lab whose manifests could be read")?;
        load(&lab.manifest_directories())?
    } else {
        load(&options.manifests)?
    };
    for finding in &manifests.findings {
        eprintln!("not in force: {finding}");
    }
    let explanation = manifests.compiler().explain(&options.from, &options.to, options.port)?;
    show(&explanation, options.format)?;
    Ok(true)
}

/// The manifests of several directories, as an agent that watches them all puts them together.
pub(crate) fn load(directories: &[PathBuf]) -> Result<Manifests> {
    let directories: Vec<_> = directories.iter().map(PathBuf::as_path).collect();
    Ok(Manifests::load_all(&directories)?)
}

fn show(result: &(impl Serialize + std::fmt::Display), format: Format) -> Result<()> {
    match format.output {
        Output::Table => print(result),
        Output::Json => print_json(result),
    }
}
