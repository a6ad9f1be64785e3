//! ADD answers when the endpoint's policy is in force. Until an image names it the endpoint is there, closed, and its caller
//! waits here, outside the control lock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use heddle_api as api;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::ControlError;
use super::apply::Control;
use super::dataplane::Dataplane;
use super::policy::Standing;
use crate::tables::EndpointNumber;

/// How long an ADD waits for an image that names its pod. The plugin's own patience is longer, so that it hears why not.
pub(super) const POLICY_WAIT: Duration = Duration::from_secs(5);

/// After this the log says that an ADD waits.
const SILENT: Duration = Duration::from_secs(1);

/// An endpoint that is closed, and somebody who waits for it to be in force. Dropped before that, for instance because the caller
/// hung up, the endpoint goes.
pub(super) struct Awaited<D: Dataplane + 'static> {
    control: Arc<Mutex<Control<D>>>,
    id: String,
    number: EndpointNumber,
    news: Option<watch::Receiver<()>>,
    /// The endpoint was made for this caller; another's is not ours to remove.
    ours: bool,
}

impl<D: Dataplane + 'static> Awaited<D> {
    /// Called with the lock on `inside`, which is the content of `control`. `None` when there is nothing to wait for.
    pub(super) fn new(
        control: &Arc<Mutex<Control<D>>>,
        inside: &Control<D>,
        id: &str,
        ours: bool,
    ) -> Option<Self> {
        let (number, news) = inside.closed_endpoint(id)?;
        Some(Self { control: Arc::clone(control), id: id.to_owned(), number, news, ours })
    }

    /// Waits until the endpoint is judged by its policy. When that does not happen within `patience`, it is removed before this
    /// returns.
    pub(super) async fn in_force(mut self, patience: Duration) -> Result<api::Endpoint, Status> {
        let begin = Instant::now();
        let mut deadline = begin + SILENT.min(patience);
        loop {
            match self.look().await? {
                Standing::InForce(endpoint) => {
                    self.ours = false;
                    return Ok(*endpoint);
                }
                Standing::Gone => {
                    let problem = format!("endpoint {} was removed while it waited for its policy", self.id);
                    return Err(ControlError::Unavailable(problem).into());
                }
                Standing::Closed => {}
            }
            let Some(news) = &mut self.news else { return self.give_up("heddle-switch is stopping").await };
            match timeout_at(deadline, news.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return self.give_up("heddle-switch is stopping").await,
                Err(_) if deadline < begin + patience => {
                    tracing::warn!(id = self.id, "ADD waits for a policy image that names its pod");
                    deadline = begin + patience;
                }
                Err(_) => return self.give_up("is heddle-agent running, and does its log say why?").await,
            }
        }
    }

    async fn look(&self) -> Result<Standing, Status> {
        let (control, id, number) = (Arc::clone(&self.control), self.id.clone(), self.number);
        let look = move || control.lock().map(|control| control.standing(&id, number)).ok();
        let standing = tokio::task::spawn_blocking(look).await.ok().flatten();
        standing.ok_or_else(super::service::broken)
    }

    /// Removes the endpoint and says which pod it was.
    async fn give_up(mut self, hint: &str) -> Result<api::Endpoint, Status> {
        let (control, id, number, ours) =
            (Arc::clone(&self.control), self.id.clone(), self.number, std::mem::take(&mut self.ours));
        let leave = move || {
            let mut control = control.lock().ok()?;
            let pod = control.pod_of(&id);
            let removed = if ours { control.remove_if_closed(&id, number) } else { Ok(()) };
            Some((pod, removed))
        };
        let left = tokio::task::spawn_blocking(leave).await.ok().flatten();
        let (pod, removed) = left.ok_or_else(super::service::broken)?;
        let problem = format!("no policy image names pod {pod}: {hint}");
        tracing::warn!(id = self.id, pod, "ADD is refused: no policy image names its pod");
        match removed {
            Ok(()) => Err(ControlError::Unavailable(problem).into()),
            Err(error) => Err(ControlError::Unavailable(format!("{problem}; {error}")).into()),
        }
    }
}

impl<D: Dataplane + 'static> Drop for Awaited<D> {
    fn drop(&mut self) {
        // Without a runtime the daemon is ending; the endpoint is on disk then, and closed at the next start.
        let (true, Ok(runtime)) = (self.ours, Handle::try_current()) else { return };
        let (control, id, number) = (Arc::clone(&self.control), std::mem::take(&mut self.id), self.number);
        runtime.spawn_blocking(move || {
            let Ok(mut control) = control.lock() else { return };
            match control.remove_if_closed(&id, number) {
                Ok(()) => {
                    tracing::info!(id, "nobody waits for this endpoint any more; it is removed unless an image has opened it meanwhile");
                }
                Err(error) => tracing::warn!(id, %error, "an endpoint nobody waits for cannot be removed"),
            }
        });
    }
}
