//! The policy compiler: `NetworkPolicy` v1, namespaces and pods to the bitmaps of `heddle-image`.
//!
//! Objects of the API are [checked](validate) into the [model]; the [`Compiler`] keeps the model and the image in step, change by
//! change. On the way, in this order:
//! 1. *resolve*: rules are cut into **terms** (one peer of one rule, shared by all rules that say the same), and pods into
//!    **identities** (same namespace, labels and named ports), for which terms and policies are matched once;
//! 2. *classes*: an address's **peer class** is the exact set of terms it is in;
//! 3. *emit*: a **rulebook** for each set of policies that select some endpoint: cuts the ports into classes and gives each
//!    a row, the union of its terms' peer classes.
//!
//! [`reference`](mod@reference) says the same slowly and is what all of this is tested against. docs/policy.md has a worked example.
#![forbid(unsafe_code)]

mod blocks;
mod classes;
mod compiler;
mod emit;
mod identities;
mod policies;
mod resolve;
mod rulebooks;
mod selector;
mod terms;

pub mod check;
pub mod conformance;
pub mod explain;
pub mod manifests;
pub mod model;
pub mod reference;
pub mod validate;

pub use compiler::{Compiler, Enforced, LimitError, Limits, Stats};
pub use selector::{Condition, Requirement, Selector};

/// Seeded: labels and names are what users like them to be.
type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
type Set<K> = std::collections::HashSet<K, foldhash::fast::RandomState>;
