//! Policy compiler.
