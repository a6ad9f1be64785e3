//! The network configuration on standard input.

use std::path::PathBuf;

use rscni_types::types::{CNIResult, Cmd, Dns, NetConf};
use rscni_types::version::{PluginInfo, SpecVersion};
use serde::Deserialize;

use crate::attach::Wishes;
use crate::error::{CniError, Result, code};

/// Largest configuration accepted, in bytes: a prevResult of hundreds of interfaces fits many times.
pub(crate) const MAX_CONFIG: usize = 1 << 20;

const DEFAULT_STATE_DIR: &str = "/var/lib/heddle";

/// Versions of the specification spoken here, oldest first.
pub(crate) const VERSIONS: [SpecVersion; 4] = [
    SpecVersion::new(0, 3, 1),
    SpecVersion::new(0, 4, 0),
    SpecVersion::new(1, 0, 0),
    SpecVersion::new(1, 1, 0),
];

/// A validated configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// Version of the specification the answer must follow.
    pub(crate) version: SpecVersion,
    /// The switch's socket.
    pub(crate) socket: PathBuf,
    /// Where the address state is.
    pub(crate) state_dir: PathBuf,
    /// Passed on in the result.
    pub(crate) dns: Option<Dns>,
    /// What the plugins before this one in the chain made.
    pub(crate) previous: Option<CNIResult>,
    /// How the pod is to be attached, if it or the runtime says so.
    pub(crate) attach: Wishes,
}

/// The version a document declares, for errors about the rest of it; the newest when it declares none that makes sense.
pub(crate) fn declared_version(input: &[u8]) -> SpecVersion {
    #[derive(Deserialize)]
    struct Declaration {
        #[serde(rename = "cniVersion")]
        version: Option<SpecVersion>,
    }
    let declaration = serde_json::from_slice::<Declaration>(input).ok();
    declaration.and_then(|declaration| declaration.version).unwrap_or(SpecVersion::CURRENT)
}

/// Reads and validates a configuration for `verb`.
pub(crate) fn parse(input: &[u8], verb: Cmd) -> Result<Config> {
    if input.len() > MAX_CONFIG {
        return Err(CniError::new(
            code::DECODE,
            format!("the configuration has more than {MAX_CONFIG} bytes"),
        ));
    }
    if input.trim_ascii().is_empty() {
        return Err(CniError::new(
            code::DECODE,
            "there is no network configuration on standard input; the runtime writes it there",
        ));
    }
    let conf: NetConf =
        serde_json::from_slice(input).map_err(|error| CniError::new(code::DECODE, error.to_string()))?;
    let version = PluginInfo::new(SpecVersion::CURRENT, VERSIONS.to_vec()).negotiate(&conf, verb)?;
    let socket = path_of(&conf, "socket", heddle_api::DEFAULT_SOCKET);
    let state_dir = path_of(&conf, "stateDir", DEFAULT_STATE_DIR);
    let mut faults = Vec::new();
    faults.extend(conf.validate_name().err().map(CniError::from));
    faults.extend(unsupported(&conf));
    match (socket, state_dir) {
        (Ok(socket), Ok(state_dir)) if faults.is_empty() => {
            let attach = Wishes::of(&conf);
            Ok(Config { version, socket, state_dir, dns: conf.dns, previous: conf.prev_result, attach })
        }
        (socket, state_dir) => {
            faults.extend(socket.err().into_iter().chain(state_dir.err()));
            Err(CniError::all_at_once(faults))
        }
    }
}

/// Fields that would change what the plugin does if it knew them must not be passed over in silence.
fn unsupported(conf: &NetConf) -> Vec<CniError> {
    let mut refused = Vec::new();
    if conf.ipam.is_some() {
        refused.push("ipam: addresses come from the switch's pod_cidrs; remove the section".to_owned());
    }
    if conf.ip_masq.is_some() {
        refused.push("ipMasq: the switch does that; set masquerade in its configuration instead".to_owned());
    }
    let known = |key: &str| matches!(key, "socket" | "stateDir") || key.starts_with("cni.dev/");
    let mut unknown: Vec<_> = conf.custom.keys().map(String::as_str).filter(|key| !known(key)).collect();
    unknown.sort_unstable();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        refused.push(format!("{unknown}: not known to heddle-cni; it takes socket and stateDir"));
    }
    refused.into_iter().map(|details| CniError::new(code::FIELD, details)).collect()
}

fn path_of(conf: &NetConf, key: &str, default: &str) -> Result<PathBuf> {
    let wrong = |what: &str| CniError::new(code::CONFIG, format!("{key} {what}"));
    let text = match conf.custom.get(key) {
        None | Some(serde_json::Value::Null) => default,
        Some(serde_json::Value::String(text)) => text,
        Some(_) => return Err(wrong("is not text; write a path in quotes")),
    };
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err(wrong(&format!("is '{text}'; write an absolute path"))) }
}

#[cfg(test)]
mod tests {
    //! Every malformed configuration gets the specification's code and names what is wrong.
    use super::*;

    fn failure(input: &str, verb: Cmd) -> CniError {
        parse(input.as_bytes(), verb).unwrap_err()
    }

