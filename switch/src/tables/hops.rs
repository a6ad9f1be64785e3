//! Everything a packet can come from or go to, under one kind of number: as trunk and flow cache name it.

use super::{EndpointNumber, Paged, VtepNumber};

/// An endpoint of this node, or another node's VTEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop(u32);

/// What a [`Hop`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HopKind {
    /// An endpoint; the host is one.
    Endpoint(EndpointNumber),
    /// The tunnel end of another node.
    Vtep(VtepNumber),
}

/// VTEPs are numbered from here, endpoints below: hops in `switch/bpf/c/flow_cache.bpf.c`.
const FIRST_VTEP: u32 = 0x8000;

/// Hops there can be: `HEDDLE_HOPS`, `switch/bpf/c/flow_cache.h`.
const COUNT: u32 = 0x1_0000;

impl Hop {
    /// An endpoint's; nothing for numbers that the kernel's tables have no room for.
    #[inline]
    pub const fn endpoint(number: EndpointNumber) -> Option<Self> {
        if number < FIRST_VTEP { Some(Self(number)) } else { None }
    }

    /// A VTEP's; nothing for numbers that the kernel's tables have no room for.
    #[inline]
    pub const fn vtep(number: VtepNumber) -> Option<Self> {
        if number < COUNT - FIRST_VTEP { Some(Self(FIRST_VTEP + number)) } else { None }
    }

    /// The hop with this number.
    #[inline]
    pub const fn numbered(number: u32) -> Option<Self> {
        if number < COUNT { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[inline]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// What it is.
    #[inline]
    pub const fn kind(self) -> HopKind {
        if self.0 < FIRST_VTEP { HopKind::Endpoint(self.0) } else { HopKind::Vtep(self.0 - FIRST_VTEP) }
    }
}

/// Generation of every hop that flows can be cached for. It changes with whatever cached flows of the hop rely on, so that a
/// flow judged before that is not forwarded any more.
pub type HopGenerations = Paged<u32>;

#[cfg(test)]
mod tests {
    //! Numbers of hops tell endpoints and VTEPs apart, and end where the kernel's tables do.
    use super::*;

    #[test]
    fn a_number_is_one_of_both() {
        for number in [0, 1, 0x7fff] {
            assert_eq!(Hop::endpoint(number).map(Hop::kind), Some(HopKind::Endpoint(number)));
            assert_eq!(Hop::vtep(number).map(Hop::kind), Some(HopKind::Vtep(number)));
        }
        assert_eq!((Hop::endpoint(0x8000), Hop::vtep(0x8000)), (None, None));
        assert_eq!((Hop::numbered(0xffff), Hop::numbered(0x1_0000)), (Hop::vtep(0x7fff), None));
    }
}
