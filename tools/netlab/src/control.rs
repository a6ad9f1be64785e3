//! A switch's control socket for callers that do not run an async runtime: tests, the lab itself, the command line.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use heddle_api as api;
use tokio::runtime::Runtime;

/// How long a call may take. Attaching an endpoint waits for closed sockets to be let go of by the kernel.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a switch.
#[derive(Debug)]
pub struct Control {
    runtime: Runtime,
    client: api::Client,
}

impl Control {
    /// Connects to the switch that listens at `socket`.
    pub fn connect(socket: &Path) -> Result<Self> {
        let runtime = runtime()?;
        let client = runtime.block_on(api::connect(socket, CALL_TIMEOUT))?;
        Ok(Self { runtime, client })
    }

    /// Who the node is and how its pods are to be set up.
    pub fn describe(&mut self) -> Result<api::Node> {
        self.call(|mut client| async move { client.describe(api::DescribeRequest {}).await })
    }

    /// Health, workers, and where the frames are.
    pub fn status(&mut self) -> Result<api::Status> {
        self.call(|mut client| async move { client.get_status(api::GetStatusRequest {}).await })
    }

    /// The endpoints with their traffic.
    pub fn endpoints(&mut self) -> Result<Vec<api::Endpoint>> {
        let list = |mut client: api::Client| async move {
            client.list_endpoints(api::ListEndpointsRequest {}).await
        };
        Ok(self.call(list)?.endpoints)
    }

    /// Adds an endpoint whose interfaces are there.
    pub fn add_endpoint(&mut self, request: api::AddEndpointRequest) -> Result<api::Endpoint> {
        self.call(|mut client| async move { client.add_endpoint(request).await })
    }

    /// Removes an endpoint; its interfaces stay.
    pub fn remove_endpoint(&mut self, id: &str) -> Result<bool> {
        let id = id.to_owned();
        let remove = |mut client: api::Client| async move {
            client.remove_endpoint(api::RemoveEndpointRequest { id }).await
        };
        Ok(self.call(remove)?.removed)
    }

    /// The forwarding table.
    pub fn fib(&mut self) -> Result<Vec<api::FibEntry>> {
        let list = |mut client: api::Client| async move { client.list_fib(api::ListFibRequest {}).await };
        Ok(self.call(list)?.entries)
    }

    /// The connections that the switch remembers.
    pub fn flows(&mut self) -> Result<Vec<api::Flow>> {
        let list = |mut client: api::Client| async move {
            let mut parts = client.list_flows(api::ListFlowsRequest::default()).await?.into_inner();
            let mut flows = Vec::new();
            while let Some(part) = parts.message().await? {
                flows.extend(part.flows);
            }
            Ok(tonic::Response::new(flows))
        };
        self.call(list)
    }

    /// Every drop reason with its count.
    pub fn drops(&mut self) -> Result<Vec<api::Drop>> {
        let list = |mut client: api::Client| async move { client.list_drops(api::ListDropsRequest {}).await };
        Ok(self.call(list)?.drops)
    }

    /// How many packets were dropped for this reason.
    pub fn dropped(&mut self, reason: &str) -> Result<u64> {
        let drops = self.drops()?;
        let drop = drops.iter().find(|drop| drop.reason == reason);
        drop.map(|drop| drop.packets).with_context(|| format!("the switch knows no drop reason '{reason}'"))
    }

    /// Changes the routes towards other nodes.
    pub fn update_routes(&mut self, request: api::UpdateRoutesRequest) -> Result<u64> {
        let update = |mut client: api::Client| async move { client.update_routes(request).await };
        Ok(self.call(update)?.generation)
    }

    /// Waits until the frames are all accounted for and those held back after sockets closed are free again.
    pub fn settled_census(&mut self, timeout: Duration) -> Result<api::FrameCensus> {
        let deadline = Instant::now() + timeout;
        loop {
            let census = self.status()?.frames.context("the switch reported no frames")?;
            let places =
                census.free + census.receiving + census.sending + census.handoff + census.quarantined;
            if places == census.total && census.sending + census.handoff + census.quarantined == 0 {
                return Ok(census);
            }
            if Instant::now() > deadline {
                return Err(anyhow!("frames do not settle: {census:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn call<T, F>(&self, call: impl FnOnce(api::Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        match self.runtime.block_on(call(self.client.clone())) {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(anyhow!("heddle-switch: {}", status.message())),
        }
    }
}

/// A runtime for one caller: no threads of its own.
pub(crate) fn runtime() -> Result<Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.context("cannot start an async runtime")
}
