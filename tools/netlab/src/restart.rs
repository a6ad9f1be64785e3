//! Switches that go and come back under a lab.

use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::binaries;
use crate::daemon::{self, Files};
use crate::lab::Lab;
use crate::names::Name;
use crate::state::STATE_DIR;

impl Lab {
    /// Ends the switch of a node at once, as a crash would.
    pub fn kill_switch(&self, node: &str) -> Result<()> {
        let switch = self.node(node)?.state.switch;
        switch.signal(Signal::KILL)?;
        switch.end().map(drop)
    }

    /// Starts the switch of a node anew, whose last one has ended. When this returns, it answers.
    pub fn start_switch(&self, node: &str) -> Result<()> {
        let name: Name = node.parse()?;
        let files = Files::of(Path::new(STATE_DIR), name);
        let Name::Node(number) = self.node(node)?.state.name else {
            unreachable!("nodes are named as nodes")
        };
        let process = daemon::start(&binaries::find("heddle-switch")?, &self.state().spec, number, &files)?;
        self.update_node(name, |node| node.switch = process)?;
        daemon::wait_ready(process, &files, &()).map(drop).with_context(|| format!("the switch of {name}"))
    }
}
