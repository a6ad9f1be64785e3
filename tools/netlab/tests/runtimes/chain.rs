//! The reference plugins behind heddle-cni, called as libcni calls a list: ADD and CHECK forwards, DEL backwards, each with the
//! result of the one before.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::machine::Machine;
use crate::pods::fetch;

/// A list of plugins on a machine, and the container it is called for.
struct Chain<'a> {
    machine: &'a Machine,
    netns: String,
    result: Value,
}

/// What the runtime says to those that asked for it.
fn runtime_config() -> Value {
    json!({
        "portMappings": [{ "hostPort": 8089, "containerPort": 8080, "protocol": "tcp" }],
        "bandwidth": { "ingressRate": 80_000_000, "ingressBurst": 8_000_000,
                       "egressRate": 80_000_000, "egressBurst": 8_000_000 },
    })
}

impl Chain<'_> {
    fn plugins(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.machine.path("/etc/cni/net.d/10-heddle.conflist")).unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        let plugins = list["plugins"].as_array().unwrap().iter().map(|plugin| {
            let mut plugin = plugin.clone();
            plugin["name"] = list["name"].clone();
            plugin["cniVersion"] = list["cniVersion"].clone();
            let asked = plugin["capabilities"].as_object().cloned().unwrap_or_default();
            let told = runtime_config().as_object().unwrap().clone();
            let told: serde_json::Map<_, _> =
                told.into_iter().filter(|(key, _)| asked.contains_key(key)).collect();
            plugin["runtimeConfig"] = Value::Object(told);
            if plugin["type"] == "tuning" {
                plugin["sysctl"] = json!({ "net.ipv4.conf.eth0.log_martians": "1" });
            }
            plugin
        });
        plugins.collect()
    }

    fn call(&self, verb: &str, mut plugin: Value) -> Result<Value, String> {
        if !self.result.is_null() {
            plugin["prevResult"] = self.result.clone();
        }
        let program = format!("/opt/cni/bin/{}", plugin["type"].as_str().unwrap());
        let mut command = self.machine.command(&program);
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", "chained")
            .env("CNI_NETNS", &self.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", "")
            .env("CNI_PATH", "/opt/cni/bin");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(plugin.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("{verb} of {program}: {said}{}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(if said.is_empty() { Value::Null } else { serde_json::from_str(&said).unwrap() })
    }

    fn add(&mut self) {
        for plugin in self.plugins() {
            self.result = self.call("ADD", plugin).unwrap();
        }
    }

    /// Without portmap's, which looks for its IPv4 rules among the IPv6 ones when there are both (1.1.1).
    fn check(&self) -> Result<(), String> {
        let mut plugins = self.plugins().into_iter().filter(|plugin| plugin["type"] != "portmap");
        plugins.try_for_each(|plugin| self.call("CHECK", plugin).map(drop))
    }

    /// Goes on past errors, as libcni does not, to tell all of them.
    fn del(&self) {
        let failed: Vec<_> =
            self.plugins().into_iter().rev().filter_map(|plugin| self.call("DEL", plugin).err()).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}

#[test]
fn portmap_bandwidth_and_tuning_behind_heddle() {
    let machine = Machine::up(&["portmap", "bandwidth", "tuning"]);
    let rules = || machine.run(&["iptables-save"]) + &machine.run(&["ip", "-o", "link"]);
    machine.run(&["ip", "netns", "add", "chained"]);
    let mut chain = Chain { machine: &machine, netns: "/run/netns/chained".to_owned(), result: Value::Null };
    chain.add();
    let interfaces = chain.result["interfaces"].as_array().unwrap();
    assert!(interfaces.iter().any(|interface| interface["name"] == "eth0"), "{}", chain.result);
    assert_eq!(
        chain.result["ips"].as_array().unwrap().len(),
        2,
        "prevResult was passed on: {}",
        chain.result
    );
    chain.check().unwrap();

    machine.root_file_system("/run/root");
    let serve =
        ["ip", "netns", "exec", "chained", "busybox", "httpd", "-f", "-p", "8080", "-h", "/run/root/etc"];
    let mut server = machine.spawn(&serve, "/run/httpd.log");
    let node = machine.lab().node("n1").unwrap().address(false).unwrap();
    let world = machine.lab().world();
    let greeting = crate::machine::wait_for("the greeting by portmap", || fetch(world, node, 8089));
    assert_eq!(greeting, crate::pods::GREETING);
    chain.check().unwrap();

    // What CHECK is for: somebody took the address away.
    let v4 = chain.result["ips"][0]["address"].as_str().unwrap();
    machine.run(&["ip", "-n", "chained", "addr", "del", v4, "dev", "eth0"]);
    let error = chain.check().unwrap_err();
    assert!(error.contains("heddle-cni"), "{error}");

    chain.del();
    chain.del();
    server.kill().unwrap();
    server.wait().unwrap();
    let left = rules();
    assert!(!left.contains("8089") && !left.contains("ifb"), "{left}");
    machine.run(&["ip", "netns", "del", "chained"]);
    machine.assert_only_the_labs_pod_is_left();
}
