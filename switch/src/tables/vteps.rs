//! The other nodes' tunnel ends.

use std::net::IpAddr;

use super::Paged;
use crate::wire::Mac;

/// Index into [`Vteps`].
pub type VtepNumber = u32;

/// A tunnel end of another node, with everything needed to send to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vtep {
    /// Outer destination address.
    pub address: IpAddr,
    /// Inner destination MAC that node accepts.
    pub mac: Mac,
    /// MAC of the underlay's next hop towards it; `None` until it is resolved.
    pub neighbor: Option<Mac>,
}

/// Tunnel ends by number, and by address.
#[derive(Debug, Clone, Default)]
pub struct Vteps {
    by_number: Paged<Vtep>,
}

impl Vteps {
    /// The tunnel end with this number.
    #[inline]
    pub fn get(&self, number: VtepNumber) -> Option<&Vtep> {
        self.by_number.get(number)
    }

    /// Puts a tunnel end at `number`, in place of the one there.
    pub fn set(&mut self, number: VtepNumber, vtep: Vtep) {
        self.by_number.set(number, vtep);
    }

    /// Takes the tunnel end with this number away.
    pub fn remove(&mut self, number: VtepNumber) -> Option<Vtep> {
        self.by_number.remove(number)
    }

    /// The number of the tunnel end with this outer address.
    pub fn by_address(&self, address: IpAddr) -> Option<VtepNumber> {
        self.iter().find(|(_, vtep)| vtep.address == address).map(|(number, _)| number)
    }

    /// All tunnel ends, by number.
    pub fn iter(&self) -> impl Iterator<Item = (VtepNumber, &Vtep)> {
        self.by_number.iter()
    }
}