    #[test]
    fn defaults_and_overrides() {
        let config = parse(br#"{"cniVersion":"0.4.0","name":"n","type":"heddle-cni"}"#, Cmd::Add).unwrap();
        assert_eq!(config.version, SpecVersion::new(0, 4, 0));
        assert_eq!(config.socket, PathBuf::from(heddle_api::DEFAULT_SOCKET));
        assert_eq!(config.state_dir, PathBuf::from("/var/lib/heddle"));
        let text = r#"{"cniVersion":"1.1.0","name":"n","type":"heddle","socket":"/a","stateDir":"/b",
            "capabilities":{"portMappings":true},"runtimeConfig":{"portMappings":[]},"args":{},"cni.dev/x":1}"#;
        let config = parse(text.as_bytes(), Cmd::Del).unwrap();
        assert_eq!((config.socket, config.state_dir), (PathBuf::from("/a"), PathBuf::from("/b")));
    }

    #[test]
    fn malformed_input_is_a_decoding_error() {
        for verb in [Cmd::Add, Cmd::Del, Cmd::Check, Cmd::Status, Cmd::Gc] {
            for text in [
                "",
                "  \n",
                "{",
                "null",
                "[]",
                "\"x\"",
                "{}",
                "\u{0}",
                r#"{"cniVersion":"1.1.0","name":"n"}"#,
                r#"{"cniVersion":11,"name":"n","type":"t"}"#,
                r#"{"cniVersion":"one","name":"n","type":"t"}"#,
                r#"{"cniVersion":"1.1.0.0","name":"n","type":"t"}"#,
                r#"{"cniVersion":"1.1.0","name":"n","type":"t"} trailing"#,
                r#"{"cniVersion":"1.1.0","name":"n","type":"t","prevResult":{"ips":[{"address":"10.0.0.300/8"}]}}"#,
            ] {
                let error = failure(text, verb);
                assert_eq!(error.code, code::DECODE, "{verb:?} {text:?}: {error}");
            }
        }
        let huge = vec![b' '; MAX_CONFIG + 1];
        assert_eq!(parse(&huge, Cmd::Add).unwrap_err().code, code::DECODE);
        assert_eq!(parse(b"\xff\xfe", Cmd::Add).unwrap_err().code, code::DECODE);
    }

    #[test]
    fn versions_decide_which_verbs_exist() {
        let conf = |version: &str| format!(r#"{{"cniVersion":"{version}","name":"n","type":"t"}}"#);
        for version in VERSIONS.map(|version| version.to_string()) {
            assert!(parse(conf(&version).as_bytes(), Cmd::Add).is_ok(), "{version}");
            assert!(parse(conf(&version).as_bytes(), Cmd::Del).is_ok(), "{version}");
        }
        for version in ["", "0.1.0", "0.2.0", "0.3.0", "1.2.0", "2.0.0"] {
            assert_eq!(failure(&conf(version), Cmd::Add).code, code::VERSION, "{version}");
        }
        assert_eq!(failure(&conf("0.3.1"), Cmd::Check).code, code::VERSION);
        assert!(parse(conf("0.4.0").as_bytes(), Cmd::Check).is_ok());
        for verb in [Cmd::Gc, Cmd::Status] {
            assert_eq!(failure(&conf("1.0.0"), verb).code, code::VERSION);
            assert!(parse(conf("1.1.0").as_bytes(), verb).is_ok());
        }
    }

    #[test]
    fn wrong_values_are_configuration_errors() {
        for (fields, named) in [
            (r#""type":"t""#, "name"),
            (r#""type":"t","name":"-n""#, "name"),
            (r#""type":"t","name":"a b""#, "name"),
            (r#""type":"t","name":"n","socket":"relative""#, "socket"),
            (r#""type":"t","name":"n","socket":7"#, "socket"),
            (r#""type":"t","name":"n","stateDir":"""#, "stateDir"),
        ] {
            let error = failure(&format!(r#"{{"cniVersion":"1.1.0",{fields}}}"#), Cmd::Add);
            assert_eq!(error.code, code::CONFIG, "{fields}: {error}");
            assert!(error.details.contains(named), "{fields}: {error}");
        }
    }

    #[test]
    fn fields_that_cannot_be_honoured_are_refused() {
        for (field, named) in [
            (r#""ipam":{"type":"host-local"}"#, "ipam"),
            (r#""ipMasq":true"#, "ipMasq"),
            (r#""sokcet":"/a","bridge":"b""#, "bridge, sokcet"),
        ] {
            let error =
                failure(&format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"t",{field}}}"#), Cmd::Add);
            assert_eq!(error.code, code::FIELD, "{field}");
            assert!(error.details.contains(named), "{error}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let fields = r#""ipam":{"type":"host-local"},"ipMasq":false,"bridge":"b""#;
        let error = failure(&format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"t",{fields}}}"#), Cmd::Add);
        assert_eq!(error.code, code::FIELD);
        assert!(["ipam", "ipMasq", "bridge"].iter().all(|field| error.details.contains(field)), "{error}");

        let fields = r#""name":"-n","socket":7,"stateDir":"x","ipMasq":true"#;
        let error = failure(&format!(r#"{{"cniVersion":"1.1.0","type":"t",{fields}}}"#), Cmd::Add);
        assert_eq!(error.code, code::CONFIG, "of several kinds: the configuration is wrong");
        let named = ["network name", "socket", "stateDir", "ipMasq"];
        assert!(named.iter().all(|field| error.details.contains(field)), "{error}");
    }

    #[test]
    fn errors_carry_the_declared_version_when_there_is_one() {
        assert_eq!(declared_version(br#"{"cniVersion":"0.4.0","name":1}"#), SpecVersion::new(0, 4, 0));
        for text in ["", "{", "{}", r#"{"cniVersion":1}"#] {
            assert_eq!(declared_version(text.as_bytes()), SpecVersion::CURRENT, "{text}");
        }
    }
}
