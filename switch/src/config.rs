//! The daemon's configuration file: TOML, checked whole before anything is touched.
//!
//! Every mistake is reported in one go, each with its key and what to write instead. A key the switch does not know is a
//! mistake too: a misspelt setting must not silently mean its default.

mod rules;
mod section;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

pub(crate) use rules::{MAX_MTU, MIN_MTU};
use section::Section;

use crate::tables::AttachMode;

/// All settings, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the node, unique in the cluster.
    pub node: String,
    /// Where the control socket listens.
    pub socket: PathBuf,
    /// Directory of the BPF file system that programs, maps and links are pinned in.
    pub bpffs: PathBuf,
    /// What outlives the daemon is kept below this directory.
    pub state_dir: PathBuf,
    /// Prefixes this node's pods have their addresses from.
    pub pod_cidrs: Vec<IpNet>,
    /// Prefixes all pods of the cluster have their addresses from; contain `pod_cidrs`.
    pub cluster_cidrs: Vec<IpNet>,
    /// Whether packets of pods to outside the cluster get the node's address.
    pub masquerade: bool,
    /// Whether connections of pods are judged by network policies.
    pub policy: PolicyMode,
    /// How pods are attached that do not say otherwise, and the host's own port.
    pub attach: AttachMode,
    /// The kernel's map of judged flows.
    pub flow_cache: FlowCacheConfig,
    /// Pod MTU, where it is not to follow from the uplink's.
    pub mtu: Option<u16>,
    /// The way to other nodes, if there is one.
    pub uplink: Option<UplinkConfig>,
    /// The threads that move packets.
    pub workers: WorkersConfig,
    /// The packet memory.
    pub frames: FramesConfig,
}

/// Whether connections of pods are judged by network policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyMode {
    /// An endpoint is closed until a policy image names it.
    Enforced,
    /// Everything is allowed.
    Off,
}

impl PolicyMode {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Off => "off",
        }
    }
}

/// Section `[uplink]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkConfig {
    /// The NIC. It stays with Linux; only the overlay's packets are taken from it.
    pub interface: String,
    /// How pods reach what is beyond the node.
    pub mode: UplinkMode,
    /// The overlay's identifier (RFC 7348).
    pub vni: u32,
    /// UDP port of the overlay.
    pub port: u16,
    /// Family of the outer addresses; `None` means IPv4 where the interface has such an address, else IPv6.
    pub underlay: Option<Family>,
}

/// How pods reach what is beyond the node, and are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UplinkMode {
    /// Other nodes by a tunnel; the world by the node's address.
    Overlay,
    /// By addresses of the uplink's own network, which the node answers for. Nothing is encapsulated.
    Routed,
}

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// The version of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

/// Section `[workers]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkersConfig {
    /// Number of threads.
    pub count: u16,
    /// The core of each, by index; empty lets them float.
    pub cores: Vec<usize>,
    /// What they do when there is no work.
    pub polling: Polling,
    /// Connections each of them remembers at most.
    pub connections: u32,
}

/// What a worker does when there is no work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polling {
    /// Spin for a short while, then sleep in the kernel.
    Adaptive,
    /// Never sleep; for cores set aside.
    Busy,
}

impl Polling {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Busy => "busy",
        }
    }
}

/// Section `[flow_cache]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowCacheConfig {
    /// Flows it holds at most; a connection is two.
    pub flows: u32,
}

/// Section `[frames]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramesConfig {
    /// Number of frames of the whole switch.
    pub count: u32,
    /// Bytes of each.
    pub size: u32,
}

/// What is wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {error}; name the configuration file with --config", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// It is not TOML.
    #[error("{}:{line}: {message}; the file has to be TOML", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// Values are wrong: one line each, all of them.
    #[error("{}", list(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, in the order of the settings.
        problems: Vec<Problem>,
    },
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting, with its section.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

