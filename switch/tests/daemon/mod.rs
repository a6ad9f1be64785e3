//! A real `heddle-switch` in network namespaces of its own, taken down whatever happens.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use heddle_api as api;
use heddle_netdev::Netns;
use heddle_netdev::ethtool::{Offload, set_offload};

/// Runs a command line; panics with its output when it fails.
pub fn sh(line: &str) -> String {
    let output = try_sh(line);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Runs a command line.
pub fn try_sh(line: &str) -> Output {
    let mut words = line.split_whitespace();
    Command::new(words.next().unwrap()).args(words).output().unwrap()
}

/// Whether a ping from namespace `from` is answered. Patient: the machine may be busy.
pub fn pings(from: &str, to: &str) -> bool {
    answers_within(from, to, 10)
}

/// As [`pings`], for those who do not expect an answer.
pub fn answers_within(from: &str, to: &str, seconds: u32) -> bool {
    try_sh(&format!("ip netns exec {from} ping -n -c 1 -W {seconds} {to}")).status.success()
}

/// A node's namespace with an uplink veth, its pods' namespaces, a BPF file system and a directory.
pub struct Node {
    pub name: String,
    pub directory: tempfile::TempDir,
}

impl Node {
    /// `tag` tells the namespaces of this binary's tests apart, the process ID those of several runs.
    pub fn new(tag: &str) -> Self {
        remove_orphans();
        let name = format!("daemon-{}-{tag}", std::process::id());
        let node = Self { name, directory: tempfile::tempdir().unwrap() };
        let name = &node.name;
        sh(&format!("ip netns add {name}"));
        sh(&format!("ip -n {name} link set lo up"));
        sh(&format!("ip -n {name} link add eth0 type veth peer name wire0"));
        sh(&format!("ip -n {name} link set wire0 up"));
        sh(&format!("ip -n {name} link set eth0 up"));
        sh(&format!("ip -n {name} addr add 172.31.9.1/24 dev eth0"));
        sh(&format!("ip -n {name} addr add fd00:172:31:9::1/64 dev eth0 nodad"));
        let bpf = node.path("bpf");
        std::fs::create_dir(&bpf).unwrap();
        sh(&format!("mount -t bpf bpf {}", bpf.display()));
        node
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The settings of a good configuration, sections left out.
    pub fn settings(&self) -> String {
        let directory = self.directory.path().display();
        format!(
            "node = \"{}\"\nsocket = \"{directory}/switch.sock\"\nbpffs = \"{directory}/bpf/heddle\"\n\
             state_dir = \"{directory}/lib\"\npod_cidrs = [\"10.244.9.0/24\", \"fd00:10:244:9::/64\"]\n\
             cluster_cidrs = [\"10.244.0.0/16\", \"fd00:10:244::/48\"]\npolicy = \"off\"\n",
            self.name
        )
    }

    /// Writes a configuration and returns the command that runs the daemon with it.
    pub fn command(&self, config: &str, before: &str) -> Command {
        let file = self.path("switch.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(before.split_whitespace());
        command.arg(env!("CARGO_BIN_EXE_heddle-switch")).arg("--config").arg(file);
        command
    }

    /// The namespace of pod N.
    pub fn pod(&self, n: u32) -> String {
        format!("{}-p{n}", self.name)
    }

    /// A veth into a fresh namespace of pod N, one digit, with addresses `10.244.9.N` and `fd00:10:244:9::N`.
    pub fn add_pod_interface(&self, n: u32) -> api::AddEndpointRequest {
        let (name, pod) = (&self.name, &self.pod(n));
        sh(&format!("ip netns add {pod}"));
        let inside = format!("pod{n}");
        sh(&format!(
            "ip -n {name} link add veth{n} mtu 1450 type veth peer name {inside} netns {pod} mtu 1450"
        ));
        sh(&format!("ip -n {pod} link set {inside} address 02:00:00:00:09:0{n}"));
        sh(&format!("ip -n {pod} link set {inside} up"));
        sh(&format!("ip -n {pod} addr add 10.244.9.{n}/32 dev {inside}"));
        sh(&format!("ip -n {pod} addr add fd00:10:244:9::{n}/128 dev {inside} nodad"));
        sh(&format!("ip -n {pod} route add 169.254.1.1 dev {inside} scope link"));
        sh(&format!("ip -n {pod} route add default via 169.254.1.1 dev {inside}"));
        sh(&format!("ip -n {pod} -6 route add default via fe80::1 dev {inside}"));
        let netns = Netns::open(Path::new("/run/netns").join(pod)).unwrap();
        netns.run(move || set_offload(&inside, Offload::TxChecksum, false)).unwrap().unwrap();
        api::AddEndpointRequest {
            id: format!("container{n}/eth0"),
            host_interface: format!("veth{n}"),
            mac: format!("02:00:00:00:09:0{n}"),
            addresses: vec![format!("10.244.9.{n}"), format!("fd00:10:244:9::{n}")],
            ..api::AddEndpointRequest::default()
        }
    }

    fn remove_namespaces(&self) {
        for name in (0..10).map(|n| self.pod(n)).chain([self.name.clone()]) {
            if Path::new("/run/netns").join(&name).exists() {
                let _ = try_sh(&format!("ip netns del {name}"));
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.remove_namespaces();
        let _ = try_sh(&format!("umount {}", self.path("bpf").display()));
    }
}

/// Removes the namespaces of runs that were killed.
fn remove_orphans() {
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let run = name.strip_prefix("daemon-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if run.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = try_sh(&format!("ip netns del {name}"));
        }
    }
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    pub client: api::Client,
    log: PathBuf,
}

impl Daemon {
    /// Starts it and waits until it answers.
    pub async fn start(node: &Node, config: &str) -> Self {
        let log = node.path("switch.log");
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut child = node.command(config, "").stderr(Stdio::from(file)).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let connected = api::connect(&node.path("switch.sock"), Duration::from_secs(10)).await;
            if let Ok(mut client) = connected
                && client.describe(api::DescribeRequest {}).await.is_ok()
            {
                return Self { child, client, log };
            }
            let log = || std::fs::read_to_string(&log).unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the daemon ended with {status}:\n{}", log());
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("the daemon does not answer:\n{}", log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Sends a signal and waits for the end; returns the exit code.
    pub fn end(mut self, signal: &str) -> Option<i32> {
        sh(&format!("kill -{signal} {}", self.child.id()));
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "SIG{signal} does not end it:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
