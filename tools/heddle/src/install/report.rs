//! What a command that changes a node did, said as it goes on.

use std::fmt::Display;

use anyhow::Result;
use serde::Serialize;

use crate::args::Output;
use crate::output;

/// One thing that was done, or found to be done already.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    /// created, replaced, unchanged, removed or absent
    pub(crate) what: &'static str,
    /// What it was done to, if it is not a file: interface, route …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    /// Its path or name.
    pub(crate) name: String,
}

/// Steps and warnings, for people at once, for programs at the end.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) steps: Vec<Step>,
    pub(crate) warnings: Vec<String>,
    #[serde(skip)]
    format: Output,
}

impl Report {
    pub(crate) fn new(format: Output) -> Self {
        Self { steps: Vec::new(), warnings: Vec::new(), format }
    }

    /// A file.
    pub(crate) fn file(&mut self, what: &'static str, path: impl AsRef<std::path::Path>) -> Result<()> {
        self.step(Step { what, kind: None, name: path.as_ref().display().to_string() })
    }

    pub(crate) fn step(&mut self, step: Step) -> Result<()> {
        if self.format == Output::Table {
            let kind = step.kind.as_ref().map_or(String::new(), |kind| format!("{kind} "));
            output::print(format!("{:<9}  {kind}{}", step.what, step.name))?;
        }
        self.steps.push(step);
        Ok(())
    }

    /// Goes to standard error as well, whatever the format.
    pub(crate) fn warn(&mut self, warning: impl Display) {
        eprintln!("warning: {warning}");
        self.warnings.push(warning.to_string());
    }

    pub(crate) fn finish(&self) -> Result<()> {
        match self.format {
            Output::Json => output::print_json(self),
            Output::Table => Ok(()),
        }
    }
}
