//! What the control thread does with the flow cache.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use super::attach::{Attachment, Place, attach};
use super::counters::Counters;
use super::error::FlowCacheError;
use super::flows::Flows;
use super::maps::{FENCES, FLOWS, Maps};
use super::shapes::{HOPS, TRUNKS, address_from_octets, hop_from_bytes, hop_to_bytes, octets};
use super::types::{Hop, Port, Settings};
use crate::Steering;
use crate::attach::ifindex;

/// Where a program sits: what comes in by the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Packets of an endpoint: the host end of a pod's veth, or the host's own port.
    Endpoint,
    /// A worker's packets.
    Trunk,
    /// Other nodes' packets: the vxlan device.
    Overlay,
}

/// How a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// By a tcx link (Linux 6.6).
    Tcx,
    /// By a filter of the clsact qdisc, which is made if missing and stays.
    Clsact,
}

/// How to set up the flow cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowCacheOptions {
    /// How many flows there is room for. A full flow cache takes no more.
    pub flows: u32,
    /// How to attach what is not attached yet. `None`: tcx if the kernel has it.
    pub hook: Option<Hook>,
}

/// What a starting flow cache found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing.
    Fresh,
    /// The maps of an earlier switch, with all that is in them, and uses them.
    TakenOver,
    /// Maps of an earlier switch that do not fit, for this reason. It began with empty ones: all flows are to be judged
    /// again.
    Afresh(&'static str),
}

/// The flow cache of one switch, in the calling thread's network namespace.
///
/// Dropping it leaves programs attached and flows forwarded; [`Steering::cleanup`] takes everything off.
pub struct FlowCache {
    maps: Maps,
    place: Place,
    hook: Option<Hook>,
    start: Start,
    attached: HashMap<String, Attachment>,
    flows: Flows,
}

impl FlowCache {
    /// Loads the programs into the directory of `steering`, on the maps that an earlier switch left there if they fit. What
    /// it left attached runs on, until attached again or detached by [`Self::detach_unclaimed`].
    pub fn open(steering: &Steering, options: &FlowCacheOptions) -> Result<Self, FlowCacheError> {
        if options.flows == 0 {
            return Err(FlowCacheError::Impossible("there has to be room for a flow"));
        }
        let place = Place::open(steering.pins())?;
        let (maps, start) = Maps::load(&place.maps(), options.flows)?;
        place.clear_dead()?;
        let flows = Flows::new(maps.handle(FLOWS)?, maps.handle(FENCES)?);
        Ok(Self { maps, place, hook: options.hook, start, attached: HashMap::new(), flows })
    }

    /// Takes off and forgets whatever flow cache an earlier switch left in the directory of `steering`, for a switch without
    /// one. Returns the interfaces it was on.
    pub fn remove(steering: &Steering) -> Result<Vec<String>, FlowCacheError> {
        Ok(Place::find(steering.pins()).remove()?)
    }

    /// What was found at the start.
    pub fn start(&self) -> Start {
        self.start
    }

    /// Handle to the flows.
    pub fn flows(&self) -> Flows {
        self.flows.clone()
    }

    /// Tells the programs about the node.
    pub fn set_settings(&self, settings: &Settings) -> Result<(), FlowCacheError> {
        if settings.vni >= 1 << 24 {
            return Err(FlowCacheError::Impossible("a VNI has 24 bits"));
        }
        if settings.trunks > TRUNKS {
            return Err(FlowCacheError::Impossible("there are at most 256 trunks"));
        }
        self.maps.set("settings", &0_u32.to_ne_bytes(), &settings.to_bytes())
    }

    /// Says which interface the trunk of a worker is. 0: none.
    pub fn set_trunk(&self, index: u32, ifindex: u32) -> Result<(), FlowCacheError> {
        if index >= TRUNKS {
            return Err(FlowCacheError::Impossible("there are at most 256 trunks"));
        }
        self.maps.set("trunks", &index.to_ne_bytes(), &ifindex.to_ne_bytes())
    }

    /// Sets or clears a hop. Flows that were judged at another generation are no longer followed, from the next packet on. A
    /// hop is cleared before its number is somebody else's, and some time before.
    pub fn set_hop(&self, number: u32, generation: u32, hop: Option<Hop>) -> Result<(), FlowCacheError> {
        check_hop(number)?;
        self.maps.set("hops", &number.to_ne_bytes(), &hop_to_bytes(generation, hop))
    }

