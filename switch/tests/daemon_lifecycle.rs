//! The daemon with real interfaces: a pod gets through, keeps its endpoint across stop and crash, is closed while nobody
//! switches, and in the end nothing is left.
#![allow(clippy::unwrap_used)]

mod daemon;

use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::{Daemon, Node, answers_within, pings, sh, try_sh};
use heddle_api as api;
use heddle_image::{Image, PeerClass, PolicyClass, PolicyClassNumber};

fn config(node: &Node) -> String {
    node.settings() + "[uplink]\ninterface = \"eth0\"\n"
}

/// The pod reaches its gateway and the node, and the node reaches the pod, over both families.
fn assert_reachable(node: &Node, n: u32, daemon: &Daemon) {
    let pod = node.pod(n);
    for (from, to) in [
        (&pod, "169.254.1.1".to_owned()),
        (&pod, format!("fe80::1%pod{n}")),
        (&pod, "172.31.9.1".to_owned()),
        (&pod, "fd00:172:31:9::1".to_owned()),
        (&node.name, format!("10.244.9.{n}")),
        (&node.name, format!("fd00:10:244:9::{n}")),
    ] {
        assert!(pings(from, &to), "{from} → {to}\n{}", daemon.log());
    }
}

async fn endpoints(daemon: &mut Daemon) -> Vec<api::Endpoint> {
    let request = api::ListEndpointsRequest {};
    let all = daemon.client.list_endpoints(request).await.unwrap().into_inner().endpoints;
    all.into_iter().filter(|endpoint| endpoint.number != 0).collect()
}

async fn status(daemon: &mut Daemon) -> api::Status {
    daemon.client.get_status(api::GetStatusRequest {}).await.unwrap().into_inner()
}

