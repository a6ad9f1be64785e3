//! Whether this machine can do what is asked, before anything is made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use heddle_netlab::find_binary;

use super::plan::Plan;
use super::scenario::SystemName;
use super::systems::{PLUGIN_DIRECTORY, REQUIRED_PLUGINS};

/// Programs of Open vSwitch, and the Debian package that they are in together.
const OVS_PROGRAMS: [&str; 4] = ["ovsdb-tool", "ovsdb-server", "ovs-vsctl", "ovs-vswitchd"];
const OVS_PACKAGE: &str = "openvswitch-switch";
const PLUGINS_PACKAGE: &str = "containernetworking-plugins";
const HEDDLE_PROGRAMS: [&str; 3] = ["heddle-switch", "heddle-cni", "heddle-agent"];

/// Says all that is missing, and how to get it.
pub(crate) fn check(plan: &Plan) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "this needs root, for network namespaces, BPF and AF_XDP: run it with sudo"
    );
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let missing = missing(&plan.systems, &directories, Path::new(PLUGIN_DIRECTORY));
    if !missing.is_empty() {
        let packages: BTreeSet<_> = missing.iter().map(|(_, package)| *package).collect();
        let programs: Vec<_> = missing.iter().map(|(program, _)| program.as_str()).collect();
        let packages: Vec<_> = packages.into_iter().collect();
        bail!(
            "missing: {}. On Debian 12: apt-get install --no-install-recommends {}; or leave systems out with --systems",
            programs.join(", "),
            packages.join(" ")
        );
    }
    if plan.systems.iter().any(|name| name.mode().is_some()) {
        HEDDLE_PROGRAMS.iter().try_for_each(|program| find_binary(program).map(drop))?;
    }
    Ok(())
}

/// Programs that are not there, with their packages.
fn missing(systems: &[SystemName], path: &[PathBuf], plugins: &Path) -> Vec<(String, &'static str)> {
    let has = |names: &[SystemName]| names.iter().any(|name| systems.contains(name));
    let mut missing = Vec::new();
    if has(&[SystemName::Bridge, SystemName::BridgeVxlan]) {
        let wanted = REQUIRED_PLUGINS.map(|plugin| plugins.join(plugin));
        missing.extend(
            wanted
                .iter()
                .filter(|file| !file.is_file())
                .map(|file| (file.display().to_string(), PLUGINS_PACKAGE)),
        );
    }
    if has(&[SystemName::Ovs]) {
        let is_there = |program: &&str| path.iter().any(|dir| dir.join(program).is_file());
        missing.extend(
            OVS_PROGRAMS
                .iter()
                .filter(|program| !is_there(program))
                .map(|program| ((*program).to_owned(), OVS_PACKAGE)),
        );
    }
    missing
}

#[cfg(test)]
mod tests {
    //! What is missing is named with its package, and only for the systems that were asked for.
    use super::*;

    #[test]
    fn only_what_is_needed_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let path = [dir.path().to_owned()];
        let missing = |systems: &[SystemName]| {
            missing(systems, &path, dir.path()).into_iter().map(|(_, package)| package).collect::<Vec<_>>()
        };
        assert!(missing(&[SystemName::HeddleDirect]).is_empty());
        assert_eq!(missing(&[SystemName::Bridge]), [PLUGINS_PACKAGE; 2]);
        assert_eq!(missing(&[SystemName::Ovs]), [OVS_PACKAGE; 4]);
        for program in OVS_PROGRAMS.iter().chain(&REQUIRED_PLUGINS) {
            std::fs::write(dir.path().join(program), "").unwrap();
        }
        assert!(missing(&[SystemName::Bridge, SystemName::BridgeVxlan, SystemName::Ovs]).is_empty());
    }
}
