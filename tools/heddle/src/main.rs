//! `heddle`: the operator's command line. Reads a switch over its control socket, raises labs, shows the demo.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod demo;
mod install;
mod output;
mod policy;
mod progress;
mod target;
mod view;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    match commands::run(arguments) {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
