//! The network configuration on standard input.

use std::path::PathBuf;

use rscni_types::types::{CNIResult, Cmd, Dns, GcAttachment, NetConf};
use rscni_types::version::{PluginInfo, SpecVersion};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{CniError, Result, code};
use crate::wishes::Wishes;

/// Largest configuration accepted, in bytes: a prevResult of hundreds of interfaces fits many times.
pub(crate) const MAX_CONFIG: usize = 1 << 20;

const DEFAULT_STATE_DIR: &str = "/var/lib/heddle";

/// Seconds a freed address rests: longer than what others remember of a pod that is gone takes to go (policy and routes of other nodes,
/// their neighbors' caches).
const DEFAULT_REST: u32 = 30;
const MAX_REST: u32 = 86_400;

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
    /// The network's name.
    pub(crate) network: String,
    /// The switch's socket.
    pub(crate) socket: PathBuf,
    /// Where the state is.
    pub(crate) state_dir: PathBuf,
    /// For how many seconds a freed address rests.
    pub(crate) address_rest: u32,
    /// The plugin that gives addresses; none when they are of the node's ranges.
    pub(crate) ipam: Option<String>,
    /// Passed on in the result.
    pub(crate) dns: Option<Dns>,
    /// What the plugins before this one in the chain made; read for ADD and CHECK.
    pub(crate) previous: Option<CNIResult>,
    /// The attachments that are to stay; read for GC.
    pub(crate) valid: Option<Vec<GcAttachment>>,
    /// What is asked for this pod in particular.
    pub(crate) wishes: Wishes,
    /// The whole of it as it came, which an IPAM plugin gets too.
    pub(crate) input: Vec<u8>,
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

/// Reads and validates a configuration for `verb`. DEL and GC look only at what they need: an ADD that failed because of anything else is
/// followed by a DEL with the same configuration.
pub(crate) fn parse(input: Vec<u8>, verb: Cmd) -> Result<Config> {
    let mut document = document(&input)?;
    let mut member = |key: &str| document.remove(key).filter(|value| !value.is_null());
    let wishes = Wishes::new(member("runtimeConfig"), member("args"));
    let (ipam, masquerade, dns) = (member("ipam"), member("ipMasq"), member("dns"));
    let (previous, valid) = (member("prevResult"), member("cni.dev/valid-attachments"));
    // Says what the runtime may put into runtimeConfig; what it has put there is what counts.
    drop(member("capabilities"));
    let conf: NetConf = decode("the network configuration", Value::Object(document))?;
    let version = PluginInfo::new(SpecVersion::CURRENT, VERSIONS.to_vec()).negotiate(&conf, verb)?;
    let needs_all = matches!(verb, Cmd::Add | Cmd::Check | Cmd::Status);

    let mut faults = Vec::new();
    faults.extend(conf.validate_name().err().map(CniError::from));
    let mut settle = |path: Result<PathBuf>| path.map_err(|fault| faults.push(fault)).unwrap_or_default();
    let socket = settle(path_of(&conf, "socket", heddle_api::DEFAULT_SOCKET));
    let state_dir = settle(path_of(&conf, "stateDir", DEFAULT_STATE_DIR));
    let mut lenient = Vec::new();
    let ipam = ipam.map(|section| ipam_type(&section)).transpose();
    let ipam = ipam.map_err(|fault| lenient.push(fault)).unwrap_or_default().flatten();
    let address_rest = rest_of(&conf).map_err(|fault| lenient.push(fault)).unwrap_or(DEFAULT_REST);
    lenient.extend(unsupported(&conf, masquerade.is_some()));
    if needs_all {
        faults.append(&mut lenient);
    }
    if !faults.is_empty() {
        return Err(CniError::all_at_once(faults));
    }
    let previous = previous.filter(|_| matches!(verb, Cmd::Add | Cmd::Check));
    Ok(Config {
        version,
        network: conf.name,
        socket,
        state_dir,
        address_rest,
        ipam,
        dns: dns.filter(|_| verb == Cmd::Add).map(|dns| decode("dns", dns)).transpose()?,
        previous: previous.map(|previous| decode("prevResult", previous)).transpose()?,
        valid: valid
            .filter(|_| verb == Cmd::Gc)
            .map(|valid| decode("cni.dev/valid-attachments", valid))
            .transpose()?,
        wishes,
        input,
    })
}

