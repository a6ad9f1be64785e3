//! What is asked for one pod in particular: how it is attached, addresses, a MAC, ports of the node, limits.
//!
//! A runtime hands such wishes on in three places: keys of `CNI_ARGS`, `args.cni` of the network configuration (both from the
//! specification's CONVENTIONS.md), and `runtimeConfig`, where a capability that the configuration declares has a key. They are kept as they
//! come, and checked by ADD only: what is wrong with them must not keep DEL from its work. ADD tells all faults at once.

mod attach;
mod bandwidth;
mod identity;
mod ports;

use std::net::IpAddr;

use heddle_api::{Bandwidth, PortMapping};
use heddle_netdev::Mac;
use serde_json::Value;

pub(crate) use attach::AttachMode;

use crate::error::{CniError, Result, code};

/// Those in `CNI_ARGS`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// `HEDDLE_ATTACH`.
    pub(crate) attach: Option<String>,
    /// `IP`, as podman writes it.
    pub(crate) address: Option<String>,
    /// `MAC`, as podman writes it.
    pub(crate) mac: Option<String>,
}

/// Those in the network configuration. Whatever else is in these places is for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// `runtimeConfig`.
    runtime: Option<Value>,
    /// `args`.
    args: Option<Value>,
}

/// Wishes that make sense.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wanted {
    /// How the pod is attached, if not as the node's others.
    pub(crate) attach: Option<AttachMode>,
    /// Its addresses, at most one of each family.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its MAC.
    pub(crate) mac: Option<Mac>,
    /// Ports of the node that lead to it.
    pub(crate) port_mappings: Vec<PortMapping>,
    /// How fast it may send and receive.
    pub(crate) bandwidth: Option<Bandwidth>,
}

impl Wishes {
    /// Takes the two members of the configuration.
    pub(crate) fn new(runtime: Option<Value>, args: Option<Value>) -> Self {
        let said = |value: Option<Value>| value.filter(|value| !value.is_null());
        Self { runtime: said(runtime), args: said(args) }
    }

    /// Checks everything that is asked for.
    pub(crate) fn settle(&self, arguments: &Arguments) -> Result<Wanted> {
        let mut faults = Vec::new();
        if self.runtime.as_ref().is_some_and(|runtime| !runtime.is_object()) {
            faults.push(fault("runtimeConfig", "is no object; runtimes write one"));
        }
        let wanted = Wanted {
            attach: attach::settle(self, arguments, &mut faults),
            addresses: identity::addresses(self, arguments, &mut faults),
            mac: identity::mac(self, arguments, &mut faults),
            port_mappings: ports::settle(self.runtime("portMappings"), &mut faults),
            bandwidth: bandwidth::settle(self.runtime("bandwidth"), &mut faults),
        };
        if faults.is_empty() { Ok(wanted) } else { Err(CniError::all_at_once(faults)) }
    }

    /// What is under a capability's key.
    fn runtime(&self, key: &str) -> Option<&Value> {
        said(self.runtime.as_ref()?.get(key))
    }

    /// What is under a key of `args.cni`.
    fn argument(&self, key: &str) -> Option<&Value> {
        said(self.args.as_ref()?.get("cni")?.get(key))
    }
}

fn said(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

/// A fault of the configuration: which field, and what is wrong with it and to be written.
fn fault(field: &str, what: &str) -> CniError {
    CniError::new(code::CONFIG, format!("{field} {what}"))
}

#[cfg(test)]
mod tests {
    //! Wishes of every kind are taken together, and so are their faults.
    use super::*;

    /// Wishes of a configuration with these fields besides the necessary ones.
    pub(super) fn wishes(fields: &str) -> Wishes {
        let document: Value =
            serde_json::from_str(&format!("{{{}}}", fields.trim_start_matches(','))).unwrap();
        Wishes::new(document.get("runtimeConfig").cloned(), document.get("args").cloned())
    }

    #[test]
    fn nothing_is_asked_for_as_a_rule() {
        for fields in [
            "",
            r#""runtimeConfig":null,"args":null"#,
            r#""runtimeConfig":{},"args":{}"#,
            r#""runtimeConfig":{"portMappings":null,"bandwidth":null,"ips":null,"mac":null,"dns":{"servers":[]}},"args":{"cni":null}"#,
            r#""runtimeConfig":{"portMappings":[],"bandwidth":{},"ips":[]},"args":{"cni":{"ips":[],"labels":[]}}"#,
        ] {
            assert_eq!(wishes(fields).settle(&Arguments::default()).unwrap(), Wanted::default(), "{fields}");
        }
    }

    #[test]
    fn every_fault_is_told_with_its_field() {
        let wishes = wishes(
            r#""args":{"cni":{"attach":7,"ips":"10.0.0.1"}},"runtimeConfig":{"mac":"01:00:00:00:00:00",
            "ips":["10.0.0.1/33"],"bandwidth":{"ingressRate":-1},"portMappings":[{"hostPort":1,"containerPort":0}]}"#,
        );
        let error = wishes.settle(&Arguments::default()).unwrap_err();
        assert_eq!(error.code, code::CONFIG);
        for field in [
            "args.cni.attach",
            "args.cni.ips",
            "runtimeConfig.mac",
            "runtimeConfig.ips[0]",
            "runtimeConfig.bandwidth.ingressRate",
            "runtimeConfig.portMappings[0].containerPort",
        ] {
            assert!(error.details.contains(field), "{field} is not in {error}");
        }
    }

    #[test]
    fn runtime_config_is_an_object() {
        let error = wishes(r#""runtimeConfig":[1]"#).settle(&Arguments::default()).unwrap_err();
        assert!(error.details.contains("runtimeConfig is no object"), "{error}");
    }
}
