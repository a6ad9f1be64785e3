//! How a pod is attached to the switch, and who decides that: the runtime's argument, else the pod's annotation, else the
//! node.
//!
//! An argument comes in two shapes, because the specification's CONVENTIONS.md has two: a key of `CNI_ARGS`, and one under
//! `args.cni` of the network configuration. The first is about this one call and wins. Annotations come as containerd and CRI-O hand them on to a plugin whose configuration
//! declares the capability [`ANNOTATIONS`] (containerd pull request 5026, CRI-O issue 7122): all of them, under that key of
//! `runtimeConfig`.

pub(crate) use heddle_api::AttachMode;
use rscni_types::types::{CNI_ARGS, NetConf};
use serde_json::Value;

use crate::error::{CniError, Result, code};

/// Key of `CNI_ARGS`.
pub(crate) const VARIABLE: &str = "HEDDLE_ATTACH";
/// Key under `args.cni`.
const ARGUMENT: &str = "attach";
/// Capability, and key of `runtimeConfig`, of a pod's annotations.
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
/// The annotation.
const ANNOTATION: &str = "heddle.io/attach";

/// What the network configuration says of it, unchecked: what is wrong with it must not keep DEL from its work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    argument: Option<Value>,
    annotation: Option<Value>,
}

impl Wishes {
    /// Those of a configuration. Whatever else is under `args` and `runtimeConfig` is for others.
    pub(crate) fn of(conf: &NetConf) -> Self {
        let said = |value: Option<&Value>| value.filter(|value| !value.is_null()).cloned();
        let argument = conf.args.as_ref().and_then(|args| args.get("cni")?.get(ARGUMENT));
        let runtime = conf.runtime_config.as_ref();
        let annotation = runtime.and_then(|runtime| runtime.custom.get(ANNOTATIONS)?.get(ANNOTATION));
        Self { argument: said(argument), annotation: said(annotation) }
    }

    /// The mode that is asked for, `variable` being what `CNI_ARGS` says; none when nobody asks for one. Wrong values are all
    /// told at once, also where another would have been taken: the one who wrote it meant something by it.
    pub(crate) fn decide(&self, variable: Option<&str>) -> Result<Option<AttachMode>> {
        let variable = variable.map(Value::from);
        let sources = [
            (code::ENVIRONMENT, format!("{CNI_ARGS}: {VARIABLE}"), variable.as_ref()),
            (code::CONFIG, format!("args.cni.{ARGUMENT}"), self.argument.as_ref()),
            (code::CONFIG, format!("the pod's annotation {ANNOTATION}"), self.annotation.as_ref()),
        ];
        let mut first = None;
        let mut faults = Vec::new();
        for (code, source, value) in sources {
            let Some(value) = value else { continue };
            match value.as_str().map(str::parse) {
                Some(Ok(mode)) => first = first.or(Some(mode)),
                Some(Err(_)) | None => faults.push(CniError::new(
                    code,
                    format!("{source} is {value}; write \"direct\" or \"cached\", or leave it out"),
                )),
            }
        }
        if faults.is_empty() { Ok(first) } else { Err(CniError::all_at_once(faults)) }
    }
}

#[cfg(test)]
mod tests {
    //! Who decides: the argument of the call, that of the configuration, the annotation; nonsense anywhere is an error.
    use super::*;

    fn wishes(fields: &str) -> Wishes {
        let text = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"heddle-cni"{fields}}}"#);
        Wishes::of(&serde_json::from_str(&text).unwrap())
    }

    fn annotated(value: &str) -> String {
        format!(r#","runtimeConfig":{{"io.kubernetes.cri.pod-annotations":{{"heddle.io/attach":{value}}}}}"#)
    }

    #[test]
    fn the_argument_wins_over_the_annotation_and_that_over_nothing() {
        let argument = |value: &str| format!(r#","args":{{"cni":{{"attach":"{value}"}}}}"#);
        let (direct, cached) = (Some(AttachMode::Direct), Some(AttachMode::Cached));
        let all = wishes(&(argument("direct") + &annotated("\"cached\"")));
        assert_eq!(all.decide(Some("cached")).unwrap(), cached);
        assert_eq!(all.decide(None).unwrap(), direct);
        let annotation = wishes(&annotated("\"cached\""));
        assert_eq!(annotation.decide(None).unwrap(), cached);
        assert_eq!(annotation.decide(Some("direct")).unwrap(), direct);
        assert_eq!(wishes("").decide(None).unwrap(), None);
    }

    #[test]
    fn what_is_for_others_says_nothing() {
        for fields in [
            r#","args":{}"#,
            r#","args":{"cni":{"labels":[{"key":"app","value":"x"}]},"attach":"other"}"#,
            r#","args":{"cni":["attach"]}"#,
            r#","args":{"cni":{"attach":null}}"#,
            r#","runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80,"protocol":"tcp"}]}"#,
            // As a runtime writes a map without entries.
            r#","runtimeConfig":{"io.kubernetes.cri.pod-annotations":null}"#,
            r#","runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"heddle.io/attached":"x"}}"#,
        ] {
            assert_eq!(wishes(fields), Wishes::default(), "{fields}");
        }
    }

    #[test]
    fn wrong_values_are_told_with_their_source_also_where_another_wins() {
        let wrong = |fields: &str, variable: Option<&str>| wishes(fields).decide(variable).unwrap_err();
        let error = wrong("", Some("Cached"));
        assert_eq!(error.code, code::ENVIRONMENT);
        assert!(error.details.contains("CNI_ARGS: HEDDLE_ATTACH is \"Cached\""), "{error}");
        for value in ["\"\"", "\"fast\"", "true", "7", "{}"] {
            let error = wrong(&annotated(value), Some("direct"));
            assert_eq!(error.code, code::CONFIG);
            assert!(error.details.contains(&format!("heddle.io/attach is {value}; write")), "{error}");
        }
        let both = format!(r#","args":{{"cni":{{"attach":1}}}}{}"#, annotated("\"no\""));
        let error = wrong(&both, Some(""));
        assert_eq!(error.code, code::CONFIG, "of several kinds");
        for source in ["HEDDLE_ATTACH", "args.cni.attach", "annotation heddle.io/attach"] {
            assert!(error.details.contains(source), "{error}");
        }
    }
}
