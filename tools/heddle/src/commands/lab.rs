//! `heddle lab`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};
use heddle_netlab::{Lab, LabSpec, Name, Namespace, State, Underlay, check_mode, take_down_any};
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
    check_mode(&options.mode)?;
    if let Some(dir) = &options.manifests {
        bail!(
            "--manifests {}: this version applies no manifests yet, because it has no policy yet",
            dir.display()
        );
    }
    let underlay = if options.ipv6 { Underlay::Ipv6 } else { Underlay::Ipv4 };
    let spec = LabSpec { underlay, workers: options.workers, ..LabSpec::new(options.nodes, options.pods) };
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
    // The thread that enters the namespace is the one that becomes the command, and the others end with that.
    let error = Namespace::of(name).run(|| Command::new(program).args(arguments).exec())?;
    eprintln!("error: cannot run {program} in {name}: {error}");
    Ok(ExitCode::from(CANNOT_RUN))
}

/// A node with what its record does not know.
#[derive(Debug, Serialize)]
struct Node<'a> {
    #[serde(flatten)]
    state: &'a heddle_netlab::NodeState,
    running: bool,
}

#[derive(Debug, Serialize)]
struct Status<'a> {
    spec: &'a LabSpec,
    nodes: Vec<Node<'a>>,
    pods: &'a [heddle_netlab::PodState],
}

fn status(output: Output) -> Result<()> {
    let state = State::current()?;
    if output == Output::Table {
        return print_status(&state);
    }
    let nodes = state.nodes.iter().map(|state| Node { state, running: state.switch.is_alive() }).collect();
    print_json(&Status { spec: &state.spec, nodes, pods: &state.pods })
}

fn print_status(state: &State) -> Result<()> {
    let mut nodes = table(&["node", "namespace", "addresses", "pods from", "switch"]);
    for node in &state.nodes {
        let running = if node.switch.is_alive() { "running" } else { "not running" };
        nodes.add_row([
            node.name.to_string(),
            node.namespace.clone(),
            lines(&node.addresses),
            lines(&node.pod_cidrs),
            format!("{running}\npid {}", node.switch.pid),
        ]);
    }
    print(nodes)?;
    if state.pods.is_empty() {
        return Ok(());
    }
    print("")?;
    let mut pods = table(&["pod", "namespace", "addresses", "mac", "host interface", "mtu"]);
    for pod in &state.pods {
        pods.add_row([
            pod.name.to_string(),
            pod.namespace.clone(),
            lines(&pod.addresses),
            pod.mac.clone(),
            pod.host_interface.clone(),
            pod.mtu.to_string(),
        ]);
    }
    align_right(&mut pods, &[5]);
    print(pods)
}

fn lines<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
