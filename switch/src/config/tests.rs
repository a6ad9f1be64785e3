//! A good file means what it says; a bad one is refused with every mistake named at once.

use super::*;

const MINIMAL: &str = "node = \"n1\"\npod_cidrs = [\"10.244.1.0/24\"]\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("switch.toml"))
}

#[test]
fn defaults() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.socket, Path::new("/run/heddle/switch.sock"));
    assert_eq!(config.bpffs, Path::new("/sys/fs/bpf/heddle"));
    assert_eq!(config.state_dir, Path::new("/var/lib/heddle"));
    assert_eq!(config.cluster_cidrs, config.pod_cidrs);
    assert!(config.masquerade);
    assert_eq!(config.policy, PolicyMode::Enforced);
    assert_eq!((config.mtu, config.uplink), (None, None));
    assert_eq!(
        config.workers,
        WorkersConfig { count: 1, cores: vec![], polling: Polling::Adaptive, connections: 131_072 }
    );
    assert_eq!(config.attach, AttachMode::Cached);
    assert_eq!(config.flow_cache, FlowCacheConfig { flows: 131_072 });
    assert_eq!(config.frames, FramesConfig { count: 16384, size: 2048 });
}

#[test]
fn every_setting_is_read() {
    let config = parse(
        r#"
        node = "n2.example"
        socket = "/run/x.sock"
        bpffs = "/b"
        state_dir = "/s"
        pod_cidrs = ["10.244.2.0/24", "fd00:10:244:2::/64"]
        cluster_cidrs = ["10.244.0.0/16", "fd00:10:244::/48"]
        masquerade = false
        policy = "off"
        attach = "direct"
        mtu = 1400
        [uplink]
        interface = "eth0"
        vni = 7
        port = 8472
        underlay = "ipv6"
        [workers]
        count = 2
        cores = [3, 1]
        polling = "busy"
        connections = 1000
        [flow_cache]
        flows = 1000
        [frames]
        count = 4096
        size = 4096
        "#,
    )
    .unwrap();
    let (interface, mode, underlay) = ("eth0".into(), UplinkMode::Overlay, Some(Family::Ipv6));
    let uplink = UplinkConfig { interface, mode, vni: 7, port: 8472, underlay };
    let expected = Config {
        node: "n2.example".into(),
        socket: "/run/x.sock".into(),
        bpffs: "/b".into(),
        state_dir: "/s".into(),
        pod_cidrs: vec!["10.244.2.0/24".parse().unwrap(), "fd00:10:244:2::/64".parse().unwrap()],
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/48".parse().unwrap()],
        masquerade: false,
        policy: PolicyMode::Off,
        attach: AttachMode::Direct,
        flow_cache: FlowCacheConfig { flows: 1000 },
        mtu: Some(1400),
        uplink: Some(uplink),
        workers: WorkersConfig { count: 2, cores: vec![3, 1], polling: Polling::Busy, connections: 1000 },
        frames: FramesConfig { count: 4096, size: 4096 },
    };
    assert_eq!(config, expected);
}

#[test]
fn routed_mode_has_no_overlay() {
    let config = parse(&format!("{MINIMAL}[uplink]\ninterface = \"eth0\"\nmode = \"routed\"\n")).unwrap();
    assert_eq!(config.uplink.unwrap().mode, UplinkMode::Routed);
}

