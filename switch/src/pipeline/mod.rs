//! The stages, in packet order.
