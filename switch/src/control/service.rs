//! The gRPC service: a translation, and the hand-over to threads that may wait.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use heddle_api as api;
use heddle_api::switch_server::Switch;
use heddle_image::Image;
use tonic::{Request, Response, Status};

use super::ControlError;
use super::apply::Control;
use super::awaited::{Awaited, POLICY_WAIT};
use super::dataplane::Dataplane;
use super::watchers::EndpointEvents;

/// Flows in one message of a list: some 150 kB, of the 4 MB that gRPC clients take by default.
const FLOWS_A_MESSAGE: usize = 1000;

/// Serves the control socket.
pub struct SwitchService<D> {
    control: Arc<Mutex<Control<D>>>,
    /// Called after every change of routes.
    routes_changed: Arc<dyn Fn() + Send + Sync>,
    /// How long an ADD waits for its policy.
    policy_wait: Duration,
    /// Held while an image is decoded and put in force: they take effect in the order they came.
    policy_turn: Arc<tokio::sync::Mutex<()>>,
}

impl<D: Dataplane + 'static> SwitchService<D> {
    /// Serves `control`; `routes_changed` is called after VTEPs or routes changed.
    pub fn new(control: Arc<Mutex<Control<D>>>, routes_changed: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            control,
            routes_changed: Arc::new(routes_changed),
            policy_wait: POLICY_WAIT,
            policy_turn: Arc::default(),
        }
    }

    /// As it is, with another bound on the time an ADD waits for its policy.
    #[must_use]
    pub fn with_policy_wait(self, policy_wait: Duration) -> Self {
        Self { policy_wait, ..self }
    }

    /// Runs `work` where it may wait for the kernel, for workers and for other calls. It runs to its end even when the
    /// client hangs up.
    async fn call<T, E>(
        &self,
        work: impl FnOnce(&mut Control<D>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Status>
    where
        T: Send + 'static,
        E: Into<Status> + Send + 'static,
    {
        let control = Arc::clone(&self.control);
        let work = move || match control.lock() {
            Ok(mut control) => work(&mut control).map_err(Into::into),
            Err(_) => Err(broken()),
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(broken()))
    }

    /// As `call`, for what only looks.
    async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Control<D>) -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.call(|control| Ok::<_, Status>(work(control))).await
    }
}

/// A call panicked, this one or one before it, so the state cannot be trusted.
pub(super) fn broken() -> Status {
    Status::internal("a call failed in a way that should not happen; restart heddle-switch")
}

#[tonic::async_trait]
impl<D: Dataplane + 'static> Switch for SwitchService<D> {
    async fn describe(&self, _: Request<api::DescribeRequest>) -> Result<Response<api::Node>, Status> {
        self.look(|control| control.describe()).await.map(Response::new)
    }

    async fn add_endpoint(
        &self,
        request: Request<api::AddEndpointRequest>,
    ) -> Result<Response<api::Endpoint>, Status> {
        let request = request.into_inner();
        let shared = Arc::clone(&self.control);
        let added = self.call(move |control| {
            let id = request.id.clone();
            let ours = !control.has_endpoint(&id);
            let endpoint = control.add_endpoint(request)?;
            Ok::<_, ControlError>((endpoint, Awaited::new(&shared, control, &id, ours)))
        });
        match added.await? {
            (endpoint, None) => Ok(Response::new(endpoint)),
            (_, Some(awaited)) => awaited.in_force(self.policy_wait).await.map(Response::new),
        }
    }

    async fn remove_endpoint(
        &self,
        request: Request<api::RemoveEndpointRequest>,
    ) -> Result<Response<api::RemoveEndpointResponse>, Status> {
        let id = request.into_inner().id;
        let removed = self.call(move |control| control.remove_endpoint(&id)).await?;
        Ok(Response::new(api::RemoveEndpointResponse { removed }))
    }

    type WatchEndpointsStream = BoxStream<'static, Result<api::EndpointEvent, Status>>;

    async fn watch_endpoints(
        &self,
        _: Request<api::WatchEndpointsRequest>,
    ) -> Result<Response<Self::WatchEndpointsStream>, Status> {
        let events = self.call(Control::watch_endpoints).await?;
        let stream = stream::unfold(events, |mut events: EndpointEvents| async {
            Some((events.recv().await?.map_err(Status::from), events))
        });
        Ok(Response::new(stream.boxed()))
    }

    async fn set_policy(
        &self,
        request: Request<api::SetPolicyRequest>,
    ) -> Result<Response<api::SetPolicyResponse>, Status> {
        let bytes = request.into_inner().image;
        let turn = Arc::clone(&self.policy_turn).lock_owned().await;
        // Without the control lock: this takes milliseconds for a large cluster.
        let decode = move || Image::decode(&bytes).map(|image| (image, bytes));
        let decoded = tokio::task::spawn_blocking(decode).await.map_err(|_| broken())?;
        let (image, bytes) = decoded.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let set = move |control: &mut Control<D>| {
            // The turn ends with the work, not with the caller's patience: a later image must not be overtaken.
            let _turn = turn;
            control.set_policy(image, bytes)
        };
        self.call(set).await.map(Response::new)
    }

    async fn list_endpoints(
        &self,
        _: Request<api::ListEndpointsRequest>,
    ) -> Result<Response<api::ListEndpointsResponse>, Status> {
        let endpoints = self.look(|control| control.list_endpoints()).await?;
        Ok(Response::new(api::ListEndpointsResponse { endpoints }))
    }

    async fn update_routes(
        &self,
        request: Request<api::UpdateRoutesRequest>,
    ) -> Result<Response<api::UpdateRoutesResponse>, Status> {
        let request = request.into_inner();
        let generation = self.call(|control| control.update_routes(request)).await?;
        (self.routes_changed)();
        Ok(Response::new(api::UpdateRoutesResponse { generation }))
    }

    async fn list_fib(
        &self,
        _: Request<api::ListFibRequest>,
    ) -> Result<Response<api::ListFibResponse>, Status> {
        let entries = self.look(|control| control.list_fib()).await?;
        Ok(Response::new(api::ListFibResponse { entries }))
    }

    async fn get_status(&self, _: Request<api::GetStatusRequest>) -> Result<Response<api::Status>, Status> {
        self.call(|control| control.status()).await.map(Response::new)
    }

    type ListFlowsStream = BoxStream<'static, Result<api::ListFlowsResponse, Status>>;

    async fn list_flows(
        &self,
        request: Request<api::ListFlowsRequest>,
    ) -> Result<Response<Self::ListFlowsStream>, Status> {
        let endpoint = request.into_inner().endpoint;
        let flows = self.call(move |control| control.list_flows(&endpoint)).await?;
        let parts = stream::iter(flows).chunks(FLOWS_A_MESSAGE);
        Ok(Response::new(parts.map(|flows| Ok(api::ListFlowsResponse { flows })).boxed()))
    }

    async fn list_drops(
        &self,
        _: Request<api::ListDropsRequest>,
    ) -> Result<Response<api::ListDropsResponse>, Status> {
        let drops = self.look(|control| control.list_drops()).await?;
        Ok(Response::new(api::ListDropsResponse { drops }))
    }
}
