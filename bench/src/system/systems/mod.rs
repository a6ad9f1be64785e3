//! The systems, each raised in namespaces of its own, all seen alike from outside.

mod bridge;
mod heddle;
mod overlay;
mod ovs;
mod plugin;

use anyhow::Result;
use heddle_netlab::Interrupt;

use super::ground::Ground;
use super::place::Place;
use super::scenario::{Reach, SystemName};
pub(crate) use bridge::bridge_configuration;
pub(crate) use heddle::{Heddle, one_node};
pub(crate) use plugin::{DIRECTORY as PLUGIN_DIRECTORY, REQUIRED as REQUIRED_PLUGINS};

/// A system that is up. It goes with the ground it was built on, Heddle with its lab.
pub(crate) trait System {
    fn name(&self) -> SystemName;

    /// The client's pod and the server's; nothing where the system has no pods so far apart.
    fn ends(&self, reach: Reach) -> Option<[&Place; 2]>;

    /// Before it is measured.
    fn wake(&mut self) -> Result<()> {
        Ok(())
    }

    /// After it was measured: whatever spins must not take the core away from whom it is compared with.
    fn rest(&mut self) -> Result<()> {
        Ok(())
    }

    /// Operations on a flow cache since the system started, where there is one.
    fn map_operations(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// What the report is to say of it.
    fn facts(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Raises a peer.
pub(crate) fn raise_peer(
    name: SystemName,
    ground: &Ground,
    interrupt: &Interrupt,
) -> Result<Box<dyn System>> {
    Ok(match name {
        SystemName::Bridge => Box::new(bridge::Bridge::raise(ground)?),
        SystemName::BridgeVxlan => Box::new(overlay::Overlay::raise(ground)?),
        SystemName::Ovs => Box::new(ovs::Ovs::raise(ground, interrupt)?),
        SystemName::HeddleCached | SystemName::HeddleDirect => anyhow::bail!("Heddle is no peer of itself"),
    })
}
