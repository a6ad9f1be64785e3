//! Raising a lab, changing it, and taking it down.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use heddle_api as api;
use heddle_netdev::{Netns, delete_named};

use crate::cni::Plugin;
use crate::control::Control;
use crate::daemon::{self, Files};
use crate::lock::{Lock, WhenTaken};
use crate::manifests::Described;
use crate::names::Name;
use crate::namespace::Namespace;
use crate::observer::{Observer, Step};
use crate::peer::LinuxVxlanPeer;
use crate::spec::{AttachMode, LabSpec, node_addresses};
use crate::state::{LOCK_FILE, NodeState, PodState, STATE_DIR, State};
use crate::{agent, binaries, parallel, ready, teardown, wire};

/// A lab that is up. The one who raised it takes it down by dropping it, unless [`Lab::keep`] leaves it up.
#[derive(Debug)]
pub struct Lab {
    state: Mutex<State>,
    /// Present while the lab is ours to take down.
    ownership: Option<Lock>,
}

/// A pod: what is known of it, and its namespace.
#[derive(Debug, Clone)]
pub struct Pod {
    /// What the plugin answered.
    pub state: PodState,
    /// Where its programs run.
    pub namespace: Namespace,
}

/// A node: what is known of it, and its namespace.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its addresses, its switch.
    pub state: NodeState,
    /// Where the node's own programs run.
    pub namespace: Namespace,
}

impl Lab {
    /// Raises a lab. When this returns, everybody in it reaches everybody. Whatever fails, or when the observer says that it was interrupted, everything made is taken down.
    pub fn up(spec: &LabSpec, observer: &mut dyn Observer) -> Result<Self> {
        spec.validate()?;
        ensure!(
            rustix::process::geteuid().is_root(),
            "a lab needs root, for network namespaces, BPF and AF_XDP"
        );
        let switch = binaries::find("heddle-switch")?;
        binaries::find("heddle-cni")?;
        let agent = binaries::find("heddle-agent")?;
        let lock = Lock::take(Path::new(LOCK_FILE), WhenTaken::Fail)?;
        if let Some(trace) = teardown::find_trace()? {
            bail!("a lab is up, or was not taken down ({trace} is there): run 'heddle lab down'");
        }
        let mut spec = spec.clone();
        // The agents, and whoever looks later, may be anywhere.
        spec.manifests = spec.manifests.map(std::fs::canonicalize).transpose()?;
        let state = Mutex::new(State::new(spec));
        let lab = Self { state, ownership: Some(lock) };
        lab.build(&switch, &agent, observer)?;
        lab.update(|state| state.complete = true)?;
        Ok(lab)
    }

    /// The lab that somebody has raised. Dropping the result leaves it up.
    pub fn open() -> Result<Self> {
        Ok(Self { state: Mutex::new(State::current()?), ownership: None })
    }

    /// Leaves the lab up.
    pub fn keep(mut self) -> Result<()> {
        self.update(|state| state.kept = true)?;
        self.ownership = None;
        Ok(())
    }

    /// Takes the lab down, and reports what could not be.
    pub fn down(mut self, observer: &mut dyn Observer) -> Result<()> {
        let ownership = self.ownership.take();
        ensure!(ownership.is_some(), "only who raised a lab takes it down this way: run 'heddle lab down'");
        teardown::take_down(observer)
    }

    /// What is known of the lab.
    pub fn state(&self) -> State {
        self.lock_state().clone()
    }

    /// The pod of this name.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        let state = self.lock_state().pod(name.parse()?)?.clone();
        Ok(Pod { namespace: Namespace::of(state.name), state })
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Result<Node> {
        let state = self.lock_state().node(name.parse()?)?.clone();
        Ok(Node { namespace: Namespace::of(state.name), state })
    }

    /// The namespace of the wire, where the world's addresses are.
    pub fn world(&self) -> Namespace {
        Namespace::of(Name::Wire)
    }

    /// Adds pods, several at a time. When one cannot be added, those that could are taken away again.
    pub fn add_pods(&self, names: &[Name]) -> Result<Vec<Pod>> {
        let mut added = Vec::new();
        let mut failure = None;
        let described = self.lock_state().directories().described()?;
        for result in parallel::map(names, |name| self.attach(*name, &described)) {
            match result {
                Ok(pod) => added.push(pod),
                Err(error) => failure = Some(failure.unwrap_or(error)),
            }
        }
        if let Some(failure) = failure {
            let back = parallel::map(&added, |pod| self.detach(pod.name));
            let back = back.into_iter().collect::<Result<Vec<()>>>();
            return Err(back.err().map_or(failure, |error| error.context("and could not go back")));
        }
        self.update(|state| {
            state.pods.extend(added.iter().cloned());
            state.pods.sort_by_key(|pod| pod.name);
        })?;
        Ok(added.into_iter().map(|state| Pod { namespace: Namespace::of(state.name), state }).collect())
    }

