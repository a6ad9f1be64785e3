//! Linux network devices, addresses, routes, neighbors, queueing disciplines, offloads and network namespaces: what the
//! switch, the CNI plugin and the lab set up in the kernel.

mod mac;

pub use mac::{Mac, ParseMacError};
