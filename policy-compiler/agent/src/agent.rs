//! The loop: take in everything that happened, and push an image if that changed something.

use std::path::PathBuf;
use std::time::Duration;

use heddle_api as api;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::cluster::{Cluster, LocalEndpoint};
use crate::source::{Source, SourceError, SourceEvent};
use crate::switch::{SwitchEvent, follow};

/// Events that may wait while an image is on its way; then whoever sends them waits too.
const QUEUE: usize = 1024;

/// What is around an image in its message.
const ENVELOPE: usize = 64;

/// Where the agent runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Control socket of the switch.
    pub socket: PathBuf,
    /// Name of the node.
    pub node: String,
}

/// What is known and what has been said.
struct Agent {
    cluster: Cluster,
    /// Numbers questions to the source.
    asked: watch::Sender<u64>,
    /// The last question it has answered. No image is made before the first answer: it would allow what a policy that is still to come does
    /// not.
    settled: Option<u64>,
    /// New endpoints, closed at the switch, each with the question whose answer it waits for.
    arriving: Vec<(u64, LocalEndpoint)>,
    /// The question that was asked when the switch came up: its endpoints may be running, so an image has to be right for all.
    wanted: u64,
    /// Present while the switch can be reached.
    client: Option<api::Client>,
    /// Something changed since the last image.
    changed: bool,
    /// The image in force, by this connection.
    pushed: Option<Vec<u8>>,
    /// The switch did not take the last image: not to be tried again before.
    not_before: Option<Instant>,
    /// Why not, as the log has it.
    refusal: String,
    backoff: Backoff,
}

/// Runs until the source ends. Dropping the future ends everything.
pub async fn run<S: Source>(options: Options, source: S) -> Result<(), SourceError> {
    let (to_objects, mut objects) = mpsc::channel(QUEUE);
    let (to_switch, mut switch) = mpsc::channel(QUEUE);
    let (asked, questions) = watch::channel(0);
    let mut agent = Agent {
        cluster: Cluster::new(&options.node),
        asked,
        settled: None,
        arriving: Vec::new(),
        wanted: 0,
        client: None,
        changed: false,
        pushed: None,
        not_before: None,
        refusal: String::new(),
        backoff: Backoff::default(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(source.run(to_objects, questions));
    tasks.spawn(async move {
        follow(&options.socket, &options.node, to_switch).await;
        Ok(())
    });
    loop {
        let retry = agent.not_before;
        tokio::select! {
            Some(event) = objects.recv() => agent.hear_source(event),
            Some(event) = switch.recv() => agent.hear_switch(event),
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => agent.not_before = None,
            Some(ended) = tasks.join_next() => match ended {
                Ok(ended) => return ended,
                Err(panic) => return Err(SourceError(format!("a part of the agent failed: {panic}"))),
            },
        }
        // All that is there goes into one image.
        while let Ok(event) = objects.try_recv() {
            agent.hear_source(event);
        }
        while let Ok(event) = switch.try_recv() {
            agent.hear_switch(event);
        }
        agent.push().await;
    }
}

impl Agent {
    fn hear_source(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Changes(changes) => {
                self.changed |= !changes.is_empty();
                for change in changes {
                    self.cluster.apply(change);
                }
            }
            SourceEvent::Settled(question) => {
                self.settled = Some(question);
                let arrived = self.arriving.extract_if(.., |(waits_for, _)| *waits_for <= question);
                for (_, endpoint) in arrived {
                    self.cluster.add_endpoint(endpoint);
                    self.changed = true;
                }
            }
        }
    }

    fn hear_switch(&mut self, event: SwitchEvent) {
        match event {
            SwitchEvent::Up(client, endpoints) => {
                tracing::info!(endpoints = endpoints.len(), "heddle-switch is there");
                self.arriving.clear();
                self.cluster.replace_endpoints(endpoints);
                self.wanted = self.ask();
                // Whatever image it has, it is not from this connection.
                (self.client, self.pushed, self.not_before) = (Some(client), None, None);
            }
            SwitchEvent::Added(endpoint) => {
                let question = self.ask();
                self.arriving.push((question, endpoint));
                return;
            }
            SwitchEvent::Removed(id) => {
                self.arriving.retain(|(_, endpoint)| endpoint.id != id);
                self.cluster.remove_endpoint(&id);
            }
            SwitchEvent::Down => {
                self.client = None;
                return;
            }
        }
        self.changed = true;
    }

    /// Asks the source for what it can know by now.
    fn ask(&mut self) -> u64 {
        self.asked.send_modify(|question| *question += 1);
        *self.asked.borrow()
    }

    /// Brings the switch up to date.
    async fn push(&mut self) {
        let settled = self.settled.is_some_and(|settled| settled >= self.wanted);
        if !settled || !self.changed || self.not_before.is_some() {
            return;
        }
        let Some(client) = &mut self.client else { return };
        let begin = Instant::now();
        let image = match self.cluster.image() {
            Ok(image) => image.encode(),
            Err(error) => {
                tracing::error!("no image is made, the one before stays in force: {error}");
                self.changed = false;
                return;
            }
        };
        self.changed = false;
        if self.pushed.as_ref() == Some(&image) {
            return;
        }
        if image.len() > api::MAX_MESSAGE - ENVELOPE {
            tracing::error!(
                bytes = image.len(),
                "the image is larger than a switch takes, the one before stays in force: select pods by fewer different labels"
            );
            return;
        }
        let compiled = begin.elapsed();
        match client.set_policy(api::SetPolicyRequest { image: image.clone() }).await {
            Ok(answer) => {
                self.backoff.reset();
                self.refusal.clear();
                let stats = self.cluster.stats();
                let first = self.pushed.replace(image).is_none();
                log(first, answer.get_ref(), &stats, compiled, begin.elapsed());
            }
            Err(status) => {
                if self.refusal != status.message() {
                    status.message().clone_into(&mut self.refusal);
                    tracing::warn!("heddle-switch does not take the image: {}; trying again", self.refusal);
                }
                self.changed = true;
                self.not_before = Some(Instant::now() + self.backoff.next());
            }
        }
    }
}

fn log(
    first: bool,
    answer: &api::SetPolicyResponse,
    stats: &heddle_policy::Stats,
    compiled: Duration,
    in_force: Duration,
) {
    let api::SetPolicyResponse { policy_generation: generation, endpoints_named: named, endpoints_closed } =
        answer;
    if *endpoints_closed > 0 {
        // They came after the image was made; the next one names them.
        tracing::debug!(closed = endpoints_closed, "endpoints that this image does not name");
    }
    let (policies, pods) = (stats.policies, stats.pods);
    if first {
        tracing::info!(generation, named, policies, pods, ?compiled, ?in_force, "policy is in force");
    } else {
        tracing::debug!(generation, named, policies, pods, ?compiled, ?in_force, "policy is in force");
    }
}
