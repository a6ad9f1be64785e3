//! What an endpoint's packets are judged by.

use crate::{PortTable, Protocol, Row, Rows};

/// All addresses that every rule treats alike: the column of a bitmap. Any number is valid to look up; class 0 is the
/// addresses no rule mentions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PeerClass(pub u32);

/// Number of a policy class in one image. Another image may give it to another class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyClassNumber(pub u32);

/// Seen from the endpoint that is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// To the endpoint; the peer is the source.
    Ingress,
    /// From the endpoint; the peer is the destination.
    Egress,
}

/// The rules of one policy class in one direction, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rulebook {
    /// Protocol and destination port to port class.
    pub ports: PortTable,
    /// Port class and peer class to verdict.
    pub rows: Rows,
}

impl Rulebook {
    /// What holds where no policy selects the endpoint.
    pub fn allow_all() -> Self {
        Self { ports: PortTable::new(&[(0, 0)]), rows: Rows::new(&[Row::All]) }
    }

    /// True when some rule allows it.
    #[inline]
    pub fn allows(&self, peer: PeerClass, protocol: Protocol, port: u16) -> bool {
        self.rows.allows(self.ports.class(protocol, port), peer)
    }
}

/// All endpoints selected by the same policies: a rulebook for each direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyClass {
    /// Judges packets to the endpoint.
    pub ingress: Rulebook,
    /// Judges packets from the endpoint.
    pub egress: Rulebook,
}

impl PolicyClass {
    /// The class of endpoints that no policy selects.
    pub fn allow_all() -> Self {
        let both = Rulebook::allow_all();
        Self { ingress: both.clone(), egress: both }
    }

    /// The rulebook for a direction.
    #[inline]
    pub fn rulebook(&self, direction: Direction) -> &Rulebook {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Policy's verdict on a packet that opens a connection; `port` is its destination port. Three dependent loads behind
    /// the class itself: page number, port class, bitmap word.
    #[inline]
    pub fn allows(&self, direction: Direction, peer: PeerClass, protocol: Protocol, port: u16) -> bool {
        self.rulebook(direction).allows(peer, protocol, port)
    }
}
