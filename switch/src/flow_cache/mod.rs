//! The flow cache, seen from the switch: what is in the kernel's map of judged flows, and why.
//!
//! A *flow* is one direction of a connection. Workers offer flows that the kernel could forward without them, and recall what
//! must not pass unseen any more; one thread, the [keeper](Keeper), owns the map:
//!
//! ```text
//! worker of the sender   ─ offers its end ─┐                      ┌─► flow cache: a flow is in it while every end
//!                                          ├─► keeper (ledger) ───┤    that is on this node allows it
//! worker of the receiver ─ offers its end ─┘                      └─► news for the workers: used, dropped
//! ```
//!
//! So the cache never decides anything: a flow is written only when the endpoints at both ends have judged it at the generations
//! that their hops still have, and whoever changes its mind recalls it. That nothing is overtaken while a flow moves from
//! the switch to the kernel is the kernel's part: it counts what is under way (`pass_fence` in `switch/bpf/c/decide.h`). A TCP connection
//! begins in the kernel: its worker writes both flows with the SYN-ACK, when nothing is under way, and tells the keeper.
//!
//! The map outlives the daemon. The next keeper [takes it over](Order::TakeOver): the workers get their connections back from
//! it and judge them before long.

mod keeper;
mod kernel;
mod ledger;
mod link;
#[cfg(test)]
mod tests;

pub use keeper::{Keeper, KeeperStats};
pub use kernel::{CachedFlow, FlowMap, MapError, MapKey, NO_FENCE, Usage, Written};
pub use link::{Link, Links, Message, Order, Resident, connect};
