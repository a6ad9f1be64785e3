//! Ports of the node that lead to the pod (capability `portMappings`, a Kubernetes hostPort).

use std::collections::BTreeSet;
use std::net::IpAddr;

use heddle_api::PortMapping;
use serde_json::Value;

use super::{fault, said};
use crate::error::CniError;

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// The mappings of `runtimeConfig.portMappings`. Ones with host port 0 are passed over: containerd and CRI-O write one for every
/// port that a container names, and 0 where it has none on the node.
pub(super) fn settle(list: Option<&Value>, faults: &mut Vec<CniError>) -> Vec<PortMapping> {
    let Some(list) = list else { return Vec::new() };
    let Value::Array(list) = list else {
        faults.push(fault("runtimeConfig.portMappings", "is no list; write [{\"hostPort\": …}]"));
        return Vec::new();
    };
    let mut mappings = Vec::with_capacity(list.len());
    let mut seen = BTreeSet::new();
    for (index, value) in list.iter().enumerate() {
        let field = format!("runtimeConfig.portMappings[{index}]");
        let Some(mapping) = mapping(&field, value, faults) else { continue };
        if seen.insert((mapping.protocol.clone(), mapping.host_port, mapping.host_address.clone())) {
            mappings.push(mapping);
        } else {
            let port = format!("{}/{}", mapping.host_port, mapping.protocol);
            faults.push(fault(&field, &format!("maps port {port} of the node again; give each its own")));
        }
    }
    mappings
}

fn mapping(field: &str, value: &Value, faults: &mut Vec<CniError>) -> Option<PortMapping> {
    let Value::Object(members) = value else {
        faults.push(fault(field, &format!("is {value}; write an object with hostPort and containerPort")));
        return None;
    };
    let of = |key: &str| said(members.get(key));
    let host_port = match of("hostPort") {
        None => return None,
        Some(port) if port.as_u64() == Some(0) => return None,
        port => port_number(port),
    };
    let pod_port = port_number(of("containerPort"));
    let protocol = match of("protocol") {
        None => Some("tcp".to_owned()),
        Some(text) => text.as_str().map(str::to_ascii_lowercase),
    };
    let protocol = match protocol {
        Some(text) if text.is_empty() => Some("tcp".to_owned()),
        other => other.filter(|text| PROTOCOLS.contains(&text.as_str())),
    };
    let host_address = of("hostIP").map_or(Some(String::new()), |text| host_address(text.as_str()?));
    let before = faults.len();
    let mut check = |right: bool, key: &str, write: &str| {
        if !right {
            let is = members.get(key).map_or_else(|| "missing".to_owned(), Value::to_string);
            faults.push(fault(&format!("{field}.{key}"), &format!("is {is}; write {write}")));
        }
    };
    check(host_port.is_some(), "hostPort", "a port, 1 to 65535, or 0 for none");
    check(pod_port.is_some(), "containerPort", "a port, 1 to 65535");
    check(protocol.is_some(), "protocol", "\"tcp\", \"udp\" or \"sctp\"");
    check(host_address.is_some(), "hostIP", "an address of the node, or \"\" for all of them");
    if faults.len() > before {
        return None;
    }
    Some(PortMapping {
        protocol: protocol?,
        host_port: host_port?,
        pod_port: pod_port?,
        host_address: host_address?,
    })
}

fn port_number(value: Option<&Value>) -> Option<u32> {
    let number = value?.as_u64()?;
    (1..=65_535).contains(&number).then_some(number as u32)
}

/// As the switch takes it: empty for all addresses of the node, which is also what Kubernetes means by the unspecified ones.
fn host_address(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    let address: IpAddr = text.parse().ok()?;
    if address.is_multicast() {
        return None;
    }
    Some(if address.is_unspecified() { String::new() } else { address.to_string() })
}

#[cfg(test)]
mod tests {
    //! Mappings are taken as runtimes write them; what cannot be one is told with its place.
    use super::super::Arguments;
    use super::super::tests::wishes;
    use super::*;

    fn settle(list: &str) -> crate::error::Result<Vec<PortMapping>> {
        let wishes = wishes(&format!(r#""runtimeConfig":{{"portMappings":{list}}}"#));
        wishes.settle(&Arguments::default()).map(|wanted| wanted.port_mappings)
    }

    #[test]
    fn as_runtimes_write_them() {
        let containerd = r#"[{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":""},
            {"hostPort":0,"containerPort":9000,"protocol":"tcp","hostIP":""}]"#;
        let mapping = |protocol: &str, host_port, pod_port, host_address: &str| PortMapping {
            protocol: protocol.to_owned(),
            host_port,
            pod_port,
            host_address: host_address.to_owned(),
        };
        assert_eq!(settle(containerd).unwrap(), [mapping("tcp", 8080, 80, "")]);
        let others = r#"[{"hostPort":53,"containerPort":5353,"protocol":"UDP","hostIP":"192.0.2.1"},
            {"hostPort":53,"containerPort":5353,"hostIP":"0.0.0.0"},
            {"hostPort":9,"containerPort":9,"protocol":"sctp","hostIP":"2001:DB8::1"}, {"containerPort":1}]"#;
        let expected = [
            mapping("udp", 53, 5353, "192.0.2.1"),
            mapping("tcp", 53, 5353, ""),
            mapping("sctp", 9, 9, "2001:db8::1"),
        ];
        assert_eq!(settle(others).unwrap(), expected);
    }

    #[test]
    fn faults_are_told_with_their_place() {
        for (list, named) in [
            ("{}", "portMappings is no list"),
            ("[7]", "portMappings[0] is 7"),
            (r#"[{"hostPort":70000,"containerPort":80}]"#, "portMappings[0].hostPort is 70000"),
            (r#"[{"hostPort":-1,"containerPort":80}]"#, "hostPort is -1"),
            (r#"[{"hostPort":"80","containerPort":80}]"#, "hostPort is \"80\""),
            (r#"[{"hostPort":80.5,"containerPort":80}]"#, "hostPort is 80.5"),
            (r#"[{"hostPort":80}]"#, "containerPort is missing"),
            (r#"[{"hostPort":80,"containerPort":0}]"#, "containerPort is 0"),
            (r#"[{"hostPort":80,"containerPort":80,"protocol":"icmp"}]"#, "protocol is \"icmp\""),
            (r#"[{"hostPort":80,"containerPort":80,"hostIP":"node1"}]"#, "hostIP is \"node1\""),
            (r#"[{"hostPort":80,"containerPort":80,"hostIP":"ff02::1"}]"#, "hostIP is \"ff02::1\""),
            (
                r#"[{"hostPort":80,"containerPort":80},{"hostPort":80,"containerPort":81}]"#,
                "[1] maps port 80/tcp",
            ),
        ] {
            let error = settle(list).unwrap_err();
            assert!(error.details.contains(named), "{list}: {error}");
        }
        let error = settle(r#"[{"hostPort":0.5,"containerPort":0,"protocol":1,"hostIP":2}]"#).unwrap_err();
        assert!(
            ["hostPort", "containerPort", "protocol", "hostIP"].iter().all(|f| error.details.contains(f)),
            "{error}"
        );
    }
}
