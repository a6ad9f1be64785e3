//! What a container runtime hands to the CNI plugin: variables and a configuration, before anything is done about them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

const VARIABLES: [&str; 6] =
    ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS", "CNI_PATH"];

/// The values of the six variables, each with a zero behind it, as in an environment; then the configuration. They are either understood, or
/// refused with an error in JSON that has a code and says what is wrong.
///
/// # Panics
///
/// When that does not hold.
pub fn check(bytes: &[u8]) {
    let reply = reply(bytes);
    if reply.success {
        return;
    }
    let output = reply.output.expect("a failure is told");
    assert!(output.starts_with("{\"cniVersion\":\"") && !output.contains('\n'), "{output}");
    for member in ["\"code\":", "\"msg\":\"", "\"details\":\""] {
        assert!(output.contains(member), "{member} is not in {output}");
    }
}

/// Whether there is nothing to refuse.
pub fn understands(bytes: &[u8]) -> bool {
    reply(bytes).success
}

fn reply(bytes: &[u8]) -> heddle_cni::Reply {
    let mut parts = bytes.splitn(VARIABLES.len() + 1, |byte| *byte == 0);
    let values: Vec<&[u8]> = parts.by_ref().take(VARIABLES.len()).collect();
    let configuration = parts.next().unwrap_or_default();
    let lookup = |name: &str| {
        let at = VARIABLES.iter().position(|variable| *variable == name)?;
        values.get(at).map(|value| OsString::from_vec(value.to_vec()))
    };
    heddle_cni::check(lookup, configuration)
}

/// Every verb, with a configuration that has everything in it.
pub fn seeds() -> Vec<Vec<u8>> {
    let configuration = r#"{"cniVersion":"1.1.0","name":"n","type":"heddle-cni","socket":"/s","stateDir":"/d","addressRest":5,
        "args":{"cni":{"attach":"cached","ips":["10.1.0.5"],"mac":"0a:00:00:00:00:01"}},"dns":{"nameservers":["192.0.2.1"]},
        "runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":80,"protocol":"tcp","hostIP":""}],
        "bandwidth":{"ingressRate":1,"ingressBurst":1,"egressRate":1,"egressBurst":1},"ips":["fd00::5/64"],
        "io.kubernetes.cri.pod-annotations":{"heddle.io/attach":"direct"}},"ipam":{"type":"host-local"},
        "prevResult":{"interfaces":[{"name":"eth0"}],"ips":[{"address":"10.1.0.5/32","interface":0}]},
        "cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}]}"#;
    let seed = |verb: &str| {
        let arguments =
            "IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.1.0.5;MAC=0a:00:00:00:00:01;HEDDLE_ATTACH=direct";
        [verb, "c1", "eth0", "/run/netns/p", arguments, "/opt/cni/bin", configuration].join("\0").into_bytes()
    };
    ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"].into_iter().map(seed).collect()
}
