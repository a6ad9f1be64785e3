//! The pods that are attached to this node.

use anyhow::{Context, Result};

/// Interfaces of pods: `hdl` and eleven hexadecimal digits (cni/README.md).
const PREFIX: &str = "hdl";
const DIGITS: usize = 11;

/// The host's ends of the interfaces of pods that are there.
pub(crate) fn attached() -> Result<Vec<String>> {
    // Of the namespace that whoever reads it is in; /sys/class/net is of the one that mounted it.
    let table = std::fs::read_to_string("/proc/self/net/dev").context("cannot list interfaces")?;
    let names = table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned());
    Ok(names.filter(|name| is_pods(name)).collect())
}

fn is_pods(name: &str) -> bool {
    let digits = name.strip_prefix(PREFIX).unwrap_or_default();
    digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    //! Only what heddle-cni makes counts.
    use super::*;

    #[test]
    fn names() {
        assert!(is_pods("hdl0123456789a"));
        for other in ["hdl", "hdl0123456789", "hdlxyzxyzxyzxy", "heddle0", "eth0", "hdl0123456789ab"] {
            assert!(!is_pods(other), "{other}");
        }
    }
}
