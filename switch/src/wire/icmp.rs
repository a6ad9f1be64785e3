//! ICMP for IPv4 (RFC 792) and for IPv6 (RFC 4443), which share their shape.

use super::checksum::updated;
use super::{field, put};

/// Bytes of the header in front of an echo's data or of the packet an error quotes.
pub const HEADER: usize = 8;

/// Message types for IPv4.
pub mod v4 {
    /// Answer to an echo request.
    pub const ECHO_REPLY: u8 = 0;
    /// The packet could not be delivered.
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    /// Slow down (deprecated, RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Use another router.
    pub const REDIRECT: u8 = 5;
    /// Please answer.
    pub const ECHO_REQUEST: u8 = 8;
    /// TTL or reassembly time ran out.
    pub const TIME_EXCEEDED: u8 = 11;
    /// A header field is wrong.
    pub const PARAMETER_PROBLEM: u8 = 12;

    /// True for messages about another packet.
    pub fn is_error(kind: u8) -> bool {
        matches!(kind, DESTINATION_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }
}

/// Message types for IPv6.
pub mod v6 {
    /// The packet could not be delivered.
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    /// The packet is larger than the link's MTU.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Hop limit or reassembly time ran out.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Please answer.
    pub const ECHO_REQUEST: u8 = 128;
    /// Answer to an echo request.
    pub const ECHO_REPLY: u8 = 129;
    /// The first of the five neighbor discovery messages (RFC 4861, section 4).
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Who has this address?
    pub const NEIGHBOR_SOLICITATION: u8 = 135;
    /// The last of the five, redirect.
    pub const REDIRECT: u8 = 137;

    /// True for messages about another packet: those with the high bit clear (RFC 4443, section 2.1), and redirects,
    /// which RFC 4443 (section 2.4 e.2) treats like them.
    pub fn is_error(kind: u8) -> bool {
        kind < 128 || kind == REDIRECT
    }
}

/// Fills a header, with checksum 0. `rest` is what follows the checksum; its meaning depends on the type.
pub fn write(header: &mut [u8; HEADER], kind: u8, code: u8, rest: u32) {
    *header = [kind, code, 0, 0, 0, 0, 0, 0];
    put::<4, 4, HEADER>(header, rest.to_be_bytes());
}

/// Puts the checksum in.
pub fn set_checksum(header: &mut [u8; HEADER], checksum: u16) {
    put::<2, 2, HEADER>(header, checksum.to_be_bytes());
}

/// Makes another message type of a message and adapts the checksum.
pub fn set_kind(header: &mut [u8; HEADER], kind: u8) {
    let code = header[1];
    let checksum = u16::from_be_bytes(field::<2, 2, HEADER>(header));
    let (old, new) = (u16::from_be_bytes([header[0], code]), u16::from_be_bytes([kind, code]));
    header[0] = kind;
    set_checksum(header, updated(checksum, old, new));
}
