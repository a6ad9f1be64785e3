//! VERSION: which versions of the specification this plugin speaks.

use serde::Deserialize;
use serde_json::json;

use crate::config::VERSIONS;
use crate::error::{CniError, Result, code};

/// Answers with the version asked with, whatever that is; without a question, with the newest.
pub(crate) fn run(input: &[u8]) -> Result<String> {
    #[derive(Deserialize)]
    struct Question {
        #[serde(rename = "cniVersion")]
        version: Option<String>,
    }
    let [.., newest] = VERSIONS;
    let asked = if input.trim_ascii().is_empty() {
        None
    } else {
        let question: Question =
            serde_json::from_slice(input).map_err(|e| CniError::new(code::DECODE, e.to_string()))?;
        question.version.filter(|version| !version.is_empty())
    };
    let version = asked.unwrap_or_else(|| newest.to_string());
    let supported = VERSIONS.map(|version| version.to_string());
    Ok(json!({ "cniVersion": version, "supportedVersions": supported }).to_string())
}

#[cfg(test)]
mod tests {
    //! The version asked with comes back, and malformed questions are errors.
    use super::*;

    fn answer(input: &str) -> serde_json::Value {
        serde_json::from_str(&run(input.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn echoes_the_version_asked_with() {
        for (question, version) in [
            (r#"{"cniVersion":"0.4.0"}"#, "0.4.0"),
            (r#"{"cniVersion":"0.2.0"}"#, "0.2.0"),
            (r#"{"cniVersion":"9.9.9","name":"x"}"#, "9.9.9"),
            ("{}", "1.1.0"),
            (r#"{"cniVersion":""}"#, "1.1.0"),
            ("", "1.1.0"),
            (" \n", "1.1.0"),
        ] {
            assert_eq!(answer(question)["cniVersion"], version, "{question}");
        }
        assert_eq!(answer("")["supportedVersions"], json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
    }

    #[test]
    fn refuses_what_is_not_a_question() {
        for question in ["{", "null", "[]", "1", r#"{"cniVersion":1}"#, "\u{0}"] {
            assert_eq!(run(question.as_bytes()).unwrap_err().code, code::DECODE, "{question}");
        }
    }
}
