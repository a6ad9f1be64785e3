//! API objects to the [model](crate::model), or everything that is wrong with them. The rules are those the API server applies on
//! create (pkg/apis/networking/validation), because a directory of manifests has no API server in front of it.

mod pod;
mod policy;
mod syntax;

use std::fmt;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use pod::validate_pod;
pub use policy::validate_policy;

use crate::model::{Namespace, ObjectName};

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Path of the field, as in `spec.ingress[0].from[1].ipBlock.cidr`.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

/// An object that is not enforced, and all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// `NetworkPolicy`, `Pod` or `Namespace`.
    pub kind: &'static str,
    /// Which one; a Namespace has an empty namespace.
    pub object: ObjectName,
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let newline = if index > 0 { "\n" } else { "" };
            let ObjectName { namespace, name } = &self.object;
            let slash = if namespace.is_empty() { "" } else { "/" };
            write!(
                f,
                "{newline}{} {namespace}{slash}{name}: {}: {}",
                self.kind, problem.field, problem.reason
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// Checks a Namespace.
pub fn validate_namespace(namespace: &core::Namespace) -> Result<Namespace, Refusal> {
    let mut problems = Problems::default();
    let name = namespace.metadata.name.clone().unwrap_or_default();
    if !syntax::is_dns_label(&name) {
        problems.add("metadata.name", format!("{name:?} is not a namespace's name: {}", syntax::DNS_LABEL));
    }
    let labels = namespace.metadata.labels.clone().unwrap_or_default();
    problems.labels("metadata.labels", &labels);
    problems.finish("Namespace", ObjectName::new("", &name), Namespace { name, labels })
}

/// Reads an object as the API server's strict validation does: a field it does not know is a mistake (in a policy, one that may
/// open what was meant to be closed). Returns the object and all fields that are unknown, so that what else is wrong with it can be
/// found in one go; or the first value of a wrong type.
pub fn read_strictly<T: DeserializeOwned + Serialize>(value: &Value) -> Result<(T, Vec<Problem>), Problem> {
    let object: T = serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        let field = if field == "." { String::new() } else { field };
        Problem { field, reason: error.into_inner().to_string() }
    })?;
    let mut problems = Problems::default();
    let known = serde_json::to_value(&object).unwrap_or_default();
    unknown_fields(value, &known, "", &mut problems);
    Ok((object, problems.0))
}

/// Reports what is in `given` and did not come through reading and writing.
fn unknown_fields(given: &Value, known: &Value, path: &str, problems: &mut Problems) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (name, inner) in given.iter().filter(|(_, inner)| !inner.is_null()) {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{name}");
                match known.get(name) {
                    Some(known) => unknown_fields(inner, known, &path, problems),
                    None => problems.add(path, "there is no such field"),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (index, (given, known)) in given.iter().zip(known).enumerate() {
                unknown_fields(given, known, &format!("{path}[{index}]"), problems);
            }
        }
        _ => {}
    }
}

/// Name of a namespaced object; without a namespace it is in `default`, as for kubectl.
fn object_name(metadata: &ObjectMeta, problems: &mut Problems) -> ObjectName {
    let namespace = metadata
        .namespace
        .clone()
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| "default".into());
    let name = metadata.name.clone().unwrap_or_default();
    if !syntax::is_dns_label(&namespace) {
        problems.add(
            "metadata.namespace",
            format!("{namespace:?} is not a namespace's name: {}", syntax::DNS_LABEL),
        );
    }
    if !syntax::is_dns_subdomain(&name) {
        problems.add("metadata.name", format!("{name:?} is not a name: {}", syntax::DNS_SUBDOMAIN));
    }
    ObjectName { namespace, name }
}

/// Collects what is wrong while the rest is still being read.
#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Problem { field: field.into(), reason: reason.into() });
    }

    fn labels(&mut self, field: &str, labels: &crate::model::Labels) {
        for (key, value) in labels {
            if !syntax::is_label_key(key) {
                self.add(field, format!("{key:?} is not a label's key: {}", syntax::LABEL_KEY));
            }
            if !syntax::is_label_value(value) {
                self.add(
                    format!("{field}[{key}]"),
                    format!("{value:?} is not a label's value: {}", syntax::LABEL_VALUE),
                );
            }
        }
    }

    /// The value if nothing is wrong.
    fn finish<T>(self, kind: &'static str, object: ObjectName, value: T) -> Result<T, Refusal> {
        if self.0.is_empty() { Ok(value) } else { Err(Refusal { kind, object, problems: self.0 }) }
    }
}
