//! Open vSwitch in userspace with AF_XDP ports: its own database and daemon, with every file in a directory of ours, so that
//! an Open vSwitch of the machine's is neither used nor disturbed.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use heddle_netdev::ethtool::Offload;
use heddle_netdev::{Netns, VethEnd};
use heddle_netlab::{Interrupt, Process};
use ipnet::IpNet;
use rustix::process::Signal;

use super::System;
use crate::system::ground::{Ground, create_namespace, in_namespace, namespace_name, switch_off};
use crate::system::place::Place;
use crate::system::scenario::{Reach, SystemName};

/// Where Debian's openvswitch-common has the database's shape.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const BRIDGE: &str = "br0";
/// How the sockets are attached, the best first; which one it became is in the report. Zero-copy is not for veth.
const XDP_MODES: [&str; 2] = ["native", "best-effort"];
/// How long the daemons may take to answer.
const START: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Ovs {
    pods: [Place; 2],
    switch: Process,
    xdp_mode: &'static str,
}

/// Its files, and calling its programs.
#[derive(Debug)]
struct Control {
    node: Netns,
    dir: PathBuf,
}

impl Ovs {
    pub(crate) fn raise(ground: &Ground, interrupt: &Interrupt) -> Result<Self> {
        let control = Control { node: create_namespace("ovs")?, dir: ground.directory("ovs")? };
        let pods = [connect_pod(&control.node, 1)?, connect_pod(&control.node, 2)?];
        control.run("ovsdb-tool", &["create", &control.file("conf.db"), SCHEMA])?;
        let remote = format!("--remote=punix:{}", control.file("db.sock"));
        control.start("ovsdb-server", &[&control.file("conf.db"), &remote])?;
        control.await_file("db.sock", interrupt)?;
        control.vsctl(&["--no-wait", "init"])?;
        let option = format!("other_config:pmd-cpu-mask={}", pmd_cores());
        control.vsctl(&["--no-wait", "set", "Open_vSwitch", ".", &option])?;
        let switch = control.start("ovs-vswitchd", &[&control.database()])?;
        control.vsctl(&["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"])?;
        let xdp_mode = control.add_ports().with_context(|| control.last_words("ovs-vswitchd"))?;
        let mut ovs = Self { pods, switch, xdp_mode };
        ovs.rest()?;
        Ok(ovs)
    }
}

/// The poll-mode thread's core: the second one, where there are two.
fn pmd_cores() -> &'static str {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) { "0x2" } else { "0x1" }
}

fn host_interface(pod: u8) -> String {
    format!("pod{pod}")
}

/// A pod's namespace and its veth. AF_XDP hands packets on as they are, so their checksums have to be complete, as OVS's own
/// manual for AF_XDP says of veth ports.
fn connect_pod(node: &Netns, pod: u8) -> Result<Place> {
    let name = format!("ovs-p{pod}");
    let netns = create_namespace(&name)?;
    let addresses = [
        IpNet::new(IpAddr::V4(Ipv4Addr::new(10, 247, 0, pod)), 24)?,
        IpNet::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x247, 0, 0, 0, 0, u16::from(pod))), 64)?,
    ];
    in_namespace(node, async |netlink| {
        let host = host_interface(pod);
        let near = VethEnd { up: true, ..VethEnd::named(&host) };
        let far = VethEnd { up: true, netns: Some(&netns), ..VethEnd::named("eth0") };
        Ok(netlink.create_veth(near, far).await?)
    })?;
    in_namespace(&netns, async |netlink| {
        let eth0 = netlink.link("eth0").await?;
        for address in addresses {
            netlink.add_address(&eth0, address).await?;
        }
        Ok(())
    })?;
    switch_off(&netns, "eth0", &[Offload::TxChecksum])?;
    Ok(Place::named(&namespace_name(&name), addresses.map(|address| address.addr()).to_vec()))
}

impl Control {
    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn database(&self) -> String {
        format!("unix:{}", self.file("db.sock"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, &self.dir);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Starts a daemon in the node's namespace, in a session of its own, where Ctrl-C does not reach it.
    fn start(&self, program: &str, arguments: &[&str]) -> Result<Process> {
        let log = File::create(self.dir.join(format!("{program}.log")))?;
        let mut command = self.command("setsid");
        command.arg(program).args(arguments);
        command.arg(format!("--unixctl={}", self.file(&format!("{program}.ctl"))));
        command.arg(format!("--pidfile={}", self.file(&format!("{program}.pid"))));
        command.stdout(log.try_clone()?).stderr(log);
        // Not a process group's leader, being a fresh child, setsid(1) becomes the daemon: same pid.
        Process::of_pid(self.node.spawn(&mut command)?.id())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self
            .node
            .spawn(self.command(program).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let output = output.wait_with_output()?;
        ensure!(
            output.status.success(),
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Waits until the switch has done what it is told, unless the arguments say otherwise.
    fn vsctl(&self, arguments: &[&str]) -> Result<String> {
        let (database, timeout) =
            (format!("--db={}", self.database()), format!("--timeout={}", START.as_secs()));
        self.run("ovs-vsctl", &[&[database.as_str(), &timeout], arguments].concat())
    }

    fn await_file(&self, name: &str, interrupt: &Interrupt) -> Result<()> {
        let deadline = Instant::now() + START;
        while !self.dir.join(name).exists() {
            interrupt.check()?;
            ensure!(Instant::now() < deadline, "{}", self.last_words("ovsdb-server"));
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Connects the pods in the best mode that works, and says which it was.
    fn add_ports(&self) -> Result<&'static str> {
        for mode in XDP_MODES {
            let mut error = String::new();
            for interface in [1, 2].map(host_interface) {
                let option = format!("options:xdp-mode={mode}");
                let port =
                    ["--may-exist", "add-port", BRIDGE, &interface, "--", "set", "interface", &interface];
                self.vsctl(&[&port[..], &["type=afxdp", "options:n_rxq=1", &option]].concat())?;
                error +=
                    self.vsctl(&["get", "interface", &interface, "error"])?.trim_matches(['[', ']', '"']);
            }
            if error.is_empty() {
                return Ok(mode);
            }
        }
        bail!("Open vSwitch attaches no AF_XDP socket to a veth, in no mode");
    }

    /// The end of a daemon's log.
    fn last_words(&self, program: &str) -> String {
        let log =
            std::fs::read_to_string(Path::new(&self.dir).join(format!("{program}.log"))).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        format!(
            "{program} does not work; its log ends: {}",
            lines[lines.len().saturating_sub(5)..].join(" | ")
        )
    }
}

impl System for Ovs {
    fn name(&self) -> SystemName {
        SystemName::Ovs
    }

    fn ends(&self, reach: Reach) -> Option<[&Place; 2]> {
        (reach == Reach::SameNode).then(|| self.pods.each_ref())
    }

    fn wake(&mut self) -> Result<()> {
        ensure!(self.switch.signal(Signal::CONT)?, "ovs-vswitchd has died");
        Ok(())
    }

    /// Its poll-mode thread spins for ever, so it is stopped while others are measured.
    fn rest(&mut self) -> Result<()> {
        ensure!(self.switch.signal(Signal::STOP)?, "ovs-vswitchd has died");
        Ok(())
    }

    fn facts(&self) -> Vec<String> {
        vec![format!(
            "AF_XDP ports in mode '{}', one poll-mode thread on core mask {}",
            self.xdp_mode,
            pmd_cores()
        )]
    }
}
