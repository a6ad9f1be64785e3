//! The CNI reference plugins, executed as a container runtime executes them.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use heddle_netdev::{NETNS_DIR, Netns};
use ipnet::IpNet;
use serde::Deserialize;

use crate::system::ground::{create_namespace, namespace_name};
use crate::system::place::Place;

/// Where Debian's containernetworking-plugins has them.
pub(crate) const DIRECTORY: &str = "/usr/lib/cni";
/// Those that are called here, the second by the first.
pub(crate) const REQUIRED: [&str; 2] = ["bridge", "host-local"];

/// `bridge` with `host-local` on one node: a bridge that is the pods' gateway.
#[derive(Debug)]
pub(crate) struct BridgePlugin {
    node: Netns,
    configuration: serde_json::Value,
}

impl BridgePlugin {
    /// For a node whose pods have addresses of `subnets`.
    pub(crate) fn on(node: &Netns, state: &Path, subnets: &[IpNet], mtu: u32) -> Self {
        Self { node: node.clone(), configuration: configuration(state, subnets, mtu) }
    }

    /// Makes a pod's namespace and adds the pod.
    pub(crate) fn add(&self, pod: &str) -> Result<Place> {
        create_namespace(pod)?;
        let answer = self.call(pod).with_context(|| format!("CNI ADD of {pod} by the bridge plugin"))?;
        let addresses = parse(&answer).with_context(|| format!("the bridge plugin answered: {answer}"))?;
        Ok(Place::named(&namespace_name(pod), addresses))
    }

    fn call(&self, pod: &str) -> Result<String> {
        let mut command = Command::new(PathBuf::from(DIRECTORY).join("bridge"));
        command
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", pod)
            .env("CNI_NETNS", PathBuf::from(NETNS_DIR).join(namespace_name(pod)))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", DIRECTORY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.node.spawn(&mut command)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(self.configuration.to_string().as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{}{}", said.trim(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(said)
    }
}

/// The keys are those that Flannel passes on: the plugin's own masquerading, which would switch the kernel's connection
/// tracking on, is not among them.
pub(super) fn configuration(state: &Path, subnets: &[IpNet], mtu: u32) -> serde_json::Value {
    let ranges: Vec<_> = subnets.iter().map(|subnet| serde_json::json!([{ "subnet": subnet }])).collect();
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "bench",
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": true,
        "hairpinMode": true,
        "mtu": mtu,
        "ipam": { "type": "host-local", "dataDir": state, "ranges": ranges },
    })
}

fn parse(answer: &str) -> Result<Vec<IpAddr>> {
    #[derive(Deserialize)]
    struct Success {
        ips: Vec<Ip>,
    }
    #[derive(Deserialize)]
    struct Ip {
        address: IpNet,
    }
    let success: Success = serde_json::from_str(answer)?;
    Ok(success.ips.iter().map(|ip| ip.address.addr()).collect())
}

#[cfg(test)]
mod tests {
    //! A result of the plugin is understood.
    use super::*;

    #[test]
    fn addresses_are_found() {
        let answer = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"cni0"},{"name":"veth1"},{"name":"eth0"}],
            "ips":[{"interface":2,"address":"10.245.1.2/24","gateway":"10.245.1.1"},
                   {"interface":2,"address":"fd00:10:245:1::2/64","gateway":"fd00:10:245:1::1"}],"dns":{}}"#;
        let expected = ["10.245.1.2", "fd00:10:245:1::2"].map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(parse(answer).unwrap(), expected);
        assert!(parse("{}").is_err());
    }
}
