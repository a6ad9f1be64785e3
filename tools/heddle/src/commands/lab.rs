//! `heddle lab`.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use heddle_netlab::{Lab, LabSpec, Name, Namespace, Process, State, Underlay, take_down_any};
use heddle_policy::check::check_dir;
use serde::Serialize;

use crate::args::{LabCommand, LabExec, LabUp, Output};
use crate::output::{align_right, print, print_json, table};
use crate::progress::Progress;

/// What a shell answers when it cannot run a command (POSIX, 2.8.2).
const CANNOT_RUN: u8 = 127;

pub(super) fn run(command: LabCommand) -> Result<ExitCode> {
    match command {
        LabCommand::Up(options) => up(&options)?,
        LabCommand::Exec(options) => return exec(&options),
        LabCommand::Status(format) => status(format.output)?,
        LabCommand::Down => down()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(options: &LabUp) -> Result<()> {
    if let Some(dir) = &options.manifests {
        // The agents tell their logs; who raises the lab should not have to look there.
        for finding in check_dir(dir).with_context(|| "--manifests")?.findings {
            eprintln!("warning: {finding}");
        }
    }
    let underlay = if options.ipv6 { Underlay::Ipv6 } else { Underlay::Ipv4 };
    let spec = LabSpec {
        underlay,
        workers: options.workers,
        manifests: options.manifests.clone(),
        mode: options.mode,
        ..LabSpec::new(options.nodes, options.pods)
    };
    let mut progress = Progress::new()?;
    let raised = Lab::up(&spec, &mut progress);
    progress.done();
    let lab = raised?;
    let state = lab.state();
    lab.keep()?;
    print_status(&state)?;
    if let Some(pod) = state.pods.first() {
        print(format!(
            "\ntry: heddle lab exec {} -- ping -c3 {}",
            pod.name,
            state.pods[state.pods.len() - 1].addresses[0]
        ))?;
    }
    Ok(())
}

fn down() -> Result<()> {
    let mut progress = Progress::new()?;
    let found = take_down_any(&mut progress);
    progress.done();
    print(if found? { "the lab is down" } else { "no lab was up" })
}

/// Becomes the command, so that its input, output, signals and exit code are the caller's.
fn exec(options: &LabExec) -> Result<ExitCode> {
    let state = State::current()?;
    let name: Name = options.pod.parse()?;
    match name {
        Name::Pod(..) => drop(state.pod(name)?),
        Name::Node(_) => drop(state.node(name)?),
        Name::Wire | Name::Peer(_) => {}
    }
    let Some((program, arguments)) = options.command.split_first() else { bail!("no command") };
    let error = Namespace::of(name).run_in_place(Command::new(program).args(arguments))?;
    eprintln!("error: cannot run {program} in {name}: {error}");
    Ok(ExitCode::from(CANNOT_RUN))
}

/// A node with what its record does not know.
#[derive(Debug, Serialize)]
struct Node<'a> {
    #[serde(flatten)]
    state: &'a heddle_netlab::NodeState,
    running: bool,
    agent_running: bool,
}

#[derive(Debug, Serialize)]
struct Status<'a> {
    spec: &'a LabSpec,
    manifests: &'a Path,
    nodes: Vec<Node<'a>>,
    pods: &'a [heddle_netlab::PodState],
}

fn status(output: Output) -> Result<()> {
    let state = State::current()?;
    if output == Output::Table {
        return print_status(&state);
    }
    let node = |state| Node { state, running: state.switch.is_alive(), agent_running: agent_runs(state) };
    let nodes = state.nodes.iter().map(node).collect();
    print_json(&Status { spec: &state.spec, manifests: &state.manifests, nodes, pods: &state.pods })
}

fn agent_runs(node: &heddle_netlab::NodeState) -> bool {
    node.agent.is_some_and(Process::is_alive)
}

fn print_status(state: &State) -> Result<()> {
    let mut nodes = table(&["node", "namespace", "addresses", "pods from", "mode", "switch", "agent"]);
    for node in &state.nodes {
        let running = |is: bool| if is { "running" } else { "not running" };
        nodes.add_row([
            node.name.to_string(),
            node.namespace.clone(),
            lines(&node.addresses),
            lines(&node.pod_cidrs),
            node.attach_mode.map_or_else(|| "?".to_owned(), |mode| mode.to_string()),
            format!("{}\npid {}", running(node.switch.is_alive()), node.switch.pid),
            format!("{}\npid {}", running(agent_runs(node)), node.agent.map_or(0, |agent| agent.pid)),
        ]);
    }
    print(nodes)?;
    print(format!("policies: put manifests into {}", state.manifests.display()))?;
    if state.pods.is_empty() {
        return Ok(());
    }
    print("")?;
    let mut pods = table(&["pod", "namespace", "addresses", "mac", "host interface", "mode", "mtu"]);
    for pod in &state.pods {
        pods.add_row([
            format!("{}/{}", pod.pod_namespace, pod.name),
            pod.namespace.clone(),
            lines(&pod.addresses),
            pod.mac.clone(),
            pod.host_interface.clone(),
            pod.attach_mode.to_string(),
            pod.mtu.to_string(),
        ]);
    }
    align_right(&mut pods, &[6]);
    print(pods)
}

fn lines<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
