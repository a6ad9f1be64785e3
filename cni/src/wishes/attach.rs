//! How a pod is attached to the switch, and who decides that: the runtime's argument, else the pod's annotation, else the
//! node.
//!
//! An argument comes in two shapes, because the specification's CONVENTIONS.md has two: a key of `CNI_ARGS`, and one under
//! `args.cni` of the network configuration. The first is about this one call and wins. Annotations come as containerd and CRI-O hand them
//! on to a plugin whose configuration declares the capability [`ANNOTATIONS`] (containerd pull request 5026, CRI-O issue 7122):
//! all of them, under that key of `runtimeConfig`.

pub(crate) use heddle_api::AttachMode;
use rscni_types::types::CNI_ARGS;
use serde_json::Value;

use super::{Arguments, Wishes, said};
use crate::error::{CniError, code};

/// Key of `CNI_ARGS`.
const VARIABLE: &str = "HEDDLE_ATTACH";
/// Key under `args.cni`.
const ARGUMENT: &str = "attach";
/// Capability, and key of `runtimeConfig`, of a pod's annotations.
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
/// The annotation.
const ANNOTATION: &str = "heddle.io/attach";

/// The mode that is asked for; none when nobody asks for one. Wrong values are told also where another is taken: the one
/// who wrote it meant something by it.
pub(super) fn settle(
    wishes: &Wishes,
    arguments: &Arguments,
    faults: &mut Vec<CniError>,
) -> Option<AttachMode> {
    let variable = arguments.attach.as_deref().map(Value::from);
    let annotation = wishes.runtime(ANNOTATIONS).and_then(|annotations| said(annotations.get(ANNOTATION)));
    let sources = [
        (code::ENVIRONMENT, format!("{CNI_ARGS}: {VARIABLE}"), variable.as_ref()),
        (code::CONFIG, format!("args.cni.{ARGUMENT}"), wishes.argument(ARGUMENT)),
        (code::CONFIG, format!("the pod's annotation {ANNOTATION}"), annotation),
    ];
    let mut first = None;
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
    first
}

#[cfg(test)]
mod tests {
    //! Who decides: the argument of the call, that of the configuration, the annotation; nonsense anywhere is an error.
    use super::super::tests::wishes;
    use super::*;
    use crate::error::Result;

    fn decide(wishes: &Wishes, variable: Option<&str>) -> Result<Option<AttachMode>> {
        let arguments = Arguments { attach: variable.map(str::to_owned), ..Arguments::default() };
        wishes.settle(&arguments).map(|wanted| wanted.attach)
    }

    fn annotated(value: &str) -> String {
        format!(r#","runtimeConfig":{{"io.kubernetes.cri.pod-annotations":{{"heddle.io/attach":{value}}}}}"#)
    }

    #[test]
    fn the_argument_wins_over_the_annotation_and_that_over_nothing() {
        let argument = |value: &str| format!(r#","args":{{"cni":{{"attach":"{value}"}}}}"#);
        let (direct, cached) = (Some(AttachMode::Direct), Some(AttachMode::Cached));
        let all = wishes(&(argument("direct") + &annotated("\"cached\"")));
        assert_eq!(decide(&all, Some("cached")).unwrap(), cached);
        assert_eq!(decide(&all, None).unwrap(), direct);
        let annotation = wishes(&annotated("\"cached\""));
        assert_eq!(decide(&annotation, None).unwrap(), cached);
        assert_eq!(decide(&annotation, Some("direct")).unwrap(), direct);
        assert_eq!(decide(&wishes(""), None).unwrap(), None);
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
            assert_eq!(decide(&wishes(fields), None).unwrap(), None, "{fields}");
        }
    }

    #[test]
    fn wrong_values_are_told_with_their_source_also_where_another_wins() {
        let wrong = |fields: &str, variable: Option<&str>| decide(&wishes(fields), variable).unwrap_err();
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
