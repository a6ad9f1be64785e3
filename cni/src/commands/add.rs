//! ADD: give a pod its interface. Either everything is done, or nothing is left.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::Path;

use heddle_netdev::sysctl::set_ipv6_enabled;
use heddle_netdev::{Mac, Netlink, VethEnd};
use ipnet::IpNet;
use rscni_types::types::{Cmd, Dns};

use super::register;
use crate::attachment::{Attachment, pod_mac};
use crate::config::Config;
use crate::delegate::Delegate;
use crate::error::{CniError, Result, code};
use crate::node::Node;
use crate::pod::Pod;
use crate::result::Made;
use crate::state::{Held, Pool, Presence, Record, State};
use crate::switch::{PATIENCE, Switch, UNDO_PATIENCE};
use crate::wishes::{AttachMode, Wanted};

/// Something done that a later failure undoes.
#[derive(Debug)]
enum Step {
    Record,
    Delegate,
    Interfaces,
    Endpoint,
}

/// An ADD under way.
struct Add<'a> {
    config: &'a Config,
    attachment: &'a Attachment,
    wanted: &'a Wanted,
    attach: AttachMode,
    state: State,
    delegate: Option<Delegate<'a>>,
    host: Netlink,
    /// Neither another ADD of this attachment nor GC meanwhile.
    held: Option<Held>,
    _presence: Presence,
    done: Vec<Step>,
}

/// What the pod is to be called.
struct Identity {
    mac: Mac,
    addresses: Vec<IpAddr>,
    routes: Vec<IpNet>,
    dns: Option<Dns>,
}

/// Attaches the pod, in the way that was asked for or else in the node's, and returns the result for the runtime.
pub(crate) async fn run(
    config: &Config,
    attachment: &Attachment,
    netns: &Path,
    path: &OsStr,
    wanted: &Wanted,
) -> Result<String> {
    let delegate =
        config.ipam.as_deref().map(|name| Delegate::find(name, path, &config.input)).transpose()?;
    let pod = Pod::open(netns)?;
    pod.check_free(&attachment.ifname).await?;
    let mut switch = Switch::connect(&config.socket, PATIENCE).await?;
    let node = Node::try_from(switch.describe().await?)?;
    pod.check_no_default_route(&node).await?;
    let host = Netlink::open()?;
    let state = State::new(&config.state_dir, config.address_rest);
    let presence = state.join()?;
    if !matches!(state.find(attachment), Ok(None)) {
        check_dead(&host, attachment).await?;
    }
    let attach = wanted.attach.unwrap_or(node.attach);
    let mut add = Add {
        config,
        attachment,
        wanted,
        attach,
        state,
        delegate,
        host,
        held: None,
        _presence: presence,
        done: Vec::with_capacity(4),
    };
    match add.attach(&pod, &mut switch, &node, netns).await {
        Ok(result) => Ok(result),
        Err(error) => Err(add.undo(error).await),
    }
}

/// With an interface on the host the attachment is there, and its record is not to be touched. Without, it is what an ADD left that died.
async fn check_dead(host: &Netlink, attachment: &Attachment) -> Result<()> {
    let name = attachment.host_interface();
    if host.find_link(&name).await?.is_none() {
        return Ok(());
    }
    let details = format!(
        "the host already has the interface {name} of container {}, interface {}; call DEL first",
        attachment.container_id, attachment.ifname
    );
    Err(CniError::new(code::INTERFACE_EXISTS, details))
}

