//! The command line's grammar.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::load::{End, Kind, Span};
use crate::system::SystemName;

/// Measures Heddle and its peers under load, in network namespaces of this machine.
#[derive(Debug, Parser)]
#[command(name = "heddle-bench", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Raises every system, loads them in turn, and writes a report
    System(SystemOptions),
    /// Removes what a run that was killed has left behind
    Clean,
    /// Sends or receives: what runs in the pods
    #[command(hide = true)]
    Load(LoadOptions),
}

#[derive(Debug, Args)]
pub(crate) struct SystemOptions {
    /// Directory to write report.json and report.html to; made when it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Short slices and few rounds: under four minutes
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these systems [default: all that this machine can run]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_enum)]
    pub(crate) systems: Vec<SystemName>,
    /// Only scenarios with one of these words in their names, such as tcp-stream or same-node
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    pub(crate) scenarios: Vec<String>,
    /// Where the two ends of requests and of connections run
    #[arg(long, value_enum, default_value_t = Placement::OneCore)]
    pub(crate) placement: Placement,
    /// Rounds each lab is up for, instead of what suits
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: Option<u32>,
    /// Milliseconds that are measured of each load, instead of what suits
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(20..=10_000))]
    pub(crate) slice: Option<u64>,
}

/// Where the two ends run of loads in which only one of them works at a time. Wherever that is left to the scheduler, it is
/// the difference between one core and two that is measured: waking a core of a virtual machine takes longer than all the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Placement {
    /// Both on the first core
    OneCore,
    /// The client on the first, the server on the second
    TwoCores,
    /// As the scheduler likes
    Free,
}

#[derive(Debug, Args)]
pub(crate) struct LoadOptions {
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    #[arg(value_enum)]
    pub(crate) end: End,
    /// Where the server listens
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// The only core it may run on
    #[arg(long)]
    pub(crate) core: Option<usize>,
    #[command(flatten)]
    pub(crate) span: Span,
}

#[cfg(test)]
mod tests {
    //! The grammar is consistent, documented lines parse, nonsense does not.
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn grammar_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn documented_lines_parse() {
        for line in [
            "heddle-bench system --out /tmp/report --quick",
            "heddle-bench system --out r --systems heddle-direct,bridge --scenarios tcp-stream",
            "heddle-bench system --out r --rounds 5 --slice 500 --placement free",
            "heddle-bench clean",
            "heddle-bench load ping-pong client --address [fd00::1]:20000 --core 0 --warm-up 100 --measure 500",
        ] {
            Arguments::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "heddle-bench",
            "heddle-bench system",
            "heddle-bench system --out r --systems cilium",
            "heddle-bench system --out r --rounds 0",
            "heddle-bench system --out r --slice 1",
            "heddle-bench load ping-pong client --address nowhere --warm-up 1 --measure 1",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
