//! A directory of manifests, YAML or JSON, as what a cluster would have after `kubectl apply`.
//!
//! [`Manifests::load`] reads all of it once. Who watches a directory takes the steps by itself: which [`files()`] there are, what is
//! in [each of them](ManifestFile), and what they say [together](combine()).

mod combine;
mod document;
mod file;
mod files;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

pub use combine::{Combined, combine};
pub use file::{Located, ManifestFile};
pub use files::{Listing, files};

use crate::Compiler;
use crate::model::{Namespace, Object, ObjectName, Pod, Policy};

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Manifests {
    /// Valid ones, and those that pods and policies name without there being a manifest.
    pub namespaces: Vec<Namespace>,
    /// Valid ones.
    pub pods: Vec<Pod>,
    /// Valid ones.
    pub policies: Vec<Policy>,
    /// Everything that is wrong. Objects with findings are in none of the lists above.
    pub findings: Vec<Finding>,
    /// Files read.
    pub files: usize,
    /// Objects of kinds that policy does not depend on.
    pub ignored: usize,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// Kind of the object; empty if what is there is none.
    pub kind: String,
    /// Name of the object, if it has one.
    pub object: Option<ObjectName>,
    /// Path of the field; empty if it is the object as a whole.
    pub field: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// A directory that cannot be read.
#[derive(Debug, Error)]
#[error("cannot read the manifests in {}: {source}", path.display())]
pub struct LoadError {
    path: PathBuf,
    source: std::io::Error,
}

impl Finding {
    /// A file that cannot be read.
    pub fn of_file(file: &Path, error: &std::io::Error) -> Self {
        Self::of_line(file, 1, format!("cannot be read: {error}"))
    }

    /// Something that is no object.
    pub fn of_line(file: &Path, line: usize, reason: String) -> Self {
        Self { file: file.to_owned(), line, kind: String::new(), object: None, field: String::new(), reason }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if let Some(ObjectName { namespace, name }) = &self.object {
            let slash = if namespace.is_empty() { "" } else { "/" };
            write!(f, "{} {namespace}{slash}{name}: ", self.kind)?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

impl Manifests {
    /// Reads all `*.yaml`, `*.yml` and `*.json` in the directory and below it, in order of their names.
    pub fn load(directory: &Path) -> Result<Self, LoadError> {
        Self::load_all(&[directory])
    }

    /// As [`load`](Self::load), of several directories, whose order is that of their files.
    pub fn load_all(directories: &[&Path]) -> Result<Self, LoadError> {
        let mut manifests = Self::default();
        let mut read = Vec::new();
        let mut paths = Vec::new();
        for directory in directories {
            paths.extend(files(directory)?.files);
        }
        for path in paths {
            manifests.files += 1;
            match ManifestFile::read(&path) {
                Ok(mut file) => {
                    manifests.findings.append(&mut file.findings);
                    manifests.ignored += file.ignored;
                    read.push((path, file.objects));
                }
                Err(error) => manifests.findings.push(Finding::of_file(&path, &error)),
            }
        }
        let combined = combine(read.iter().map(|(path, objects)| (path.as_path(), objects.as_slice())));
        manifests.findings.extend(combined.findings);
        manifests.findings.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        for object in combined.objects.into_values() {
            match object {
                Object::Namespace(namespace) => manifests.namespaces.push(namespace),
                Object::Pod(pod) => manifests.pods.push(pod),
                Object::Policy(policy) => manifests.policies.push(policy),
            }
        }
        manifests.imply_namespaces();
        Ok(manifests)
    }

    /// Adds the namespaces that are only named: a cluster would have them.
    fn imply_namespaces(&mut self) {
        let defined: BTreeSet<_> = self.namespaces.iter().map(|namespace| namespace.name.clone()).collect();
        let pods = self.pods.iter().map(|pod| &pod.name);
        let policies = self.policies.iter().map(|policy| &policy.name);
        let named: BTreeSet<_> = pods.chain(policies).map(|name| name.namespace.clone()).collect();
        self.namespaces.extend(named.difference(&defined).map(|name| Namespace::unlabelled(name)));
    }

    /// A compiler that knows all of it.
    pub fn compiler(&self) -> Compiler {
        let mut compiler = Compiler::default();
        self.namespaces.iter().for_each(|namespace| compiler.set_namespace(namespace.clone()));
        self.pods.iter().for_each(|pod| compiler.set_pod(pod.clone()));
        self.policies.iter().for_each(|policy| compiler.set_policy(policy.clone()));
        compiler
    }
}
