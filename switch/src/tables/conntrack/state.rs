//! How far a connection has got, how long it may be idle there, and what is given up first.
//!
//! Sources of the timeouts: Linux (`net/netfilter/nf_conntrack_proto_*.c`), kube-proxy's defaults
//! (`--conntrack-tcp-timeout-*`), RFC 5382 (TCP), RFC 4787 (UDP) and RFC 5508 (ICMP) for the behaviour of middleboxes.

use super::tick::Tick;
use crate::wire::protocol;

/// Declares each state once: its stable name, idle timeout in seconds, and what it is worth when the table is full.
macro_rules! states {
    ($($(#[$doc:meta])* $variant:ident $name:literal $seconds:literal $group:ident,)*) => {
        /// How far a connection has got.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum State { $($(#[$doc])* $variant,)* }

        impl State {
            /// Every state; a state's discriminant is its index.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            /// Number of states.
            pub const COUNT: usize = Self::ALL.len();
            const NAMES: [&str; Self::COUNT] = [$($name,)*];
            const TIMEOUTS: [u32; Self::COUNT] = [$(Tick::count($seconds),)*];
            const GROUPS: [Group; Self::COUNT] = [$(Group::$group,)*];
        }
    };
}

states! {
    /// A SYN was seen. 120 s: Linux `SYN_SENT`.
    Opening "opening" 120 Unanswered,
    /// Both ends sent a SYN to each other (RFC 9293, section 3.5). 120 s: Linux `SYN_SENT2`.
    OpeningBoth "opening_both" 120 Unanswered,
    /// A SYN-ACK was seen. 60 s: Linux `SYN_RECV`.
    Accepted "accepted" 60 Unanswered,
    /// The handshake is complete. 24 h: kube-proxy; RFC 5382 REQ-5 asks for 2 h 4 min or more.
    Established "established" 86_400 Established,
    /// One end has closed, the other may go on sending. 1 h: kube-proxy for Linux' `CLOSE_WAIT`, whose 60 s cut off slow
    /// answers (kubernetes#32551).
    HalfClosed "half_closed" 3_600 Ending,
    /// Both ends have closed, and an acknowledgement is outstanding. 240 s: RFC 5382 REQ-5, transitory connections.
    Closing "closing" 240 Ending,
    /// Both ends have closed and know it. 120 s: Linux `TIME_WAIT`.
    TimeWait "time_wait" 120 Finished,
    /// One end reset the connection. 10 s: Linux `CLOSE`.
    Reset "reset" 10 Finished,
    /// UDP, no reply yet. 30 s: Linux.
    UdpUnanswered "udp_unanswered" 30 Unanswered,
    /// UDP, both directions seen. 120 s: Linux, and the least that RFC 4787 REQ-5 allows.
    UdpAnswered "udp_answered" 120 Answered,
    /// SCTP, no reply yet. 30 s: Linux `HEARTBEAT_SENT`, its longest before an answer.
    SctpUnanswered "sctp_unanswered" 30 Unanswered,
    /// SCTP, both directions seen. 210 s: Linux `ESTABLISHED`, seven heartbeats of an idle path (RFC 9260, section 16).
    SctpAnswered "sctp_answered" 210 Answered,
    /// ICMP query, no answer yet. 60 s: RFC 5508 REQ-2.
    QueryUnanswered "query_unanswered" 60 Unanswered,
    /// ICMP query, answered. 60 s: RFC 5508 REQ-2.
    QueryAnswered "query_answered" 60 Answered,
    /// Any other protocol, no reply yet. 600 s: Linux `nf_conntrack_generic_timeout`.
    OtherUnanswered "other_unanswered" 600 Unanswered,
    /// Any other protocol, both directions seen. 600 s: as above.
    OtherAnswered "other_answered" 600 Answered,
}

/// What a connection is worth when the table is full: the first group that has any gives one up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Over; kept only to know its last packets.
    Finished,
    /// Nobody has answered: what a flood or a scan leaves behind. One group for all protocols, so that a flood of one
    /// does not push out the half-open connections of the others first.
    Unanswered,
    /// Closed by one end or by both.
    Ending,
    /// Answered, of a protocol that has no handshake.
    Answered,
    /// TCP with a complete handshake.
    Established,
}

impl Group {
    /// From worth least to worth most.
    pub(super) const ALL: [Self; 5] =
        [Self::Finished, Self::Unanswered, Self::Ending, Self::Answered, Self::Established];
}

impl State {
    /// Stable name, in snake case, for command line and metrics.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// What it is worth when the table is full.
    pub const fn group(self) -> Group {
        Self::GROUPS[self as usize]
    }

    /// True when both ends have shown that they want the connection, and none has closed it.
    pub const fn is_established(self) -> bool {
        matches!(self.group(), Group::Answered | Group::Established)
    }

    /// True for those that a TCP connection goes through; they are the first in the table.
    #[inline]
    pub(super) const fn is_tcp(self) -> bool {
        self as u8 <= Self::Reset as u8
    }

    /// Ticks without a packet after which a connection is forgotten.
    #[inline]
    pub(super) const fn timeout(self) -> u32 {
        Self::TIMEOUTS[self as usize]
    }

    /// Where a connection without a handshake starts.
    pub(super) const fn unanswered(protocol: u8) -> Self {
        match protocol {
            protocol::UDP => Self::UdpUnanswered,
            protocol::SCTP => Self::SctpUnanswered,
            protocol::ICMP | protocol::ICMPV6 => Self::QueryUnanswered,
            _ => Self::OtherUnanswered,
        }
    }

    /// Where the first reply takes it; nothing when it is there already, or never goes there.
    #[inline]
    pub(super) const fn answered(self) -> Option<Self> {
        match self {
            Self::UdpUnanswered => Some(Self::UdpAnswered),
            Self::SctpUnanswered => Some(Self::SctpAnswered),
            Self::QueryUnanswered => Some(Self::QueryAnswered),
            Self::OtherUnanswered => Some(Self::OtherAnswered),
            _ => None,
        }
    }
}
