//! `heddle install`, `uninstall` and `cleanup` on a machine of their own: what they make, what they leave alone, and that the machine is
//! as before when all is gone.
#![allow(clippy::unwrap_used)]

#[path = "../../netlab/tests/common/mod.rs"]
mod common;

use std::io::Write;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use common::capsule::Capsule;
use heddle_netlab::find_binary;
use serde_json::{Value, json};

/// The machine's own things, of every kind that Heddle makes, too.
const MACHINE: &str = r#"
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/etc /mnt/opt
mount --bind /mnt/etc /etc
mount --bind /mnt/opt /opt
for place in /run /var/lib; do mount -t tmpfs tmpfs $place; done
mount -t bpf bpf /sys/fs/bpf
mkdir -p /etc/heddle /etc/cni/net.d /opt/cni/bin /run/netns
ip link set lo up
echo 0 > /proc/sys/net/ipv4/ip_forward
echo 0 > /proc/sys/net/ipv6/conf/all/forwarding
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
ip link add eth0 type veth peer name far
ip addr add 192.0.2.1/24 dev eth0
ip addr add 2001:db8:1::1/64 dev eth0 nodad
ip link set eth0 up
ip link set far up
echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_ra
ip link add heddles type bridge
ip link add hdlother type veth peer name hdlother2
ip route add 203.0.113.0/24 dev eth0 proto static
ip route add 203.0.113.0/24 dev eth0 proto 67 table 100
ip rule add from 203.0.113.7 table 100
nft -f - <<'NFT'
table inet heddles {
  chain c {
    type nat hook postrouting priority srcnat;
    ip saddr 203.0.113.7 masquerade
  }
}
NFT
echo '{"name":"other","plugins":[{"type":"bridge"}]}' > /etc/cni/net.d/99-other.conflist
mkdir /var/lib/others
for pod in p1 p2; do ip netns add $pod; done
echo ready
cat >/dev/null
:
"#;

/// Everything that could be left behind.
const LOOK: &str = "
ip -d link | grep -v link/ether; ip -o addr; ip -4 route show table all; ip -6 route show table all; ip -4 rule; ip -6 rule; ip neigh show proxy; ip -6 neigh show proxy
nft list ruleset; tc qdisc show; for link in eth0 far; do tc filter show dev $link ingress; tc filter show dev $link egress; done
for setting in ipv4/ip_forward ipv6/conf/all/forwarding ipv6/conf/eth0/accept_ra ipv6/conf/eth0/forwarding ipv6/conf/eth0/proxy_ndp ipv4/neigh/eth0/proxy_delay ipv6/neigh/eth0/proxy_delay; do cat /proc/sys/net/$setting; done
find /etc /opt /run /var/lib /sys/fs/bpf | sort
";

struct Machine {
    capsule: Capsule,
    before: String,
}

impl Machine {
    fn new() -> Self {
        let start = || {
            heddle_netdev_namespace();
            Capsule::start(MACHINE, &[])
        };
        // The namespace goes with the last process in it.
        let capsule = std::thread::spawn(start).join().unwrap();
        let before = capsule.run(&["sh", "-c", LOOK]);
        for own in ["heddles", "hdlother", "203.0.113.7", "99-other"] {
            assert!(before.contains(own), "{before}");
        }
        Self { capsule, before }
    }

    fn heddle(&self, words: &str) -> Output {
        let mut command = self.capsule.command(find_binary("heddle").unwrap().to_str().unwrap());
        command.args(words.split(' ')).output().unwrap()
    }

