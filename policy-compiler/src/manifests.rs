//! A directory of manifests, YAML or JSON, as what a cluster would have after `kubectl apply`.

mod document;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::model::{Labels, Namespace, ObjectName, Pod, Policy};
use crate::validate::{Problem, Refusal, validate_namespace, validate_pod, validate_policy};
use crate::{Compiler, validate};
use document::{Document, split};

/// The label the API server gives every namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Files above this size are refused: no manifest is that large.
const LARGEST_FILE: u64 = 16 << 20;

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
        let mut loader = Loader::default();
        for path in files(directory)? {
            loader.file(&path);
        }
        Ok(loader.finish())
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

fn files(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let failed = |source| LoadError { path: directory.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        // Hidden ones are editors' and, in a mounted ConfigMap, the data behind the links that are read.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type().map_err(failed)?.is_dir() {
            found.extend(files(&path)?);
        } else if path
            .extension()
            .is_some_and(|end| ["yaml", "yml", "json"].iter().any(|wanted| end == *wanted))
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[derive(Default)]
struct Loader {
    manifests: Manifests,
    /// Kind and name of every object so far, with its file.
    seen: BTreeMap<(String, ObjectName), PathBuf>,
}

/// Where an object is.
struct Location<'a> {
    file: &'a Path,
    document: &'a Document,
    /// Path of the object in the document: `items[3]`, or empty.
    at: String,
}

impl Loader {
    fn file(&mut self, file: &Path) {
        self.manifests.files += 1;
        let size = std::fs::metadata(file).map(|metadata| metadata.len());
        let text = match size {
            Ok(size) if size > LARGEST_FILE => Err(format!("larger than {LARGEST_FILE} bytes")),
            Ok(_) => std::fs::read_to_string(file).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let text = match text {
            Ok(text) => text,
            Err(reason) => return self.find(file, 1, format!("cannot be read: {reason}")),
        };
        for (first_line, part) in split(&text) {
            match Document::parse(part, first_line) {
                Ok(Some(document)) => {
                    let value = document.value.clone();
                    self.object(&Location { file, document: &document, at: String::new() }, value);
                }
                Ok(None) => {}
                Err((line, reason)) => self.find(file, line, reason),
            }
        }
    }

    fn find(&mut self, file: &Path, line: usize, reason: String) {
        let finding = Finding {
            file: file.to_owned(),
            line,
            kind: String::new(),
            object: None,
            field: String::new(),
            reason,
        };
        self.manifests.findings.push(finding);
    }

    fn object(&mut self, location: &Location<'_>, value: Value) {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        match (version.as_str(), kind.as_str()) {
            (_, "") | ("", _) => {
                let line = location.document.line(&location.at);
                self.find(
                    location.file,
                    line,
                    "not a Kubernetes object: it needs apiVersion and kind".into(),
                );
            }
            (_, list) if list.ends_with("List") && value.get("items").is_some_and(Value::is_array) => {
                self.list(location, &version, list.trim_end_matches("List"), value);
            }
            ("v1", "Namespace") => self.namespace(location, &value),
            ("v1", "Pod") => {
                if let Some(pod) = self.checked(location, "Pod", &value, validate_pod) {
                    self.manifests.pods.push(pod);
                }
            }
            ("networking.k8s.io/v1", "NetworkPolicy") => {
                if let Some(policy) = self.checked(location, "NetworkPolicy", &value, validate_policy) {
                    self.manifests.policies.push(policy);
                }
            }
            _ => self.manifests.ignored += 1,
        }
    }

    /// The items of a list; those of a `PodList` and the like may leave out what they are.
    fn list(&mut self, location: &Location<'_>, version: &str, kind: &str, mut value: Value) {
        let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) else { return };
        for (index, item) in std::mem::take(items).into_iter().enumerate() {
            let mut item = item;
            if let (Some(fields), false) = (item.as_object_mut(), kind.is_empty()) {
                fields.entry("apiVersion").or_insert_with(|| version.into());
                fields.entry("kind").or_insert_with(|| kind.into());
            }
            let dot = if location.at.is_empty() { "" } else { "." };
            let at = format!("{}{dot}items[{index}]", location.at);
            self.object(&Location { at, ..*location }, item);
        }
    }

    fn namespace(&mut self, location: &Location<'_>, value: &Value) {
        if let Some(mut namespace) = self.checked(location, "Namespace", value, validate_namespace) {
            let name = namespace.name.clone();
            namespace.labels.entry(NAME_LABEL.into()).or_insert(name);
            self.manifests.namespaces.push(namespace);
        }
    }

    /// Reads an object strictly and checks it; what is wrong is noted.
    fn checked<T, M>(
        &mut self,
        location: &Location<'_>,
        kind: &str,
        value: &Value,
        check: fn(&T) -> Result<M, Refusal>,
    ) -> Option<M>
    where
        T: serde::de::DeserializeOwned + Serialize,
    {
        let name = name_in(value, kind);
        let problems = match validate::read_strictly::<T>(value) {
            Ok(object) => match check(&object) {
                Ok(model) => {
                    match self.seen.insert((kind.to_owned(), name.clone()), location.file.to_owned()) {
                        None => return Some(model),
                        Some(other) => {
                            vec![Problem {
                                field: "metadata.name".into(),
                                reason: format!("also defined in {}", other.display()),
                            }]
                        }
                    }
                }
                Err(refusal) => refusal.problems,
            },
            Err(problems) => problems,
        };
        for Problem { field, reason } in problems {
            let dot = if location.at.is_empty() || field.is_empty() { "" } else { "." };
            let line = location.document.line(&format!("{}{dot}{field}", location.at));
            let file = location.file.to_owned();
            self.manifests.findings.push(Finding {
                file,
                line,
                kind: kind.into(),
                object: Some(name.clone()),
                field,
                reason,
            });
        }
        None
    }

    /// Adds the namespaces that are only named: a cluster would have them.
    fn finish(mut self) -> Manifests {
        let defined: BTreeSet<_> =
            self.manifests.namespaces.iter().map(|namespace| namespace.name.clone()).collect();
        let pods = self.manifests.pods.iter().map(|pod| &pod.name);
        let policies = self.manifests.policies.iter().map(|policy| &policy.name);
        let named: BTreeSet<_> = pods.chain(policies).map(|name| name.namespace.clone()).collect();
        for name in named.difference(&defined) {
            let labels = Labels::from([(NAME_LABEL.into(), name.clone())]);
            self.manifests.namespaces.push(Namespace { name: name.clone(), labels });
        }
        self.manifests
    }
}

/// The name an object has, right or wrong, to report it by.
fn name_in(value: &Value, kind: &str) -> ObjectName {
    let text =
        |key: &str| value.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).unwrap_or_default();
    let namespace = match text("namespace") {
        _ if kind == "Namespace" => "",
        "" => "default",
        given => given,
    };
    ObjectName::new(namespace, text("name"))
}
