//! The daemon from start to end.

use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heddle_api::switch_server::SwitchServer;
use heddle_netdev::{NeighborEvents, Netlink};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::apply::Control;
use super::dataplane::{Dataplane, Shapes};
use super::error::StartError;
use super::facts::{NodeFacts, UplinkFacts};
use super::neighbors::Resolver;
use super::plane::{Plane, mode_name};
use super::segment::{self, Segment};
use super::service::SwitchService;
use super::uplink::{self, UplinkNews, UplinkWatch};
use super::{Store, forwarding, host, preflight, server};
use crate::config::{Config, UplinkMode};
use crate::tables::{self, AttachMode, HOST, Tunnel};

/// How often the daemon looks after interfaces that went away, and writes down routes that changed.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How long calls that are under way may take when the daemon is told to stop.
const LAST_CALLS: Duration = Duration::from_secs(3);

/// What has to be the daemon's own before it touches anything.
struct Claims {
    listener: UnixListener,
    _lock: File,
    _socket: RemoveOnDrop,
    store: Store,
}

/// The socket's file, which goes with the daemon.
struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs the daemon until it is told to stop.
pub fn run(config: &Config) -> Result<(), StartError> {
    preflight::check()?;
    let lock = preflight::lock(&config.state_dir)?;
    let store = Store::open(&config.state_dir)?;
    let listener = server::bind(&config.socket)?;
    let claims = Claims { listener, _lock: lock, _socket: RemoveOnDrop(config.socket.clone()), store };
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    // Sockets of netlink attach to the runtime they are opened in.
    let inside = runtime.enter();
    let (control, uplink) = set_up(config, claims.store.clone(), &runtime)?;
    let control = Arc::new(Mutex::new(control));
    tracing::info!(node = config.node, socket = %config.socket.display(), "ready");
    let served = runtime.block_on(serve(&claims, &control, uplink.as_ref()));
    // Ends the tasks, which hold on to `control`.
    drop(inside);
    runtime.shutdown_timeout(LAST_CALLS);
    if let Some(control) = Arc::into_inner(control).and_then(|control| control.into_inner().ok()) {
        control.finish().stop();
    } else {
        tracing::warn!("a call does not end; stopping without it");
    }
    tracing::info!(
        "stopped; flows in the flow cache go on, everything else of pods is dropped until the next start"
    );
    served
}

/// Everything up to the first call.
fn set_up(
    config: &Config,
    store: Store,
    runtime: &Runtime,
) -> Result<(Control<Plane>, Option<UplinkFacts>), StartError> {
    let netlink = Netlink::open()?;
    let mut uplink = runtime.block_on(read_uplink(&netlink, config))?;
    let facts = runtime.block_on(node_facts(&netlink, config, uplink.as_ref().map(|(facts, _)| facts)))?;
    if facts.segment.is_some() {
        // It is Linux's alone: there is no tunnel on it.
        uplink = None;
    }
    let host_link = runtime.block_on(host::set_up(&netlink, &facts))?;
    forwarding::turn_on(&store)?;
    let segment = runtime.block_on(join_segment(&netlink, &facts, host_link.index, &store))?;
    let mut plane = Plane::start(config, &facts, netlink, runtime.handle().clone())?;
    if let Some(segment) = segment {
        plane.join(segment);
    }
    let mut node = facts.node();
    if let Some((uplink, queues)) = &mut uplink {
        let (tunnel, ports) = match config.attach {
            AttachMode::Direct => {
                let (ports, mode) = plane.attach_uplink(uplink, *queues)?;
                uplink.xdp = mode_name(mode);
                (Tunnel::Switch, ports)
            }
            AttachMode::Cached => {
                let (ports, interface) = plane.attach_tunnel(uplink)?;
                (Tunnel::Kernel { interface }, ports)
            }
        };
        node.uplink = Some(uplink_tables(uplink, tunnel, ports));
    }
    let uplink = uplink.map(|(facts, _)| facts);
    let attached = plane.attach(host::SWITCH_SIDE, HOST, config.attach, Shapes::default())?;
    let facts = NodeFacts { uplink: uplink.clone(), ..facts };
    let mtu = facts.pod_mtu;
    let mut control = Control::new(plane, facts, node, config.policy, store)?;
    control.add_host(host_link.mac.unwrap_or_default(), mtu, &attached)?;
    control.restore()?;
    control.plane.translate()?;
    control.plane.settle();
    if config.attach == AttachMode::Cached
        && let Err(error) = host::offload()
    {
        tracing::warn!(%error, "the host's packets to pods are segmented early, which costs throughput");
    }
    Ok((control, uplink))
}

async fn read_uplink(netlink: &Netlink, config: &Config) -> Result<Option<(UplinkFacts, u32)>, StartError> {
    // The packet memory is anchored there.
    if let Some(lo) = netlink.find_link("lo").await?
        && !lo.up
    {
        netlink.set_up(&lo).await?;
    }
    match &config.uplink {
        Some(uplink) => uplink::read(netlink, uplink).await.map(Some),
        None => Ok(None),
    }
}

