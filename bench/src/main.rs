//! `heddle-bench`: whole systems under load, in network namespaces of this machine: Heddle and its peers, taking turns.
#![forbid(unsafe_code)]

mod args;
mod load;
mod system;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::System(options) => system::run(&options),
        Command::Clean => system::clean(),
        Command::Load(options) => load::run(&options).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
