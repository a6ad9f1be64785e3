//! Policy at the endpoints: the image in force, what it makes of each endpoint, and who waits for that.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use heddle_api as api;
use heddle_image::Image;
use tokio::sync::watch;

use super::ControlError;
use super::apply::Control;
use super::dataplane::Dataplane;
use super::endpoints::EndpointSpec;
use super::saved_image::SavedImage;
use crate::config::PolicyMode;
use crate::tables::{EndpointNumber, EndpointPolicy, Policy};

/// How often an image is written to disk at most. Agents send one with every change in the cluster.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What control knows of policy beyond the tables.
#[derive(Debug)]
pub(super) struct PolicyState {
    mode: PolicyMode,
    /// When the image in force came from an agent; of one that was read back from disk, when that one came.
    received: Option<SystemTime>,
    unsaved: Option<SavedImage>,
    saved: Instant,
    /// Told of every image. `None` once the switch stops.
    news: Option<watch::Sender<()>>,
}

/// Where an endpoint stands that somebody waits for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Standing {
    /// It is judged by its policy.
    InForce(Box<api::Endpoint>),
    /// No image has named it.
    Closed,
    /// It was removed.
    Gone,
}

impl PolicyState {
    pub(super) fn new(mode: PolicyMode) -> Self {
        Self {
            mode,
            received: None,
            unsaved: None,
            saved: Instant::now(),
            news: Some(watch::Sender::new(())),
        }
    }

    fn received(&mut self, at: SystemTime) {
        self.received = Some(at);
        if let Some(news) = &self.news {
            news.send_replace(());
        }
    }
}

impl<D: Dataplane> Control<D> {
    /// See `SetPolicy` in heddle.proto. `bytes` are what `image` was decoded from.
    pub fn set_policy(
        &mut self,
        image: Image,
        bytes: Vec<u8>,
    ) -> Result<api::SetPolicyResponse, ControlError> {
        if self.policy.mode == PolicyMode::Off {
            let problem = "this node enforces no policy; set policy = \"enforced\" in its configuration and restart \
                           heddle-switch, or stop heddle-agent";
            return Err(ControlError::Precondition(problem.to_owned()));
        }
        self.enforce(image)?;
        let now = SystemTime::now();
        self.policy.received(now);
        self.policy.unsaved = Some(SavedImage { received: now, bytes });
        let closed = self.closed_endpoints();
        Ok(api::SetPolicyResponse {
            policy_generation: self.tables.policy.generation,
            endpoints_named: self.endpoints.len() as u32 - closed,
            endpoints_closed: closed,
        })
    }

    /// Publishes an image and what it makes of every endpoint, in one snapshot: no packet is judged by a class of one image in
    /// the bitmaps of another.
    fn enforce(&mut self, image: Image) -> Result<(), ControlError> {
        let mut tables = self.tables.clone();
        // 0 stands for no image. Wrapping is harmless: four billion images outlast every connection.
        let generation = tables.policy.generation.wrapping_add(1).max(1);
        for entry in self.endpoints.iter() {
            let Some(before) = tables.endpoints.get(entry.number) else { continue };
            let policy = named(&image, &entry.spec, before.policy);
            if policy != before.policy {
                let after = entry.for_tables(policy);
                tables.endpoints.set(entry.number, after);
            }
        }
        tables.policy = Policy { image, generation };
        self.publish(tables).map(drop)
    }

    /// Puts the image back in force that was when the daemon last ran, so that its restart does not close running pods. Endpoints
    /// that are attached afterwards find themselves named.
    pub(super) fn restore_policy(&mut self) {
        if self.policy.mode == PolicyMode::Off {
            return;
        }
        match self.store().load_image() {
            Ok(None) => {
                tracing::info!("no policy image yet: endpoints are closed until heddle-agent sends one");
            }
            Ok(Some((image, received))) => match self.enforce(image) {
                Ok(()) => {
                    self.policy.received(received);
                    let age = self.policy_age().unwrap_or_default();
                    tracing::info!(
                        age_seconds = age,
                        "policy image is back, until heddle-agent sends another"
                    );
                }
                Err(error) => tracing::warn!(%error, "the policy image of the last run is not in force"),
            },
            Err(error) => tracing::warn!(
                %error,
                "the policy image of the last run cannot be used: endpoints are closed until heddle-agent sends one"
            ),
        }
    }

