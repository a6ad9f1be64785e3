//! Heddle: a lab with the real plugin, switch and agent, and a NetworkPolicy on every pod.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use heddle_api as api;
use heddle_netlab::{Interrupt, Lab, LabSpec, Observer};

use super::System;
use crate::system::PORTS;
use crate::system::ground::Ground;
use crate::system::place::Place;
use crate::system::scenario::{Reach, SystemName};

/// A port that the policy leaves closed.
const CLOSED_PORT: u16 = PORTS.start - 1;
/// How long a connection attempt is waited for that policy is to stop: far longer than those that succeed take.
const NO_ANSWER: Duration = Duration::from_millis(400);
/// How long policy may take to be in force.
const PATIENCE: Duration = Duration::from_secs(10);

/// A lab of two nodes, with the client and the same-node server on the first, and the other server on the second.
#[derive(Debug)]
pub(crate) struct Heddle {
    name: SystemName,
    lab: Lab,
    client: Place,
    near: Place,
    far: Place,
}

impl Heddle {
    pub(crate) fn raise(
        name: SystemName,
        ground: &Ground,
        interrupt: &Interrupt,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let lab = Lab::up(&lab_spec(name, 2, 2, ground)?, observer)?;
        let [client, near, far] = ["n1p1", "n1p2", "n2p1"].map(|pod| -> Result<Place> {
            let state = lab.pod(pod)?.state;
            Ok(Place::named(&state.namespace, state.addresses))
        });
        let heddle = Self { name, lab, client: client?, near: near?, far: far? };
        heddle.prove_policy(interrupt)?;
        Ok(heddle)
    }

    /// Takes the lab down, and says what could not be.
    pub(crate) fn down(self, observer: &mut dyn Observer) -> Result<()> {
        self.lab.down(observer)
    }

    /// What is measured is measured under policy: the open port is reached, the one beside it is not.
    fn prove_policy(&self, interrupt: &Interrupt) -> Result<()> {
        for server in [&self.near, &self.far] {
            let deadline = Instant::now() + PATIENCE;
            while self.connects(server, CLOSED_PORT)? || !self.connects(server, PORTS.start)? {
                interrupt.check()?;
                ensure!(Instant::now() < deadline, "the lab does not enforce the policy of its manifests");
            }
        }
        Ok(())
    }

    fn connects(&self, server: &Place, port: u16) -> Result<bool> {
        let address = server.socket_address(false, port)?;
        let _listener = server
            .netns()?
            .run(|| TcpListener::bind(address))?
            .with_context(|| format!("cannot listen on {address}"))?;
        let attempt = || std::net::TcpStream::connect_timeout(&address, NO_ANSWER).is_ok();
        Ok(self.client.netns()?.run(attempt)?)
    }
}

impl System for Heddle {
    fn name(&self) -> SystemName {
        self.name
    }

    fn ends(&self, reach: Reach) -> Option<[&Place; 2]> {
        Some(match reach {
            Reach::SameNode => [&self.client, &self.near],
            Reach::AcrossNodes => [&self.client, &self.far],
        })
    }

    fn map_operations(&self) -> Result<Option<u64>> {
        let mut sum = None;
        for node in ["n1", "n2"] {
            let operations = map_operations(&self.lab.node(node)?.control()?.status()?);
            sum = operations.map(|operations| operations + sum.unwrap_or_default()).or(sum);
        }
        Ok(sum)
    }

    fn facts(&self) -> Vec<String> {
        let status = self.lab.node("n1").and_then(|node| node.control()?.status());
        let status = status.unwrap_or_default();
        let polling = status.workers.first().map(|worker| worker.polling.as_str()).unwrap_or_default();
        let policy = status.policy.unwrap_or_default().mode;
        vec![format!(
            "version {}, {} worker on each node, polling {polling}, policy {policy}: one on every pod, both directions",
            status.version,
            status.workers.len()
        )]
    }
}

/// Writes to the flow cache since the switch started, as its status counts them.
fn map_operations(status: &api::Status) -> Option<u64> {
    status.flow_cache.as_ref().map(|cache| cache.inserted + cache.removed)
}

/// A lab of one node with so many pods, under the same policy.
pub(crate) fn one_node(
    name: SystemName,
    pods: u16,
    ground: &Ground,
    observer: &mut dyn Observer,
) -> Result<Lab> {
    Lab::up(&lab_spec(name, 1, pods, ground)?, observer)
}

fn lab_spec(name: SystemName, nodes: u8, pods: u16, ground: &Ground) -> Result<LabSpec> {
    let mode = name.mode().with_context(|| format!("{name} is not Heddle"))?.parse()?;
    Ok(LabSpec { manifests: Some(write_policy(ground)?), mode: Some(mode), ..LabSpec::new(nodes, pods) })
}

/// One policy for all pods of the lab: what is measured may pass, both ways round, and nothing else.
fn write_policy(ground: &Ground) -> Result<PathBuf> {
    let dir = ground.path("manifests");
    match std::fs::create_dir(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            bail!("cannot make {}: {error}", dir.display())
        }
        _ => {}
    }
    let path = Path::new(&dir).join("policy.yaml");
    std::fs::write(&path, policy()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(dir)
}

fn policy() -> String {
    let (first, last) = (PORTS.start, PORTS.end - 1);
    let port = |protocol| format!("{{protocol: {protocol}, port: {first}, endPort: {last}}}");
    let ports = format!("ports: [{}, {}]", port("TCP"), port("UDP"));
    format!(
        "apiVersion: networking.k8s.io/v1\n\
         kind: NetworkPolicy\n\
         metadata: {{name: what-is-measured, namespace: default}}\n\
         spec:\n\
         \x20 podSelector: {{}}\n\
         \x20 policyTypes: [Ingress, Egress]\n\
         \x20 ingress:\n\
         \x20 - from: [{{podSelector: {{}}}}]\n\
         \x20   {ports}\n\
         \x20 egress:\n\
         \x20 - to: [{{podSelector: {{}}}}]\n\
         \x20   {ports}\n"
    )
}
