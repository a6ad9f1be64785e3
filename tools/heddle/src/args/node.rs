//! The commands that change a node: installation and removal.

use std::path::PathBuf;

use clap::Args;

use super::Format;

/// Where the container runtime looks, and under which names.
#[derive(Debug, Clone, Args)]
pub(crate) struct RuntimePlaces {
    /// Directory the container runtime executes plugins from
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub(crate) bin_dir: PathBuf,
    /// Directory the container runtime reads network configurations from
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub(crate) conf_dir: PathBuf,
    /// The configuration's file name; the runtime takes the first in alphabetical order
    #[arg(long, value_name = "FILE", default_value = "10-heddle.conflist", value_parser = conflist_name)]
    pub(crate) conf_name: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InstallOptions {
    #[command(flatten)]
    pub(crate) places: RuntimePlaces,
    /// The plugin to install [default: heddle-cni beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) plugin: Option<PathBuf>,
    /// Name of the network, as runtimes show it
    #[arg(long, value_name = "NAME", default_value = "heddle", value_parser = network_name)]
    pub(crate) network: String,
    /// Where the plugin keeps its addresses: the switch's `state_dir` [default: /var/lib/heddle]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Plugins to call after heddle-cni, such as portmap,bandwidth,tuning
    #[arg(long, value_name = "PLUGIN", value_delimiter = ',', value_parser = chained_plugin)]
    pub(crate) chain: Vec<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UninstallOptions {
    #[command(flatten)]
    pub(crate) places: RuntimePlaces,
    /// Remove the plugin although pods need it to go
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CleanupOptions {
    #[command(flatten)]
    pub(crate) places: RuntimePlaces,
    /// The switch's configuration, which says where its files are; without the file they are at their defaults
    #[arg(long, value_name = "FILE", default_value = "/etc/heddle/switch.toml")]
    pub(crate) config: PathBuf,
    /// Leave the kernel forwarding packets, although it did not before Heddle
    #[arg(long)]
    pub(crate) keep_forwarding: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// A file name that a runtime reads: libcni takes these endings only.
fn conflist_name(text: &str) -> Result<String, String> {
    if text.contains('/') || text.starts_with('.') {
        return Err("write a file name, and the directory as --conf-dir".to_owned());
    }
    if text.ends_with(".conflist") {
        Ok(text.to_owned())
    } else {
        Err("runtimes read it only if its name ends in .conflist".to_owned())
    }
}

/// What the CNI specification takes for a network's name: runtimes refuse any other, for every pod.
fn network_name(text: &str) -> Result<String, String> {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.bytes().all(rest) {
        return Ok(text.to_owned());
    }
    Err("a network's name is letters, digits, '_', '.' and '-', and begins with a letter or digit".to_owned())
}

/// The name of a program in the plugin directory.
fn chained_plugin(text: &str) -> Result<String, String> {
    match text {
        "" | "." | ".." => Err("write the name of a plugin, such as portmap".to_owned()),
        "heddle-cni" | "heddle" => {
            Err("it is in the configuration already, first; name the plugins after it".to_owned())
        }
        path if path.contains('/') => Err("write the name of a plugin, without its directory".to_owned()),
        name => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    //! Names that no pod could start with are refused before anything is written.
    use super::*;

    #[test]
    fn network_names_are_the_specifications() {
        for name in ["heddle", "0", "a_b.c-d"] {
            assert_eq!(network_name(name).as_deref(), Ok(name));
        }
        for name in ["", "-a", ".", "bad name", "a/b", "ä"] {
            assert!(network_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn chained_plugins_are_names_of_others() {
        assert_eq!(chained_plugin("portmap").as_deref(), Ok("portmap"));
        for name in ["", "..", "../evil", "a/b", "heddle-cni", "heddle"] {
            assert!(chained_plugin(name).is_err(), "{name}");
        }
    }
}
