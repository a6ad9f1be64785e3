//! A node: the switch's control side over tables that no packet is looked up in, a directory of manifests, and agents.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use heddle_agent::{DirectorySource, Options, SourceError, run};
use heddle_api as api;
use heddle_api::switch_server::SwitchServer;
use heddle_image::{Direction, Protocol};
use heddle_switch::DropReason;
use heddle_switch::config::PolicyMode;
use heddle_switch::control::{
    Attached, Control, ControlError, Dataplane, Forward, NodeFacts, Shapes, Store, SwitchService, bind,
};
use heddle_switch::ports::PortId;
use heddle_switch::tables::conntrack::Flow;
use heddle_switch::tables::{AttachMode, EndpointNumber, EndpointPolicy, NextHop, Tables};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Lets pods with `app: web` into pods with `app: db` of namespace shop, and nobody else.
pub(crate) const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
";

/// Long enough for a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn pod(name: &str, app: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {app}}}}}\n"
    )
}

/// A dataplane that keeps what is published.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<(Tables, u32)>>);

impl Shown {
    fn lock(&self) -> MutexGuard<'_, (Tables, u32)> {
        self.0.lock().unwrap()
    }
}

impl Dataplane for Shown {
    fn interface_index(&self, _: &str) -> Option<u32> {
        Some(7)
    }

    fn attach(
        &mut self,
        _: &str,
        _: EndpointNumber,
        _: AttachMode,
        _: Shapes,
    ) -> Result<Attached, ControlError> {
        self.lock().1 += 1;
        let serial = self.lock().1;
        let port = PortId { worker: 0, slot: serial as u16, serial };
        Ok(Attached { port, stats: Arc::default(), cached: None, detour: None })
    }

    fn detach(&mut self, _: EndpointNumber) -> Result<(), ControlError> {
        Ok(())
    }

    fn announce(&mut self, _: &[IpAddr]) -> Result<(), ControlError> {
        Ok(())
    }

    fn withdraw(&mut self, _: &[IpAddr]) {}

    fn map_ports(&mut self, _: &[Forward]) -> Result<(), ControlError> {
        Ok(())
    }

    fn unmap_ports(&mut self, _: &[Forward]) {}

    fn publish(&mut self, tables: Tables, _: &[NextHop]) -> Result<u64, ControlError> {
        let generation = tables.generation;
        self.lock().0 = tables;
        Ok(generation)
    }

    fn generation(&self) -> u64 {
        self.lock().0.generation
    }

    fn workers(&self) -> Vec<api::Worker> {
        Vec::new()
    }

    fn flow_cache(&self) -> Option<api::FlowCache> {
        None
    }

    fn census(&self) -> Result<api::FrameCensus, ControlError> {
        Ok(api::FrameCensus::default())
    }

    fn flows(&self) -> Result<Vec<Flow>, ControlError> {
        Ok(Vec::new())
    }

    fn drops(&self, _: DropReason) -> u64 {
        0
    }
}

pub(crate) struct Node {
    directory: TempDir,
    shown: Shown,
    control: Option<Arc<Mutex<Control<Shown>>>>,
    server: JoinHandle<()>,
    client: api::Client,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(PolicyMode::Enforced).await
    }

    pub(crate) async fn with(mode: PolicyMode) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("manifests")).unwrap();
        Self::serve(directory, mode).await
    }

    async fn serve(directory: TempDir, mode: PolicyMode) -> Self {
        let shown = Shown::default();
        let facts = NodeFacts {
            name: "n1".into(),
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            addresses: vec!["172.31.0.1".parse().unwrap()],
            pod_mtu: 1450,
            attach: AttachMode::Direct,
            uplink: None,
            segment: None,
        };
        let (tables, store) =
            (heddle_switch::tables::Node::default(), Store::open(directory.path()).unwrap());
        let mut control = Control::new(shown.clone(), facts, tables, mode, store).unwrap();
        control.restore().unwrap();
        let control = Arc::new(Mutex::new(control));
        let service = SwitchService::new(Arc::clone(&control), || ()).with_policy_wait(PATIENCE / 4);
        let socket = directory.path().join("switch.sock");
        let listener = tokio::net::UnixListener::from_std(bind(&socket).unwrap()).unwrap();
        let incoming = futures_util::stream::unfold(listener, |listener| async {
            Some((listener.accept().await.map(|(stream, _)| stream), listener))
        });
        let service = SwitchServer::new(service).max_decoding_message_size(api::MAX_MESSAGE);
        let serve = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
        let server = tokio::spawn(async { serve.await.unwrap() });
        let client = api::connect(&socket, PATIENCE).await.unwrap();
        Self { directory, shown, control: Some(control), server, client }
    }

    /// As when the daemon is killed and started again.
    pub(crate) async fn restart_switch(&mut self) {
        self.server.abort();
        let control = self.control.take().unwrap();
        // As the daemon does when it ends: its watchers hear of it, and the image is on disk.
        control.lock().unwrap().hang_up();
        let image = control.lock().unwrap().image_to_save(true);
        Store::open(self.directory.path()).unwrap().save_image(&image.unwrap()).unwrap();
        std::fs::remove_file(self.directory.path().join("switch.sock")).unwrap();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        *self = Self::serve(directory, PolicyMode::Enforced).await;
    }

    pub(crate) fn agent(&self) -> JoinHandle<Result<(), SourceError>> {
        let options = Options { socket: self.directory.path().join("switch.sock"), node: "n1".into() };
        tokio::spawn(run(options, DirectorySource::new(vec![self.manifests()]).unwrap()))
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.manifests().join(name), text).unwrap();
    }

    /// Adds endpoint `n`, which is pod shop/NAME, at address `n`.
    pub(crate) async fn add(&self, n: u8, name: &str) -> Result<api::Endpoint, tonic::Status> {
        self.add_at(n, name, n).await
    }

    pub(crate) async fn add_at(
        &self,
        n: u8,
        name: &str,
        address: u8,
    ) -> Result<api::Endpoint, tonic::Status> {
        let request = api::AddEndpointRequest {
            id: format!("c{n}/eth0"),
            host_interface: format!("veth{n}"),
            mac: format!("02:00:00:00:00:{n:02x}"),
            addresses: vec![format!("10.244.1.{address}")],
            pod_namespace: "shop".into(),
            pod_name: name.into(),
            ..api::AddEndpointRequest::default()
        };
        self.client.clone().add_endpoint(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn remove(&self, n: u8) {
        let request = api::RemoveEndpointRequest { id: format!("c{n}/eth0") };
        assert!(self.client.clone().remove_endpoint(request).await.unwrap().into_inner().removed);
    }

    pub(crate) fn tables(&self) -> Tables {
        self.shown.lock().0.clone()
    }

    /// Whether the endpoint with this address lets the other one in, by what the workers would look up.
    pub(crate) fn allows(&self, from: u8, to: u8) -> bool {
        let tables = self.tables();
        let address = |n: u8| std::net::IpAddr::from([10, 244, 1, n]);
        let by_address: HashMap<_, _> =
            tables.endpoints.iter().map(|(_, endpoint)| (endpoint.addresses[0], endpoint.policy)).collect();
        let image = &tables.policy.image;
        match by_address[&address(to)] {
            EndpointPolicy::Class(class) => {
                let peer = image.peer_class(address(from));
                image.allows(class, Direction::Ingress, peer, Protocol::Tcp, 80)
            }
            EndpointPolicy::Open | EndpointPolicy::Closed => false,
        }
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "it never comes to hold");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}
