//! The bridge plugin on one node: the baseline between pods of the same node.

use std::path::Path;

use anyhow::Result;
use ipnet::IpNet;

use super::System;
use super::plugin::{self, BridgePlugin};
use crate::system::ground::{Ground, create_namespace};
use crate::system::place::Place;
use crate::system::scenario::{Reach, SystemName};

/// Its pods have addresses of these.
const SUBNETS: [&str; 2] = ["10.245.0.0/24", "fd00:10:245::/64"];
/// What the plugin gives a veth when nobody says otherwise.
const MTU: u32 = 1500;

fn subnets() -> Result<Vec<IpNet>> {
    Ok(SUBNETS.map(str::parse::<IpNet>).into_iter().collect::<Result<_, _>>()?)
}

/// What the plugin is told on such a node, which keeps its addresses in this directory.
pub(crate) fn bridge_configuration(state: &Path) -> Result<serde_json::Value> {
    Ok(plugin::configuration(state, &subnets()?, MTU))
}

#[derive(Debug)]
pub(crate) struct Bridge {
    pods: [Place; 2],
}

impl Bridge {
    pub(crate) fn raise(ground: &Ground) -> Result<Self> {
        let node = create_namespace("bridge")?;
        let plugin = BridgePlugin::on(&node, &ground.directory("ipam-bridge")?, &subnets()?, MTU);
        Ok(Self { pods: [plugin.add("bridge-p1")?, plugin.add("bridge-p2")?] })
    }
}

impl System for Bridge {
    fn name(&self) -> SystemName {
        SystemName::Bridge
    }

    fn ends(&self, reach: Reach) -> Option<[&Place; 2]> {
        (reach == Reach::SameNode).then(|| self.pods.each_ref())
    }
}
