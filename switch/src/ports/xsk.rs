//! Ports over AF_XDP sockets.
/// placeholder, being built
pub struct XskPort;
