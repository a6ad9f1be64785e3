//! A switch without a dataplane: it answers on a socket as told and remembers what it was asked.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use heddle_api::switch_server::{Switch, SwitchServer};
use heddle_api::{
    AddEndpointRequest, DescribeRequest, Endpoint, ListDropsRequest, ListDropsResponse, ListEndpointsRequest,
    ListEndpointsResponse, ListFibRequest, ListFibResponse, Node, RemoveEndpointRequest,
    RemoveEndpointResponse, Status as SwitchStatus, UpdateRoutesRequest, UpdateRoutesResponse,
};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    RefusesAdd,
    FindsNoPolicy,
    HangsOnAdd,
    /// Until it is of another mood.
    WaitsOnAdd,
    RefusesRemove,
    RefusesBoth,
    KnowsNoModes,
}

pub(crate) struct State {
    pub(crate) mood: Mood,
    pub(crate) node: Node,
    pub(crate) endpoints: Vec<AddEndpointRequest>,
    pub(crate) removals: Vec<String>,
    /// An endpoint that it does not remove.
    pub(crate) stuck: Option<String>,
}

pub(crate) struct FakeSwitch {
    pub(crate) state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeSwitch {
    pub(crate) fn start(socket: &Path) -> Self {
        let node = Node {
            name: "n1".to_owned(),
            pod_cidrs: vec!["10.244.1.0/24".to_owned(), "fd00:10:244:1::/64".to_owned()],
            gateways: vec!["169.254.1.1".to_owned(), "fe80::1".to_owned()],
            gateway_mac: "02:68:64:00:00:01".to_owned(),
            pod_mtu: 1450,
            attach_mode: "direct".into(),
            vtep: None,
        };
        let state =
            State { mood: Mood::Good, node, endpoints: Vec::new(), removals: Vec::new(), stuck: None };
        let state = Arc::new(Mutex::new(state));
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (service, socket) = (Service(Arc::clone(&state)), socket.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(socket).unwrap();
                ready.send(()).unwrap();
                let connections = futures_util::stream::unfold(listener, |listener| async {
                    let connection = listener.accept().await.map(|(stream, _)| stream);
                    Some((connection, listener))
                });
                let server = tonic::transport::Server::builder().add_service(SwitchServer::new(service));
                // A hanging call must not outlive the test: the runtime's end drops it.
                tokio::select! {
                    end = server.serve_with_incoming(connections) => end.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self { state, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for FakeSwitch {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Service(Arc<Mutex<State>>);

fn endpoint(request: &AddEndpointRequest) -> Endpoint {
    Endpoint {
        id: request.id.clone(),
        host_interface: request.host_interface.clone(),
        mac: request.mac.clone(),
        addresses: request.addresses.clone(),
        attach_mode: request.attach_mode.clone(),
        port_mappings: request.port_mappings.clone(),
        bandwidth: request.bandwidth,
        ..Endpoint::default()
    }
}

#[tonic::async_trait]
impl Switch for Service {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<Node>, Status> {
        Ok(Response::new(self.0.lock().unwrap().node.clone()))
    }

    async fn add_endpoint(&self, request: Request<AddEndpointRequest>) -> Result<Response<Endpoint>, Status> {
        let request = request.into_inner();
        let mood = {
            let mut state = self.0.lock().unwrap();
            if !matches!(state.mood, Mood::RefusesAdd | Mood::FindsNoPolicy | Mood::RefusesBoth) {
                state.endpoints.push(request.clone());
            }
            state.mood
        };
        match mood {
            Mood::RefusesAdd | Mood::RefusesBoth => {
                Err(Status::failed_precondition("the worker has no frames left"))
            }
            Mood::FindsNoPolicy => Err(Status::unavailable("no policy image names pod shop/web-0")),
            Mood::HangsOnAdd => std::future::pending().await,
            Mood::WaitsOnAdd => {
                while self.0.lock().unwrap().mood == Mood::WaitsOnAdd {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                Ok(Response::new(endpoint(&request)))
            }
            Mood::Good | Mood::RefusesRemove => Ok(Response::new(endpoint(&request))),
            Mood::KnowsNoModes => {
                let told = endpoint(&request);
                Ok(Response::new(Endpoint {
                    attach_mode: "direct".to_owned(),
                    port_mappings: Vec::new(),
                    bandwidth: None,
                    ..told
                }))
            }
        }
    }

    async fn remove_endpoint(
        &self,
        request: Request<RemoveEndpointRequest>,
    ) -> Result<Response<RemoveEndpointResponse>, Status> {
        let id = request.into_inner().id;
        let mut state = self.0.lock().unwrap();
        state.removals.push(id.clone());
        if matches!(state.mood, Mood::RefusesRemove | Mood::RefusesBoth)
            || state.stuck.as_ref().is_some_and(|stuck| *stuck == id)
        {
            return Err(Status::internal("the socket does not close"));
        }
        let before = state.endpoints.len();
        state.endpoints.retain(|endpoint| endpoint.id != id);
        Ok(Response::new(RemoveEndpointResponse { removed: state.endpoints.len() < before }))
    }

    async fn list_endpoints(
        &self,
        _: Request<ListEndpointsRequest>,
    ) -> Result<Response<ListEndpointsResponse>, Status> {
        let endpoints = self.0.lock().unwrap().endpoints.iter().map(endpoint).collect();
        Ok(Response::new(ListEndpointsResponse { endpoints }))
    }

    async fn update_routes(
        &self,
        _: Request<UpdateRoutesRequest>,
    ) -> Result<Response<UpdateRoutesResponse>, Status> {
        Err(Status::unimplemented("a CNI plugin has no business with routes"))
    }

    async fn list_fib(&self, _: Request<ListFibRequest>) -> Result<Response<ListFibResponse>, Status> {
        Err(Status::unimplemented("a CNI plugin has no business with the FIB"))
    }

    async fn get_status(
        &self,
        _: Request<heddle_api::GetStatusRequest>,
    ) -> Result<Response<SwitchStatus>, Status> {
        Err(Status::unimplemented("a CNI plugin has no business with the status"))
    }

    type ListFlowsStream = futures_util::stream::Empty<Result<heddle_api::ListFlowsResponse, Status>>;

    async fn list_flows(
        &self,
        _: Request<heddle_api::ListFlowsRequest>,
    ) -> Result<Response<Self::ListFlowsStream>, Status> {
        Err(Status::unimplemented("a CNI plugin has no business with flows"))
    }

    async fn set_policy(
        &self,
        _: Request<heddle_api::SetPolicyRequest>,
    ) -> Result<Response<heddle_api::SetPolicyResponse>, Status> {
        Err(Status::unimplemented("a CNI plugin has no business with policy"))
    }

    type WatchEndpointsStream = futures_util::stream::Empty<Result<heddle_api::EndpointEvent, Status>>;

    async fn watch_endpoints(
        &self,
        _: Request<heddle_api::WatchEndpointsRequest>,
    ) -> Result<Response<Self::WatchEndpointsStream>, Status> {
        Err(Status::unimplemented("a CNI plugin watches nothing"))
    }

    async fn list_drops(&self, _: Request<ListDropsRequest>) -> Result<Response<ListDropsResponse>, Status> {
        Err(Status::unimplemented("a CNI plugin has no business with drops"))
    }
}
