//! Ports in memory.
/// placeholder, being built
pub struct MemoryPort;
/// placeholder, being built
pub struct MemoryWire;
