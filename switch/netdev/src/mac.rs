//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

/// An IEEE 802 MAC address, in transmission order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All ones.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// True for group addresses, broadcast among them.
    #[inline]
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|octet| write!(f, ":{octet:02x}"))
    }
}

/// The text is not a MAC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a MAC address: write six hex octets with colons, as in 02:68:64:00:00:01")]
pub struct ParseMacError(String);

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMacError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = u8::from_str_radix(part.ok_or_else(error)?, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(octets)) }
    }
}

#[cfg(test)]
mod tests {
    //! Text and value round-trip; anything else is refused.
    use super::*;

    #[test]
    fn round_trips() {
        let mac: Mac = "02:68:64:0a:ff:01".parse().unwrap();
        assert_eq!(mac, Mac([2, 0x68, 0x64, 0x0a, 0xff, 1]));
        assert_eq!(mac.to_string(), "02:68:64:0a:ff:01");
    }

    #[test]
    fn refuses_what_is_not_a_mac() {
        for text in [
            "",
            "02:68:64:00:00",
            "02:68:64:00:00:01:02",
            "2:68:64:00:00:01",
            "0g:68:64:00:00:01",
            "+2:68:64:00:00:01",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
