//! The control thread's side: what the switch is to do, who may say so, and how it gets to the workers.
//!
//! [`Control`] owns the truth (model), changes it transactionally (apply) and remembers it (persist). The gRPC service
//! is a thin translation in front of it; everything that touches packets is behind the [`Dataplane`] trait, so that all
//! of this is tested without a NIC.

mod apply;
mod awaited;
mod bandwidth;
mod cleanup;
mod convert;
mod dataplane;
mod endpoints;
mod error;
mod facts;
mod forwarding;
mod host;
mod inspect;
mod nat;
mod neighbors;
mod nft;
mod pair;
mod persist;
mod plane;
mod policy;
mod ports;
mod preflight;
mod remote;
mod routes;
mod saved_image;
mod segment;
mod server;
mod service;
mod start;
mod uplink;
mod validate;
mod watchers;

#[cfg(test)]
mod tests;

pub use apply::Control;
pub use cleanup::{Cleanup, Extent, Places, clean_up};
pub use dataplane::{Attached, Dataplane, Shapes};
pub use error::{ControlError, StartError};
pub use facts::{NodeFacts, UplinkFacts};
pub use persist::{PersistError, Store};
pub use ports::Forward;
pub use saved_image::SavedImage;
pub use server::{ServerError, bind};
pub use service::SwitchService;
pub use start::run;
