//! The plugin, called as a container runtime calls it: environment, network configuration on stdin, result on stdout.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use heddle_netdev::Netns;
use ipnet::IpNet;
use serde::Deserialize;

use crate::daemon::Files;
use crate::manifests::Annotations;
use crate::names::Name;
use crate::namespace::Namespace;
use crate::state::STATE_DIR;

/// The pod's interface, as runtimes call it.
const IFNAME: &str = "eth0";
/// The spec version spoken here.
const CNI_VERSION: &str = "1.1.0";
/// What containerd and CRI-O call the annotations of a pod that they hand to plugins (cni/README.md).
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

#[derive(Debug, Clone, Copy)]
enum Verb {
    Add,
    Del,
}

/// The plugin of one node.
#[derive(Debug, Clone)]
pub(crate) struct Plugin {
    binary: PathBuf,
    node: Name,
    socket: PathBuf,
    state_dir: PathBuf,
}

/// What ADD answered, as far as the lab needs it.
#[derive(Debug, Clone)]
pub(crate) struct Attached {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) mac: String,
    pub(crate) host_interface: String,
    pub(crate) mtu: u32,
}

impl Plugin {
    pub(crate) fn of_node(binary: &Path, node: Name) -> Self {
        let files = Files::of(Path::new(STATE_DIR), node);
        Self { binary: binary.to_owned(), node, socket: files.socket, state_dir: files.state }
    }

    /// Adds the pod, which has its Kubernetes object in `namespace`.
    pub(crate) fn add(&self, pod: Name, namespace: &str, annotations: &Annotations) -> Result<Attached> {
        let call = self.call(Verb::Add, pod, namespace, annotations);
        let answer = call.with_context(|| format!("CNI ADD of {pod}"))?;
        parse_result(&answer).with_context(|| format!("CNI ADD of {pod} answered: {}", answer.trim()))
    }

    pub(crate) fn del(&self, pod: Name) -> Result<()> {
        // The switch knows the pod by its container.
        let call = self.call(Verb::Del, pod, "", &Annotations::new());
        call.map(drop).with_context(|| format!("CNI DEL of {pod}"))
    }

    /// The endpoint's id at the switch.
    pub(crate) fn endpoint_id(pod: Name) -> String {
        format!("{}/{IFNAME}", container_id(pod))
    }

    fn call(&self, verb: Verb, pod: Name, namespace: &str, annotations: &Annotations) -> Result<String> {
        let configuration = self.configuration(annotations).to_string();
        let mut command = self.command(verb, pod, namespace);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Netns::open(Namespace::of(self.node).path())?.spawn(&mut command)?;
        if let Some(mut stdin) = child.stdin.take() {
            std::io::Write::write_all(&mut stdin, configuration.as_bytes()).or_else(|error| {
                if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
            })?;
        }
        let output = child.wait_with_output()?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("{}", complaint(&stdout, &String::from_utf8_lossy(&output.stderr)));
        }
        Ok(stdout.into_owned())
    }

    fn command(&self, verb: Verb, pod: Name, namespace: &str) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(&self.binary);
        let verb = match verb {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
        };
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container_id(pod))
            .env("CNI_NETNS", Namespace::of(pod).path())
            .env("CNI_IFNAME", IFNAME)
            .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod}"))
            .env("CNI_PATH", self.binary.parent().unwrap_or(Path::new("/")))
            // Out of reach of the terminal's Ctrl-C: the lab decides what becomes of a call under way.
            .process_group(0);
        command
    }

    /// As libcni derives it from a configuration list whose plugin declares the capability.
    fn configuration(&self, annotations: &Annotations) -> serde_json::Value {
        serde_json::json!({
            "cniVersion": CNI_VERSION,
            "name": "heddle",
            "type": "heddle-cni",
            "socket": self.socket,
            "stateDir": self.state_dir,
            "runtimeConfig": { ANNOTATIONS: annotations },
        })
    }
}

fn container_id(pod: Name) -> String {
    format!("lab-{pod}")
}

/// Errors are JSON on stdout; a plugin that died said something on stderr at best.
fn complaint(stdout: &str, stderr: &str) -> String {
    #[derive(Deserialize)]
    struct Error {
        msg: String,
        #[serde(default)]
        details: String,
    }
    match serde_json::from_str::<Error>(stdout) {
        Ok(Error { msg, details }) if details.is_empty() => msg,
        Ok(Error { msg, details }) => format!("{msg}: {details}"),
        Err(_) => format!("heddle-cni failed: {} {}", stdout.trim(), stderr.trim()),
    }
}

fn parse_result(text: &str) -> Result<Attached> {
    #[derive(Deserialize)]
    struct Success {
        interfaces: Vec<Interface>,
        ips: Vec<Ip>,
    }
    #[derive(Deserialize)]
    struct Interface {
        name: String,
        #[serde(default)]
        mac: String,
        #[serde(default)]
        mtu: u32,
        #[serde(default)]
        sandbox: String,
    }
    #[derive(Deserialize)]
    struct Ip {
        address: IpNet,
    }
    let Success { interfaces, ips } = serde_json::from_str(text)?;
    let host =
        interfaces.iter().find(|interface| interface.sandbox.is_empty()).context("no host interface")?;
    let pod =
        interfaces.iter().find(|interface| !interface.sandbox.is_empty()).context("no pod interface")?;
    Ok(Attached {
        addresses: ips.iter().map(|ip| ip.address.addr()).collect(),
        mac: pod.mac.clone(),
        host_interface: host.name.clone(),
        mtu: pod.mtu,
    })
}

#[cfg(test)]
mod tests {
    //! Results and errors of the plugin are understood.
    use super::*;

    #[test]
    fn a_result_is_understood() {
        let attached = parse_result(
            r#"{"cniVersion":"1.1.0","interfaces":[
                {"name":"hd0123","mac":"02:00:00:00:00:01"},
                {"name":"eth0","mac":"02:00:00:00:00:02","mtu":1450,"sandbox":"/run/netns/hd-n1p1"}],
              "ips":[{"address":"10.244.1.2/32","interface":1},{"address":"fd00:10:244:1::2/128","interface":1}]}"#,
        )
        .unwrap();
        assert_eq!(
            attached.addresses,
            ["10.244.1.2", "fd00:10:244:1::2"].map(|a| a.parse::<IpAddr>().unwrap())
        );
        assert_eq!((attached.mac.as_str(), attached.mtu), ("02:00:00:00:00:02", 1450));
        assert_eq!(attached.host_interface, "hd0123");
    }

    #[test]
    fn errors_are_told_in_one_line() {
        let json = r#"{"cniVersion":"1.1.0","code":11,"msg":"the switch is not there","details":"start it"}"#;
        assert_eq!(complaint(json, ""), "the switch is not there: start it");
        assert_eq!(complaint("", "killed\n"), "heddle-cni failed:  killed");
    }
}
