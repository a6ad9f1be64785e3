//! Talking to the switch, within a time limit for the whole invocation.

use std::path::Path;
use std::time::Duration;

use heddle_api::{AddEndpointRequest, Client, DescribeRequest, Endpoint, RemoveEndpointRequest};
use heddle_api::{ListEndpointsRequest, Node};
use tokio::time::{Instant, timeout_at};

use crate::error::{CniError, code};

/// How long one invocation waits for the switch, all its calls together. An ADD takes milliseconds; longer than the 5 s that the
/// switch itself waits for a policy image, so that the reason arrives. A switch that needs longer is stuck, and the runtime
/// tries again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// How long a failed ADD spends on telling the switch to forget the endpoint.
pub(crate) const UNDO_PATIENCE: Duration = Duration::from_secs(2);

/// A call to the switch failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwitchError {
    /// Nobody listens.
    #[error(transparent)]
    Down(#[from] heddle_api::ConnectError),
    /// No answer in time.
    #[error("heddle-switch did not answer {call} within {} s; see its log", patience.as_secs())]
    Slow {
        /// Name of the call.
        call: &'static str,
        /// How long this waited.
        patience: Duration,
    },
    /// It cannot at the moment.
    #[error("heddle-switch cannot {call} now: {reason}")]
    Unavailable {
        /// Name of the call.
        call: &'static str,
        /// Its words.
        reason: String,
    },
    /// It will not.
    #[error("heddle-switch refused {call}: {reason}")]
    Refused {
        /// Name of the call.
        call: &'static str,
        /// Its words.
        reason: String,
    },
}

impl From<SwitchError> for CniError {
    fn from(error: SwitchError) -> Self {
        let code = match error {
            SwitchError::Refused { .. } => code::SWITCH,
            SwitchError::Down(_) | SwitchError::Slow { .. } | SwitchError::Unavailable { .. } => code::LATER,
        };
        Self::new(code, error.to_string())
    }
}

/// A connection with a deadline.
pub(crate) struct Switch {
    client: Client,
    patience: Duration,
    deadline: Instant,
}

impl Switch {
    /// Connects; every later call ends when `patience` from now is over.
    pub(crate) async fn connect(socket: &Path, patience: Duration) -> Result<Self, SwitchError> {
        let deadline = Instant::now() + patience;
        let client = heddle_api::connect(socket, patience).await?;
        Ok(Self { client, patience, deadline })
    }

    /// Gives the calls to come the whole time again.
    pub(crate) fn renew(&mut self) {
        self.deadline = Instant::now() + self.patience;
    }

    /// What the node is like.
    pub(crate) async fn describe(&mut self) -> Result<Node, SwitchError> {
        let call = self.client.describe(DescribeRequest {});
        within(self.deadline, self.patience, "Describe", call).await
    }

    /// Registers an endpoint; it forwards when this returns.
    pub(crate) async fn add_endpoint(
        &mut self,
        request: AddEndpointRequest,
    ) -> Result<Endpoint, SwitchError> {
        let call = self.client.add_endpoint(request);
        within(self.deadline, self.patience, "AddEndpoint", call).await
    }

    /// Forgets an endpoint; one that is not there is fine.
    pub(crate) async fn remove_endpoint(&mut self, id: String) -> Result<(), SwitchError> {
        let call = self.client.remove_endpoint(RemoveEndpointRequest { id });
        within(self.deadline, self.patience, "RemoveEndpoint", call).await.map(drop)
    }

    /// All endpoints of the node.
    pub(crate) async fn endpoints(&mut self) -> Result<Vec<Endpoint>, SwitchError> {
        let call = self.client.list_endpoints(ListEndpointsRequest {});
        within(self.deadline, self.patience, "ListEndpoints", call).await.map(|answer| answer.endpoints)
    }
}

async fn within<T>(
    deadline: Instant,
    patience: Duration,
    call: &'static str,
    answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, SwitchError> {
    use tonic::Code;
    let Ok(answer) = timeout_at(deadline, answer).await else {
        return Err(SwitchError::Slow { call, patience });
    };
    answer.map(tonic::Response::into_inner).map_err(|status| {
        let reason = status.message().to_owned();
        match status.code() {
            // Cancelled is how tonic's own time limit shows, which ends a moment before ours.
            Code::DeadlineExceeded | Code::Cancelled => SwitchError::Slow { call, patience },
            Code::Unavailable | Code::Aborted | Code::ResourceExhausted => {
                SwitchError::Unavailable { call, reason }
            }
            // A connection that breaks mid-call: the switch went away.
            Code::Unknown if std::error::Error::source(&status).is_some() => {
                SwitchError::Unavailable { call, reason }
            }
            _ => SwitchError::Refused { call, reason },
        }
    })
}
