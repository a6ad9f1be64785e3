//! The agent: what a cluster, or a directory of manifests, says about policy becomes the image in force at this node's switch.
//!
//! A [`Source`] tells of Namespaces, Pods and `NetworkPolicy` objects; the [switch] tells which endpoints it has. The [`Cluster`] makes one
//! picture of both and keeps the policy compiler in step with it; [`run`] pushes an image whenever the picture has changed.
//! Nothing here knows which kind of source it is.
#![forbid(unsafe_code)]

mod agent;
mod backoff;
mod cluster;
mod source;
mod switch;

pub use agent::{Options, run};
pub use cluster::{Cluster, LocalEndpoint};
pub use source::directory::DirectorySource;
pub use source::{Change, Source, SourceError, SourceEvent};
