//! The CNI plugin: what a container runtime executes to give a pod its interface and to take it away again.
//!
//! An invocation reads variables ([`environment`]) and a configuration ([`config`]), carries out one of [`commands`], and
//! answers in JSON. Addresses come from [`state`] or an IPAM plugin ([`delegate`]); what is done to the kernel goes through `heddle-netdev`,
//! and the switch is told over its control socket ([`switch`]). cni/README.md says what operators need to know.
#![forbid(unsafe_code)]

mod attachment;
mod commands;
mod config;
mod delegate;
mod environment;
mod error;
mod node;
mod pod;
mod result;
mod state;
mod switch;
mod wishes;

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use rscni_types::types::Cmd;
use rscni_types::version::SpecVersion;
use serde::Serialize;

use attachment::Attachment;
use config::Config;
use environment::Request;
use error::{CniError, Result, code};
use wishes::Wanted;

/// How an invocation ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// What goes to standard output; nothing for verbs that only succeed.
    pub output: Option<String>,
    /// Whether the verb was carried out.
    pub success: bool,
}

/// Carries out what the variables and the input ask for.
pub fn run(variables: impl Fn(&str) -> Option<OsString>, input: impl Read) -> Reply {
    let mut version = SpecVersion::CURRENT;
    match answer(variables, input, &mut version) {
        Ok(output) => Reply { output, success: true },
        Err(error) => Reply { output: Some(error_json(version, &error)), success: false },
    }
}

/// Only reads and checks what the variables and the input ask for. For whoever wants to know whether any input at all can upset that.
pub fn check(variables: impl Fn(&str) -> Option<OsString>, input: impl Read) -> Reply {
    let mut version = SpecVersion::CURRENT;
    match understand(variables, input, &mut version) {
        Ok(_) => Reply { output: None, success: true },
        Err(error) => Reply { output: Some(error_json(version, &error)), success: false },
    }
}

/// What is to be done.
#[derive(Debug)]
enum Task {
    Version(String),
    Other { request: Box<Request>, config: Box<Config>, wanted: Wanted },
}

fn understand(
    variables: impl Fn(&str) -> Option<OsString>,
    input: impl Read,
    version: &mut SpecVersion,
) -> Result<Task> {
    let request = environment::parse(variables);
    // Errors in the variables too are reported under the version of the configuration, so it is read first.
    let input = read(input);
    if let Ok(input) = &input {
        *version = config::declared_version(input);
    }
    let request = request?;
    let input = input?;
    if request.verb == Cmd::Version {
        return commands::version::run(&input).map(Task::Version);
    }
    let config = config::parse(input, request.verb)?;
    let wanted = match request.verb {
        Cmd::Add | Cmd::Check => config.wishes.settle(&request.wished)?,
        _ => Wanted::default(),
    };
    Ok(Task::Other { request: Box::new(request), config: Box::new(config), wanted })
}

fn answer(
    variables: impl Fn(&str) -> Option<OsString>,
    input: impl Read,
    version: &mut SpecVersion,
) -> Result<Option<String>> {
    match understand(variables, input, version)? {
        Task::Version(output) => Ok(Some(output)),
        Task::Other { request, config, wanted } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| CniError::new(code::IO, format!("cannot start: {e}")))?;
            runtime.block_on(dispatch(&config, &request, &wanted))
        }
    }
}

async fn dispatch(config: &Config, request: &Request, wanted: &Wanted) -> Result<Option<String>> {
    let path = request.path.as_os_str();
    match request.verb {
        Cmd::Add => {
            commands::add::run(config, attachment(request)?, netns(request)?, path, wanted).await.map(Some)
        }
        Cmd::Del => commands::del::run(config, attachment(request)?, path).await.map(|()| None),
        Cmd::Check => commands::check::run(config, attachment(request)?, netns(request)?, path, wanted)
            .await
            .map(|()| None),
        Cmd::Status => commands::status::run(config, path).await.map(|()| None),
        Cmd::Gc => commands::gc::run(config, path).await.map(|()| None),
        Cmd::Version => unreachable!("answered without a configuration"),
    }
}

