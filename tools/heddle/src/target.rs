//! Which switch a command is about.

use std::path::Path;

use anyhow::{Context, Result};
use heddle_netlab::{Control, State};

use crate::args::TargetOptions;

impl TargetOptions {
    /// True when the user named no switch.
    pub(crate) fn is_default(&self) -> bool {
        self.socket.is_none() && self.node.is_none()
    }

    pub(crate) fn connect(&self) -> Result<Control> {
        if let Some(node) = &self.node {
            let state = State::current()?;
            let node = state.node(node.parse()?)?;
            return Control::connect(&node.socket).with_context(|| format!("node {}", node.name));
        }
        if let Some(socket) = &self.socket {
            return Control::connect(socket);
        }
        Control::connect(Path::new(heddle_api::DEFAULT_SOCKET)).map_err(|error| match State::current() {
            Ok(state) if !state.nodes.is_empty() => error
                .context(format!("a lab is up: name one of its nodes, as in --node {}", state.nodes[0].name)),
            _ => error,
        })
    }
}

/// The lab that a command without a named switch is about: the one that is up on a machine that has no switch itself.
pub(crate) fn lab_instead_of_node() -> Option<State> {
    if Path::new(heddle_api::DEFAULT_SOCKET).exists() { None } else { State::current().ok() }
}
