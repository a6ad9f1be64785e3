//! The internet checksum (RFC 1071), whole and by difference (RFC 1624).

use std::net::IpAddr;

/// A ones' complement sum under way.
///
/// Words are taken in the machine's own byte order, which RFC 1071 (section 2B) shows to give the same sum with its
/// bytes swapped; it is swapped once, at the end. 64 bits hold the carries of any packet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Of nothing.
    #[inline]
    pub fn new() -> Self {
        Self(0)
    }

    /// Of what layers above IP sum in front of their own header (RFC 9293, section 3.1; RFC 8200, section 8.1).
    #[inline]
    pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: u32) -> Self {
        let addresses = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Self::new().with(&source.octets()).with(&destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Self::new().with(&source.octets()).with(&destination.octets())
            }
            _ => Self::new(),
        };
        addresses.with_number(len).with_number(protocol.into())
    }

    /// Adds a number as it lies, or will lie, in the packet. What is about to be written is better summed this way: bytes read
    /// back in other pieces than they were written in make the processor wait for the writes.
    #[inline]
    #[must_use]
    pub fn with_number(self, number: u32) -> Self {
        Self(self.0 + u64::from(number.to_be()))
    }

    /// Adds `bytes`. All but the last piece of a packet must have an even length.
    #[inline]
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let (words, tail) = bytes.as_chunks::<4>();
        let sum = words.iter().fold(self.0, |sum, word| sum + u64::from(u32::from_ne_bytes(*word)));
        let mut last = [0; 4];
        last.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
        Self(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// The checksum: the complement of the sum. Zero when the bytes held a right checksum themselves.
    #[inline]
    pub fn finish(self) -> u16 {
        // Below 2^33 - 1, so below 0x1ffff, so below 2^16: no carry is left over.
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        !u16::from_be(sum as u16)
    }
}

/// The checksum after the 16-bit word `old` became `new` (RFC 1624, equation 3).
#[inline]
#[must_use]
pub fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}