fn document(input: &[u8]) -> Result<Map<String, Value>> {
    let fail = |details: String| CniError::new(code::DECODE, details);
    if input.len() > MAX_CONFIG {
        return Err(fail(format!("the configuration has more than {MAX_CONFIG} bytes")));
    }
    if input.trim_ascii().is_empty() {
        return Err(fail(
            "there is no network configuration on standard input; the runtime writes it there".to_owned(),
        ));
    }
    serde_json::from_slice(input).map_err(|error| fail(error.to_string()))
}

fn decode<T: DeserializeOwned>(what: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| CniError::new(code::DECODE, format!("{what}: {error}")))
}

/// The name of the plugin that an `ipam` section asks for; none for an empty one, which is how some write that there is none.
fn ipam_type(section: &Value) -> Result<Option<String>> {
    let wrong = |what: String| Err(CniError::new(code::CONFIG, format!("ipam{what}")));
    let Value::Object(members) = section else {
        return wrong(format!(" is {section}; write {{\"type\": the name of a plugin}}, or leave it out"));
    };
    if members.is_empty() {
        return Ok(None);
    }
    match members.get("type").and_then(Value::as_str) {
        // It asks by broadcast, over an interface that has no address yet.
        Some("dhcp") => Err(CniError::new(
            code::FIELD,
            "ipam: dhcp cannot work here, because pods are routed and hear no broadcast; use host-local or static, or remove \
             the section",
        )),
        Some(name) if !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']) => {
            Ok(Some(name.to_owned()))
        }
        Some(name) => wrong(format!(".type is '{name}'; write the name of a plugin, without a path")),
        None => wrong(".type is missing; write the name of a plugin, or remove the section".to_owned()),
    }
}

fn rest_of(conf: &NetConf) -> Result<u32> {
    let value = conf.custom.get("addressRest").filter(|value| !value.is_null());
    let seconds = value.map(|value| (value, value.as_u64().filter(|rest| *rest <= u64::from(MAX_REST))));
    match seconds {
        None => Ok(DEFAULT_REST),
        Some((_, Some(rest))) => Ok(rest as u32),
        Some((value, None)) => {
            let details = format!("addressRest is {value}; write seconds, 0 to {MAX_REST}");
            Err(CniError::new(code::CONFIG, details))
        }
    }
}

