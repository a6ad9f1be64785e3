//! The service over a real socket: every kind of refusal is the status code that heddle.proto promises.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use heddle_api as api;
use heddle_api::switch_server::SwitchServer;
use tonic::Code;

use super::fake::{FakePlane, Rig, request};
use crate::control::{Control, SwitchService, bind};

/// A served rig and a client of it.
async fn serve() -> (api::Client, FakePlane, tempfile::TempDir) {
    let (client, plane, directory, _) = serve_rig(Rig::new(), Duration::ZERO).await;
    (client, plane, directory)
}

type Shared = Arc<Mutex<Control<FakePlane>>>;

pub(super) async fn serve_rig(
    rig: Rig,
    policy_wait: Duration,
) -> (api::Client, FakePlane, tempfile::TempDir, Shared) {
    let Rig { plane, control, directory, .. } = rig;
    let control = Arc::new(Mutex::new(control));
    let socket = directory.path().join("switch.sock");
    let listener = tokio::net::UnixListener::from_std(bind(&socket).unwrap()).unwrap();
    let incoming = futures_util::stream::unfold(listener, |listener| async {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    });
    let service = SwitchService::new(Arc::clone(&control), || ()).with_policy_wait(policy_wait);
    let service = SwitchServer::new(service).max_decoding_message_size(api::MAX_MESSAGE);
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(incoming));
    let client = api::connect(&socket, Duration::from_secs(5)).await.unwrap();
    (client, plane, directory, control)
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let (mut client, plane, _directory) = serve().await;
    client.add_endpoint(request(1)).await.unwrap();
    let mut code = async |request| client.add_endpoint(request).await.unwrap_err().code();
    assert_eq!(code(api::AddEndpointRequest { mtu: 9, ..request(2) }).await, Code::InvalidArgument);
    assert_eq!(code(api::AddEndpointRequest { mtu: 1400, ..request(1) }).await, Code::AlreadyExists);
    let gone = api::AddEndpointRequest { host_interface: "gone0".into(), ..request(2) };
    assert_eq!(code(gone).await, Code::FailedPrecondition);
    plane.notes().refuse_attach = true;
    assert_eq!(code(request(2)).await, Code::Unavailable);
    let route = api::Route { prefix: "10.244.2.0/24".into(), node: "n2".into() };
    let routes = api::UpdateRoutesRequest { set_routes: vec![route], ..api::UpdateRoutesRequest::default() };
    assert_eq!(client.update_routes(routes).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn everything_can_be_read() {
    let (mut client, _plane, _directory) = serve().await;
    client.add_endpoint(request(1)).await.unwrap();
    let node = client.describe(api::DescribeRequest {}).await.unwrap().into_inner();
    assert_eq!(node.gateways, ["169.254.1.1", "fe80::1"]);
    assert_eq!((node.gateway_mac.as_str(), node.pod_mtu), ("02:68:64:00:00:01", 1450));
    let vtep = node.vtep.unwrap();
    assert_eq!((vtep.address.as_str(), vtep.mac.as_str()), ("172.31.0.1", "02:76:ac:1f:00:01"));

    let endpoints = client.list_endpoints(api::ListEndpointsRequest {}).await.unwrap().into_inner().endpoints;
    assert_eq!(endpoints.len(), 1);
    let fib = client.list_fib(api::ListFibRequest {}).await.unwrap().into_inner().entries;
    let pod = fib.iter().find(|entry| entry.prefix == "10.244.1.1/32").unwrap();
    assert_eq!(pod.next_hop, Some(api::fib_entry::NextHop::Endpoint("pod1/eth0".into())));
    let status = client.get_status(api::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.endpoints, status.vni, status.uplink.as_str()), (1, 1, "eth0"));
    let drops = client.list_drops(api::ListDropsRequest {}).await.unwrap().into_inner().drops;
    assert_eq!(drops.len(), crate::DropReason::COUNT);
    assert_eq!(drops.iter().map(|drop| drop.packets).sum::<u64>(), 1);

    let mut stream = client.list_flows(api::ListFlowsRequest::default()).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_none());
    let unknown = api::ListFlowsRequest { endpoint: "nobody/eth0".into() };
    assert_eq!(client.list_flows(unknown).await.unwrap_err().code(), Code::NotFound);

    let remove = |id: &str| api::RemoveEndpointRequest { id: id.into() };
    assert!(client.remove_endpoint(remove("pod1/eth0")).await.unwrap().into_inner().removed);
    assert!(!client.remove_endpoint(remove("pod1/eth0")).await.unwrap().into_inner().removed);
}
