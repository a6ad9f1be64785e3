//! What is known of a lab that is up, in `/run/heddle-lab/state.json`.

use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::manifests::Directories;
use crate::names::Name;
use crate::process::Process;
use crate::spec::{AttachMode, LabSpec};

/// Everything a lab leaves in the file system is here.
pub const STATE_DIR: &str = "/run/heddle-lab";
pub(crate) const LOCK_FILE: &str = "/run/heddle-lab.lock";

/// The record of a lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// What was asked for.
    pub spec: LabSpec,
    /// It came up completely.
    pub complete: bool,
    /// Its maker left it up. While false, its maker is there, holding the lock, or died.
    pub kept: bool,
    /// Nodes with a switch.
    pub nodes: Vec<NodeState>,
    /// Pods.
    pub pods: Vec<PodState>,
    /// The directory to put policies in: the agents watch it.
    pub manifests: PathBuf,
}

/// A node of a lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeState {
    /// Always [`Name::Node`].
    pub name: Name,
    /// Its network namespace, by name.
    pub namespace: String,
    /// On the wire.
    pub addresses: Vec<IpAddr>,
    /// Its pods get their addresses from these.
    pub pod_cidrs: Vec<IpNet>,
    /// How its pods are attached that do not say otherwise; none until its switch has answered.
    pub attach_mode: Option<AttachMode>,
    /// The control socket of its switch.
    pub socket: PathBuf,
    /// Its switch.
    pub switch: Process,
    /// Its agent; none in the moment between the two.
    pub agent: Option<Process>,
}

/// A pod of a lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PodState {
    /// Always [`Name::Pod`].
    pub name: Name,
    /// Its network namespace, by name.
    pub namespace: String,
    /// The namespace of its Kubernetes object.
    pub pod_namespace: String,
    /// As the plugin gave them.
    pub addresses: Vec<IpAddr>,
    /// Of its eth0.
    pub mac: String,
    /// The host's side of its interface, in the node's namespace.
    pub host_interface: String,
    /// Of its eth0.
    pub mtu: u32,
    /// How it is attached.
    pub attach_mode: AttachMode,
}

impl State {
    pub(crate) fn new(spec: LabSpec) -> Self {
        let manifests = Directories::of(Path::new(STATE_DIR), spec.manifests.as_deref()).users;
        Self { spec, complete: false, kept: false, nodes: Vec::new(), pods: Vec::new(), manifests }
    }

    pub(crate) fn directories(&self) -> Directories {
        Directories::of(Path::new(STATE_DIR), Some(&self.manifests))
    }

    /// The directories that the agents watch: the user's, and the lab's own, which says where its pods are.
    pub fn manifest_directories(&self) -> [PathBuf; 2] {
        let Directories { users, own } = self.directories();
        [users, own]
    }

    /// The record of the lab that is up.
    pub fn current() -> Result<Self> {
        let state = Self::load(Path::new(STATE_DIR))?.context("no lab is up: run 'heddle lab up'")?;
        ensure!(state.complete, "the lab did not come up completely: run 'heddle lab down'");
        Ok(state)
    }

    /// The node of this name.
    pub fn node(&self, name: Name) -> Result<&NodeState> {
        let node = self.nodes.iter().find(|node| node.name == name);
        node.with_context(|| format!("the lab has no node {name}; 'heddle lab status' lists them"))
    }

    /// The pod of this name.
    pub fn pod(&self, name: Name) -> Result<&PodState> {
        let pod = self.pods.iter().find(|pod| pod.name == name);
        pod.with_context(|| format!("the lab has no pod {name}; 'heddle lab status' lists them"))
    }

    /// The record of the lab that is there, complete or not; nothing when there is none.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>> {
        let path = file(dir);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let state = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged: run 'heddle lab down'", path.display()))?;
        Ok(Some(state))
    }

    /// Replaces the record at once and as a whole. No fsync: `/run` does not outlive a crash of the machine, nor does
    /// the lab.
    pub(crate) fn store(&self, dir: &Path) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let next = dir.join("state.json.new");
            let mut out = std::fs::File::create(&next)?;
            serde_json::to_writer_pretty(&mut out, self)?;
            out.write_all(b"\n")?;
            std::fs::rename(&next, file(dir))
        };
        write().with_context(|| format!("cannot write {}", file(dir).display()))
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("state.json")
}

#[cfg(test)]
mod tests {
    //! A record round-trips; no record and a damaged one are told apart.
    use super::*;

    #[test]
    fn round_trips() {
        let dir = tempfile::tempdir().unwrap();
        assert!(State::load(dir.path()).unwrap().is_none());
        let mut state = State::new(LabSpec::new(2, 1));
        state.pods.push(PodState {
            name: Name::Pod(1, 1),
            namespace: "hd-n1p1".into(),
            pod_namespace: "default".into(),
            addresses: vec!["10.244.1.2".parse().unwrap(), "fd00:10:244:1::2".parse().unwrap()],
            mac: "02:00:00:00:00:01".into(),
            host_interface: "hd1234".into(),
            mtu: 1450,
            attach_mode: AttachMode::Cached,
        });
        state.store(dir.path()).unwrap();
        let loaded = State::load(dir.path()).unwrap().unwrap();
        assert_eq!(serde_json::to_value(&loaded).unwrap(), serde_json::to_value(&state).unwrap());
    }

    #[test]
    fn damage_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(file(dir.path()), "{\"spec\":").unwrap();
        let error = State::load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("heddle lab down"), "{error}");
    }
}
