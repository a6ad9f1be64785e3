//! `heddle policy check`: everything that is wrong in a directory of manifests, at once.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::Stats;
use crate::compiler::LimitError;
use crate::manifests::{Finding, LoadError, Manifests};

/// What a directory holds, what is wrong with it, and what the valid part compiles to.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// Files read.
    pub files: usize,
    /// Valid namespaces, those that are only named included.
    pub namespaces: usize,
    /// Valid pods.
    pub pods: usize,
    /// Valid policies.
    pub policies: usize,
    /// Objects of kinds that policy does not depend on.
    pub ignored: usize,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// What the valid objects compile to.
    pub compiled: Option<Stats>,
    /// Why they do not compile.
    pub limit: Option<String>,
}

/// Checks a directory.
pub fn check_dir(directory: &Path) -> Result<CheckReport, LoadError> {
    let manifests = Manifests::load(directory)?;
    let mut compiler = manifests.compiler();
    let outcome: Result<Stats, LimitError> = compiler.update().map(|_| compiler.stats());
    Ok(CheckReport {
        files: manifests.files,
        namespaces: manifests.namespaces.len(),
        pods: manifests.pods.len(),
        policies: manifests.policies.len(),
        ignored: manifests.ignored,
        findings: manifests.findings,
        compiled: outcome.as_ref().ok().copied(),
        limit: outcome.err().map(|error| error.to_string()),
    })
}

impl CheckReport {
    /// True when nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.findings.is_empty() && self.limit.is_none()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if let Some(limit) = &self.limit {
            writeln!(f, "{limit}")?;
        }
        let Self { files, namespaces, pods, policies, ignored, findings, .. } = self;
        write!(f, "{files} files: {policies} policies, {pods} pods, {namespaces} namespaces valid; ")?;
        write!(
            f,
            "{} errors; {ignored} other objects ignored",
            findings.len() + usize::from(self.limit.is_some())
        )?;
        if let Some(stats) = &self.compiled {
            write!(
                f,
                "\ncompiles to {} policy classes, {} rulebooks, {} peer classes, {} bytes of bitmaps",
                stats.policy_classes, stats.rulebooks, stats.peer_classes, stats.row_bytes
            )?;
        }
        Ok(())
    }
}
