//! A node to attach pods to: a namespace that plays the host, a switch, a state directory. All gone when dropped, a panic's
//! unwinding included.

use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use heddle_netdev::{Netns, create_named, delete_named};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake_switch::{FakeSwitch, State};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A namespace that `ip netns exec` finds.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) netns: Netns,
}

impl Place {
    pub(crate) fn new() -> Self {
        let name = format!("cni-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let netns = create_named(&name).expect("these tests need root");
        Self { name, netns }
    }

    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Standard output of a command run inside.
    pub(crate) fn exec(&self, command: &str) -> String {
        let mut arguments = vec!["netns", "exec", &self.name];
        arguments.extend(command.split_whitespace());
        let output = Command::new("ip").args(arguments).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// How many interfaces it has besides loopback; quicker than to ask for their names.
    pub(crate) fn count_interfaces(&self) -> usize {
        let list = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        // Two lines of headings, and lo.
        self.netns.run(list).unwrap().lines().count() - 3
    }

    /// Names of its interfaces other than loopback.
    pub(crate) fn interfaces(&self) -> Vec<String> {
        let links: Value = serde_json::from_str(&self.exec("ip -j link show")).unwrap();
        let names = links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned());
        names.filter(|name| name != "lo").collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = delete_named(&self.name);
    }
}

/// How a call of the plugin ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) success: bool,
    pub(crate) output: Value,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn succeeds(self) -> Value {
        assert!(self.success, "{}", self.output);
        self.output
    }

    /// The details of the error, which must have this code and be reported under the version asked with.
    #[track_caller]
    pub(crate) fn fails_with(self, code: u32) -> String {
        assert!(!self.success, "{}", self.output);
        assert_eq!(self.output["code"], code, "{}", self.output);
        assert_eq!(self.output["cniVersion"], "1.1.0");
        self.output["details"].as_str().unwrap().to_owned()
    }
}

pub(crate) struct TestNode {
    pub(crate) host: Place,
    pub(crate) switch: Option<FakeSwitch>,
    pub(crate) directory: TempDir,
}

impl TestNode {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let switch = FakeSwitch::start(&directory.path().join("switch.sock"));
        Self { host: Place::new(), switch: Some(switch), directory }
    }

    pub(crate) fn state(&self) -> Arc<Mutex<State>> {
        Arc::clone(&self.switch.as_ref().unwrap().state)
    }

    /// The switch goes away, and its socket with it.
    pub(crate) fn stop_switch(&mut self) {
        self.switch = None;
        std::fs::remove_file(self.directory.path().join("switch.sock")).unwrap();
    }

    pub(crate) fn config(&self, version: &str) -> Value {
        json!({
            "cniVersion": version, "name": "heddle", "type": "heddle-cni",
            "socket": self.directory.path().join("switch.sock"), "stateDir": self.directory.path().join("state"),
        })
    }

    pub(crate) fn call(&self, verb: &str, variables: &[(&str, &str)], config: &Value) -> Outcome {
        self.call_other(env!("CARGO_BIN_EXE_heddle-cni"), verb, variables, config)
    }

    /// The same of another plugin.
    pub(crate) fn call_other(
        &self,
        plugin: &str,
        verb: &str,
        variables: &[(&str, &str)],
        config: &Value,
    ) -> Outcome {
        let mut command = Command::new(plugin);
        let child = self.start(&mut command, verb, variables, config);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let json = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        Outcome { success: output.status.success(), output: json }
    }

    /// Starts the plugin, by a command that gives it its variables and input.
    pub(crate) fn start(
        &self,
        command: &mut Command,
        verb: &str,
        variables: &[(&str, &str)],
        config: &Value,
    ) -> Child {
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_PATH", self.plugins())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = self.host.netns.spawn(command).expect("cannot start it; apt install strace");
        // A plugin that refuses its environment ends without reading.
        let written = child.stdin.take().unwrap().write_all(config.to_string().as_bytes());
        assert!(written.is_ok() || written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe));
        child
    }

    /// A call about `eth0` of container `id`.
    pub(crate) fn attachment(&self, verb: &str, id: &str, netns: &str) -> Outcome {
        self.attachment_with(verb, id, netns, "", &Value::Null)
    }

    /// The same, with more in `CNI_ARGS` and in the network configuration.
    pub(crate) fn attachment_with(
        &self,
        verb: &str,
        id: &str,
        netns: &str,
        arguments: &str,
        fields: &Value,
    ) -> Outcome {
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;{arguments}");
        let variables =
            [("CNI_CONTAINERID", id), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", netns), ("CNI_ARGS", &args)];
        let mut config = self.config("1.1.0");
        for (key, value) in fields.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        self.call(verb, &variables, &config)
    }

    pub(crate) fn add(&self, id: &str, pod: &Place) -> Outcome {
        self.attachment("ADD", id, &pod.path())
    }

    pub(crate) fn del(&self, id: &str, pod: &Place) -> Outcome {
        self.attachment("DEL", id, &pod.path())
    }

    /// Where plugins are: the test's own, then those of Debian.
    fn plugins(&self) -> String {
        format!("{}:/usr/lib/cni", self.directory.path().join("plugins").display())
    }

    /// Puts a plugin there that is a shell script.
    pub(crate) fn install(&self, name: &str, script: &str) {
        let file = self.directory.path().join("plugins").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// GC with a list of the attachments that stay.
    pub(crate) fn gc(&self, network: &str, valid: &[&str], fields: &Value) -> Outcome {
        let valid: Vec<_> = valid.iter().map(|id| json!({ "containerID": id, "ifname": "eth0" })).collect();
        let mut config = self.config("1.1.0");
        config["name"] = json!(network);
        config["cni.dev/valid-attachments"] = json!(valid);
        for (key, value) in fields.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        self.call("GC", &[], &config)
    }

    /// Names of the interfaces that have a record.
    pub(crate) fn records(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.directory.path().join("state/attachments")) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Addresses that are allocated, as file names.
    pub(crate) fn allocated(&self) -> Vec<String> {
        let directory: PathBuf = self.directory.path().join("state/ipam");
        let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.parse::<IpAddr>().is_ok()).collect();
        names.sort();
        names
    }

    /// Files of the state that belong to a change under way.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.directory.path().join("state/ipam")) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains(".tmp")).collect()
    }

    /// Nothing is left of any pod, on the host, in the address state or at the switch.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.host.interfaces(), Vec::<String>::new());
        assert_eq!(self.allocated(), Vec::<String>::new());
        assert_eq!(self.records(), Vec::<String>::new());
        if let Some(switch) = &self.switch {
            assert!(switch.state.lock().unwrap().endpoints.is_empty());
        }
    }
}