    /// Takes pods away, several at a time.
    pub fn delete_pods(&self, names: &[Name]) -> Result<()> {
        let results = parallel::map(names, |name| self.detach(*name).map(|()| *name));
        let gone: Vec<Name> = results.iter().filter_map(|result| result.as_ref().ok().copied()).collect();
        self.update(|state| state.pods.retain(|pod| !gone.contains(&pod.name)))?;
        results.into_iter().collect::<Result<Vec<_>>>().map(drop)
    }

    /// Adds a node that has Linux's vxlan device instead of a switch, and tells the switches. When this returns, they
    /// forward to it.
    pub fn add_linux_peer(&self, number: u8) -> Result<LinuxVxlanPeer> {
        let peer = LinuxVxlanPeer::create(number, &self.state().spec, &self.describe_nodes()?)?;
        for node in &self.state().nodes {
            let request = api::UpdateRoutesRequest {
                set_vteps: vec![peer.vtep()],
                set_routes: peer.routes(),
                ..api::UpdateRoutesRequest::default()
            };
            Control::connect(&node.socket)?.update_routes(request)?;
        }
        ready::await_addresses(&[peer.namespace.name()], &())?;
        ready::await_next_hops(&self.state().nodes, &())?;
        Ok(peer)
    }

    fn build(&self, switch: &Path, agent: &Path, observer: &mut dyn Observer) -> Result<()> {
        let spec = self.lock_state().spec.clone();
        std::fs::create_dir(STATE_DIR).with_context(|| format!("cannot make {STATE_DIR}"))?;
        self.update(|_| {})?;
        self.lock_state().directories().prepare(Path::new(STATE_DIR))?;
        begin(observer, Step::Wire)?;
        wire::create()?;
        for number in 1..=spec.nodes {
            begin(observer, Step::Node(Name::Node(number)))?;
            self.raise_node(switch, agent, &spec, number, observer)
                .with_context(|| format!("node {} did not come up", Name::Node(number)))?;
        }
        begin(observer, Step::Routes)?;
        if !spec.routed {
            self.connect_nodes()?;
        }
        let pods: Vec<Name> = (1..=spec.nodes)
            .flat_map(|node| (1..=spec.pods_per_node).map(move |pod| Name::Pod(node, pod)))
            .collect();
        // In portions, so that an interrupt is soon heeded.
        let mut done = 0;
        for portion in pods.chunks(parallel::AT_ONCE) {
            begin(observer, Step::Pods(done, pods.len()))?;
            self.add_pods(portion)?;
            done += portion.len();
        }
        begin(observer, Step::Pods(done, pods.len()))?;
        // Last: the kernel has been asking while the pods were made.
        begin(observer, Step::NextHops)?;
        let nodes = (1..=spec.nodes).map(Name::Node);
        let all: Vec<Name> = nodes.chain(pods).chain([Name::Wire]).collect();
        ready::await_addresses(&all, observer)?;
        ready::await_next_hops(&self.state().nodes, observer)
    }

    fn raise_node(
        &self,
        switch: &Path,
        agent: &Path,
        spec: &LabSpec,
        number: u8,
        observer: &dyn Observer,
    ) -> Result<()> {
        let name = Name::Node(number);
        let files = Files::of(Path::new(STATE_DIR), name);
        wire::create_namespace(name)?;
        wire::attach(name, number)?;
        files.prepare()?;
        let process = daemon::start(switch, spec, number, &files)?;
        // Recorded before it is waited for: should we die now, it is found.
        self.update(|state| {
            state.nodes.push(NodeState {
                name,
                namespace: name.namespace(),
                addresses: node_addresses(number).map(|address| address.addr()).to_vec(),
                pod_cidrs: spec.pod_cidrs(number).to_vec(),
                attach_mode: None,
                socket: files.socket.clone(),
                switch: process,
                agent: None,
            });
        })?;
        let manifests = self.lock_state().directories();
        let agent = agent::start(agent, name, &files, &manifests)?;
        self.update_node(name, |node| node.agent = Some(agent))?;
        let mut control = daemon::wait_ready(process, &files, observer)?;
        let mode: AttachMode = control.describe()?.attach_mode.parse()?;
        self.update_node(name, |node| node.attach_mode = Some(mode))?;
        agent::wait_ready(agent, &files, &mut control, observer)
    }

    /// Tells every switch where the others are.
    fn connect_nodes(&self) -> Result<()> {
        let described = self.describe_nodes()?;
        for (node, _) in &described {
            let others = || described.iter().filter(|(other, _)| other.name != node.name);
            let set_vteps: Vec<api::Vtep> = others().map(|(_, vtep)| vtep.clone()).collect();
            let set_routes = others().flat_map(|(other, _)| routes_to(other)).collect();
            let request =
                api::UpdateRoutesRequest { replace: true, set_vteps, set_routes, ..Default::default() };
            Control::connect(&node.socket)?
                .update_routes(request)
                .with_context(|| format!("routes of {}", node.name))?;
        }
        Ok(())
    }

