//! The programs and their maps, as `c/steering.bpf.c` and `c/steering.h` define them.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use libbpf_rs::{ErrorKind, Map, MapCore, MapFlags, Object, ObjectBuilder, ProgramMut};

use crate::SteeringError;

/// `HEDDLE_MAX_PORTS`, `c/steering.h`
pub(crate) const MAX_PORTS: u32 = 4096;
/// `HEDDLE_MAX_UPLINK_QUEUES`, `c/steering.h`
const MAX_UPLINK_QUEUES: u32 = 256;
/// `HEDDLE_MAX_UPLINK_ADDRESSES`, `c/steering.h`
const MAX_UPLINK_ADDRESSES: usize = 64;

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/steering.bpf.o"));

/// Which packets on the uplink are the overlay's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkFilter {
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// UDP destination port.
    pub port: u16,
    /// The node's own addresses that it listens on.
    pub addresses: Vec<IpAddr>,
}

/// One of the programs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role {
    Port,
    Uplink,
}

impl Role {
    fn program(self) -> &'static str {
        match self {
            Self::Port => "steer_port",
            Self::Uplink => "steer_uplink",
        }
    }
}

/// The loaded programs with their maps.
pub(crate) struct Maps {
    object: Object,
}

impl Maps {
    pub(crate) fn load() -> Result<Self, SteeringError> {
        let refused = |error: libbpf_rs::Error| match error.kind() {
            ErrorKind::PermissionDenied => SteeringError::NotPermitted,
            _ => SteeringError::Load(error),
        };
        let object =
            ObjectBuilder::default().open_memory(OBJECT).map_err(refused)?.load().map_err(refused)?;
        Ok(Self { object })
    }

    pub(crate) fn program(&self, role: Role) -> ProgramMut<'_> {
        self.object
            .progs_mut()
            .find(|program| program.name() == role.program())
            .expect("c/steering.bpf.c has both programs")
    }

    fn map(&self, name: &'static str) -> Map<'_> {
        self.object
            .maps()
            .find(|map| map.name() == name)
            .expect("c/steering.bpf.c has all the maps named here")
    }

    fn set(&self, entry: &'static str, key: &[u8], value: &[u8]) -> Result<(), SteeringError> {
        self.map(entry)
            .update(key, value, MapFlags::ANY)
            .map_err(|source| SteeringError::Map { entry, source })
    }

    /// Removes an entry if it is there. Sockets leave their map by themselves when they are closed.
    fn unset(&self, entry: &'static str, key: &[u8]) -> Result<(), SteeringError> {
        match self.map(entry).delete(key) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(SteeringError::Map { entry, source }),
            _ => Ok(()),
        }
    }

    pub(crate) fn set_port(
        &self,
        ifindex: u32,
        slot: u32,
        socket: BorrowedFd<'_>,
    ) -> Result<(), SteeringError> {
        self.set("port_sockets", &slot.to_ne_bytes(), &socket.as_raw_fd().to_ne_bytes())?;
        self.set("port_slots", &ifindex.to_ne_bytes(), &slot.to_ne_bytes())
    }

    pub(crate) fn unset_port(&self, ifindex: u32, slot: u32) -> Result<(), SteeringError> {
        self.unset("port_slots", &ifindex.to_ne_bytes()).and(self.unset("port_sockets", &slot.to_ne_bytes()))
    }

    /// Makes the uplink's maps say what `filter` and `sockets` say, and nothing else.
    pub(crate) fn set_uplink(
        &self,
        filter: &UplinkFilter,
        sockets: &[(u32, BorrowedFd<'_>)],
    ) -> Result<(), SteeringError> {
        check(filter, sockets)?;
        for (queue, socket) in sockets {
            self.set("uplink_sockets", &queue.to_ne_bytes(), &socket.as_raw_fd().to_ne_bytes())?;
        }
        // The VNI sits above a reserved byte, as in the header.
        let mut value = [0; 8];
        value[..4].copy_from_slice(&(filter.vni << 8).to_be_bytes());
        value[4..6].copy_from_slice(&filter.port.to_be_bytes());
        self.set("uplink_filters", &0_u32.to_ne_bytes(), &value)?;
        let addresses: Vec<[u8; 16]> = filter.addresses.iter().map(address_key).collect();
        for address in &addresses {
            self.set("uplink_addresses", address, &[1])?;
        }
        let stale: Vec<Vec<u8>> = self
            .map("uplink_addresses")
            .keys()
            .filter(|key| !addresses.iter().any(|a| a[..] == key[..]))
            .collect();
        for address in stale {
            self.unset("uplink_addresses", &address)?;
        }
        for queue in (0..MAX_UPLINK_QUEUES).filter(|queue| !sockets.iter().any(|(q, _)| q == queue)) {
            self.unset("uplink_sockets", &queue.to_ne_bytes())?;
        }
        Ok(())
    }
}

fn check(filter: &UplinkFilter, sockets: &[(u32, BorrowedFd<'_>)]) -> Result<(), SteeringError> {
    if filter.vni >= 1 << 24 {
        return Err(SteeringError::Filter("a VNI has 24 bits"));
    }
    if filter.port == 0 {
        return Err(SteeringError::Filter("the port must not be 0"));
    }
    if filter.addresses.is_empty() || filter.addresses.len() > MAX_UPLINK_ADDRESSES {
        return Err(SteeringError::Filter("the uplink needs 1 to 64 addresses"));
    }
    if sockets.iter().any(|(queue, _)| *queue >= MAX_UPLINK_QUEUES) {
        return Err(SteeringError::Filter("queues are numbered 0 to 255"));
    }
    Ok(())
}

/// `struct uplink_address`, `c/steering.h`
fn address_key(address: &IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => *v6,
    }
    .octets()
}
