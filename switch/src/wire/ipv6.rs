//! IPv6 and its extension headers (RFC 8200).

use std::net::Ipv6Addr;

use super::{Defect, Fragment, field, put};

/// Bytes of a header without extension headers.
pub const HEADER: usize = 40;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Most extension headers that are walked over. RFC 8200 (section 4.1) foresees at most five; more is an attack on
/// the walk.
const MAX_EXTENSIONS: usize = 8;

/// A view of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6<'a> {
    header: &'a [u8; HEADER],
    /// What follows the fixed header, without the padding of layer 2.
    pub payload: &'a [u8],
}

/// What is found behind the extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpperLayer {
    /// What it is.
    pub protocol: u8,
    /// Where it starts, from the fixed header on. In a later fragment there is no header at that place.
    pub offset: usize,
    /// Whether the packet is a piece of a larger one.
    pub fragment: Fragment,
    /// What the fragments of one packet have in common; 0 without a fragment header.
    pub identification: u32,
}

impl<'a> Ipv6<'a> {
    /// Checks version and length. Bytes behind the packet are not part of the view.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Defect> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(Defect::Truncated)?;
        if header[0] >> 4 != 6 {
            return Err(Defect::Malformed);
        }
        let len = usize::from(u16::from_be_bytes(field::<4, 2, HEADER>(header)));
        let payload = rest.get(..len).ok_or(Defect::Truncated)?;
        Ok(Self { header, payload })
    }

    /// As [`parse`](Self::parse), of a packet that an ICMP error quotes: it may end anywhere behind its header.
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self, Defect> {
        let (header, payload) = bytes.split_first_chunk::<HEADER>().ok_or(Defect::Truncated)?;
        if header[0] >> 4 == 6 { Ok(Self { header, payload }) } else { Err(Defect::Malformed) }
    }

    /// Who sent it.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from(field::<8, 16, HEADER>(self.header))
    }

    /// Who it is for.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from(field::<24, 16, HEADER>(self.header))
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.header[7]
    }

    /// DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (self.header[0] << 4) | (self.header[1] >> 4)
    }

    /// Length of header and payload.
    #[inline]
    pub fn len(&self) -> usize {
        HEADER + self.payload.len()
    }

    /// Never true: there is always a header.
    #[inline]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Walks over the extension headers.
    #[inline]
    pub fn upper_layer(&self) -> Result<UpperLayer, Defect> {
        let protocol = self.header[6];
        if matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
            return self.walk(protocol);
        }
        Ok(UpperLayer { protocol, offset: HEADER, fragment: Fragment::Whole, identification: 0 })
    }

    fn walk(&self, first: u8) -> Result<UpperLayer, Defect> {
        let mut found =
            UpperLayer { protocol: first, offset: HEADER, fragment: Fragment::Whole, identification: 0 };
        let mut rest = self.payload;
        for _ in 0..MAX_EXTENSIONS {
            let len = match found.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                    let [_, units, ..] = rest else { return Err(Defect::Truncated) };
                    (usize::from(*units) + 1) * 8
                }
                FRAGMENT => {
                    let Some([_, _, high, low, identification @ ..]) = rest.first_chunk::<8>() else {
                        return Err(Defect::Truncated);
                    };
                    let field = u16::from_be_bytes([*high, *low]);
                    found.identification = u32::from_be_bytes(*identification);
                    found.fragment = Fragment::new(field >> 3, field & 1 != 0);
                    8
                }
                _ => return Ok(found),
            };
            let (extension, behind) = rest.split_at_checked(len).ok_or(Defect::Truncated)?;
            let [next, ..] = extension else { return Err(Defect::Truncated) };
            found.protocol = *next;
            found.offset += len;
            rest = behind;
            if found.fragment == Fragment::Later {
                return Ok(found);
            }
        }
        Err(Defect::Malformed)
    }
}

/// A header to write, with no flow label.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Who sends it.
    pub source: Ipv6Addr,
    /// Who it is for.
    pub destination: Ipv6Addr,
    /// What the payload is.
    pub protocol: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Length of the payload, at most 65,535 bytes.
    pub payload_len: usize,
}

impl Header {
    /// Fills a header.
    #[inline]
    pub fn write(&self, header: &mut [u8; HEADER]) {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20;
        put::<0, 4, HEADER>(header, first.to_be_bytes());
        let [high, low] = (self.payload_len as u16).to_be_bytes();
        put::<4, 4, HEADER>(header, [high, low, self.protocol, self.hop_limit]);
        put::<8, 16, HEADER>(header, self.source.octets());
        put::<24, 16, HEADER>(header, self.destination.octets());
    }
}

/// Lowers the hop limit by one. The caller has made sure that it is not zero.
#[inline]
pub fn decrement_hop_limit(header: &mut [u8; HEADER]) {
    header[7] = header[7].wrapping_sub(1);
}

/// Replaces DSCP and ECN.
#[inline]
pub fn set_traffic_class(header: &mut [u8; HEADER], traffic_class: u8) {
    header[0] = (header[0] & 0xf0) | (traffic_class >> 4);
    header[1] = (header[1] & 0x0f) | (traffic_class << 4);
}

/// Gives the packet back to its sender: addresses swapped, a fresh hop limit.
pub fn turn_around(header: &mut [u8; HEADER], hop_limit: u8) {
    let (source, destination) = (field::<8, 16, HEADER>(header), field::<24, 16, HEADER>(header));
    put::<8, 16, HEADER>(header, destination);
    put::<24, 16, HEADER>(header, source);
    header[7] = hop_limit;
}
