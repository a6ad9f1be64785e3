//! Runs files of conformance cases through the compiled bitmaps.
//!
//! A file holds a cluster and cases; a case is steps, one after the other, each with all policies in force and the verdict on every
//! pair of pods for every probe: `.` allowed, `X` blocked, `-` not probed. Every pod serves ports 80 and 81 of TCP, UDP and SCTP under
//! the names `serve-<port>-<protocol>`.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use heddle_image::{Direction, Image, Protocol};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::Deserialize;
use thiserror::Error;

pub use report::{ConformanceReport, RefusedCase, Wrong};

use crate::Compiler;
use crate::compiler::LimitError;
use crate::explain::{ExplainError, Place, Port};
use crate::model::{Labels, NamedPort, Namespace, ObjectName, Pod};
use crate::validate::validate_policy;

/// The ports and protocols every pod serves.
const SERVED: [(Protocol, &str); 3] =
    [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp"), (Protocol::Sctp, "sctp")];

#[derive(Debug, Deserialize)]
struct File {
    cluster: Option<Cluster>,
    cases: Vec<Case>,
}

#[derive(Debug, Clone, Deserialize)]
struct Cluster {
    namespaces: BTreeMap<String, Labels>,
    pods: Vec<PodEntry>,
}

#[derive(Debug, Clone, Deserialize)]
struct PodEntry {
    namespace: String,
    name: String,
    ip: IpAddr,
    #[serde(default)]
    labels: Labels,
}

#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    policies: Vec<NetworkPolicy>,
    cluster: Option<Cluster>,
    expect: BTreeMap<String, Vec<String>>,
}