impl Add<'_> {
    async fn attach(&mut self, pod: &Pod, switch: &mut Switch, node: &Node, netns: &Path) -> Result<String> {
        let identity = self.identify(node)?;
        let made = Made {
            attachment: self.attachment,
            netns,
            mac: identity.mac,
            addresses: &identity.addresses,
            routes: &identity.routes,
            dns: identity.dns.as_ref(),
            node,
        };
        // Before the pod can send a single packet: an answer that cannot be given must not leave a pod behind.
        let result = made.to_json(self.config)?;
        self.create_interfaces(pod, &made).await?;
        pod.configure(&made, self.attach).await?;
        self.prepare_host_side().await?;
        self.register(switch, &made).await?;
        Ok(result)
    }

    /// Writes the attachment down, and settles its addresses and MAC.
    fn identify(&mut self, node: &Node) -> Result<Identity> {
        let config = self.config;
        let mut record = Record::new(&config.network, self.attachment, config.ipam.as_deref());
        let (mut routes, mut dns) = (Vec::new(), None);
        let held = if let Some(delegate) = &self.delegate {
            // Written down before the plugin gives anything, so that GC finds it whatever happens here.
            self.held = Some(self.state.announce(record.clone())?);
            self.done.extend([Step::Record, Step::Delegate]);
            let given = delegate.add()?;
            for &address in &given.addresses {
                node.gateway_for(address)?;
            }
            (routes, dns, record.given) = (given.routes, given.dns, given.ips);
            self.state.take(record, &given.addresses)?
        } else {
            let pool =
                Pool { ranges: &node.ranges, reserved: &node.gateways, requested: &self.wanted.addresses };
            let held = self.state.allocate(record, &pool)?;
            self.done.push(Step::Record);
            held
        };
        let addresses = held.addresses.clone();
        self.held = Some(held);
        let mac = self.wanted.mac.unwrap_or_else(|| pod_mac(&addresses));
        Ok(Identity { mac, addresses, routes, dns })
    }

    async fn create_interfaces(&mut self, pod: &Pod, made: &Made<'_>) -> Result<()> {
        let name = self.attachment.host_interface();
        let mtu = Some(made.node.mtu);
        let host_side = VethEnd { mac: Some(self.attachment.host_mac()), mtu, ..VethEnd::named(&name) };
        let pod_side = VethEnd {
            mac: Some(made.mac),
            mtu,
            netns: Some(&pod.netns),
            ..VethEnd::named(&self.attachment.ifname)
        };
        self.host.create_veth(host_side, pod_side).await?;
        self.done.push(Step::Interfaces);
        Ok(())
    }

    /// The host's network stack has no part in this interface: without IPv6 it does not announce itself on it either.
    async fn prepare_host_side(&self) -> Result<()> {
        let name = self.attachment.host_interface();
        match set_ipv6_enabled(&name, false) {
            // The host's kernel has no IPv6 at all.
            Err(error) if error.errno() == Some(heddle_netdev::Errno::ENOENT) => {}
            other => other?,
        }
        Ok(self.host.set_up_named(&name).await?)
    }

    async fn register(&mut self, switch: &mut Switch, made: &Made<'_>) -> Result<()> {
        let request = register::request(self.attachment, made, self.attach, self.wanted);
        // Before the call: when its answer does not arrive, the switch may have carried it out all the same.
        self.done.push(Step::Endpoint);
        let endpoint = switch.add_endpoint(request.clone()).await?;
        register::check_answer(&request, &endpoint)
    }

    /// Undoes what was done, last first, and adds to `error` what could not be undone. Addresses stay taken while the endpoint or the
    /// interfaces are there: DEL finds them by their record.
    async fn undo(mut self, mut error: CniError) -> CniError {
        let mut all = true;
        while let Some(step) = self.done.pop() {
            let (what, undone) = match step {
                Step::Endpoint => ("endpoint", self.forget_endpoint().await),
                Step::Interfaces => ("interfaces", self.delete_interfaces().await),
                Step::Delegate | Step::Record if !all => continue,
                Step::Delegate => ("addresses", self.return_addresses()),
                Step::Record => ("record", self.state.release(self.attachment).map_err(CniError::from)),
            };
            if let Err(failure) = undone {
                all = false;
                error = error.and(&format!("its {what} could not be undone: {}", failure.details));
            }
        }
        error
    }

    async fn forget_endpoint(&self) -> Result<()> {
        // A connection of its own: the first one's time may be used up.
        let mut switch = Switch::connect(&self.config.socket, UNDO_PATIENCE).await?;
        Ok(switch.remove_endpoint(self.attachment.id()).await?)
    }

    fn return_addresses(&self) -> Result<()> {
        self.delegate.as_ref().map_or(Ok(()), |delegate| delegate.call(Cmd::Del))
    }

    async fn delete_interfaces(&self) -> Result<()> {
        self.host.delete_link(&self.attachment.host_interface()).await?;
        Ok(())
    }
}
