//! A node's switch: its files, its start, and waiting until it answers.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use heddle_netdev::Netns;
use ipnet::IpNet;
use serde::Serialize;

use crate::control::Control;
use crate::names::Name;
use crate::namespace::Namespace;
use crate::observer::Observer;
use crate::process::Process;
use crate::ready::poll;
use crate::spec::{AttachMode, LabSpec, Underlay, VNI, VXLAN_PORT};

/// How long a switch may take until it answers.
const START: Duration = Duration::from_secs(15);
/// Lines of its log that are shown when it does not.
const LOG_LINES: usize = 8;
/// The node's interface on the wire.
pub(crate) const UPLINK: &str = "eth0";

/// The files of a node, all in one directory.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) config: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) agent_log: PathBuf,
    pub(crate) bpffs: PathBuf,
    pub(crate) state: PathBuf,
}

impl Files {
    pub(crate) fn of(lab_dir: &Path, node: Name) -> Self {
        let dir = lab_dir.join(node.to_string());
        Self {
            config: dir.join("switch.toml"),
            socket: dir.join("switch.sock"),
            log: dir.join("switch.log"),
            agent_log: dir.join("agent.log"),
            bpffs: dir.join("bpf"),
            state: dir.join("lib"),
        }
    }

    /// Makes the directories and mounts a BPF file system of the node's own.
    pub(crate) fn prepare(&self) -> Result<()> {
        for dir in [&self.bpffs, &self.state] {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let flags =
            nix::mount::MsFlags::MS_NOSUID | nix::mount::MsFlags::MS_NODEV | nix::mount::MsFlags::MS_NOEXEC;
        nix::mount::mount(Some("bpf"), &self.bpffs, Some("bpf"), flags, None::<&str>)
            .with_context(|| format!("cannot mount a BPF file system on {}", self.bpffs.display()))
    }
}

/// Writes the configuration and starts the switch of node `number`, in a session of its own, so that it lives on when
/// the terminal is gone.
pub(crate) fn start(binary: &Path, spec: &LabSpec, number: u8, files: &Files) -> Result<Process> {
    let node = Name::Node(number);
    let configuration = toml::to_string(&Configuration::new(spec, number, files))?;
    std::fs::write(&files.config, configuration)?;
    // Not a process group's leader, being a fresh child, setsid(1) makes the session and becomes the switch: same pid.
    let mut command = Command::new("setsid");
    command.arg(binary).arg("--config").arg(&files.config);
    spawn(command, node, &files.log)
}

/// Starts a program on a node; what it says goes into a file.
pub(crate) fn spawn(mut command: Command, node: Name, log: &Path) -> Result<Process> {
    let log = File::create(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = Netns::open(Namespace::of(node).path())?.spawn(&mut command)?;
    Process::of_pid(child.id())
}

/// Waits until the switch answers on its socket.
pub(crate) fn wait_ready(process: Process, files: &Files, observer: &dyn Observer) -> Result<Control> {
    poll(START, observer, |late| {
        let answer = Control::connect(&files.socket).and_then(|mut control| {
            control.describe()?;
            Ok(control)
        });
        match answer {
            Ok(control) => Ok(Some(control)),
            Err(_) if !process.is_alive() => {
                bail!("heddle-switch ended at once; its log says:\n{}", tail(&files.log))
            }
            Err(error) if late => {
                bail!("heddle-switch does not answer: {error:#}; its log says:\n{}", tail(&files.log));
            }
            Err(_) => Ok(None),
        }
    })
}

/// As `heddle-switch --config` reads it.
#[derive(Serialize)]
struct Configuration<'a> {
    node: Name,
    socket: &'a Path,
    bpffs: &'a Path,
    state_dir: &'a Path,
    pod_cidrs: [IpNet; 2],
    cluster_cidrs: [IpNet; 2],
    policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach: Option<AttachMode>,
    uplink: Uplink,
    workers: Workers,
}

#[derive(Serialize)]
struct Uplink {
    interface: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(flatten)]
    overlay: Option<Overlay>,
}

#[derive(Serialize)]
struct Overlay {
    vni: u32,
    port: u16,
    underlay: Underlay,
}

#[derive(Serialize)]
struct Workers {
    count: u16,
}

impl<'a> Configuration<'a> {
    fn new(spec: &LabSpec, number: u8, files: &'a Files) -> Self {
        Self {
            node: Name::Node(number),
            socket: &files.socket,
            bpffs: &files.bpffs,
            state_dir: &files.state,
            pod_cidrs: spec.pod_cidrs(number),
            cluster_cidrs: spec.cluster_cidrs(),
            policy: "enforced",
            attach: spec.mode,
            uplink: Uplink {
                interface: UPLINK,
                mode: spec.routed.then_some("routed"),
                overlay: (!spec.routed).then_some(Overlay {
                    vni: VNI,
                    port: VXLAN_PORT,
                    underlay: spec.underlay,
                }),
            },
            workers: Workers { count: spec.workers },
        }
    }
}

/// The last lines of a file, indented.
pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let mut tail = String::new();
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        let _ = writeln!(tail, "  {line}");
    }
    if tail.is_empty() { "  (nothing)".to_owned() } else { tail.trim_end().to_owned() }
}