/// A file that cannot be run.
#[derive(Debug, Error)]
pub enum ConformanceError {
    /// Not in the format.
    #[error("not a file of conformance cases: {0}")]
    Format(#[from] serde_json::Error),
    /// In the format, but makes no sense.
    #[error("case {case:?}, step {step}: {reason}")]
    Case {
        /// Name of the case.
        case: String,
        /// Index of the step.
        step: usize,
        /// What is wrong.
        reason: String,
    },
    /// The policies are too many.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A pod has no explanation, which cannot be.
    #[error(transparent)]
    Explain(#[from] ExplainError),
}

/// Runs all cases of a file, given its text. The compiler goes from step to step as it would in a cluster; verdicts are those of the
/// image after encoding and decoding.
pub fn run(text: &str) -> Result<ConformanceReport, ConformanceError> {
    let file: File = serde_json::from_str(text)?;
    let mut report = ConformanceReport::default();
    for case in &file.cases {
        let mut runner = Runner { compiler: Compiler::default(), present: Present::default() };
        for (index, step) in case.steps.iter().enumerate() {
            let failed =
                |reason: String| ConformanceError::Case { case: case.name.clone(), step: index, reason };
            let cluster =
                step.cluster.as_ref().or(file.cluster.as_ref()).ok_or_else(|| failed("no cluster".into()))?;
            runner.apply(case, index, step, cluster, &mut report);
            let image = Image::decode(&runner.compiler.update()?.encode())
                .map_err(|error| failed(error.to_string()))?;
            for (probe, rows) in &step.expect {
                let port: Port =
                    probe.parse().map_err(|error: crate::explain::ParseError| failed(error.to_string()))?;
                let square = rows.len() == cluster.pods.len()
                    && rows.iter().all(|row| row.len() == cluster.pods.len());
                if !square {
                    return Err(failed(format!("{probe}: not a verdict for each pair of pods")));
                }
                let probe = Probe { case: &case.name, step: index, name: probe, port, image: &image };
                runner.probe(&probe, rows, cluster, &mut report)?;
            }
            report.steps += 1;
        }
        report.cases += 1;
    }
    Ok(report)
}

/// What the compiler has been told, to tell it what is gone.
#[derive(Default)]
struct Present {
    namespaces: BTreeSet<String>,
    pods: BTreeSet<ObjectName>,
    policies: BTreeSet<ObjectName>,
}

struct Runner {
    compiler: Compiler,
    present: Present,
}

impl Runner {
    /// Brings the compiler from the state of the step before to this one.
    fn apply(
        &mut self,
        case: &Case,
        index: usize,
        step: &Step,
        cluster: &Cluster,
        report: &mut ConformanceReport,
    ) {
        let mut now = Present::default();
        for (name, labels) in &cluster.namespaces {
            now.namespaces.insert(name.clone());
            self.compiler.set_namespace(Namespace { name: name.clone(), labels: labels.clone() });
        }
        for pod in &cluster.pods {
            now.pods.insert(ObjectName::new(&pod.namespace, &pod.name));
            self.compiler.set_pod(pod.model());
        }
        for policy in &step.policies {
            match validate_policy(policy) {
                Ok(policy) => {
                    now.policies.insert(policy.name.clone());
                    self.compiler.set_policy(policy);
                }
                Err(refusal) => {
                    report.refused.push(RefusedCase { case: case.name.clone(), step: index, refusal });
                }
            }
        }
        let before = std::mem::replace(&mut self.present, now);
        before.policies.difference(&self.present.policies).for_each(|name| self.compiler.remove_policy(name));
        before.pods.difference(&self.present.pods).for_each(|name| self.compiler.remove_pod(name));
        before
            .namespaces
            .difference(&self.present.namespaces)
            .for_each(|name| self.compiler.remove_namespace(name));
    }

    fn probe(
        &mut self,
        probe: &Probe<'_>,
        rows: &[String],
        cluster: &Cluster,
        report: &mut ConformanceReport,
    ) -> Result<(), ConformanceError> {
        for (source, row) in cluster.pods.iter().zip(rows) {
            for (destination, cell) in cluster.pods.iter().zip(row.bytes()).filter(|(_, cell)| *cell != b'-')
            {
                let (expected, got) = (cell == b'.', probe.allows(source, destination));
                report.verdicts += 1;
                if expected != got {
                    let [source, destination] =
                        [source, destination].map(|pod| ObjectName::new(&pod.namespace, &pod.name));
                    let (from, to) = (Place::Pod(source.clone()), Place::Pod(destination.clone()));
                    let explanation = self.compiler.explain(&from, &to, probe.port)?;
                    let (case, name) = (probe.case.to_owned(), probe.name.to_owned());
                    report.wrong.push(Wrong {
                        case,
                        step: probe.step,
                        probe: name,
                        source,
                        destination,
                        expected,
                        got,
                        explanation,
                    });
                }
            }
        }
        Ok(())
    }
}

/// One probe of one step, and the image to ask.
struct Probe<'a> {
    case: &'a str,
    step: usize,
    /// As in the file.
    name: &'a str,
    port: Port,
    image: &'a Image,
}

impl Probe<'_> {
    /// The verdict of both sides.
    fn allows(&self, source: &PodEntry, destination: &PodEntry) -> bool {
        let Self { image, port: Port { protocol, number }, .. } = self;
        let side = |judged: &PodEntry, peer: &PodEntry, direction| {
            let class = image.endpoint(&judged.namespace, &judged.name);
            class.is_some_and(|class| {
                image.allows(class, direction, image.peer_class(peer.ip), *protocol, *number)
            })
        };
        side(source, destination, Direction::Egress) && side(destination, source, Direction::Ingress)
    }
}

impl PodEntry {
    fn model(&self) -> Pod {
        let ports = SERVED.iter().flat_map(|(protocol, text)| {
            [80, 81].map(|number| NamedPort {
                name: format!("serve-{number}-{text}"),
                protocol: *protocol,
                number,
            })
        });
        let mut ports: Vec<_> = ports.collect();
        ports.sort_unstable();
        Pod {
            name: ObjectName::new(&self.namespace, &self.name),
            labels: self.labels.clone(),
            ports,
            addresses: vec![self.ip.to_canonical()],
            node: None,
            host_network: false,
            finished: false,
            created: 0,
        }
    }
}