fn list(path: &Path, problems: &[Problem]) -> String {
    let line = |problem: &Problem| format!("{}: {}: {}", path.display(), problem.key, problem.message);
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let table = text.parse::<toml::Table>().map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| text[..span.start].lines().count().max(1)),
            message: error.message().replace('\n', " "),
        })?;
        let mut problems = Vec::new();
        let mut top = Section::new("", table, &mut problems);
        let config = Self::read(&mut top);
        top.refuse_unknown();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigError::Invalid { path: path.to_owned(), problems }),
        }
    }

    /// All settings, or `None` when a required one is missing, which the section has noted then.
    fn read(top: &mut Section<'_>) -> Option<Self> {
        let node = top.required("node", rules::node_name);
        let socket = top.get("socket", rules::socket_path);
        let bpffs = top.get("bpffs", rules::absolute_path);
        let state_dir = top.get("state_dir", rules::absolute_path);
        let pod_cidrs = top.required("pod_cidrs", rules::cidrs);
        let cluster_cidrs = top.get("cluster_cidrs", rules::cidrs);
        if let (Some(pods), Some(cluster)) = (&pod_cidrs, &cluster_cidrs) {
            for problem in rules::pods_outside_cluster(pods, cluster) {
                top.note("cluster_cidrs", problem);
            }
        }
        let masquerade = top.get("masquerade", section::boolean);
        let modes = [("enforced", PolicyMode::Enforced), ("off", PolicyMode::Off)];
        let policy = top.get("policy", |value| section::one_of(value, &modes));
        let modes = AttachMode::ALL.map(|mode| (mode.name(), mode));
        let attach = top.get("attach", |value| section::one_of(value, &modes));
        let flow_cache = FlowCacheConfig::read(top.section("flow_cache"));
        let mtu = top.get("mtu", |value| section::integer(value, rules::MIN_MTU..=rules::MAX_MTU));
        let uplink = top.section("uplink").map(UplinkConfig::read);
        let workers = WorkersConfig::read(top.section("workers"));
        let frames = FramesConfig::read(top.section("frames"));
        let pod_cidrs = pod_cidrs?;
        Some(Self {
            node: node?,
            socket: socket.unwrap_or_else(|| heddle_api::DEFAULT_SOCKET.into()),
            bpffs: bpffs.unwrap_or_else(|| "/sys/fs/bpf/heddle".into()),
            state_dir: state_dir.unwrap_or_else(|| "/var/lib/heddle".into()),
            cluster_cidrs: cluster_cidrs.unwrap_or_else(|| pod_cidrs.clone()),
            pod_cidrs,
            masquerade: masquerade.unwrap_or(true),
            // Whoever says nothing about policy must not get none.
            policy: policy.unwrap_or(PolicyMode::Enforced),
            // docs/adr/0011-cached-by-default.md
            attach: attach.unwrap_or(AttachMode::Cached),
            flow_cache,
            mtu,
            uplink: uplink.flatten(),
            workers,
            frames,
        })
    }
}

impl UplinkConfig {
    fn read(mut section: Section<'_>) -> Option<Self> {
        let interface = section.required("interface", rules::interface_name);
        let vni = section.get("vni", |value| section::integer(value, 1..=0x00ff_ffff));
        let port = section.get("port", |value| section::integer(value, 1..=u16::MAX));
        let underlay = section.get("underlay", |value| {
            section::one_of(value, &[("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)])
        });
        let modes = [("overlay", UplinkMode::Overlay), ("routed", UplinkMode::Routed)];
        let mode = section.get("mode", |value| section::one_of(value, &modes)).unwrap_or(UplinkMode::Overlay);
        if mode == UplinkMode::Routed {
            for (key, set) in
                [("vni", vni.is_some()), ("port", port.is_some()), ("underlay", underlay.is_some())]
            {
                if set {
                    let problem = "is the overlay's; leave it out with mode = \"routed\"".to_owned();
                    section.note(key, problem);
                }
            }
        }
        section.refuse_unknown();
        // 4789 is IANA's port for VXLAN (RFC 7348, section 8).
        Some(Self {
            interface: interface?,
            mode,
            vni: vni.unwrap_or(1),
            port: port.unwrap_or(4789),
            underlay,
        })
    }
}

impl WorkersConfig {
    const MAX_COUNT: u16 = 64;
    /// 18 MB a worker; as many as Linux remembers on a node of 8 GB (`nf_conntrack_max`, nf_conntrack-sysctl.rst).
    const CONNECTIONS: u32 = 1 << 17;
    const MAX_CONNECTIONS: u32 = 1 << 24;

    fn read(section: Option<Section<'_>>) -> Self {
        let mut config =
            Self { count: 1, cores: Vec::new(), polling: Polling::Adaptive, connections: Self::CONNECTIONS };
        let Some(mut section) = section else { return config };
        if let Some(count) = section.get("count", |value| section::integer(value, 1..=Self::MAX_COUNT)) {
            config.count = count;
        }
        let count = config.count;
        config.cores = section.get("cores", |value| rules::cores(value, count)).unwrap_or_default();
        let polling = [("adaptive", Polling::Adaptive), ("busy", Polling::Busy)];
        config.polling =
            section.get("polling", |value| section::one_of(value, &polling)).unwrap_or(Polling::Adaptive);
        if let Some(connections) =
            section.get("connections", |value| section::integer(value, 1..=Self::MAX_CONNECTIONS))
        {
            config.connections = connections;
        }
        section.refuse_unknown();
        config
    }
}

impl FlowCacheConfig {
    /// 200 bytes each, so 26 MB.
    const FLOWS: u32 = 1 << 17;
    const MAX_FLOWS: u32 = 1 << 24;

    fn read(section: Option<Section<'_>>) -> Self {
        let mut config = Self { flows: Self::FLOWS };
        let Some(mut section) = section else { return config };
        if let Some(flows) = section.get("flows", |value| section::integer(value, 1..=Self::MAX_FLOWS)) {
            config.flows = flows;
        }
        section.refuse_unknown();
        config
    }
}

impl FramesConfig {
    /// Fewer cannot even fill one port's rings.
    const MIN_COUNT: u32 = 1024;

    fn read(section: Option<Section<'_>>) -> Self {
        let mut config = Self { count: 16384, size: 2048 };
        let Some(mut section) = section else { return config };
        let counts = Self::MIN_COUNT..=heddle_xsk::Arena::MAX_FRAMES;
        if let Some(count) = section.get("count", |value| section::integer(value, counts)) {
            config.count = count;
        }
        if let Some(size) = section.get("size", rules::frame_size) {
            config.size = size;
        }
        section.refuse_unknown();
        config
    }
}

#[cfg(test)]
mod tests;
