//! The result of a conformance run.

use std::fmt;

use serde::Serialize;

use crate::explain::Explanation;
use crate::model::ObjectName;
use crate::validate::Refusal;

/// How many verdicts were compared, and which were wrong.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ConformanceReport {
    /// Cases run.
    pub cases: usize,
    /// Steps of those.
    pub steps: usize,
    /// Verdicts compared.
    pub verdicts: usize,
    /// Those that differ from what the file expects.
    pub wrong: Vec<Wrong>,
    /// Policies of the file that were refused as invalid.
    pub refused: Vec<RefusedCase>,
}

/// A verdict that differs from what the file expects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wrong {
    /// Name of the case.
    pub case: String,
    /// Index of the step.
    pub step: usize,
    /// As in the file: `TCP/80`.
    pub probe: String,
    /// The pod that opens the connection.
    pub source: ObjectName,
    /// The pod it goes to.
    pub destination: ObjectName,
    /// What the file says.
    pub expected: bool,
    /// What the bitmaps say.
    pub got: bool,
    /// And why they do.
    pub explanation: Explanation,
}

/// A policy of the file that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedCase {
    /// Name of the case.
    pub case: String,
    /// Index of the step.
    pub step: usize,
    /// What is wrong with the policy.
    pub refusal: Refusal,
}

impl ConformanceReport {
    /// True when every verdict is as expected and no policy was refused.
    pub fn is_ok(&self) -> bool {
        self.wrong.is_empty() && self.refused.is_empty()
    }
}

impl fmt::Display for ConformanceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |allowed: bool| if allowed { "allowed" } else { "blocked" };
        for RefusedCase { case, step, refusal } in &self.refused {
            writeln!(f, "refused: case {case:?}, step {step}: {refusal}")?;
        }
        for wrong in &self.wrong {
            let Wrong { case, step, probe, source, destination, .. } = wrong;
            writeln!(
                f,
                "wrong: case {case:?}, step {step}, {probe} {source} -> {destination}: expected {}, got {}",
                word(wrong.expected),
                word(wrong.got)
            )?;
            for line in wrong.explanation.to_string().lines() {
                writeln!(f, "    {line}")?;
            }
        }
        let Self { cases, steps, verdicts, wrong, .. } = self;
        write!(f, "cases: {cases}, steps: {steps}\nverdicts: {verdicts}, wrong: {}", wrong.len())
    }
}