/// Fields that would change what the plugin does if it knew them must not be passed over in silence.
fn unsupported(conf: &NetConf, masquerade: bool) -> Vec<CniError> {
    let mut refused = Vec::new();
    if masquerade {
        refused.push("ipMasq: the switch does that; set masquerade in its configuration instead".to_owned());
    }
    let known =
        |key: &str| matches!(key, "socket" | "stateDir" | "addressRest") || key.starts_with("cni.dev/");
    let mut unknown: Vec<_> = conf.custom.keys().map(String::as_str).filter(|key| !known(key)).collect();
    unknown.sort_unstable();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        refused.push(format!(
            "{unknown}: not known to heddle-cni; it takes socket, stateDir, addressRest and ipam"
        ));
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
        parse(input.as_bytes().to_vec(), verb).unwrap_err()
    }

    #[test]
    fn defaults_and_overrides() {
        let config =
            parse(br#"{"cniVersion":"0.4.0","name":"n","type":"heddle-cni"}"#.to_vec(), Cmd::Add).unwrap();
        assert_eq!(config.version, SpecVersion::new(0, 4, 0));
        assert_eq!(config.socket, PathBuf::from(heddle_api::DEFAULT_SOCKET));
        assert_eq!(config.state_dir, PathBuf::from("/var/lib/heddle"));
        assert_eq!((config.address_rest, config.ipam), (30, None));
        let text = r#"{"cniVersion":"1.1.0","name":"n","type":"heddle","socket":"/a","stateDir":"/b",
            "capabilities":{"portMappings":true},"runtimeConfig":{"portMappings":[]},"args":{},"cni.dev/x":1,"addressRest":5,
            "ipam":{"type":"static","addresses":[]}}"#;
        let config = parse(text.as_bytes().to_vec(), Cmd::Add).unwrap();
        assert_eq!(
            (config.network.as_str(), config.address_rest, config.ipam),
            ("n", 5, Some("static".to_owned()))
        );
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
            ] {
                let error = failure(text, verb);
                assert_eq!(error.code, code::DECODE, "{verb:?} {text:?}: {error}");
            }
        }
        let huge = vec![b' '; MAX_CONFIG + 1];
        assert_eq!(parse(huge, Cmd::Add).unwrap_err().code, code::DECODE);
        assert_eq!(parse(b"\xff\xfe".to_vec(), Cmd::Add).unwrap_err().code, code::DECODE);
    }

    /// What a verb does not need cannot make it fail: an ADD that failed is followed by a DEL with the same configuration.
    #[test]
    fn each_verb_reads_only_what_it_needs() {
        let with = |field: &str| format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"t",{field}}}"#);
        for (field, refused_by) in [
            (r#""prevResult":{"ips":[{"address":"10.0.0.300/8"}]}"#, &[Cmd::Add, Cmd::Check][..]),
            (r#""prevResult":7"#, &[Cmd::Add, Cmd::Check]),
            (r#""dns":7"#, &[Cmd::Add]),
            (r#""cni.dev/valid-attachments":{}"#, &[Cmd::Gc]),
            (r#""cni.dev/valid-attachments":[{"ifname":"eth0"}]"#, &[Cmd::Gc]),
            (r#""capabilities":{"x":"y"}"#, &[]),
            (r#""runtimeConfig":{"portMappings":[{"hostPort":-1}]}"#, &[]),
            (r#""sokcet":"/a""#, &[Cmd::Add, Cmd::Check, Cmd::Status]),
            (r#""ipMasq":"yes""#, &[Cmd::Add, Cmd::Check, Cmd::Status]),
            (r#""addressRest":-1"#, &[Cmd::Add, Cmd::Check, Cmd::Status]),
            (r#""ipam":7"#, &[Cmd::Add, Cmd::Check, Cmd::Status]),
            (r#""socket":7"#, &[Cmd::Add, Cmd::Check, Cmd::Status, Cmd::Del, Cmd::Gc]),
        ] {
            for verb in [Cmd::Add, Cmd::Check, Cmd::Status, Cmd::Del, Cmd::Gc] {
                let refused = parse(with(field).into_bytes(), verb).is_err();
                assert_eq!(refused, refused_by.contains(&verb), "{verb:?} {field}");
            }
        }
    }

    #[test]
    fn versions_decide_which_verbs_exist() {
        let conf = |version: &str| format!(r#"{{"cniVersion":"{version}","name":"n","type":"t"}}"#);
        for version in VERSIONS.map(|version| version.to_string()) {
            assert!(parse(conf(&version).into_bytes(), Cmd::Add).is_ok(), "{version}");
            assert!(parse(conf(&version).into_bytes(), Cmd::Del).is_ok(), "{version}");
        }
        for version in ["", "0.1.0", "0.2.0", "0.3.0", "1.2.0", "2.0.0"] {
            assert_eq!(failure(&conf(version), Cmd::Add).code, code::VERSION, "{version}");
        }
        assert_eq!(failure(&conf("0.3.1"), Cmd::Check).code, code::VERSION);
        assert!(parse(conf("0.4.0").into_bytes(), Cmd::Check).is_ok());
        for verb in [Cmd::Gc, Cmd::Status] {
            assert_eq!(failure(&conf("1.0.0"), verb).code, code::VERSION);
            assert!(parse(conf("1.1.0").into_bytes(), verb).is_ok());
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
            (r#""type":"t","name":"n","addressRest":1.5"#, "addressRest"),
            (r#""type":"t","name":"n","addressRest":86401"#, "addressRest"),
            (r#""type":"t","name":"n","ipam":"host-local""#, "ipam is"),
            (r#""type":"t","name":"n","ipam":{"subnet":"10.0.0.0/8"}"#, "ipam.type is missing"),
            (r#""type":"t","name":"n","ipam":{"type":"../bridge"}"#, "ipam.type"),
        ] {
            let error = failure(&format!(r#"{{"cniVersion":"1.1.0",{fields}}}"#), Cmd::Add);
            assert_eq!(error.code, code::CONFIG, "{fields}: {error}");
            assert!(error.details.contains(named), "{fields}: {error}");
        }
    }

    #[test]
    fn fields_that_cannot_be_honoured_are_refused() {
        for (field, named) in [
            (r#""ipam":{"type":"dhcp"}"#, "dhcp"),
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
        let fields = r#""ipam":{"type":"dhcp"},"ipMasq":false,"bridge":"b""#;
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
