//! Headers as bytes: checked views to read them, and writers.
//!
//! A view borrows the packet and is made by a `parse` that checks every length once; its accessors cannot fail after
//! that. A writer fills an array of exactly the header's size. Nothing here allocates, panics or knows the switch.
#![deny(clippy::indexing_slicing)]

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod flow;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod udp;
pub mod vxlan;

pub use heddle_netdev::Mac;

/// Numbers of the layers above IP, as IANA assigned them.
pub mod protocol {
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// SCTP (RFC 9260).
    pub const SCTP: u8 = 132;
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// The bytes end inside it, or before the end it promises.
    Truncated,
    /// A field has a value it can never have.
    Malformed,
}

/// Whether a packet is a piece of a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// It is not.
    Whole,
    /// The piece that has the header of the layer above.
    First,
    /// A piece without one.
    Later,
}

impl Fragment {
    /// `offset` in units of 8 bytes; `more` when other pieces follow.
    #[inline]
    fn new(offset: u16, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First,
            _ => Self::Later,
        }
    }
}

/// `N` bytes of a header of `L` from `OFFSET` on; that they lie inside is checked at compile time.
#[inline]
#[expect(clippy::indexing_slicing, reason = "the assertion bounds every index")]
fn field<const OFFSET: usize, const N: usize, const L: usize>(header: &[u8; L]) -> [u8; N] {
    const { assert!(OFFSET + N <= L) };
    std::array::from_fn(|i| header[OFFSET + i])
}

/// Writes what [`field`] reads.
#[inline]
#[expect(clippy::indexing_slicing, reason = "the assertion bounds every index")]
fn put<const OFFSET: usize, const N: usize, const L: usize>(header: &mut [u8; L], value: [u8; N]) {
    const { assert!(OFFSET + N <= L) };
    for (i, byte) in value.into_iter().enumerate() {
        header[OFFSET + i] = byte;
    }
}

#[cfg(test)]
mod tests;
