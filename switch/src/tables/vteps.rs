//! The other nodes' tunnel ends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

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
    /// The lowest number with each address. Copied as a whole when an address comes or goes, which nodes seldom do: with
    /// 5,000 of them that is some tens of microseconds. A change of a MAC leaves it shared.
    by_address: Arc<Index>,
}

/// One map a family: a number hashes quicker than an address of either kind.
#[derive(Debug, Clone, Default)]
struct Index {
    v4: HashMap<u32, VtepNumber, RandomState>,
    v6: HashMap<u128, VtepNumber, RandomState>,
}

impl Index {
    #[inline]
    fn get(&self, address: IpAddr) -> Option<VtepNumber> {
        match address {
            IpAddr::V4(address) => self.v4.get(&address.into()).copied(),
            IpAddr::V6(address) => self.v6.get(&address.into()).copied(),
        }
    }

    fn set(&mut self, address: IpAddr, number: Option<VtepNumber>) {
        match (address, number) {
            (IpAddr::V4(address), Some(number)) => self.v4.insert(address.into(), number),
            (IpAddr::V6(address), Some(number)) => self.v6.insert(address.into(), number),
            (IpAddr::V4(address), None) => self.v4.remove(&address.into()),
            (IpAddr::V6(address), None) => self.v6.remove(&address.into()),
        };
    }
}

impl Vteps {
    /// The tunnel end with this number.
    #[inline]
    pub fn get(&self, number: VtepNumber) -> Option<&Vtep> {
        self.by_number.get(number)
    }

    /// Numbers at which the two differ, with the tunnel ends of both.
    pub fn changes<'t>(
        &'t self,
        to: &'t Self,
    ) -> impl Iterator<Item = (VtepNumber, Option<&'t Vtep>, Option<&'t Vtep>)> {
        self.by_number.changes(&to.by_number)
    }

    /// Puts a tunnel end at `number`, in place of the one there.
    pub fn set(&mut self, number: VtepNumber, vtep: Vtep) {
        let address = vtep.address;
        let old = self.get(number).map(|old| old.address);
        self.by_number.set(number, vtep);
        if old == Some(address) {
            return;
        }
        if let Some(old) = old {
            self.forget(old, number);
        }
        let lowest = self.by_address(address).map_or(number, |other| other.min(number));
        Arc::make_mut(&mut self.by_address).set(address, Some(lowest));
    }

    /// Takes the tunnel end with this number away.
    pub fn remove(&mut self, number: VtepNumber) -> Option<Vtep> {
        let old = self.by_number.remove(number)?;
        self.forget(old.address, number);
        Some(old)
    }

    /// The number of the tunnel end with this outer address. Should several have it, the lowest.
    #[inline]
    pub fn by_address(&self, address: IpAddr) -> Option<VtepNumber> {
        self.by_address.get(address)
    }

    /// All tunnel ends, by number.
    pub fn iter(&self) -> impl Iterator<Item = (VtepNumber, &Vtep)> {
        self.by_number.iter()
    }

    /// Removes `number` from the index, where it no longer has `address`. Another tunnel end with that address takes
    /// its place: two nodes may claim one address for a moment, while it moves from one to the other.
    fn forget(&mut self, address: IpAddr, number: VtepNumber) {
        if self.by_address(address) != Some(number) {
            return;
        }
        let heir = self.iter().find(|(_, vtep)| vtep.address == address).map(|(number, _)| number);
        Arc::make_mut(&mut self.by_address).set(address, heir);
    }
}

#[cfg(test)]
mod tests {
    //! The index by address always says what a search through all tunnel ends would, in every copy.

    use proptest::prelude::*;

    use super::*;

    /// Few addresses, so that tunnel ends meet on them.
    fn address(n: u8) -> IpAddr {
        if n.is_multiple_of(2) {
            IpAddr::from([192, 0, 2, n])
        } else {
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)])
        }
    }

    fn vtep(address: IpAddr) -> Vtep {
        Vtep { address, mac: Mac([2, 0, 0, 0, 0, 1]), neighbor: None }
    }

    fn search(vteps: &[(VtepNumber, Vtep)], address: IpAddr) -> Option<VtepNumber> {
        vteps.iter().find(|(_, vtep)| vtep.address == address).map(|(number, _)| *number)
    }

    fn list(vteps: &Vteps) -> Vec<(VtepNumber, Vtep)> {
        vteps.iter().map(|(number, vtep)| (number, vtep.clone())).collect()
    }

    proptest! {
        #[test]
        fn index_agrees_with_search(changes in prop::collection::vec((0..100_u32, prop::option::of(0..12_u8)), 1..150)) {
            let mut vteps = Vteps::default();
            let mut copies = Vec::new();
            for (number, change) in changes {
                match change {
                    Some(n) => vteps.set(number, vtep(address(n))),
                    None => assert_eq!(vteps.get(number).cloned(), vteps.remove(number)),
                }
                prop_assert_eq!(vteps.get(number).map(|vtep| vtep.address), change.map(address));
                copies.push((vteps.clone(), list(&vteps)));
            }
            for (copy, model) in copies {
                prop_assert_eq!(&list(&copy), &model);
                for n in 0..12 {
                    prop_assert_eq!(copy.by_address(address(n)), search(&model, address(n)));
                }
            }
        }
    }

    #[test]
    fn change_of_a_mac_leaves_the_index_shared() {
        let mut vteps = Vteps::default();
        vteps.set(3, vtep(address(1)));
        let copy = vteps.clone();
        vteps.set(3, Vtep { neighbor: Some(Mac([2, 0, 0, 0, 0, 9])), ..vtep(address(1)) });
        assert!(Arc::ptr_eq(&vteps.by_address, &copy.by_address));
        assert_ne!(vteps.get(3), copy.get(3));
    }
}
