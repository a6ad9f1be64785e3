//! UDP (RFC 768).

use super::{Defect, field, put};

/// Bytes of a header.
pub const HEADER: usize = 8;

/// A view of a datagram.
#[derive(Debug, Clone, Copy)]
pub struct Udp<'a> {
    header: &'a [u8; HEADER],
    /// Header and payload: what the checksum is over.
    pub datagram: &'a [u8],
    /// What the datagram carries.
    pub payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Checks the length. Bytes behind the datagram are not part of the view.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Defect> {
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or(Defect::Truncated)?;
        let len = usize::from(u16::from_be_bytes(field::<4, 2, HEADER>(header)));
        let datagram = bytes.get(..len).ok_or(Defect::Truncated)?;
        let payload = datagram.get(HEADER..).ok_or(Defect::Malformed)?;
        Ok(Self { header, datagram, payload })
    }

    /// Source port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        u16::from_be_bytes(field::<0, 2, HEADER>(self.header))
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        u16::from_be_bytes(field::<2, 2, HEADER>(self.header))
    }

    /// The checksum; 0 when the sender made none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16::from_be_bytes(field::<6, 2, HEADER>(self.header))
    }
}

/// Fills a header, with checksum 0: none. [`set_checksum`] puts one in.
#[inline]
pub fn write(header: &mut [u8; HEADER], source_port: u16, destination_port: u16, payload_len: usize) {
    put::<0, 2, HEADER>(header, source_port.to_be_bytes());
    put::<2, 2, HEADER>(header, destination_port.to_be_bytes());
    put::<4, 2, HEADER>(header, ((HEADER + payload_len) as u16).to_be_bytes());
    put::<6, 2, HEADER>(header, [0, 0]);
}

/// Puts the checksum in. One that comes out as 0 is sent as its other representation, all ones.
#[inline]
pub fn set_checksum(header: &mut [u8; HEADER], checksum: u16) {
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    put::<6, 2, HEADER>(header, checksum.to_be_bytes());
}
