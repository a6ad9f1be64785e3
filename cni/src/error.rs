//! The errors a runtime gets to read: JSON on standard output, with the codes of the CNI specification below 100 and
//! Heddle's own above (listed in cni/README.md).

use heddle_netdev::Errno;
use serde::Serialize;

use crate::state::StateError;

/// Error codes.
pub(crate) mod code {
    /// The configuration's version, or the verb at that version, is not supported.
    pub(crate) const VERSION: u32 = 1;
    /// The configuration holds a field this plugin cannot honour.
    pub(crate) const FIELD: u32 = 2;
    /// The container is gone; nothing needs cleaning up.
    pub(crate) const CONTAINER: u32 = 3;
    /// Environment variables are missing or wrong.
    pub(crate) const ENVIRONMENT: u32 = 4;
    /// Reading, writing or the file system failed.
    pub(crate) const IO: u32 = 5;
    /// Standard input is not what it should be.
    pub(crate) const DECODE: u32 = 6;
    /// The configuration is wrong.
    pub(crate) const CONFIG: u32 = 7;
    /// The switch is down or slow: try again later.
    pub(crate) const LATER: u32 = 11;
    /// STATUS: new pods cannot be attached.
    pub(crate) const UNAVAILABLE: u32 = 50;
    /// STATUS: new pods cannot be attached, and those that are there are cut off.
    pub(crate) const UNAVAILABLE_LIMITED: u32 = 51;
    /// Every address of a family is taken.
    pub(crate) const EXHAUSTED: u32 = 100;
    /// Records of attachments are corrupt.
    pub(crate) const CORRUPT: u32 = 101;
    /// The interface is there already.
    pub(crate) const INTERFACE_EXISTS: u32 = 102;
    /// The pod already has a default route.
    pub(crate) const DEFAULT_ROUTE: u32 = 103;
    /// The kernel refused a step.
    pub(crate) const KERNEL: u32 = 104;
    /// The switch refused the endpoint.
    pub(crate) const SWITCH: u32 = 105;
    /// The switch describes a node no pod can be attached to.
    pub(crate) const NODE: u32 = 106;
    /// Several parts of a deletion failed.
    pub(crate) const SEVERAL: u32 = 107;
    /// The IPAM plugin failed with a code of its own, or answered nonsense.
    pub(crate) const DELEGATE: u32 = 108;
    /// What ADD made is not as it was made.
    pub(crate) const CHANGED: u32 = 109;
    /// An address that was asked for cannot be given.
    pub(crate) const NOT_TO_BE_HAD: u32 = 110;
    /// The state is of a later version.
    pub(crate) const NEWER: u32 = 111;
}

/// What went wrong, as the runtime will read it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{msg}: {details} (code {code})")]
pub(crate) struct CniError {
    /// One of [`code`].
    pub(crate) code: u32,
    /// A few words.
    pub(crate) msg: String,
    /// What exactly, and what to do.
    pub(crate) details: String,
}

/// Result of everything that ends in an answer to the runtime.
pub(crate) type Result<T, E = CniError> = std::result::Result<T, E>;

impl CniError {
    /// An error with the code's own wording.
    pub(crate) fn new(code: u32, details: impl Into<String>) -> Self {
        Self { code, msg: wording(code).to_owned(), details: details.into() }
    }

    /// Adds to the details.
    #[must_use]
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.details.push_str("; ");
        self.details.push_str(more);
        self
    }

    /// One error that tells every fault of the input: who mends it wants to do it once. It has the faults' code when they share
    /// one.
    pub(crate) fn all_at_once(faults: Vec<Self>) -> Self {
        let same = faults.windows(2).all(|pair| matches!(pair, [one, other] if one.code == other.code));
        let code = faults.first().filter(|_| same).map_or(code::CONFIG, |fault| fault.code);
        let details: Vec<String> = faults.into_iter().map(|fault| fault.details).collect();
        Self::new(code, details.join("; "))
    }

    /// One error out of several; `None` out of none.
    pub(crate) fn all(errors: Vec<Self>) -> Option<Self> {
        if errors.len() < 2 {
            return errors.into_iter().next();
        }
        let code = if errors.iter().all(|e| e.code == code::LATER) { code::LATER } else { code::SEVERAL };
        let details: Vec<_> = errors.into_iter().map(|e| format!("{}: {}", e.msg, e.details)).collect();
        Some(Self::new(code, details.join("; ")))
    }
}

fn wording(code: u32) -> &'static str {
    match code {
        code::VERSION => "incompatible CNI version",
        code::FIELD => "unsupported field in the network configuration",
        code::CONTAINER => "the container does not exist",
        code::ENVIRONMENT => "invalid environment variables",
        code::IO => "I/O failure",
        code::DECODE => "cannot decode standard input",
        code::CONFIG => "invalid network configuration",
        code::LATER => "try again later",
        code::UNAVAILABLE => "no pod can be attached",
        code::UNAVAILABLE_LIMITED => "no pod can be attached, and pods are cut off",
        code::EXHAUSTED => "no pod address is free",
        code::CORRUPT => "records of attachments are corrupt",
        code::INTERFACE_EXISTS => "the interface exists already",
        code::DEFAULT_ROUTE => "the pod has a default route already",
        code::KERNEL => "the kernel refused",
        code::SWITCH => "heddle-switch refused",
        code::NODE => "the node is not ready for pods",
        code::SEVERAL => "several steps failed",
        code::DELEGATE => "the IPAM plugin failed",
        code::CHANGED => "the attachment has changed",
        code::NOT_TO_BE_HAD => "the requested address cannot be given",
        code::NEWER => "the state is of a later version",
        _ => "error",
    }
}

impl From<rscni_types::error::Error> for CniError {
    fn from(error: rscni_types::error::Error) -> Self {
        Self::new(u32::from(&error), error.details())
    }
}

impl From<heddle_netdev::Error> for CniError {
    fn from(error: heddle_netdev::Error) -> Self {
        let code = if error.errno() == Some(Errno::EEXIST) { code::INTERFACE_EXISTS } else { code::KERNEL };
        Self::new(code, error.to_string())
    }
}

impl From<StateError> for CniError {
    fn from(error: StateError) -> Self {
        let code = match &error {
            StateError::Exhausted { .. } => code::EXHAUSTED,
            StateError::NotToBeHad { .. } => code::NOT_TO_BE_HAD,
            StateError::Corrupt { .. } => code::CORRUPT,
            StateError::Newer { .. } => code::NEWER,
            StateError::Busy { .. } | StateError::UnderWay { .. } => code::LATER,
            StateError::Io { .. } => code::IO,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    //! Several errors become one that tells them all.
    use super::*;

    #[test]
    fn several_become_one() {
        let later = || CniError::new(code::LATER, "slow");
        let io = CniError::new(code::IO, "disk");
        assert_eq!(CniError::all(vec![]), None);
        assert_eq!(CniError::all(vec![io.clone()]), Some(io.clone()));
        assert_eq!(CniError::all(vec![later(), later()]).unwrap().code, code::LATER);
        let both = CniError::all(vec![later(), io]).unwrap();
        assert_eq!(both.code, code::SEVERAL);
        assert!(both.details.contains("slow") && both.details.contains("disk"), "{both}");
    }
}
