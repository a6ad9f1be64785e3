//! This node's switch: watching its endpoints, over restarts of either side.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use heddle_api as api;
use heddle_api::endpoint_event::Event;
use heddle_policy::model::ObjectName;
use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::cluster::LocalEndpoint;

/// How long a call may take: an image of tens of megabytes, on a machine with other things to do.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the log says that the switch still cannot be reached.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// What there is to know.
pub(crate) enum SwitchEvent {
    /// It can be reached; these are its endpoints.
    Up(api::Client, Vec<LocalEndpoint>),
    Added(LocalEndpoint),
    Removed(String),
    /// It cannot be reached any more.
    Down,
}

/// Why a watch is over.
enum End {
    /// Nobody listens to us.
    Unheard,
    /// The switch does not answer, or ended it.
    Lost(String),
}

/// Tells what happens at the switch for as long as somebody listens.
pub(crate) async fn follow(socket: &Path, node: &str, sink: mpsc::Sender<SwitchEvent>) {
    let mut backoff = Backoff::default();
    let mut said: Option<Instant> = None;
    loop {
        let mut was_up = false;
        match watch(socket, node, &sink, &mut was_up).await {
            End::Unheard => return,
            End::Lost(reason) => {
                if was_up {
                    backoff.reset();
                }
                if was_up || said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
                    tracing::warn!("{reason}; trying again");
                    said = Some(Instant::now());
                }
            }
        }
        if was_up && sink.send(SwitchEvent::Down).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = sink.closed() => return,
        }
    }
}

/// One connection, from its beginning to its end.
async fn watch(socket: &Path, node: &str, sink: &mpsc::Sender<SwitchEvent>, was_up: &mut bool) -> End {
    let lost = |status: tonic::Status| End::Lost(format!("heddle-switch: {}", status.message()));
    let mut client = match api::connect(socket, CALL_TIMEOUT).await {
        Ok(client) => client,
        Err(error) => return End::Lost(error.to_string()),
    };
    match client.describe(api::DescribeRequest {}).await {
        Ok(described) if described.get_ref().name != node => {
            let its = &described.get_ref().name;
            tracing::warn!("the switch calls its node {its}, --node says {node}: one of them is wrong");
        }
        Ok(_) => {}
        Err(status) => return lost(status),
    }
    let mut events = match client.watch_endpoints(api::WatchEndpointsRequest {}).await {
        Ok(events) => events.into_inner(),
        Err(status) => return lost(status),
    };
    let mut first = Some(Vec::new());
    loop {
        let event = tokio::select! {
            event = events.message() => event,
            () = sink.closed() => return End::Unheard,
        };
        let event = match event {
            Ok(Some(event)) => event.event,
            Ok(None) => return End::Lost("heddle-switch ended the watch of its endpoints".to_owned()),
            Err(status) => return lost(status),
        };
        let told = match (event, &mut first) {
            (Some(Event::Added(endpoint)), Some(first)) => {
                first.push(local(endpoint));
                continue;
            }
            (Some(Event::Synced(_)), endpoints) => {
                *was_up = true;
                SwitchEvent::Up(client.clone(), endpoints.take().unwrap_or_default())
            }
            (Some(Event::Added(endpoint)), None) => SwitchEvent::Added(local(endpoint)),
            (Some(Event::Removed(id)), None) => SwitchEvent::Removed(id),
            // Removed before all were named, or a newer switch's event: neither is for us.
            (Some(Event::Removed(_)), Some(_)) | (None, _) => continue,
        };
        if sink.send(told).await.is_err() {
            return End::Unheard;
        }
    }
}

fn local(endpoint: api::Endpoint) -> LocalEndpoint {
    let address = |text: &String| {
        let parsed = text.parse::<IpAddr>();
        parsed.inspect_err(|_| tracing::warn!(id = endpoint.id, text, "an endpoint's address is none")).ok()
    };
    let addresses = endpoint.addresses.iter().filter_map(address).collect();
    LocalEndpoint {
        pod: ObjectName::new(endpoint.pod_namespace, endpoint.pod_name),
        addresses,
        id: endpoint.id,
    }
}
