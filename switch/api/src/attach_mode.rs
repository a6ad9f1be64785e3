//! The words for how an endpoint is attached, as `attach_mode` fields have them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How an endpoint is attached to the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// By a port of its own, a socket on the host's end of its interface: every packet passes the switch.
    Direct,
    /// By the trunk: packets of flows that are in the flow cache stay in the kernel, segmentation offload and all.
    Cached,
}

/// No mode has this name.
#[derive(Debug, thiserror::Error)]
#[error("there is no attach mode '{0}': use direct or cached")]
pub struct UnknownAttachMode(String);

impl AttachMode {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Direct, Self::Cached];

    /// As it is written everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Cached => "cached",
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for AttachMode {
    type Err = UnknownAttachMode;

    fn from_str(text: &str) -> Result<Self, UnknownAttachMode> {
        let named = Self::ALL.into_iter().find(|mode| mode.name() == text);
        named.ok_or_else(|| UnknownAttachMode(text.to_owned()))
    }
}
