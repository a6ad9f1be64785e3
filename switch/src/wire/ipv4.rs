//! IPv4 (RFC 791).

use std::net::Ipv4Addr;

use super::checksum::{Sum, updated};
use super::{Defect, Fragment, field, put};

/// Bytes of a header without options.
pub const HEADER: usize = 20;

/// Version 4, and a header of five words.
const VERSION_AND_LEN: u8 = 0x45;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// A view of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4<'a> {
    header: &'a [u8; HEADER],
    /// Header options, unread.
    pub options: &'a [u8],
    /// What the packet carries, without the padding of layer 2.
    pub payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Checks version, all lengths and the header checksum. Bytes behind the packet are not part of the view.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Defect> {
        let (header, header_len) = start(bytes)?;
        let total_len = usize::from(u16::from_be_bytes(field::<2, 2, HEADER>(header)));
        if total_len < header_len {
            return Err(Defect::Malformed);
        }
        let (whole_header, payload) = bytes
            .get(..total_len)
            .and_then(|packet| packet.split_at_checked(header_len))
            .ok_or(Defect::Truncated)?;
        let options = whole_header.get(HEADER..).unwrap_or_default();
        if Sum::new().with(header).with(options).finish() != 0 {
            return Err(Defect::Malformed);
        }
        Ok(Self { header, options, payload })
    }

    /// As [`parse`](Self::parse), of a packet that an ICMP error quotes: it may end anywhere behind its header, and its
    /// checksum may be that of another TTL.
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self, Defect> {
        let (header, header_len) = start(bytes)?;
        let (whole_header, payload) = bytes.split_at_checked(header_len).ok_or(Defect::Truncated)?;
        Ok(Self { header, options: whole_header.get(HEADER..).unwrap_or_default(), payload })
    }

    /// Who sent it.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from(field::<12, 4, HEADER>(self.header))
    }

    /// Who it is for.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from(field::<16, 4, HEADER>(self.header))
    }

    /// What the payload is.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.header[9]
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.header[8]
    }

    /// DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        self.header[1]
    }

    /// Length of header and payload.
    #[inline]
    pub fn len(&self) -> usize {
        self.header_len() + self.payload.len()
    }

    /// Never true: there is always a header.
    #[inline]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Length of the header with its options.
    #[inline]
    pub fn header_len(&self) -> usize {
        HEADER + self.options.len()
    }

    /// True when routers must not fragment it.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.flags_and_offset() & DONT_FRAGMENT != 0
    }

    /// Whether it is a piece of a larger packet.
    #[inline]
    pub fn fragment(&self) -> Fragment {
        let field = self.flags_and_offset();
        Fragment::new(field & FRAGMENT_OFFSET, field & MORE_FRAGMENTS != 0)
    }

    /// What the fragments of one packet have in common.
    #[inline]
    pub fn identification(&self) -> u16 {
        u16::from_be_bytes(field::<4, 2, HEADER>(self.header))
    }

    #[inline]
    fn flags_and_offset(&self) -> u16 {
        u16::from_be_bytes(field::<6, 2, HEADER>(self.header))
    }
}

/// The fixed part of the header, and the length of all of it; checks the version and that length.
#[inline(always)]
#[expect(clippy::inline_always, reason = "every packet begins here")]
fn start(bytes: &[u8]) -> Result<(&[u8; HEADER], usize), Defect> {
    let (header, _) = bytes.split_first_chunk::<HEADER>().ok_or(Defect::Truncated)?;
    let [version_and_len, ..] = *header;
    let header_len = usize::from(version_and_len & 0xf) * 4;
    if version_and_len >> 4 != 4 || header_len < HEADER {
        Err(Defect::Malformed)
    } else {
        Ok((header, header_len))
    }
}

/// A header to write: no options, not a fragment, never to be fragmented.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Who sends it.
    pub source: Ipv4Addr,
    /// Who it is for.
    pub destination: Ipv4Addr,
    /// What the payload is.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Length of the payload, at most 65,515 bytes.
    pub payload_len: usize,
}

impl Header {
    /// Fills a header. The identification is zero, which RFC 6864 (section 4.1) allows where DF is set.
    #[inline]
    pub fn write(&self, header: &mut [u8; HEADER]) {
        let total_len = (HEADER + self.payload_len) as u16;
        let first =
            u32::from(VERSION_AND_LEN) << 24 | u32::from(self.traffic_class) << 16 | u32::from(total_len);
        let second = u32::from(DONT_FRAGMENT);
        let third = u32::from(self.ttl) << 24 | u32::from(self.protocol) << 16;
        let (source, destination) = (u32::from(self.source), u32::from(self.destination));
        let words = [first, second, third, source, destination];
        let checksum = words.into_iter().fold(Sum::new(), Sum::with_number).finish();
        put::<0, 4, HEADER>(header, first.to_be_bytes());
        put::<4, 4, HEADER>(header, second.to_be_bytes());
        put::<8, 4, HEADER>(header, (third | u32::from(checksum)).to_be_bytes());
        put::<12, 4, HEADER>(header, source.to_be_bytes());
        put::<16, 4, HEADER>(header, destination.to_be_bytes());
    }
}

/// Lowers the TTL of a parsed header by one and adapts the checksum. The caller has made sure that it is not zero.
#[inline]
pub fn decrement_ttl(header: &mut [u8; HEADER]) {
    change_word::<8>(header, |word| word.wrapping_sub(0x100));
}

/// Replaces DSCP and ECN of a parsed header and adapts the checksum.
#[inline]
pub fn set_traffic_class(header: &mut [u8; HEADER], traffic_class: u8) {
    change_word::<0>(header, |word| (word & 0xff00) | u16::from(traffic_class));
}

/// Gives the packet back to its sender: addresses swapped, which leaves the checksum right, and a fresh TTL.
pub fn turn_around(header: &mut [u8; HEADER], ttl: u8) {
    let (source, destination) = (field::<12, 4, HEADER>(header), field::<16, 4, HEADER>(header));
    put::<12, 4, HEADER>(header, destination);
    put::<16, 4, HEADER>(header, source);
    change_word::<8>(header, |word| (word & 0xff) | (u16::from(ttl) << 8));
}

#[inline]
fn change_word<const OFFSET: usize>(header: &mut [u8; HEADER], change: impl FnOnce(u16) -> u16) {
    let old = u16::from_be_bytes(field::<OFFSET, 2, HEADER>(header));
    let new = change(old);
    let checksum = u16::from_be_bytes(field::<10, 2, HEADER>(header));
    put::<OFFSET, 2, HEADER>(header, new.to_be_bytes());
    put::<10, 2, HEADER>(header, updated(checksum, old, new).to_be_bytes());
}
