//! What a runtime called: read from what the recorder has kept.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

/// Names a directory that the calls of each runtime are written to, as `cni/tests/plugin/recorded/` has them.
const RECORD: &str = "HEDDLE_RECORD";

/// One call of the plugin.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Call {
    /// The `CNI_` variables, the blank ones too.
    pub(crate) variables: BTreeMap<String, String>,
    /// Standard input.
    pub(crate) input: String,
    /// Standard output.
    pub(crate) output: String,
    pub(crate) success: bool,
}

impl Call {
    pub(crate) fn verb(&self) -> &str {
        self.variable("CNI_COMMAND")
    }

    pub(crate) fn container(&self) -> &str {
        self.variable("CNI_CONTAINERID")
    }

    /// A variable; blank when it is not set at all.
    pub(crate) fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// The addresses that ADD answered with.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let answer: Value = serde_json::from_str(&self.output).unwrap();
        let ips = answer["ips"].as_array().unwrap_or_else(|| panic!("{self}"));
        let address =
            |ip: &Value| ip["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap();
        ips.iter().map(address).collect()
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let good = if self.success { "" } else { " FAILED" };
        write!(f, "{:?}\n  < {}\n  > {}{good}", self.variables, self.input.trim(), self.output.trim())
    }
}

/// The calls in the order in which they were answered.
pub(crate) fn read(directory: &Path) -> Vec<Call> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    // One with a dot is still going on.
    let is_whole = |path: &std::path::PathBuf| !path.file_name().unwrap().to_str().unwrap().starts_with('.');
    let mut paths: Vec<_> = entries.filter(is_whole).collect();
    paths.sort();
    paths.iter().map(|path| read_one(path)).collect()
}

fn read_one(path: &Path) -> Call {
    let file = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
    let variables = file("env");
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    Call {
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        input: file("stdin"),
        output: file("stdout"),
        success: file("status").trim() == "0",
    }
}

/// Keeps what a runtime called, if somebody wants it.
pub(crate) fn record(runtime: &str, calls: &[Call]) {
    /// Without the answers: they are what is tested.
    #[derive(Serialize)]
    struct Recorded<'a> {
        variables: &'a BTreeMap<String, String>,
        input: Value,
    }
    let Some(directory) = std::env::var_os(RECORD) else { return };
    let input =
        |text: &str| if text.trim().is_empty() { Value::Null } else { serde_json::from_str(text).unwrap() };
    let calls: Vec<_> =
        calls.iter().map(|call| Recorded { variables: &call.variables, input: input(&call.input) }).collect();
    let path = Path::new(&directory).join(format!("{runtime}.json"));
    std::fs::write(path, serde_json::to_string_pretty(&calls).unwrap() + "\n").unwrap();
}
