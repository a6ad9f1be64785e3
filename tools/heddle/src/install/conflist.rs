//! The network configuration that makes a container runtime call heddle-cni.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::args::InstallOptions;

/// Name of the plugin, in configurations and in the runtime's directory.
pub(crate) const PLUGIN: &str = "heddle-cni";
/// What libcni, and so every runtime, takes for a configuration (`ConfFiles` in its `libcni/conf.go`).
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];
/// Spoken by every runtime that is still maintained, and by every plugin one may chain.
const VERSION: &str = "1.0.0";
/// Brings GC and STATUS. Runtimes that know the field `cniVersions` choose it, others read `cniVersion`.
const NEWEST: &str = "1.1.0";
/// Capabilities of plugins in a chain: the runtime tells a plugin only of what it asks for.
const OF_OTHERS: [(&str, &str); 3] =
    [("portmap", "portMappings"), ("bandwidth", "bandwidth"), ("tuning", "mac")];
/// Those of heddle-cni, as far as no other plugin in the chain has them.
const OWN: [&str; 5] = ["io.kubernetes.cri.pod-annotations", "portMappings", "bandwidth", "ips", "mac"];

/// The file's text.
pub(crate) fn text(options: &InstallOptions, socket: Option<&Path>) -> String {
    let taken: Vec<_> = options.chain.iter().filter_map(|name| capability(name)).collect();
    let own = OWN.iter().filter(|name| !taken.contains(name));
    let capabilities: serde_json::Map<_, _> =
        own.map(|name| ((*name).to_owned(), Value::Bool(true))).collect();
    let mut own = json!({ "type": PLUGIN, "capabilities": capabilities });
    // Defaults are not written: they stay the plugin's to choose.
    for (key, path) in [("socket", socket), ("stateDir", options.state_dir.as_deref())] {
        if let Some(path) = path {
            own[key] = json!(path);
        }
    }
    let mut plugins = vec![own];
    plugins.extend(options.chain.iter().map(|name| chained(name)));
    let mut list = json!({ "cniVersion": VERSION, "name": options.network, "plugins": plugins });
    if options.chain.is_empty() {
        // Other plugins may know nothing newer.
        list["cniVersions"] = json!([VERSION, NEWEST]);
    }
    format!("{list:#}\n")
}

fn chained(name: &str) -> Value {
    let mut plugin = json!({ "type": name });
    if let Some(capability) = capability(name) {
        plugin["capabilities"] = json!({ capability: true });
    }
    plugin
}

fn capability(plugin: &str) -> Option<&'static str> {
    OF_OTHERS.iter().find(|(other, _)| *other == plugin).map(|(_, capability)| *capability)
}

/// True for a configuration that calls heddle-cni.
pub(crate) fn is_ours(content: &[u8]) -> bool {
    let Ok(list) = serde_json::from_slice::<Value>(content) else { return false };
    let plugins = list["plugins"].as_array().cloned().unwrap_or_else(|| vec![list]);
    plugins.iter().any(|plugin| plugin["type"] == PLUGIN)
}

/// A configuration that is not the one we place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Other {
    pub(crate) name: String,
    /// A runtime takes it instead of ours.
    pub(crate) first: bool,
    /// It calls heddle-cni, too.
    pub(crate) ours: bool,
}

/// What else is in the directory.
pub(crate) fn others(dir: &Path, own: &str) -> Result<Vec<Other>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut others = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name != own && path.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
            let ours = std::fs::read(&path).is_ok_and(|content| is_ours(&content));
            others.push(Other { name: name.to_owned(), first: name < own, ours });
        }
    }
    others.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(others)
}

#[cfg(test)]
mod tests {
    //! What is written says what was asked for and is known again; of other files, those that matter are told.
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Command};

    fn options(line: &str) -> InstallOptions {
        match Arguments::try_parse_from(line.split(' ')).unwrap().command {
            Command::Install(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_left_to_the_plugin() {
        let text = text(&options("heddle install"), None);
        let list: Value = serde_json::from_str(&text).unwrap();
        let capabilities = json!({
            "io.kubernetes.cri.pod-annotations": true, "portMappings": true, "bandwidth": true, "ips": true, "mac": true,
        });
        let plugin = json!({ "type": "heddle-cni", "capabilities": capabilities });
        let expected = json!({
            "cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "heddle", "plugins": [plugin],
        });
        assert_eq!(list, expected);
        assert!(is_ours(text.as_bytes()));
    }

    #[test]
    fn everything_that_is_asked_for_is_in_it() {
        let line = "heddle install --network n --state-dir /s --chain portmap,tuning --chain firewall";
        let list: Value = serde_json::from_str(&text(&options(line), Some(Path::new("/x.sock")))).unwrap();
        assert_eq!(list["name"], "n");
        assert_eq!(list.get("cniVersions"), None, "portmap may know nothing newer");
        let plugins = list["plugins"].as_array().unwrap();
        let own = plugins[0]["capabilities"].as_object().unwrap();
        assert!(!own.contains_key("portMappings") && !own.contains_key("mac"), "others see to these");
        assert!(own.contains_key("bandwidth"));
        assert_eq!((&plugins[0]["socket"], &plugins[0]["stateDir"]), (&json!("/x.sock"), &json!("/s")));
        let rest = [
            json!({ "type": "portmap", "capabilities": { "portMappings": true } }),
            json!({ "type": "tuning", "capabilities": { "mac": true } }),
            json!({ "type": "firewall" }),
        ];
        assert_eq!(plugins[1..], rest);
    }

    #[test]
    fn ours_is_what_calls_the_plugin() {
        for (text, ours) in [
            (r#"{"plugins":[{"type":"bridge"},{"type":"heddle-cni"}]}"#, true),
            (r#"{"type":"heddle-cni"}"#, true),
            (r#"{"name":"heddle-cni","plugins":[{"type":"bridge"}]}"#, false),
            ("", false),
            ("heddle-cni", false),
            ("[]", false),
        ] {
            assert_eq!(is_ours(text.as_bytes()), ours, "{text}");
        }
    }

    #[test]
    fn others_are_sorted_as_a_runtime_sorts() {
        let dir = tempfile::tempdir().unwrap();
        let ours = r#"{"type":"heddle-cni"}"#;
        for (name, text) in [
            ("10-heddle.conflist", ours),
            ("05-cilium.conflist", "{}"),
            ("10-heddle.conf", ours),
            ("99-loopback.json", "{}"),
            ("00-readme.txt", "{}"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        std::fs::create_dir(dir.path().join("01-dir.conflist")).unwrap();
        let other = |name: &str, first, ours| Other { name: name.to_owned(), first, ours };
        let expected = [
            other("05-cilium.conflist", true, false),
            other("10-heddle.conf", true, true),
            other("99-loopback.json", false, false),
        ];
        assert_eq!(others(dir.path(), "10-heddle.conflist").unwrap(), expected);
    }
}