    /// What a command of `heddle` says that has to succeed.
    #[track_caller]
    fn does(&self, words: &str) -> String {
        let output = self.heddle(words);
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says on standard error when it must not succeed.
    #[track_caller]
    fn refuses(&self, words: &str) -> String {
        let output = self.heddle(words);
        assert_eq!(output.status.code(), Some(1), "{words}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn start_switch(&self, attach: &str) -> Child {
        self.start_switch_as(attach, "encapsulated")
    }

    /// Encapsulated, or in routed mode: then pods have addresses of the uplink's network.
    fn start_switch_as(&self, attach: &str, mode: &str) -> Child {
        let (cidrs, uplink) = match mode {
            "routed" => ("'192.0.2.128/25', '2001:db8:1:0:1::/80'", "mode = 'routed'"),
            _ => ("'10.244.1.0/24', 'fd00:10:244:1::/64'", ""),
        };
        let settings = format!(
            "node = 'n1'\npod_cidrs = [{cidrs}]\npolicy = 'off'\nattach = '{attach}'\n[uplink]\ninterface = 'eth0'\n{uplink}\n"
        );
        self.capsule.write("/etc/heddle/switch.toml", &settings);
        let switch = find_binary("heddle-switch").unwrap();
        let child = self.capsule.spawn(&[switch.to_str().unwrap()], "/run/switch.log");
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.heddle("status").status.success() {
            let log = || std::fs::read_to_string(self.capsule.path("/run/switch.log")).unwrap();
            assert!(Instant::now() < deadline, "{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    /// As a runtime does it with what was installed.
    fn add_pod(&self, pod: &str) {
        let list = std::fs::read(self.capsule.path("/etc/cni/net.d/10-heddle.conflist")).unwrap();
        let list: Value = serde_json::from_slice(&list).unwrap();
        let mut plugin = list["plugins"][0].clone();
        plugin["name"] = list["name"].clone();
        plugin["cniVersion"] = list["cniVersion"].clone();
        // One that has all there is.
        if pod == "p2" {
            plugin["runtimeConfig"] = json!({
                "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
                "bandwidth": { "ingressRate": 80_000_000, "ingressBurst": 8_000_000,
                               "egressRate": 80_000_000, "egressBurst": 8_000_000 },
            });
        }
        let mut command = self.capsule.command("/opt/cni/bin/heddle-cni");
        command.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", pod).env("CNI_IFNAME", "eth0");
        command.env("CNI_NETNS", format!("/run/netns/{pod}")).env("CNI_PATH", "/opt/cni/bin");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(plugin.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// The process ID that `heddle` names, inside.
    fn end_switch(&self, mut child: Child, signal: &str) {
        let said = self.refuses("cleanup");
        let pid = said.split_once("(process ").unwrap().1.split(')').next().unwrap();
        self.capsule.run(&["kill", signal, pid]);
        child.wait().unwrap();
    }

    #[track_caller]
    fn assert_as_before(&self) {
        std::fs::remove_file(self.capsule.path("/etc/heddle/switch.toml")).unwrap();
        std::fs::remove_file(self.capsule.path("/run/switch.log")).unwrap();
        let after = self.capsule.run(&["sh", "-c", LOOK]);
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (before, after) = (lines(&self.before), lines(&after));
        let more: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        let less: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
        assert!(more.is_empty() && less.is_empty(), "left: {more:#?}\ntaken: {less:#?}");
        assert_eq!(before, after);
    }
}

/// Puts the calling thread into a network namespace of its own.
fn heddle_netdev_namespace() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("these tests need root");
}

#[test]
fn cleanup_leaves_the_machine_as_it_was() {
    for (attach, mode, signal) in [
        ("cached", "encapsulated", "-KILL"),
        ("cached", "encapsulated", "-TERM"),
        ("direct", "encapsulated", "-KILL"),
        ("cached", "routed", "-KILL"),
    ] {
        let machine = Machine::new();
        machine.does("install");
        let switch = machine.start_switch_as(attach, mode);
        machine.add_pod("p1");
        machine.add_pod("p2");
        // As they would be in a table of its own.
        let run = |words: &str| machine.capsule.run(&words.split(' ').collect::<Vec<_>>());
        run("ip route add 198.51.100.0/24 dev eth0 proto 68 table 200");
        run("ip rule add from 198.51.100.1 table 200 protocol 68");
        run("ip -6 rule add from 2001:db8:7::1 table 200 protocol 68");
        machine.end_switch(switch, signal);

        let said = machine.does("cleanup -o json");
        let report: Value = serde_json::from_str(&said).unwrap();
        let removed = |kind: &str, name: &str| {
            let steps = report["steps"].as_array().unwrap();
            steps.iter().any(|step| {
                step["what"] == "removed"
                    && step["kind"].as_str().unwrap_or("file") == kind
                    && step["name"].as_str().unwrap().contains(name)
            })
        };
        for (kind, name) in [
            ("file", "/etc/cni/net.d/10-heddle.conflist"),
            ("file", "/opt/cni/bin/heddle-cni"),
            ("interface", "heddle0"),
            ("interface", "hdl"),
            ("route", "198.51.100.0/24 in table 200"),
            ("route", if mode == "routed" { "192.0.2.1" } else { "10.244.1.0/24" }),
            ("interface", "heddle-q"),
            ("rule", ""),
            ("nftables table", "inet heddle"),
            ("pin", "/sys/fs/bpf/heddle/"),
            ("setting", "net.ipv4.ip_forward from 1 to 0"),
            ("directory", "/var/lib/heddle"),
        ] {
            assert!(removed(kind, name), "{kind} {name}: {said}");
        }
        let again = machine.does("cleanup");
        assert!(!again.contains("removed"), "{again}");
        machine.assert_as_before();
    }
}

#[test]
fn forwarding_can_stay_and_what_others_have_set_does() {
    // Before, they were 0, 0 and 1.
    for (words, left) in [("cleanup --keep-forwarding", ["1", "1", "2"]), ("cleanup", ["0", "0", "0"])] {
        let machine = Machine::new();
        let names = ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/eth0/accept_ra"];
        let read = || {
            names
                .map(|name| machine.capsule.run(&["cat", &format!("/proc/sys/net/{name}")]).trim().to_owned())
        };
        let switch = machine.start_switch("direct");
        assert_eq!(read(), ["1", "1", "2"]);
        machine.end_switch(switch, "-TERM");
        if words == "cleanup" {
            machine.capsule.run(&["sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_ra"]);
        }
        machine.does(words);
        assert_eq!(read(), left, "{words}");
    }
}

#[test]
fn installing_and_uninstalling() {
    let machine = Machine::new();
    let said = machine.does("install");
    assert_eq!(said.matches("created").count(), 2, "{said}");
    let said = machine.does("install");
    assert_eq!(said.matches("unchanged").count(), 2, "{said}");
    let said = machine.does("install --chain portmap");
    assert!(said.contains("replaced") && said.contains("unchanged"), "{said}");
    // Another plugin's configuration comes first: the runtime would take that one.
    machine.capsule.write("/etc/cni/net.d/05-other.conflist", r#"{"plugins":[{"type":"bridge"}]}"#);
    let output = machine.heddle("install");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("05-other.conflist sorts before"), "{said}");
    assert!(!said.contains("99-other"), "{said}");
    let theirs = machine.refuses("install --conf-name 05-other.conflist");
    assert!(theirs.contains("is not Heddle's"), "{theirs}");
    let theirs = machine.refuses("uninstall --conf-name 05-other.conflist");
    assert!(theirs.contains("is not Heddle's"), "{theirs}");

    let missing = machine.refuses("install --plugin /nowhere/heddle-cni");
    assert!(missing.contains("/nowhere/heddle-cni") && missing.contains("--plugin"), "{missing}");
    machine.capsule.run(&["mount", "-o", "bind,ro", "/opt", "/opt"]);
    let read_only = machine.refuses("install --plugin /bin/true");
    assert!(read_only.contains("Read-only") && read_only.contains("--bin-dir"), "{read_only}");
    machine.capsule.run(&["umount", "/opt"]);

    // A pod that is there needs the plugin to go.
    machine.capsule.run(&["ip", "link", "add", "hdl0123456789a", "type", "veth", "peer", "name", "pod"]);
    let stays = machine.refuses("uninstall");
    assert!(stays.contains("hdl0123456789a") && stays.contains("--force"), "{stays}");
    assert!(
        !machine.capsule.path("/etc/cni/net.d/10-heddle.conflist").exists(),
        "the configuration goes first"
    );
    assert!(machine.capsule.path("/opt/cni/bin/heddle-cni").exists());
    machine.capsule.run(&["ip", "link", "del", "hdl0123456789a"]);
    let said: Value = serde_json::from_str(&machine.does("uninstall -o json")).unwrap();
    let expected = json!([
        { "what": "absent", "name": "/etc/cni/net.d/10-heddle.conflist" },
        { "what": "removed", "name": "/opt/cni/bin/heddle-cni" },
    ]);
    assert_eq!(said["steps"], expected);
    assert!(machine.capsule.path("/etc/cni/net.d/05-other.conflist").exists());
}
