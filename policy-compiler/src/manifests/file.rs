//! One file of manifests: the objects in it, and all that is wrong.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::Finding;
use super::document::{Document, split};
use crate::model::{NAME_LABEL, Object, ObjectName};
use crate::validate::{self, Problem, Refusal, validate_namespace, validate_pod, validate_policy};

/// Files above this size are refused: no manifest is that large.
const LARGEST_FILE: u64 = 16 << 20;

/// What is in one file.
#[derive(Debug, Clone, Default)]
pub struct ManifestFile {
    /// The valid objects.
    pub objects: Vec<Located>,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// Objects of kinds that policy does not depend on.
    pub ignored: usize,
    path: PathBuf,
}

/// An object and its place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The object.
    pub object: Object,
    /// The line of its name.
    pub line: usize,
    /// What else its author noted of it, which is nothing to policy.
    pub annotations: BTreeMap<String, String>,
}

/// Where an object is.
struct Location<'a> {
    document: &'a Document,
    /// Path of the object in the document: `items[3]`, or empty.
    at: String,
}

impl ManifestFile {
    /// Reads a file.
    pub fn read(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        // Reading a pipe would wait for somebody to write.
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if metadata.len() > LARGEST_FILE {
            return Err(io::Error::other(format!("larger than {LARGEST_FILE} bytes")));
        }
        Ok(Self::parse(path, &std::fs::read_to_string(path)?))
    }

    /// Reads a file's text; `path` is for the findings.
    pub fn parse(path: &Path, text: &str) -> Self {
        let mut file = Self { path: path.to_owned(), ..Self::default() };
        for (first_line, part) in split(text) {
            match Document::parse(part, first_line) {
                Ok(Some(document)) => {
                    let value = document.value.clone();
                    file.object(&Location { document: &document, at: String::new() }, value);
                }
                Ok(None) => {}
                Err((line, reason)) => file.find(line, reason),
            }
        }
        file
    }

    /// True when there is nothing in it but comments.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.findings.is_empty() && self.ignored == 0
    }

    fn find(&mut self, line: usize, reason: String) {
        self.findings.push(Finding::of_line(&self.path, line, reason));
    }

    fn object(&mut self, location: &Location<'_>, value: Value) {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        match (version.as_str(), kind.as_str()) {
            (_, "") | ("", _) => {
                let line = location.document.line(&location.at);
                self.find(line, "not a Kubernetes object: it needs apiVersion and kind".into());
            }
            (_, list) if list.ends_with("List") && value.get("items").is_some_and(Value::is_array) => {
                self.list(location, &version, list.trim_end_matches("List"), value);
            }
            ("v1", "Namespace") => self.namespace(location, &value),
            ("v1", "Pod") => {
                let pod = self.checked(location, "Pod", &value, validate_pod);
                self.keep(location, &value, pod.map(Object::Pod));
            }
            ("networking.k8s.io/v1", "NetworkPolicy") => {
                let policy = self.checked(location, "NetworkPolicy", &value, validate_policy);
                self.keep(location, &value, policy.map(Object::Policy));
            }
            _ => self.ignored += 1,
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
        let namespace = self.checked(location, "Namespace", value, validate_namespace);
        let labelled = namespace.map(|mut namespace| {
            let name = namespace.name.clone();
            namespace.labels.entry(NAME_LABEL.into()).or_insert(name);
            namespace
        });
        self.keep(location, value, labelled.map(Object::Namespace));
    }

    fn keep(&mut self, location: &Location<'_>, value: &Value, object: Option<Object>) {
        let Some(object) = object else { return };
        let line = location.document.line(&location.path("metadata.name"));
        let annotations = value.pointer("/metadata/annotations").and_then(Value::as_object);
        let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        let annotations = annotations.into_iter().flatten().filter_map(text).collect();
        self.objects.push(Located { object, line, annotations });
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
        let problems = match validate::read_strictly::<T>(value) {
            Ok((object, unknown)) => match check(&object) {
                Ok(model) if unknown.is_empty() => return Some(model),
                Ok(_) => unknown,
                Err(refusal) => unknown.into_iter().chain(refusal.problems).collect(),
            },
            Err(problem) => vec![problem],
        };
        let name = name_in(value, kind);
        let finding = |Problem { field, reason }| Finding {
            file: self.path.clone(),
            line: location.document.line(&location.path(&field)),
            kind: kind.into(),
            object: Some(name.clone()),
            field,
            reason,
        };
        self.findings.extend(problems.into_iter().map(finding).collect::<Vec<_>>());
        None
    }
}

impl Location<'_> {
    /// A field of the object as a path in the document.
    fn path(&self, field: &str) -> String {
        let dot = if self.at.is_empty() || field.is_empty() { "" } else { "." };
        format!("{}{dot}{field}", self.at)
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
