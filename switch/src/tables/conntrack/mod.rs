//! The connections of one worker's endpoints: what is established needs no policy, what is new does.
//!
//! A table belongs to one worker and is never shared. It has no clock (the caller says what [`Tick`] it is), does no
//! I/O, and allocates only when it is made. The way of a packet:
//!
//! ```text
//! probe (hash the key) ─► [warm a batch] ─► track ─┬─► Known    forward; judge again if judged at an older generation
//!                                                  ├─► New      judge; if allowed: open
//!                                                  ├─► Stray    no connection, cannot open one: the caller decides
//!                                                  └─► Refused  cannot belong to its connection: drop
//! ```
//!
//! **One key for both directions.** Every packet is seen at an endpoint, either leaving it (egress) or entering it
//! (ingress). So a flow is keyed by endpoint, *local* and *remote* address and port instead of source and destination:
//! a packet and its reply have the same key, one probe finds both, and no ordering of addresses has to be invented. The
//! side on which the first packet was seen is kept in the entry; a packet seen on that side goes in the original
//! direction, one seen on the other side is a reply. Two endpoints of one worker that talk to each other have an entry
//! each, and a pod that talks to itself through a Service has two that differ in which port is local.
//!
//! **Memory.** An entry is two cache lines: the first is what a lookup compares, the second what a packet changes. The
//! index in front is one line for up to ten entries, so a hit costs three lines, of which [`Connections::warm`] can
//! fetch those of a whole batch at once.
//!
//! **Bounds.** Entries are kept in one list per [`State`], in the order they were last looked after. A hit only writes
//! the time into its entry; expiry and eviction look at heads of lists and give those that were busy since another
//! turn. So both cost a bounded number of steps, and a packet moves no list pointers unless its connection changes state.

#![expect(
    clippy::inline_always,
    reason = "a key that is called with passes through memory, wider than it was written; see ADR 9"
)]

mod aging;
mod counters;
mod entry;
mod flows;
mod fragments;
mod index;
mod key;
mod lists;
mod offload;
mod progress;
mod segment;
mod state;
mod table;
mod tcp;
#[cfg(test)]
mod tests;
mod tick;
mod track;

pub use counters::Counters;
pub use flows::Flow;
pub use fragments::{FragmentKey, Fragments};
pub use key::{Direction, FlowKey, Role, Side};
pub use offload::{Change, FlowEnd, Unseen};
pub use segment::{Segment, flags};
pub use state::{Group, State};
pub use table::{Connections, Probe};
pub use tick::Tick;
pub use track::{Fault, Known, Outcome, Packet};
