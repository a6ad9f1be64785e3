//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::{Defect, Mac, field, put};

/// Bytes of a message.
pub const MESSAGE: usize = 28;

/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses: how every message starts.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What a message wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Operation {
    /// Who has the target address?
    Request = 1,
    /// The sender has its address.
    Reply = 2,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// MAC of who sends it.
    pub sender_mac: Mac,
    /// Its address; unspecified in a probe (RFC 5227).
    pub sender: Ipv4Addr,
    /// MAC of who it is for; means nothing in a request.
    pub target_mac: Mac,
    /// Whose MAC is asked for, or told.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Reads the message at the start of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Defect> {
        let message: &[u8; MESSAGE] = bytes.first_chunk().ok_or(Defect::Truncated)?;
        let operation = match (field::<0, 6, MESSAGE>(message), field::<6, 2, MESSAGE>(message)) {
            (ETHERNET_IPV4, [0, 1]) => Operation::Request,
            (ETHERNET_IPV4, [0, 2]) => Operation::Reply,
            _ => return Err(Defect::Malformed),
        };
        Ok(Self {
            operation,
            sender_mac: Mac(field::<8, 6, MESSAGE>(message)),
            sender: Ipv4Addr::from(field::<14, 4, MESSAGE>(message)),
            target_mac: Mac(field::<18, 6, MESSAGE>(message)),
            target: Ipv4Addr::from(field::<24, 4, MESSAGE>(message)),
        })
    }

    /// Writes the message.
    pub fn write(&self, message: &mut [u8; MESSAGE]) {
        put::<0, 6, MESSAGE>(message, ETHERNET_IPV4);
        put::<6, 2, MESSAGE>(message, (self.operation as u16).to_be_bytes());
        put::<8, 6, MESSAGE>(message, self.sender_mac.0);
        put::<14, 4, MESSAGE>(message, self.sender.octets());
        put::<18, 6, MESSAGE>(message, self.target_mac.0);
        put::<24, 4, MESSAGE>(message, self.target.octets());
    }
}