    fn describe_nodes(&self) -> Result<Vec<(NodeState, api::Vtep)>> {
        let nodes = self.lock_state().nodes.clone();
        let describe = |node: NodeState| {
            let vtep = Control::connect(&node.socket)?.describe()?.vtep;
            let vtep = vtep.with_context(|| format!("the switch of {} has no uplink", node.name))?;
            Ok((node, vtep))
        };
        nodes.into_iter().map(describe).collect()
    }

    fn attach(&self, name: Name, described: &Described) -> Result<PodState> {
        let plugin = self.plugin(name)?;
        let (directories, namespace) = (self.lock_state().directories(), described.namespace(name));
        wire::create_namespace(name)?;
        let added = directories.announce(name, described).and_then(|()| {
            let pod = plugin.add(name, namespace, &described.annotations(name))?;
            directories.place(name, namespace, &pod.addresses)?;
            Ok((pod, self.attach_mode(name)?))
        });
        match added {
            Ok((pod, attach_mode)) => Ok(PodState {
                name,
                namespace: name.namespace(),
                pod_namespace: namespace.to_owned(),
                addresses: pod.addresses,
                mac: pod.mac,
                host_interface: pod.host_interface,
                mtu: pod.mtu,
                attach_mode,
            }),
            Err(error) => {
                // A runtime does the same: DEL after a failed ADD. The first error is the one to tell.
                let _ = plugin.del(name);
                let _ = directories.remove(name);
                let _ = delete_named(&name.namespace());
                Err(error)
            }
        }
    }

    /// How the switch has attached a pod: it has the last word, and the plugin's answer does not tell.
    fn attach_mode(&self, pod: Name) -> Result<AttachMode> {
        let socket = self.lock_state().node(node_of(pod)?)?.socket.clone();
        let (id, endpoints) = (Plugin::endpoint_id(pod), Control::connect(&socket)?.endpoints()?);
        let endpoint = endpoints.iter().find(|endpoint| endpoint.id == id);
        Ok(endpoint.with_context(|| format!("the switch does not know {pod}"))?.attach_mode.parse()?)
    }

    fn detach(&self, name: Name) -> Result<()> {
        self.plugin(name)?.del(name)?;
        self.lock_state().directories().remove(name)?;
        ensure!(delete_named(&name.namespace())?, "the lab has no pod {name}");
        Ok(())
    }

    fn plugin(&self, pod: Name) -> Result<Plugin> {
        let node = node_of(pod)?;
        self.lock_state().node(node)?;
        Ok(Plugin::of_node(&binaries::find("heddle-cni")?, node))
    }

    pub(crate) fn update_node(&self, name: Name, change: impl FnOnce(&mut NodeState)) -> Result<()> {
        self.update(|state| {
            if let Some(node) = state.nodes.iter_mut().find(|node| node.name == name) {
                change(node);
            }
        })
    }

    fn update(&self, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut state = self.lock_state();
        change(&mut state);
        state.store(Path::new(STATE_DIR))
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        // Every change is made in one step, so a panic elsewhere leaves the record whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.ownership.is_some()
            && let Err(error) = teardown::take_down(&mut ())
        {
            eprintln!("the lab could not be taken down completely: {error:#}");
        }
    }
}

impl Pod {
    /// Its IPv4 or IPv6 address.
    pub fn address(&self, v6: bool) -> Result<std::net::IpAddr> {
        crate::spec::of_family(&self.state.addresses, v6)
    }

    /// Sets the MTU of both ends of its interface, so that the pod sends packets the switch was not told of.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        let ends = [
            (Namespace::of(node_of(self.state.name)?), self.state.host_interface.as_str()),
            (self.namespace, "eth0"),
        ];
        for (namespace, interface) in ends {
            wire::in_namespace(&Netns::open(namespace.path())?, async |netlink| {
                Ok(netlink.set_mtu(&netlink.link(interface).await?, mtu).await?)
            })?;
        }
        Ok(())
    }
}

impl Node {
    /// Its IPv4 or IPv6 address on the wire.
    pub fn address(&self, v6: bool) -> Result<std::net::IpAddr> {
        crate::spec::of_family(&self.state.addresses, v6)
    }

    /// Its switch.
    pub fn control(&self) -> Result<Control> {
        Control::connect(&self.state.socket)
    }
}

/// The node that a pod is on.
fn node_of(pod: Name) -> Result<Name> {
    let Name::Pod(node, _) = pod else { bail!("'{pod}' is not a pod's name") };
    Ok(Name::Node(node))
}

/// What lives behind a node's tunnel end: its pods, and the node itself, so that what passes between a pod and a remote
/// node takes the same way in both directions.
fn routes_to(node: &NodeState) -> Vec<api::Route> {
    let hosts = node.addresses.iter().map(|address| ipnet::IpNet::from(*address));
    let prefixes = node.pod_cidrs.iter().copied().chain(hosts);
    prefixes.map(|prefix| api::Route { prefix: prefix.to_string(), node: node.name.to_string() }).collect()
}

fn begin(observer: &mut dyn Observer, step: Step) -> Result<()> {
    ensure!(!observer.is_interrupted(), "interrupted");
    observer.step(step);
    Ok(())
}
