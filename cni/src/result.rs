//! The answer to ADD, in the shape of the version asked for.

use std::net::IpAddr;
use std::path::Path;

use heddle_netdev::Mac;
use ipnet::IpNet;
use rscni_types::legacy;
use rscni_types::types::{CNIResult, CNIResultWithVersion, Dns, Interface, IpConfig, Route};
use rscni_types::version::SpecVersion;

use crate::attachment::Attachment;
use crate::config::Config;
use crate::error::{CniError, Result, code};
use crate::node::Node;
use crate::pod::default_prefix;

/// What ADD made.
#[derive(Debug)]
pub(crate) struct Made<'a> {
    /// For which attachment.
    pub(crate) attachment: &'a Attachment,
    /// The pod's network namespace, as `CNI_NETNS` named it.
    pub(crate) netns: &'a Path,
    /// MAC of the pod's side.
    pub(crate) mac: Mac,
    /// Addresses of the pod.
    pub(crate) addresses: &'a [IpAddr],
    /// Destinations that an IPAM plugin names besides.
    pub(crate) routes: &'a [IpNet],
    /// Name servers that an IPAM plugin names.
    pub(crate) dns: Option<&'a Dns>,
    /// The node it is on.
    pub(crate) node: &'a Node,
}

impl Made<'_> {
    /// The result, added to that of the plugins before.
    pub(crate) fn to_json(&self, config: &Config) -> Result<String> {
        let mut result = config.previous.clone().unwrap_or_default();
        let host = result.interfaces.len() as u32;
        // The field is new in 1.1.0.
        let mtu = (config.version >= SpecVersion::new(1, 1, 0)).then_some(self.node.mtu);
        let interface = |name: String, mac: Mac, sandbox: Option<String>| Interface {
            name,
            mac: mac.to_string(),
            mtu,
            sandbox,
            socket_path: None,
            pci_id: None,
        };
        let sandbox = Some(self.netns.display().to_string());
        result.interfaces.push(interface(self.attachment.host_interface(), self.attachment.host_mac(), None));
        result.interfaces.push(interface(self.attachment.ifname.clone(), self.mac, sandbox));
        for address in self.addresses {
            let gateway = self.node.gateway_for(*address)?;
            let address = IpNet::from(*address);
            result.ips.push(IpConfig { interface: Some(host + 1), address, gateway: Some(gateway) });
            result.routes.push(route(default_prefix(gateway), gateway));
        }
        for &destination in self.routes {
            result.routes.push(route(destination, self.node.gateway_for(destination.addr())?));
        }
        // The nearest to who wrote the configuration counts.
        result.dns = config.dns.clone().or(self.dns.cloned()).or(result.dns);
        serialize(config.version, result)
    }
}

fn route(destination: IpNet, gateway: IpAddr) -> Route {
    Route {
        dst: destination,
        gw: Some(gateway),
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope: None,
    }
}

fn serialize(version: SpecVersion, result: CNIResult) -> Result<String> {
    let json = if version.is_legacy() {
        serde_json::to_string(&legacy::CNIResult::new(version, result))
    } else {
        serde_json::to_string(&CNIResultWithVersion::new(version, result))
    };
    json.map_err(|error| CniError::new(code::IO, format!("cannot write the result: {error}")))
}

#[cfg(test)]
mod tests {
    //! The result has the shape each version of the specification asks for.
    use rscni_types::types::Cmd;
    use serde_json::{Value, json};

    use super::*;
    use crate::environment::PodName;

    fn result(version: &str, more: &str) -> Value {
        let text = format!(r#"{{"cniVersion":"{version}","name":"n","type":"t"{more}}}"#);
        let config = crate::config::parse(text.into_bytes(), Cmd::Add).unwrap();
        let attachment =
            Attachment { container_id: "c".to_owned(), ifname: "eth0".to_owned(), pod: PodName::default() };
        let node = heddle_api::Node {
            pod_cidrs: vec!["10.1.0.0/24".to_owned(), "fd00::/64".to_owned()],
            gateways: vec!["169.254.1.1".to_owned(), "fe80::1".to_owned()],
            pod_mtu: 1450,
            attach_mode: "direct".into(),
            ..heddle_api::Node::default()
        };
        let made = Made {
            attachment: &attachment,
            netns: Path::new("/run/netns/p"),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            addresses: &["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            routes: &["192.0.2.0/24".parse().unwrap()],
            dns: None,
            node: &node.try_into().unwrap(),
        };
        serde_json::from_str(&made.to_json(&config).unwrap()).unwrap()
    }

    #[test]
    fn old_versions_mark_the_family_of_each_address() {
        for version in ["0.3.1", "0.4.0"] {
            let result = result(version, "");
            assert_eq!(result["cniVersion"], version);
            assert_eq!(
                result["ips"][0],
                json!({"version":"4","interface":1,"address":"10.1.0.1/32","gateway":"169.254.1.1"})
            );
            assert_eq!(result["ips"][1]["version"], "6");
            assert_eq!(result["interfaces"][1]["mtu"], Value::Null);
            assert_eq!(result["dns"], json!({}));
        }
    }

    #[test]
    fn new_versions_do_not() {
        for version in ["1.0.0", "1.1.0"] {
            let result = result(version, "");
            assert_eq!(result["cniVersion"], version);
            assert_eq!(result["ips"][1], json!({"interface":1,"address":"fd00::1/128","gateway":"fe80::1"}));
            assert_eq!(result["interfaces"][1]["sandbox"], "/run/netns/p");
            assert_eq!(result["interfaces"][1]["name"], "eth0");
            assert_eq!(result["interfaces"][1]["mac"], "02:00:00:00:00:01");
            assert_eq!(result["interfaces"][0]["sandbox"], Value::Null);
            assert_eq!(result["routes"][0], json!({"dst":"0.0.0.0/0","gw":"169.254.1.1"}));
            assert_eq!(result["routes"][1], json!({"dst":"::/0","gw":"fe80::1"}));
            assert_eq!(result["routes"][2], json!({"dst":"192.0.2.0/24","gw":"169.254.1.1"}));
            let mtu = if version == "1.1.0" { json!(1450) } else { Value::Null };
            assert_eq!(result["interfaces"][1]["mtu"], mtu);
        }
    }

    #[test]
    fn an_earlier_plugin_s_result_is_passed_on() {
        let previous = r#","prevResult":{"interfaces":[{"name":"net9","sandbox":"/x"}],
            "ips":[{"address":"192.0.2.5/24","interface":0}],"routes":[{"dst":"192.0.2.0/24"}],
            "dns":{"nameservers":["192.0.2.53"]}}"#;
        let result = result("1.0.0", previous);
        assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
        assert_eq!(result["interfaces"][0]["name"], "net9");
        assert_eq!(result["ips"][0]["interface"], 0);
        assert_eq!(result["ips"][1]["interface"], 2);
        assert_eq!(result["dns"]["nameservers"][0], "192.0.2.53");
    }

    #[test]
    fn dns_of_the_configuration_is_passed_on() {
        let result = result("1.1.0", r#","dns":{"nameservers":["10.96.0.10"]}"#);
        assert_eq!(result["dns"], json!({"nameservers":["10.96.0.10"]}));
    }
}
