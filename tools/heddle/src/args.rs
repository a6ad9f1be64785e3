//! The command line's grammar.

mod node;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use heddle_netlab::{AttachMode, MAX_NODES, MAX_PODS_PER_NODE};

pub(crate) use node::{CleanupOptions, InstallOptions, RuntimePlaces, UninstallOptions};

/// Looks into a Heddle switch, and raises labs to try it in.
#[derive(Debug, Parser)]
#[command(name = "heddle", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which switch to ask.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetOptions {
    /// Control socket of the switch [default: /run/heddle/switch.sock]
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "node")]
    pub(crate) socket: Option<PathBuf>,
    /// The switch of this node of the lab that is up, such as n1
    #[arg(long, global = true, value_name = "NODE")]
    pub(crate) node: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The switch's health: node, uplink, workers, and where its frames are
    Status(Format),
    /// The pods it serves, with their traffic
    Endpoints(Format),
    /// Its forwarding table
    Fib(Format),
    /// The connections it remembers, the busiest first
    Flows(FlowsOptions),
    /// What it dropped, and why
    Drops(DropsOptions),
    /// Puts heddle-cni and its network configuration where the container runtime finds them
    Install(InstallOptions),
    /// Takes them away again
    Uninstall(UninstallOptions),
    /// Removes everything of Heddle from this node, once the switch is stopped
    Cleanup(CleanupOptions),
    /// A cluster of nodes and pods in network namespaces of this machine
    #[command(subcommand)]
    Lab(LabCommand),
    /// What network policies mean: check, explain, compare
    #[command(subcommand)]
    Policy(crate::policy::PolicyCommand),
    /// Raises a two-node lab, sends traffic every way there is, and takes it down again
    Demo,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Format {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// For programs; fields are added, never renamed or removed
    Json,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FlowsOptions {
    #[command(flatten)]
    pub(crate) format: Format,
    /// Only those of this pod: its name, or namespace/name
    #[arg(long, value_name = "POD")]
    pub(crate) pod: Option<String>,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DropsOptions {
    #[command(flatten)]
    pub(crate) format: Format,
    /// Show reasons that nothing was dropped for, too
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Raises a lab
    Up(LabUp),
    /// Runs a command in a pod, or on a node
    Exec(LabExec),
    /// Lists the lab's nodes and pods
    Status(Format),
    /// Takes the lab down, or what is left of one
    Down,
}

#[derive(Debug, Args)]
pub(crate) struct LabUp {
    /// Number of nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_NODES)))]
    pub(crate) nodes: u8,
    /// Number of pods on each node
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(..=i64::from(MAX_PODS_PER_NODE)))]
    pub(crate) pods: u16,
    /// How pods are attached; a pod's annotation heddle.io/attach in DIR overrides it [default: the switch's own]
    #[arg(long, value_parser = attach_mode(), hide_possible_values = true, value_name = "direct|cached")]
    pub(crate) mode: Option<AttachMode>,
    /// Use IPv6 between the nodes; pods always have both families
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// Worker threads of each switch
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: u16,
    /// Directory of Kubernetes manifests that each node's heddle-agent watches; without it the lab makes an empty one
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: Option<PathBuf>,
}

fn attach_mode() -> impl TypedValueParser<Value = AttachMode> {
    PossibleValuesParser::new(AttachMode::ALL.map(AttachMode::name))
        .try_map(|name| name.parse::<AttachMode>())
}

#[derive(Debug, Args)]
pub(crate) struct LabExec {
    /// The pod, such as n1p1; a node, such as n1, will do as well
    pub(crate) pod: String,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[cfg(test)]
mod tests {
    //! The grammar is consistent, and lines from the documentation parse.
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn grammar_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn documented_lines_parse() {
        for line in [
            "heddle --node n1 fib",
            "heddle --socket /run/x.sock status -o json",
            "heddle drops --node n2 --all",
            "heddle flows --pod default/n1p1 -o json",
            "heddle lab up --nodes 2 --pods 2 --mode direct --ipv6",
            "heddle lab up --mode cached",
            "heddle lab up --manifests policies",
            "heddle lab exec n1p1 -- ping -c3 10.244.2.2",
            "heddle lab status -o json",
            "heddle lab down",
            "heddle demo",
            "heddle install",
            "heddle install --bin-dir /host/opt/cni/bin --conf-dir /host/etc/cni/net.d --chain portmap,bandwidth",
            "heddle install --conf-name 00-heddle.conflist --socket /run/x.sock --state-dir /s -o json",
            "heddle uninstall --force",
            "heddle cleanup -o json",
            "heddle cleanup --config /etc/heddle/switch.toml --keep-forwarding",
            "heddle policy check manifests",
            "heddle policy explain --from default/n1p1 --to default/n2p1 --port tcp/80",
            "heddle policy explain --manifests d --from a/b --to 10.0.0.1 --port tcp/80",
            "heddle policy conformance cases.json -o json",
        ] {
            Arguments::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "heddle",
            "heddle --socket a --node n1 fib",
            "heddle lab up --nodes 17",
            "heddle lab up --nodes 0",
            "heddle lab up --pods 101",
            "heddle lab up --mode fast",
            "heddle lab exec n1p1",
            "heddle install --conf-name /etc/10-heddle.conflist",
            "heddle install --conf-name heddle.txt",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