    /// A hop with its generation. One that was never set has generation 0.
    pub fn hop(&self, number: u32) -> Result<(u32, Option<Hop>), FlowCacheError> {
        check_hop(number)?;
        Ok(hop_from_bytes(&self.maps.get("hops", &number.to_ne_bytes())?))
    }

    /// Says who is behind an interface.
    pub fn set_port(&self, ifindex: u32, port: Port) -> Result<(), FlowCacheError> {
        check_hop(port.hop)?;
        self.maps.set("ports", &ifindex.to_ne_bytes(), &port.to_bytes())
    }

    /// Undoes [`Self::set_port`]: what comes in by the interface and has no flow is dropped.
    pub fn unset_port(&self, ifindex: u32) -> Result<(), FlowCacheError> {
        self.maps.unset("ports", &ifindex.to_ne_bytes())
    }

    /// All ports by the index of their interface: those of an earlier switch too.
    pub fn ports(&self) -> Result<Vec<(u32, Port)>, FlowCacheError> {
        let entries = self.maps.entries("ports")?;
        Ok(entries.into_iter().map(|(ifindex, port)| (number(&ifindex), Port::from_bytes(&port))).collect())
    }

    /// Says which hop the VTEP at an address is.
    pub fn set_peer(&self, address: IpAddr, hop: u32) -> Result<(), FlowCacheError> {
        check_hop(hop)?;
        self.maps.set("peers", &octets(address), &hop.to_ne_bytes())
    }

    /// Undoes [`Self::set_peer`].
    pub fn unset_peer(&self, address: IpAddr) -> Result<(), FlowCacheError> {
        self.maps.unset("peers", &octets(address))
    }

    /// All peers with their hops: those of an earlier switch too.
    pub fn peers(&self) -> Result<Vec<(IpAddr, u32)>, FlowCacheError> {
        let entries = self.maps.entries("peers")?;
        Ok(entries.into_iter().map(|(address, hop)| (address_from_octets(&address), number(&hop))).collect())
    }

    /// Attaches a program to an interface. One that an earlier switch left there is replaced without a gap.
    pub fn attach(&mut self, interface: &str, role: Role) -> Result<Hook, FlowCacheError> {
        let ifindex = ifindex(interface)?;
        if let Some(attached) = self.attached.get(interface) {
            if attached.is(ifindex, role) {
                return Ok(attached.hook());
            }
            // The interface was replaced by another of the same name.
            self.detach(interface)?;
        }
        let program = self.maps.program(role);
        let hook = attach(program, &self.place, self.hook, interface, ifindex)?;
        self.attached.insert(interface.to_owned(), Attachment { ifindex, role, hook });
        Ok(hook)
    }

    /// Undoes [`Self::attach`]. Nothing to undo, or an interface that has gone, is fine.
    pub fn detach(&mut self, interface: &str) -> Result<(), FlowCacheError> {
        match self.attached.remove(interface) {
            None => Ok(()),
            Some(_) => Ok(self.place.clear(interface)?),
        }
    }

    /// Takes off what an earlier switch left attached and this one has not attached again. Returns the interfaces.
    pub fn detach_unclaimed(&mut self) -> Result<Vec<String>, FlowCacheError> {
        let mut detached = Vec::new();
        for interface in self.place.interfaces()? {
            if !self.attached.contains_key(&interface) {
                self.place.clear(&interface)?;
                detached.push(interface);
            }
        }
        Ok(detached)
    }

    /// What became of packets, since the maps were made.
    pub fn counters(&self) -> Result<Counters, FlowCacheError> {
        self.maps.counters()
    }

    pub(super) fn maps(&self) -> &Maps {
        &self.maps
    }
}

impl fmt::Debug for FlowCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowCache")
            .field("attached", &self.attached.keys())
            .field("flows", &self.flows)
            .finish_non_exhaustive()
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn check_hop(number: u32) -> Result<(), FlowCacheError> {
    if number < HOPS { Ok(()) } else { Err(FlowCacheError::Impossible("hops are numbered 0 to 65535")) }
}
