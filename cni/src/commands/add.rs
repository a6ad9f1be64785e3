//! ADD: give a pod its interface. Either everything is done, or nothing is left.

use std::net::IpAddr;
use std::path::Path;

use heddle_api::AddEndpointRequest;
use heddle_netdev::sysctl::set_ipv6_enabled;
use heddle_netdev::{Netlink, VethEnd};

use crate::attach::AttachMode;
use crate::attachment::{Attachment, pod_mac};
use crate::config::Config;
use crate::error::{CniError, Result, code};
use crate::ipam::Ipam;
use crate::node::Node;
use crate::pod::Pod;
use crate::result::Made;
use crate::switch::{PATIENCE, Switch, UNDO_PATIENCE};

/// Something done that a later failure undoes.
#[derive(Debug)]
enum Step {
    Addresses(Vec<IpAddr>),
    Interfaces,
    Endpoint,
}

/// An ADD under way.
struct Add<'a> {
    config: &'a Config,
    attachment: &'a Attachment,
    attach: AttachMode,
    ipam: Ipam,
    host: Netlink,
    done: Vec<Step>,
}

/// Attaches the pod, in the way that was asked for or else in the node's, and returns the result for the runtime.
pub(crate) async fn run(
    config: &Config,
    attachment: &Attachment,
    netns: &Path,
    attach: Option<AttachMode>,
) -> Result<String> {
    let pod = Pod::open(netns)?;
    pod.check_free(&attachment.ifname).await?;
    let mut switch = Switch::connect(&config.socket, PATIENCE).await?;
    let node = Node::try_from(switch.describe().await?)?;
    pod.check_no_default_route(&node).await?;

    let (ipam, host) = (Ipam::new(&config.state_dir), Netlink::open()?);
    let attach = attach.unwrap_or(node.attach);
    let mut add = Add { config, attachment, attach, ipam, host, done: Vec::with_capacity(3) };
    match add.attach(&pod, &mut switch, &node, netns).await {
        Ok(result) => Ok(result),
        Err(error) => Err(add.undo(error).await),
    }
}

impl Add<'_> {
    async fn attach(&mut self, pod: &Pod, switch: &mut Switch, node: &Node, netns: &Path) -> Result<String> {
        let addresses = self.allocate(node)?;
        let mac = pod_mac(&addresses);
        let made = Made { attachment: self.attachment, netns, mac, addresses: &addresses, node };
        // Before the pod can send a single packet: an answer that cannot be given must not leave a pod behind.
        let result = made.to_json(self.config)?;
        self.create_interfaces(pod, &made).await?;
        pod.configure(&self.attachment.ifname, &addresses, node, self.attach).await?;
        self.prepare_host_side().await?;
        self.register(switch, &made).await?;
        Ok(result)
    }

    fn allocate(&mut self, node: &Node) -> Result<Vec<IpAddr>> {
        let (owner, pod) = (self.attachment.owner(), self.attachment.pod_text());
        let addresses = self.ipam.allocate(&owner, &pod, &node.ranges, &node.gateways)?;
        self.done.push(Step::Addresses(addresses.clone()));
        Ok(addresses)
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
        let link = self.host.link(&name).await?;
        Ok(self.host.set_up(&link).await?)
    }

    async fn register(&mut self, switch: &mut Switch, made: &Made<'_>) -> Result<()> {
        let request = AddEndpointRequest {
            id: self.attachment.id(),
            host_interface: self.attachment.host_interface(),
            mac: made.mac.to_string(),
            addresses: made.addresses.iter().map(IpAddr::to_string).collect(),
            pod_namespace: self.attachment.pod.namespace.clone(),
            pod_name: self.attachment.pod.name.clone(),
            mtu: made.node.mtu,
            // Said even where it is the node's: the interface is made for it by now, and the node's may change any moment.
            attach_mode: self.attach.name().to_owned(),
            ..AddEndpointRequest::default()
        };
        // Before the call: when its answer does not arrive, the switch may have carried it out all the same.
        self.done.push(Step::Endpoint);
        let endpoint = switch.add_endpoint(request).await?;
        // A switch from before there were modes does not know the field. Its packets would arrive broken.
        if endpoint.attach_mode == self.attach.name() {
            return Ok(());
        }
        let details = format!(
            "heddle-switch attached the pod in mode '{}' although mode '{}' was asked for: heddle-cni and heddle-switch \
             must be of one version",
            endpoint.attach_mode, self.attach
        );
        Err(CniError::new(code::SWITCH, details))
    }

    /// Undoes what was done, last first, and adds to `error` what could not be undone.
    async fn undo(mut self, mut error: CniError) -> CniError {
        while let Some(step) = self.done.pop() {
            let (what, undone) = match step {
                Step::Endpoint => ("endpoint", self.forget_endpoint().await),
                Step::Interfaces => ("interfaces", self.delete_interfaces().await),
                Step::Addresses(addresses) => ("addresses", self.give_back(&addresses)),
            };
            if let Err(failure) = undone {
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

    fn give_back(&self, addresses: &[IpAddr]) -> Result<()> {
        Ok(self.ipam.give_back(&self.attachment.owner(), addresses)?)
    }

    async fn delete_interfaces(&self) -> Result<()> {
        self.host.delete_link(&self.attachment.host_interface()).await?;
        Ok(())
    }
}
