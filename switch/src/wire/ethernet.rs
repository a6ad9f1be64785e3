//! Ethernet II.

use super::{Defect, Mac, field, put};

/// Bytes of an untagged header.
pub const HEADER: usize = 14;

/// Values of the type field, as IANA assigned them.
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// A view of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Ethernet<'a> {
    header: &'a [u8; HEADER],
    /// What the header carries, padding included.
    pub payload: &'a [u8],
}

impl<'a> Ethernet<'a> {
    /// Needs a whole header.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Defect> {
        let (header, payload) = bytes.split_first_chunk::<HEADER>().ok_or(Defect::Truncated)?;
        Ok(Self { header, payload })
    }

    /// Who the frame is for.
    #[inline]
    pub fn destination(&self) -> Mac {
        Mac(field::<0, 6, HEADER>(self.header))
    }

    /// Who sent it.
    #[inline]
    pub fn source(&self) -> Mac {
        Mac(field::<6, 6, HEADER>(self.header))
    }

    /// Type of the payload; a length when below 1,536 (IEEE 802.3), which is no type known here.
    #[inline]
    pub fn ether_type(&self) -> u16 {
        u16::from_be_bytes(field::<12, 2, HEADER>(self.header))
    }
}

/// Fills a header.
#[inline]
pub fn write(header: &mut [u8; HEADER], destination: Mac, source: Mac, ether_type: u16) {
    rewrite(header, destination, source);
    put::<12, 2, HEADER>(header, ether_type.to_be_bytes());
}

/// Replaces the addresses of a header, as a router does.
#[inline]
pub fn rewrite(header: &mut [u8; HEADER], destination: Mac, source: Mac) {
    put::<0, 6, HEADER>(header, destination.0);
    put::<6, 6, HEADER>(header, source.0);
}

/// Replaces the destination alone.
#[inline]
pub fn set_destination(header: &mut [u8; HEADER], destination: Mac) {
    put::<0, 6, HEADER>(header, destination.0);
}