// The variables were checked for the verb; the errors below are for whoever calls these differently.

fn attachment(request: &Request) -> Result<&Attachment> {
    let missing = || CniError::new(code::ENVIRONMENT, "CNI_CONTAINERID and CNI_IFNAME are not set");
    request.attachment.as_ref().ok_or_else(missing)
}

fn netns(request: &Request) -> Result<&Path> {
    let missing = || CniError::new(code::ENVIRONMENT, "CNI_NETNS is not set");
    request.netns.as_deref().ok_or_else(missing)
}

fn read(input: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more than allowed, for the parser to notice.
    let limit = config::MAX_CONFIG as u64 + 1;
    let read = input.take(limit).read_to_end(&mut bytes);
    read.map_err(|error| CniError::new(code::IO, format!("cannot read standard input: {error}")))?;
    Ok(bytes)
}

fn error_json(version: SpecVersion, error: &CniError) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        cni_version: SpecVersion,
        #[serde(flatten)]
        error: &'a CniError,
    }
    // Strings and numbers always serialize.
    serde_json::to_string(&Document { cni_version: version, error }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    //! Verbs end in JSON on success and on failure, errors with the version that was asked for.
    use serde_json::Value;

    use super::*;

    fn call(variables: &[(&str, &str)], input: &str) -> (bool, Value) {
        let lookup = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        let reply = run(lookup, input.as_bytes());
        let output = reply.output.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
        (reply.success, output)
    }

    const ATTACHMENT: [(&str, &str); 3] =
        [("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/run/netns/cni-absent")];

    fn verb<'a>(verb: &'a str, input: &str) -> (bool, Value) {
        let command: [(&'a str, &'a str); 1] = [("CNI_COMMAND", verb)];
        call(&[&command[..], &ATTACHMENT].concat(), input)
    }

    #[test]
    fn version_needs_nothing() {
        let (success, output) = call(&[("CNI_COMMAND", "VERSION")], "");
        assert!(success);
        assert_eq!(output["cniVersion"], "1.1.0");
    }

    #[test]
    fn errors_are_json_under_the_configuration_s_version() {
        let (success, output) = call(&[], r#"{"cniVersion":"0.4.0","name":"n","type":"t"}"#);
        assert!(!success);
        assert_eq!((output["code"].as_u64(), &output["cniVersion"]), (Some(4), &Value::from("0.4.0")));
        for key in ["msg", "details"] {
            assert!(output[key].as_str().is_some_and(|text| !text.is_empty()), "{output}");
        }
    }

    #[test]
    fn every_verb_refuses_malformed_input() {
        for name in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] {
            for input in ["{", "[]", "nonsense", "{\"cniVersion\":{}}"] {
                let (success, output) = verb(name, input);
                assert!(!success, "{name} {input}");
                assert_eq!(output["code"], 6, "{name} {input}: {output}");
            }
        }
    }

    #[test]
    fn verbs_a_version_does_not_have_are_code_1() {
        for (name, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0"), ("ADD", "0.2.0")] {
            let input = format!(r#"{{"cniVersion":"{version}","name":"n","type":"t"}}"#);
            let (success, output) = verb(name, &input);
            assert!(!success);
            assert_eq!((output["code"].as_u64(), &output["cniVersion"]), (Some(1), &Value::from(version)));
        }
    }

    #[test]
    fn gc_without_a_list_frees_nothing() {
        for list in ["", r#","cni.dev/valid-attachments":null"#] {
            let input = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"t"{list}}}"#);
            let (success, output) = verb("GC", &input);
            assert!(!success);
            assert_eq!(output["code"], u64::from(code::CONFIG));
            assert!(output["details"].as_str().unwrap().contains("nothing was freed"), "{output}");
        }
    }

    #[test]
    fn a_container_that_is_gone_is_code_3() {
        let (success, output) = verb("ADD", r#"{"cniVersion":"1.1.0","name":"n","type":"t"}"#);
        assert!(!success);
        assert_eq!(output["code"], 3, "{output}");
    }
}