/// The node's part of the network its pods are in, if they are. What an earlier run has left of another mode goes.
async fn join_segment(
    netlink: &Netlink,
    facts: &NodeFacts,
    host: u32,
    store: &Store,
) -> Result<Option<Segment>, StartError> {
    let problem = |problem| StartError::Uplink { key: "mode", problem };
    match &facts.segment {
        Some(uplink) => Segment::set_up(facts, host, uplink, store).map(Some).map_err(problem),
        None => segment::tear_down(netlink, store).await.map(|()| None).map_err(problem),
    }
}

async fn node_facts(
    netlink: &Netlink,
    config: &Config,
    uplink: Option<&UplinkFacts>,
) -> Result<NodeFacts, StartError> {
    let mut addresses = Vec::new();
    for link in netlink.links().await? {
        addresses.extend(uplink::global_addresses(netlink, &link).await?);
    }
    let pod_mtu = uplink::pod_mtu(config, uplink)?;
    let is_routed = config.uplink.as_ref().is_some_and(|uplink| uplink.mode == UplinkMode::Routed);
    let (uplink, segment) = if is_routed { (None, uplink) } else { (uplink, None) };
    Ok(NodeFacts {
        name: config.node.clone(),
        pod_cidrs: config.pod_cidrs.clone(),
        cluster_cidrs: config.cluster_cidrs.clone(),
        addresses,
        pod_mtu,
        attach: config.attach,
        uplink: uplink.cloned(),
        segment: segment.cloned(),
    })
}

fn uplink_tables(uplink: &UplinkFacts, tunnel: Tunnel, ports: Vec<crate::ports::PortId>) -> tables::Uplink {
    tables::Uplink {
        tunnel,
        ports,
        mac: uplink.mac,
        address_v4: uplink.address_v4,
        address_v6: uplink.address_v6,
        vtep_mac: uplink.vtep_mac(),
        mtu: uplink.mtu,
    }
}

/// Answers calls until a signal says to stop.
async fn serve(
    claims: &Claims,
    control: &Arc<Mutex<Control<Plane>>>,
    uplink: Option<&UplinkFacts>,
) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Runtime)?;
    let listener = claims
        .listener
        .try_clone()
        .and_then(tokio::net::UnixListener::from_std)
        .map_err(StartError::Runtime)?;
    let (wanted, receiver) = watch::channel(vtep_addresses(control));
    if let Some(uplink) = uplink {
        let events = NeighborEvents::open()?;
        tokio::spawn(Resolver::new(uplink.index, Arc::clone(control))?.run(events, receiver));
    }
    tokio::spawn(keep_house(Arc::clone(control), uplink.map(UplinkWatch::new), claims.store.clone()));
    let watched = Arc::clone(control);
    let service = SwitchService::new(Arc::clone(control), move || {
        wanted.send_replace(vtep_addresses(&watched));
    });
    let incoming = futures_util::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut server = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(SwitchServer::new(service).max_decoding_message_size(heddle_api::MAX_MESSAGE))
            .serve_with_incoming_shutdown(incoming, async { drop(stopped.await) }),
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut server => tracing::error!(?ended, "the control socket failed; stopping"),
    }
    tracing::info!("stopping");
    drop(stop);
    // Their calls would last as long as the daemon.
    if let Ok(mut control) = control.lock() {
        control.hang_up();
    }
    if tokio::time::timeout(LAST_CALLS, server).await.is_err() {
        tracing::warn!("calls are still under way; stopping without them");
    }
    Ok(())
}

fn vtep_addresses(control: &Mutex<Control<Plane>>) -> Vec<std::net::IpAddr> {
    control.lock().map(|control| control.vtep_addresses()).unwrap_or_default()
}

/// Looks after what changes without a call.
async fn keep_house(control: Arc<Mutex<Control<Plane>>>, mut uplink: Option<UplinkWatch>, store: Store) {
    let netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(error) => return tracing::error!(%error, "interfaces are not watched"),
    };
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let news = match &mut uplink {
            Some(watch) => match netlink.find_link_by_index(watch.index()).await {
                Ok(link) => watch.look(link.as_ref()),
                Err(_) => None,
            },
            None => None,
        };
        let (control, store) = (Arc::clone(&control), store.clone());
        let work = move || {
            save_image(&control, &store);
            let Ok(mut control) = control.lock() else { return };
            control.forget_vanished();
            control.save_routes(false);
            if let Some(news) = news {
                tell(&mut control, &news);
            }
        };
        let _ = tokio::task::spawn_blocking(work).await;
    }
}

/// Writes the policy image if there is a new one, holding the lock only to find out.
fn save_image<D: Dataplane>(control: &Mutex<Control<D>>, store: &Store) {
    let image = control.lock().ok().and_then(|mut control| control.image_to_save(false));
    if let Some(image) = image
        && let Err(error) = store.save_image(&image)
    {
        tracing::warn!(%error, "the policy image on disk is out of date; the next one is written again");
    }
}

fn tell<D: Dataplane>(control: &mut Control<D>, news: &UplinkNews) {
    match news {
        UplinkNews::Mtu(mtu) => {
            tracing::warn!(mtu, "the uplink's MTU changed; restart heddle-switch, and pods, to follow it");
        }
        UplinkNews::Gone => {
            tracing::error!(
                "the uplink is gone, other nodes cannot be reached; restart heddle-switch once it is back"
            );
            if let Err(error) = control.lose_uplink() {
                tracing::warn!(%error, "the workers still use the uplink");
            }
        }
    }
}
