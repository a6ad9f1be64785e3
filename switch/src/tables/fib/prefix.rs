//! Prefixes as bytes, the same for both families.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::ends::End;
use super::hop::Hop;

/// The first `len` bits of an address. All later bits are zero, so equal prefixes are equal values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix<const N: usize> {
    pub(super) bytes: [u8; N],
    /// At most `8 * N`.
    pub(super) len: u8,
}

impl<const N: usize> Prefix<N> {
    /// The byte in which the prefix ends, counted from 0: the depth of the node that holds it. A prefix
    /// that ends between two bytes belongs to the one before. The empty prefix has none; 0 is returned.
    #[inline]
    pub(super) fn depth(&self) -> u8 {
        self.len.saturating_sub(1) / 8
    }

    /// Bits of the prefix in its last byte, 1 to 8.
    pub(super) fn bits(&self) -> u8 {
        self.len - 8 * self.depth()
    }

    /// The byte at `depth`.
    #[inline]
    pub(super) fn byte(&self, depth: u8) -> u8 {
        self.bytes[usize::from(depth)]
    }

    /// What a node at its depth has of it.
    pub(super) fn end(&self, hop: Hop) -> End {
        End { byte: self.byte(self.depth()), bits: self.bits(), hop }
    }

    #[inline]
    pub(super) fn contains(&self, address: &[u8; N]) -> bool {
        same_start(&self.bytes, address, self.len)
    }
}

/// True when two addresses agree in their first `bits` bits. Written as one operation on numbers, and with shifts looked up,
/// because this is in the lookup.
#[inline]
pub(super) fn same_start<const N: usize>(a: &[u8; N], b: &[u8; N], bits: u8) -> bool {
    (native(a) ^ native(b)) & MASKS[usize::from(bits)] == 0
}

/// The address as it lies in memory.
#[inline]
fn native<const N: usize>(address: &[u8; N]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..N].copy_from_slice(address);
    u128::from_ne_bytes(bytes)
}

/// The first bits of an address as it lies in memory, by their number. As long as that number's type goes, so that no bound is
/// checked.
static MASKS: [u128; 256] = {
    let mut masks = [u128::MAX; 256];
    let mut bits = 0;
    while bits < 128 {
        masks[bits] = (!(u128::MAX >> bits)).to_be();
        bits += 1;
    }
    masks
};

/// Leading bits in which two addresses agree.
fn common_bits<const N: usize>(a: &[u8; N], b: &[u8; N]) -> u32 {
    let differing = native(a) ^ native(b);
    u128::from_be(differing).leading_zeros().min(N as u32 * 8)
}

/// Leading bytes in which two addresses agree.
pub(super) fn common_bytes<const N: usize>(a: &[u8; N], b: &[u8; N]) -> u8 {
    (common_bits(a, b) / 8) as u8
}

impl From<Ipv4Net> for Prefix<4> {
    fn from(net: Ipv4Net) -> Self {
        Self { bytes: net.network().octets(), len: net.prefix_len() }
    }
}

impl From<Ipv6Net> for Prefix<16> {
    fn from(net: Ipv6Net) -> Self {
        Self { bytes: net.network().octets(), len: net.prefix_len() }
    }
}

// A `Prefix` is only made from a net or inside one, so its length is one that `new_assert` accepts.

impl From<Prefix<4>> for IpNet {
    fn from(prefix: Prefix<4>) -> Self {
        Ipv4Net::new_assert(prefix.bytes.into(), prefix.len).into()
    }
}

impl From<Prefix<16>> for IpNet {
    fn from(prefix: Prefix<16>) -> Self {
        Ipv6Net::new_assert(prefix.bytes.into(), prefix.len).into()
    }
}
