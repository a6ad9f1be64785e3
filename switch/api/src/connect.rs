//! The client's side of the control socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::switch_client::SwitchClient;

/// A connection to a switch.
pub type Client = SwitchClient<Channel>;

/// The switch cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach heddle-switch at {}: {reason}; is it running?", socket.display())]
pub struct ConnectError {
    socket: PathBuf,
    reason: String,
}

/// Connects to the switch that listens at `socket`. Every call on the client, and connecting itself, fails after
/// `timeout`.
pub async fn connect(socket: &Path, timeout: Duration) -> Result<Client, ConnectError> {
    let path = socket.to_owned();
    // tonic wants a URI for its HTTP/2 headers; the connector below ignores it.
    let endpoint = Endpoint::from_static("http://heddle-switch").timeout(timeout).connect_timeout(timeout);
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = endpoint.connect_with_connector(connector).await.map_err(|error| {
        let source = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        ConnectError { socket: socket.to_owned(), reason: source }
    })?;
    Ok(SwitchClient::new(channel))
}