/// All frames are somewhere, once closed sockets' quarantine is over and no packet is under way.
async fn assert_frames_add_up(daemon: &mut Daemon) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let frames = status(daemon).await.frames.unwrap();
        if frames.free + frames.receiving + frames.sending + frames.handoff + frames.quarantined
            == frames.total
        {
            return;
        }
        assert!(Instant::now() < deadline, "{frames:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Hundredths of a second of CPU the daemon has used.
fn cpu(daemon: &Daemon) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    // Behind the name in brackets; utime and stime are fields 14 and 15 (proc(5)).
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn a_pod_outlives_the_daemon() {
    let node = Node::new("life");
    let mut daemon = Daemon::start(&node, &config(&node)).await;
    let described = daemon.client.describe(api::DescribeRequest {}).await.unwrap().into_inner();
    assert_eq!(described.pod_mtu, 1450);
    assert_eq!(described.vtep.unwrap().address, "172.31.9.1");
    let mode = std::fs::metadata(node.path("switch.sock")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);

    let request = node.add_pod_interface(5);
    let added = daemon.client.add_endpoint(request.clone()).await.unwrap().into_inner();
    assert_reachable(&node, 5, &daemon);
    assert_eq!(daemon.client.add_endpoint(request).await.unwrap().into_inner().number, added.number);
    assert_frames_add_up(&mut daemon).await;

    for signal in ["TERM", "KILL"] {
        let code = daemon.end(signal);
        assert_eq!(code, (signal == "TERM").then_some(0));
        assert!(!answers_within(&node.pod(5), "169.254.1.1", 1), "closed while nobody switches");
        daemon = Daemon::start(&node, &config(&node)).await;
        let back = endpoints(&mut daemon).await;
        assert_eq!(back.len(), 1, "{}", daemon.log());
        assert_eq!((&back[0].id, back[0].number), (&added.id, added.number));
        assert_reachable(&node, 5, &daemon);
    }

    assert_comes_to_rest(&daemon).await;
    assert_removed_when_vanished(&node, &mut daemon).await;
    assert_eq!(daemon.end("TERM"), Some(0));
    assert_nothing_left(&node);
}

/// What the old mode has left on the host's port and on the uplink is no obstacle; pods keep the mode they came with.
#[tokio::test]
async fn a_node_changes_its_mode() {
    let node = Node::new("mode");
    let of_mode = |mode: &str| config(&node).replace("[uplink]", &format!("attach = \"{mode}\"\n[uplink]"));
    let mut daemon = Daemon::start(&node, &of_mode("direct")).await;
    daemon.client.add_endpoint(node.add_pod_interface(5)).await.unwrap();
    for mode in ["cached", "direct"] {
        daemon.end("KILL");
        daemon = Daemon::start(&node, &of_mode(mode)).await;
        let described = daemon.client.describe(api::DescribeRequest {}).await.unwrap().into_inner();
        assert_eq!(described.attach_mode, mode);
        assert_eq!(endpoints(&mut daemon).await[0].attach_mode, "direct", "{}", daemon.log());
        assert_reachable(&node, 5, &daemon);
    }
    assert_eq!(daemon.end("TERM"), Some(0));
}

/// Without traffic, the daemon uses under 1 % of a core; not at once, because what came before has its aftermath.
async fn assert_comes_to_rest(daemon: &Daemon) {
    let mut used = Vec::new();
    while used.last().is_none_or(|used| *used > 3) {
        assert!(used.len() < 5, "hundredths of a second of CPU, each time in three seconds: {used:?}");
        let before = cpu(daemon);
        tokio::time::sleep(Duration::from_secs(3)).await;
        used.push(cpu(daemon) - before);
    }
}

#[tokio::test]
async fn the_policy_image_outlives_the_daemon() {
    let node = Node::new("policy");
    let config = config(&node).replace("\"off\"", "\"enforced\"");
    let mut daemon = Daemon::start(&node, &config).await;
    let request = api::AddEndpointRequest {
        pod_namespace: "default".into(),
        pod_name: "web".into(),
        ..node.add_pod_interface(5)
    };
    let mut image = Image::default();
    image.policy_classes.set(0, Arc::new(PolicyClass::allow_all()));
    image.endpoints.insert("default/web".into(), PolicyClassNumber(0));
    for address in &request.addresses {
        image.set_pod(address.parse().unwrap(), PeerClass(1));
    }
    let image = api::SetPolicyRequest { image: image.encode() };
    daemon.client.set_policy(image).await.unwrap();
    daemon.client.add_endpoint(request).await.unwrap();
    assert_reachable(&node, 5, &daemon);
    // A watch and a caller who waits do not hold up the end.
    let mut watching = daemon.client.clone();
    let mut events = watching.watch_endpoints(api::WatchEndpointsRequest {}).await.unwrap().into_inner();
    assert_eq!(daemon.end("TERM"), Some(0));
    while let Ok(Some(_)) = events.message().await {}

    let mut daemon = Daemon::start(&node, &config).await;
    assert_eq!(endpoints(&mut daemon).await[0].policy, "class 0", "{}", daemon.log());
    assert!(daemon.log().contains("policy image is back"), "{}", daemon.log());
    assert_reachable(&node, 5, &daemon);
    assert_eq!(status(&mut daemon).await.policy.unwrap().closed_endpoints, 0);
    assert_eq!(daemon.end("TERM"), Some(0));
    assert_nothing_left_with(&node, &config);
}

/// The pod's namespace goes without a call.
async fn assert_removed_when_vanished(node: &Node, daemon: &mut Daemon) {
    sh(&format!("ip -n {} link del veth5", node.name));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !endpoints(daemon).await.is_empty() {
        assert!(Instant::now() < deadline, "{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_frames_add_up(daemon).await;
}

fn assert_nothing_left(node: &Node) {
    assert_nothing_left_with(node, &config(node));
}

fn assert_nothing_left_with(node: &Node, config: &str) {
    let output = node.command(config, "").args(["--cleanup", "--state"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let links = sh(&format!("ip -n {} link", node.name));
    assert!(!links.contains("heddle0") && !links.contains("xdp"), "{links}");
    assert_eq!(sh(&format!("ip -n {} route show proto 68", node.name)), "");
    assert!(!sh(&format!("ip netns exec {} nft list tables", node.name)).contains("heddle"));
    assert!(!node.path("bpf/heddle").exists());
    assert!(!node.path("switch.sock").exists() && !node.path("lib/switch").exists());
    // Done again, there is nothing to do.
    let output = node.command(config, "").args(["--cleanup", "--state"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn endpoints_come_and_go_without_leaving_frames_or_descriptors() {
    let node = Node::new("churn");
    let mut daemon =
        Daemon::start(&node, &config(&node).replace("[uplink]", "[workers]\ncount = 2\n[uplink]")).await;
    let requests: Vec<_> = (1..=6).map(|n| node.add_pod_interface(n)).collect();
    let descriptors =
        |daemon: &Daemon| std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let mut counts = Vec::new();
    for _ in 0..3 {
        let adds = requests.iter().map(|request| {
            let (mut client, request) = (daemon.client.clone(), request.clone());
            tokio::spawn(async move { client.add_endpoint(request).await.unwrap() })
        });
        for add in adds.collect::<Vec<_>>() {
            add.await.unwrap();
        }
        assert!(pings(&node.name, "10.244.9.3"), "{}", daemon.log());
        for request in &requests {
            let request = api::RemoveEndpointRequest { id: request.id.clone() };
            assert!(daemon.client.remove_endpoint(request).await.unwrap().into_inner().removed);
        }
        assert_frames_add_up(&mut daemon).await;
        counts.push(descriptors(&daemon));
    }
    assert_eq!(counts[0], counts[2], "{counts:?}");
    let status = status(&mut daemon).await;
    assert_eq!(status.workers.len(), 2);
    assert_eq!(status.endpoints, 0);
    assert_eq!(daemon.end("TERM"), Some(0));
    assert!(try_sh(&format!("ip -n {} link show veth1", node.name)).status.success());
    assert_nothing_left(&node);
}