    /// What judges an endpoint that is about to be attached.
    pub(super) fn policy_of_new(&self, spec: &EndpointSpec) -> EndpointPolicy {
        match self.policy.mode {
            PolicyMode::Off => EndpointPolicy::Open,
            PolicyMode::Enforced => named(&self.tables.policy.image, spec, EndpointPolicy::Closed),
        }
    }

    /// For the endpoint of this id, if it is there and closed: its number, which no later endpoint has before long, and news of images.
    pub(super) fn closed_endpoint(&self, id: &str) -> Option<(EndpointNumber, Option<watch::Receiver<()>>)> {
        let entry = self.endpoints.get(id)?;
        let closed = self.policy_at(entry.number) == EndpointPolicy::Closed;
        closed.then(|| (entry.number, self.policy.news.as_ref().map(watch::Sender::subscribe)))
    }

    /// Where the endpoint stands that had this id and this number.
    pub(super) fn standing(&self, id: &str, number: EndpointNumber) -> Standing {
        match self.endpoints.get(id).filter(|entry| entry.number == number) {
            None => Standing::Gone,
            Some(entry) if self.policy_at(entry.number) == EndpointPolicy::Closed => Standing::Closed,
            Some(entry) => Standing::InForce(Box::new(self.describe_endpoint(entry))),
        }
    }

    /// Removes an endpoint that is closed still. The file of endpoints and the tables forget it together.
    pub(super) fn remove_if_closed(&mut self, id: &str, number: EndpointNumber) -> Result<(), ControlError> {
        if self.standing(id, number) == Standing::Closed {
            self.remove_endpoint(id).map(drop)
        } else {
            Ok(())
        }
    }

    /// Ends everybody's waiting: watchers of endpoints and those who wait for a policy. Nobody waits from here on.
    pub fn hang_up(&mut self) {
        self.policy.news = None;
        self.watchers.stop();
    }

    pub(super) fn policy_at(&self, number: crate::tables::EndpointNumber) -> EndpointPolicy {
        // Every entry is in the tables; were one not, nothing would pass either.
        self.tables.endpoints.get(number).map_or(EndpointPolicy::Closed, |endpoint| endpoint.policy)
    }

    fn closed_endpoints(&self) -> u32 {
        let policies = self.endpoints.iter().map(|entry| self.policy_at(entry.number));
        policies.filter(|policy| *policy == EndpointPolicy::Closed).count() as u32
    }

    /// Seconds since the image in force came from an agent.
    fn policy_age(&self) -> Option<u64> {
        // A clock that was set back makes it young.
        Some(self.policy.received?.elapsed().unwrap_or_default().as_secs())
    }

    pub(super) fn policy_status(&self) -> api::PolicyStatus {
        api::PolicyStatus {
            mode: self.policy.mode.name().to_owned(),
            generation: self.tables.policy.generation,
            age_seconds: self.policy_age(),
            closed_endpoints: self.closed_endpoints(),
        }
    }

    /// The image to be written to disk, unless one was a moment ago; `now_or_never` says it anyway. Writing is the caller's,
    /// without the lock: an image has megabytes.
    pub fn image_to_save(&mut self, now_or_never: bool) -> Option<SavedImage> {
        if self.policy.saved.elapsed() < SAVE_EVERY && !now_or_never {
            return None;
        }
        let image = self.policy.unsaved.take()?;
        self.policy.saved = Instant::now();
        Some(image)
    }
}

/// What an image makes of an endpoint. One that is closed opens only when the image knows its addresses too: until then others
/// would not know it, and their rules would deny it what they are to allow.
fn named(image: &Image, spec: &EndpointSpec, before: EndpointPolicy) -> EndpointPolicy {
    let known = |address: &IpAddr| image.has_pod(*address);
    match (before, image.endpoint(&spec.pod_namespace, &spec.pod_name)) {
        (EndpointPolicy::Open, _) => EndpointPolicy::Open,
        (EndpointPolicy::Closed, Some(class)) if spec.addresses.iter().all(known) => {
            EndpointPolicy::Class(class)
        }
        (EndpointPolicy::Class(_), Some(class)) => EndpointPolicy::Class(class),
        _ => EndpointPolicy::Closed,
    }
}
