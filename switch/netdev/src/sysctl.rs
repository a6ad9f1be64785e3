//! Kernel settings under /proc/sys.
//!
//! /proc/sys/net shows the network namespace of the *thread* that opens a file in it (`net_ctl_root` in
//! `net/sysctl_net.c` looks at `current`), so these work on the calling thread's namespace: wrap a call in
//! [`Netns::run`](crate::Netns::run) for another one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes a setting, named as a path: `net/ipv4/ip_forward`. (Dots would be ambiguous: interface names may hold them.)
pub fn write_sysctl(name: &str, value: &str) -> Result<()> {
    let path = path_of(name)?;
    fs::write(&path, value).map_err(|e| Error::io(format!("write {value} to {}", path.display()), e))
}

/// Reads a setting, without the closing newline.
pub fn read_sysctl(name: &str) -> Result<String> {
    let path = path_of(name)?;
    let text = fs::read_to_string(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))?;
    Ok(text.trim_end().to_owned())
}

/// Switches IPv6 on an interface off or on.
pub fn set_ipv6_enabled(interface: &str, enabled: bool) -> Result<()> {
    crate::link::check_link_name(interface)?;
    let (name, value) = (format!("net/ipv6/conf/{interface}/disable_ipv6"), if enabled { "0" } else { "1" });
    // Looked at first: a write, be it of what is there, waits for the lock of all network configuration by trying over and over
    // (addrconf_disable_ipv6, net/ipv6/addrconf.c).
    if read_sysctl(&name)? == value { Ok(()) } else { write_sysctl(&name, value) }
}

fn path_of(name: &str) -> Result<PathBuf> {
    let relative = Path::new(name);
    let plain = relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !plain || name.is_empty() {
        let source = std::io::Error::from(std::io::ErrorKind::InvalidInput);
        return Err(Error::io(
            format!("use '{name}' as a setting's name (write net/ipv4/ip_forward)"),
            source,
        ));
    }
    Ok(Path::new("/proc/sys").join(relative))
}
