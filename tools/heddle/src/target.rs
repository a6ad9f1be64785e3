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

/// What the switches of a lab answer, with the names of their nodes. One that does not answer is named on standard error, and
/// the others are asked all the same; only when none answers is that an error.
pub(crate) fn ask_every_node<T>(
    lab: &State,
    ask: impl Fn(&mut Control) -> Result<T>,
) -> Result<Vec<(String, T)>> {
    let mut answers = Vec::new();
    let mut silent = Vec::new();
    for node in &lab.nodes {
        let answer = Control::connect(&node.socket).and_then(|mut control| ask(&mut control));
        match answer.with_context(|| format!("node {}", node.name)) {
            Ok(answer) => answers.push((node.name.to_string(), answer)),
            Err(error) => silent.push(error),
        }
    }
    if answers.is_empty()
        && let Some(error) = silent.pop()
    {
        return Err(error);
    }
    for error in silent {
        eprintln!("left out: {error:#}");
    }
    Ok(answers)
}
