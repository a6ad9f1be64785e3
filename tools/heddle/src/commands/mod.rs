//! One file a command.

mod drops;
mod endpoints;
mod fib;
mod flows;
mod lab;
mod status;

use std::process::ExitCode;

use anyhow::Result;

use crate::args::{Arguments, Command};

pub(crate) use drops::drops_table;

/// Does what the command line asks for.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { target, command } = arguments;
    match command {
        Command::Status(format) => status::run(&target, format.output)?,
        Command::Endpoints(format) => endpoints::run(&target, format.output)?,
        Command::Fib(format) => fib::run(&target, format.output)?,
        Command::Flows(options) => flows::run(&target, &options)?,
        Command::Drops(options) => drops::run(&target, options)?,
        Command::Install(options) => crate::install::install(&target, &options)?,
        Command::Uninstall(options) => crate::install::uninstall(&options)?,
        Command::Cleanup(options) => crate::install::clean_up(&options)?,
        Command::Lab(command) => return lab::run(command),
        Command::Policy(command) => return crate::policy::run(command),
        Command::Demo => return crate::demo::run(),
    }
    Ok(ExitCode::SUCCESS)
}
