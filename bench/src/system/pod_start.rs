//! How long a container runtime waits for a pod's network: ADD and DEL end to end, by Heddle and by the bridge plugin in turn, one after
//! the other and sixteen at once.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use heddle_netdev::{NETNS_DIR, Netns, delete_named};
use heddle_netlab::{Lab, find_binary};

use super::ground::{Ground, create_namespace, namespace_name};
use super::metric::Metric;
use super::plan::Plan;
use super::progress::Progress;
use super::results::{Failure, Results};
use super::scenario::{Crowd, Scenario, SystemName};
use super::systems::{PLUGIN_DIRECTORY, bridge_configuration, one_node};

/// A plugin, and the node it is called on.
struct Plugin {
    system: SystemName,
    binary: PathBuf,
    node: Netns,
    configuration: String,
}

/// Fills the results of the scenarios in which pods come and go.
pub(crate) fn measure(
    plan: &Plan,
    ground: &Ground,
    results: &mut Results,
    progress: &mut Progress,
) -> Result<()> {
    let mut plugins = Vec::new();
    let mut lab = None;
    if plan.systems.contains(&SystemName::HeddleCached) {
        let raised = one_node(SystemName::HeddleCached, 0, ground, progress)?;
        plugins.push(heddle(&raised)?);
        lab = Some(raised);
    }
    if plan.systems.contains(&SystemName::Bridge) {
        plugins.push(bridge(ground)?);
    }
    for round in 0..plan.pod_start.rounds {
        // Each round another one begins.
        plugins.reverse();
        for crowd in plan.pod_starts() {
            let pods = plan.pod_start.pods[usize::from(crowd != Crowd::Alone)];
            for plugin in &plugins {
                progress.interrupt().check()?;
                let scenario = Scenario::PodStart(crowd);
                progress.say(&format!("round {round}: {scenario} of {}", plugin.system));
                if let Err(error) = start_pods(plugin, crowd, pods, round, results) {
                    let error = format!("{error:#}");
                    let failure = Failure { scenario, system: plugin.system, round, error };
                    progress.complain(&failure);
                    results.failures.push(failure);
                }
            }
        }
    }
    lab.map_or(Ok(()), |lab| lab.down(progress))
}

/// As it is installed, under the policy that is in force for all pods of the lab.
fn heddle(lab: &Lab) -> Result<Plugin> {
    let node = lab.node("n1")?;
    let configuration = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "heddle",
        "type": "heddle-cni",
        "socket": node.state.socket,
        "stateDir": node.state.socket.with_file_name("lib"),
    });
    Ok(Plugin {
        system: SystemName::HeddleCached,
        binary: find_binary("heddle-cni")?,
        node: Netns::open(node.namespace.path())?,
        configuration: configuration.to_string(),
    })
}

fn bridge(ground: &Ground) -> Result<Plugin> {
    Ok(Plugin {
        system: SystemName::Bridge,
        binary: Path::new(PLUGIN_DIRECTORY).join("bridge"),
        node: create_namespace("start")?,
        configuration: bridge_configuration(&ground.path("ipam-start"))?.to_string(),
    })
}

fn start_pods(plugin: &Plugin, crowd: Crowd, pods: usize, round: usize, results: &mut Results) -> Result<()> {
    let names: Vec<_> = (0..pods).map(|pod| format!("start-p{pod}")).collect();
    let measured = names.iter().try_for_each(|name| create_namespace(name).map(drop)).and_then(|()| {
        let added = plugin.call_all("ADD", &names, crowd)?;
        Ok((added, plugin.call_all("DEL", &names, crowd)?))
    });
    if measured.is_err() {
        // As a runtime does; the error is the one to tell.
        let _ = plugin.call_all("DEL", &names, crowd);
    }
    for name in &names {
        delete_named(&namespace_name(name))?;
    }
    let (added, removed) = measured?;
    let of = (Scenario::PodStart(crowd), plugin.system);
    for (metric, times, quantile) in [
        (Metric::AddP50, &added, 0.5),
        (Metric::AddP99, &added, 0.99),
        (Metric::DelP50, &removed, 0.5),
        (Metric::DelP99, &removed, 0.99),
    ] {
        results.add(of, metric, round, self::quantile(times, quantile).as_secs_f64() * 1e3);
    }
    Ok(())
}

impl Plugin {
    /// Calls the plugin for every pod, so many at a time; how long each call took, the shortest first.
    fn call_all(&self, verb: &str, pods: &[String], crowd: Crowd) -> Result<Vec<Duration>> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut times = Vec::new();
            while let Some(pod) = pods.get(next.fetch_add(1, Ordering::Relaxed)) {
                times.push(self.call(verb, pod)?);
            }
            Ok(times)
        };
        // Every caller is on the node already, so that a call is a process and nothing else.
        let times: Result<Vec<Vec<Duration>>> = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..crowd.size()).map(|_| scope.spawn(|| self.node.run(work))).collect();
            let ended = callers.into_iter().map(std::thread::ScopedJoinHandle::join);
            ended.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?).collect()
        });
        let mut times = times?.concat();
        times.sort_unstable();
        Ok(times)
    }

    fn call(&self, verb: &str, pod: &str) -> Result<Duration> {
        let mut command = Command::new(&self.binary);
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", pod)
            .env("CNI_NETNS", Path::new(NETNS_DIR).join(namespace_name(pod)))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}"))
            .env("CNI_PATH", PLUGIN_DIRECTORY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            std::io::Write::write_all(&mut stdin, self.configuration.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let time = start.elapsed();
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("{verb} of {pod} by {}: {}", self.binary.display(), String::from_utf8_lossy(&said).trim());
        }
        Ok(time)
    }
}

/// The smallest of these times that so large a share of all is not longer than.
#[allow(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "a rank among some hundred")]
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    //! Quantiles are of those that were measured.
    use super::*;

    #[test]
    fn quantiles() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Duration::from_millis(50));
        assert_eq!(quantile(&times, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&times[..1], 0.5), Duration::from_millis(1));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