/// Lines to add to the minimal file, the key the message has to name, and words of the advice.
const BAD: &[(&str, &str, &str)] = &[
    ("nodes = 1", "nodes", "not a setting"),
    ("socket = \"run/x\"", "socket", "absolute path"),
    ("socket = 3", "socket", "text in quotes"),
    ("bpffs = \"b\"", "bpffs", "absolute path"),
    ("state_dir = \"\"", "state_dir", "absolute path"),
    ("cluster_cidrs = []", "cluster_cidrs", "at least one"),
    ("cluster_cidrs = [\"10.243.0.0/16\"]", "cluster_cidrs", "does not contain 10.244.1.0/24"),
    ("cluster_cidrs = [\"10.244.0.1/16\"]", "cluster_cidrs", "write \"10.244.0.0/16\""),
    ("cluster_cidrs = [\"0.0.0.0/0\"]", "cluster_cidrs", "everything"),
    ("cluster_cidrs = [\"10.0.0.0/8\", \"10.244.0.0/16\"]", "cluster_cidrs", "overlap"),
    ("cluster_cidrs = [\"160.0.0.0/3\"]", "cluster_cidrs", "169.254.0.0/16"),
    ("cluster_cidrs = [\"fe80::/64\"]", "cluster_cidrs", "fe80::/10"),
    ("cluster_cidrs = \"10.244.0.0/16\"", "cluster_cidrs", "list"),
    ("masquerade = \"yes\"", "masquerade", "true or false"),
    ("policy = true", "policy", "\"enforced\" or \"off\""),
    ("attach = \"slow\"", "attach", "\"direct\" or \"cached\""),
    ("mtu = 1279", "mtu", "1280 to 3504"),
    ("mtu = 99999999999", "mtu", "1280 to 3504"),
    ("mtu = 1400.5", "mtu", "1280 to 3504"),
    ("uplink = \"eth0\"", "uplink", "[uplink]"),
    ("[uplink]", "uplink.interface", "missing"),
    ("[uplink]\ninterface = \"\"", "uplink.interface", "ip link"),
    ("[uplink]\ninterface = \"lo\"", "uplink.interface", "loopback"),
    ("[uplink]\ninterface = \"a/b\"", "uplink.interface", "ip link"),
    ("[uplink]\ninterface = \"sixteen-letters-\"", "uplink.interface", "ip link"),
    ("[uplink]\ninterface = \"e\"\nvni = 0", "uplink.vni", "1 to 16777215"),
    ("[uplink]\ninterface = \"e\"\nvni = 16777216", "uplink.vni", "1 to 16777215"),
    ("[uplink]\ninterface = \"e\"\nport = 65536", "uplink.port", "1 to 65535"),
    ("[uplink]\ninterface = \"e\"\nunderlay = \"v4\"", "uplink.underlay", "\"ipv4\" or \"ipv6\""),
    ("[uplink]\ninterface = \"e\"\nmtu = 1", "uplink.mtu", "not a setting"),
    ("[uplink]\ninterface = \"e\"\nmode = \"bridged\"", "uplink.mode", "\"overlay\" or \"routed\""),
    ("[uplink]\ninterface = \"e\"\nmode = \"routed\"\nvni = 7", "uplink.vni", "leave it out"),
    ("[workers]\ncount = 0", "workers.count", "1 to 64"),
    ("[workers]\ncores = [0, 1]", "workers.cores", "2 cores for 1 workers"),
    ("[workers]\ncount = 2\ncores = [1, 1]", "workers.cores", "core 1 twice"),
    ("[workers]\ncores = [-1]", "workers.cores", "one is -1"),
    ("[workers]\npolling = \"lazy\"", "workers.polling", "\"adaptive\" or \"busy\""),
    ("[workers]\nthreads = 1", "workers.threads", "count, cores, polling"),
    ("[frames]\ncount = 12", "frames.count", "1024 to 1048576"),
    ("[frames]\nsize = 1500", "frames.size", "2048 or 4096"),
];

#[test]
fn mistakes_name_the_key_and_the_remedy() {
    for (line, key, advice) in BAD {
        match parse(&format!("{MINIMAL}{line}\n")) {
            Err(ConfigError::Invalid { problems, .. }) => {
                assert_eq!(problems.len(), 1, "{line}: {problems:?}");
                assert_eq!(problems[0].key, *key, "{line}");
                assert!(problems[0].message.contains(advice), "{line}: {}", problems[0].message);
            }
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = "node = \"N1\"\nvni = 3\n[workers]\ncount = 0\npolling = 1\n[frames]\nsize = 1\n";
    let Err(ConfigError::Invalid { problems, .. }) = parse(text) else { panic!() };
    let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["node", "pod_cidrs", "workers.count", "workers.polling", "frames.size", "vni"]);
}

#[test]
fn every_mistake_is_one_line() {
    let Err(error) = parse("node = \"N1\"\npod_cidrs = [1]\n") else { panic!() };
    let text = error.to_string();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(|line| line.starts_with("switch.toml: ")), "{text}");
}

#[test]
fn syntax_errors_give_the_line() {
    let Err(error) = parse("node = \"n1\"\npod_cidrs = [\n\n\"x\" 3]\n") else { panic!() };
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("switch.toml:4: "), "{text}");
}

#[test]
fn a_missing_file_says_which() {
    let error = Config::load(Path::new("/nonexistent/switch.toml")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/switch.toml"), "{error}");
}
