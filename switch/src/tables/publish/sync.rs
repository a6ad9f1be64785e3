//! The primitives that publication is built of, or loom's models of them, so that the tests try every interleaving of
//! the same code.

#[cfg(not(loom))]
pub(super) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

#[cfg(loom)]
pub(super) use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

// Loom's mutex fails with std's errors.
pub(super) use std::sync::{PoisonError, TryLockError};
