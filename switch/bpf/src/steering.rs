//! Who gets which packets: the state of all attachments.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use libbpf_rs::PrintLevel;

use crate::SteeringError;
pub use crate::attach::XdpMode;
use crate::attach::{Attachment, attach, clear, ifindex, is_dead};
use crate::crossings;
use crate::flow_cache::Place;
use crate::maps::{MAX_PORTS, Maps, Role, UplinkFilter};
use crate::pins::Pins;

/// The steering programs of one switch, in the calling thread's network namespace.
///
/// Dropping it leaves the programs attached (see the crate's documentation); [`Steering::cleanup`] takes them off.
pub struct Steering {
    pub(crate) maps: Maps,
    pins: Arc<Pins>,
    ports: HashMap<String, Port>,
    uplink: Option<Attachment>,
}

#[derive(Debug)]
struct Port {
    slot: u32,
    attachment: Attachment,
}

impl Steering {
    /// Loads the programs. `bpffs` is the switch's own directory on a BPF file system, made if missing; what an earlier
    /// switch left attached there stays so until it is attached again, or detached by [`Self::detach_unclaimed`]. Pins of
    /// interfaces that have gone are removed.
    pub fn open(bpffs: &Path) -> Result<Self, SteeringError> {
        libbpf_rs::set_print(Some((PrintLevel::Debug, |level, message| {
            // libbpf also warns about what is tried and allowed to fail, such as native XDP. Errors come as values.
            tracing::debug!(?level, "libbpf: {}", message.trim_end());
        })));
        let pins = Arc::new(Pins::open(bpffs)?);
        let steering = Self { maps: Maps::load()?, pins, ports: HashMap::new(), uplink: None };
        for interface in steering.pins.interfaces()? {
            let dead = match steering.pins.link(&interface) {
                Some(link) => is_dead(&link),
                None => ifindex(&interface).is_err(),
            };
            if dead {
                clear(&steering.pins, &interface)?;
            }
        }
        Ok(steering)
    }

    /// Sends every packet that arrives on `interface` to `socket`, an AF_XDP socket on its queue 0. Done again for the
    /// same interface, it changes the socket.
    pub fn attach_port(&mut self, interface: &str, socket: BorrowedFd<'_>) -> Result<XdpMode, SteeringError> {
        let ifindex = ifindex(interface)?;
        // The interface was replaced by another of the same name.
        if self.ports.get(interface).is_some_and(|port| port.attachment.ifindex != ifindex) {
            self.detach_port(interface)?;
        }
        if let Some(port) = self.ports.get(interface) {
            self.maps.set_port(ifindex, port.slot, socket)?;
            return Ok(port.attachment.mode);
        }
        let slot = self.free_slot()?;
        // The maps first: a link taken over keeps packets flowing from the moment its program is swapped.
        let attached = self
            .maps
            .set_port(ifindex, slot, socket)
            .and_then(|()| attach(&self.maps, &self.pins, Role::Port, interface));
        match attached {
            Ok(attachment) => {
                let mode = attachment.mode;
                self.ports.insert(interface.to_owned(), Port { slot, attachment });
                Ok(mode)
            }
            Err(error) => {
                let _ = self.maps.unset_port(ifindex, slot);
                Err(error)
            }
        }
    }

    /// Undoes [`Self::attach_port`]. Nothing to undo, or an interface that has gone, is fine.
    pub fn detach_port(&mut self, interface: &str) -> Result<(), SteeringError> {
        let Some(port) = self.ports.remove(interface) else { return Ok(()) };
        // The maps first: from here on packets are dropped, and then the program goes.
        let unset = self.maps.unset_port(port.attachment.ifindex, port.slot);
        unset.and(port.attachment.detach(&self.pins))
    }

    /// Sends the overlay's packets that arrive on `interface` to the socket of their receive queue. There is one uplink:
    /// done again, it changes filter and sockets, and the interface too.
    pub fn attach_uplink(
        &mut self,
        interface: &str,
        filter: &UplinkFilter,
        sockets: &[(u32, BorrowedFd<'_>)],
    ) -> Result<XdpMode, SteeringError> {
        let ifindex = ifindex(interface)?;
        if self.uplink.as_ref().is_some_and(|uplink| uplink.ifindex != ifindex) {
            self.detach_uplink()?;
        }
        self.maps.set_uplink(filter, sockets)?;
        if let Some(uplink) = &self.uplink {
            return Ok(uplink.mode);
        }
        let attachment = attach(&self.maps, &self.pins, Role::Uplink, interface)?;
        let mode = attachment.mode;
        self.uplink = Some(attachment);
        Ok(mode)
    }

    /// Undoes [`Self::attach_uplink`]. Nothing to undo, or an interface that has gone, is fine.
    pub fn detach_uplink(&mut self) -> Result<(), SteeringError> {
        self.uplink.take().map_or(Ok(()), |uplink| uplink.detach(&self.pins))
    }

    /// Takes off what an earlier switch left attached and this one has not attached again. Returns the interfaces.
    pub fn detach_unclaimed(&mut self) -> Result<Vec<String>, SteeringError> {
        let mut detached = Vec::new();
        for interface in self.pins.interfaces()? {
            let claimed = self.ports.contains_key(&interface)
                || self.uplink.as_ref().is_some_and(|uplink| uplink.interface == interface);
            if !claimed {
                clear(&self.pins, &interface)?;
                detached.push(interface);
            }
        }
        Ok(detached)
    }

    /// Takes off everything a stopped switch left attached, its flow cache too, and removes its directory. It is enough to own the bpffs;
    /// nothing is loaded.
    pub fn cleanup(bpffs: &Path) -> Result<(), SteeringError> {
        if !bpffs.exists() {
            return Ok(());
        }
        let pins = Arc::new(Pins::open(bpffs)?);
        Place::find(&pins).remove()?;
        crossings::clean_up(&pins)?;
        for interface in pins.interfaces()? {
            clear(&pins, &interface)?;
        }
        pins.remove()
    }

    pub(crate) fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }

    fn free_slot(&self) -> Result<u32, SteeringError> {
        let taken: HashSet<u32> = self.ports.values().map(|port| port.slot).collect();
        (0..MAX_PORTS).find(|slot| !taken.contains(slot)).ok_or(SteeringError::TooManyPorts(MAX_PORTS))
    }
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steering")
            .field("ports", &self.ports.keys())
            .field("uplink", &self.uplink)
            .finish_non_exhaustive()
    }
}
