//! The agent with the control side of the real switch, over a socket: a directory of manifests becomes what endpoints are judged by.
#![allow(clippy::unwrap_used)]

mod node;
mod process;

use std::time::Instant;

use heddle_agent::{Change, Cluster, LocalEndpoint};
use heddle_policy::manifests::ManifestFile;
use heddle_policy::model::ObjectName;
use heddle_switch::config::PolicyMode;
use node::{Node, POLICY, pod};

#[tokio::test(flavor = "multi_thread")]
async fn an_add_is_answered_with_its_policy_in_force() {
    let node = Node::start().await;
    node.write("policy.yaml", POLICY);
    let agent = node.agent();
    node.add(1, "db").await.unwrap();
    node.add(2, "web").await.unwrap();
    // Nobody gave labels to these pods.
    assert!(node.allows(2, 1));
    // Written a moment before ADD, as the pod's start depends on it.
    node.write("late.yaml", &(pod("late", "db") + &pod("front", "web")));
    node.add(3, "late").await.unwrap();
    assert!(!node.allows(2, 3), "selected from its first packet on");
    node.add(4, "front").await.unwrap();
    assert!(node.allows(4, 3) && !node.allows(2, 3));
    agent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_into_force_while_it_runs() {
    let node = Node::start().await;
    node.write("pods.yaml", &(pod("db", "db") + &pod("web", "web") + &pod("other", "other")));
    let agent = node.agent();
    for (n, name) in [(1, "db"), (2, "web"), (3, "other")] {
        node.add(n, name).await.unwrap();
    }
    assert!(node.allows(2, 1) && node.allows(3, 1));
    node.write("policy.yaml", POLICY);
    node.until(|node| node.allows(2, 1) && !node.allows(3, 1)).await;
    // A typo opens nothing; and is not in the way of another file.
    node.write("policy.yaml", &POLICY.replace("podSelector:", "podSelecter:"));
    node.write("pods.yaml", &(pod("db", "db") + &pod("web", "other") + &pod("other", "web")));
    node.until(|node| !node.allows(2, 1) && node.allows(3, 1)).await;
    std::fs::remove_file(node.manifests().join("policy.yaml")).unwrap();
    node.until(|node| node.allows(2, 1)).await;
    agent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn either_side_may_restart() {
    let mut node = Node::start().await;
    node.write("pods.yaml", &(pod("db", "db") + &pod("web", "web")));
    let agent = node.agent();
    node.add(1, "db").await.unwrap();
    node.add(2, "web").await.unwrap();
    node.restart_switch().await;
    node.write("policy.yaml", POLICY);
    node.until(|node| !node.allows(1, 1)).await;

    // Without an agent what runs goes on as it was, and nothing is added.
    agent.abort();
    let _ = agent.await;
    assert!(node.allows(2, 1) && !node.allows(1, 1));
    let status = node.add(3, "new").await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    assert!(status.message().contains("no policy image names pod shop/new"), "{status}");

    node.write("pods.yaml", &(pod("db", "other") + &pod("web", "web")));
    let agent = node.agent();
    node.add(3, "new").await.unwrap();
    assert!(node.allows(3, 1));
    agent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_go_are_forgotten() {
    let node = Node::start().await;
    node.write(
        "policy.yaml",
        &(POLICY.to_owned() + &pod("db", "db") + &pod("web", "web") + &pod("evil", "evil")),
    );
    let agent = node.agent();
    node.add(1, "db").await.unwrap();
    node.add(2, "web").await.unwrap();
    assert!(node.allows(2, 1));
    // Another pod gets the address at once.
    node.remove(2).await;
    node.add_at(3, "evil", 2).await.unwrap();
    assert!(!node.allows(2, 1));
    node.until(|node| node.tables().policy.image.endpoint("shop", "web").is_none()).await;
    agent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once() {
    let node = Node::start().await;
    let agent = node.agent();
    let names: Vec<_> = (1..=40).map(|n| (n, format!("pod{n}"))).collect();
    let adds = names.iter().map(|(n, name)| node.add(*n, name));
    for added in futures_util::future::join_all(adds).await {
        assert!(added.unwrap().policy.starts_with("class "));
    }
    let images = node.tables().policy.generation;
    assert!(images <= 40, "{images}");
    agent.abort();
}

/// Not a test: `cargo test --release -p heddle-agent --test against_switch -- --ignored --nocapture` prints what the wait for a
/// policy adds to an ADD at the switch, and what a changed file takes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure() {
    let open = Node::with(PolicyMode::Off).await;
    println!("without policy: ADD {}", adds(&open).await);
    for files in [10, 1000] {
        let node = Node::start().await;
        for n in 0..files {
            let policy = POLICY.replace("name: db", &format!("name: p{n}"));
            node.write(&format!("{n}.yaml"), &(policy + &pod(&format!("x{n}"), "y")));
        }
        let agent = node.agent();
        node.add(1, "first").await.unwrap();
        println!("{files} files: ADD {}", adds(&node).await);
        let begin = Instant::now();
        node.write("pods.yaml", &(pod("first", "db") + &pod("pod2", "web")));
        node.until(|node| !node.allows(3, 1)).await;
        println!("{files} files: a changed file is in force after {:?}", begin.elapsed());
        agent.abort();
    }
}

/// Not a test either: what one more endpoint takes beside 100,000 pods and 10,000 policies.
#[test]
#[ignore = "a measurement"]
fn measure_large() {
    let mut cluster = Cluster::new("n1");
    for n in 0..100_000_u32 {
        let (namespace, app) = (n % 1000, n / 1000 % 20);
        let [.., a, b, c] = n.to_be_bytes();
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{n}, namespace: n{namespace}, labels: {{app: a{app}}}}}\nstatus: {{podIP: 10.{a}.{b}.{c}}}\n"
        );
        apply(&mut cluster, &pod);
        if n < 10_000 {
            let policy =
                POLICY.replace("name: db, namespace: shop", &format!("name: p{n}, namespace: n{namespace}"));
            apply(
                &mut cluster,
                &policy.replace("app: web", &format!("app: a{app}")).replace("app: db", "app: a0"),
            );
        }
    }
    cluster.image().unwrap();
    for n in 0..5 {
        let begin = Instant::now();
        let pod = ObjectName::new(format!("n{n}"), format!("p{n}"));
        let addresses = vec![std::net::IpAddr::from([10, 0, 0, n])];
        cluster.add_endpoint(LocalEndpoint { id: n.to_string(), pod, addresses });
        let image = cluster.image().unwrap();
        let compiled = begin.elapsed();
        let begin = Instant::now();
        let bytes = image.encode();
        let encoded = begin.elapsed();
        let begin = Instant::now();
        drop(heddle_image::Image::decode(&bytes).unwrap());
        let decoded = begin.elapsed();
        println!("{} bytes: compiled {compiled:?}, encoded {encoded:?}, decoded {decoded:?}", bytes.len());
    }
}

fn apply(cluster: &mut Cluster, yaml: &str) {
    let file = ManifestFile::parse("x.yaml".as_ref(), yaml);
    for located in file.objects {
        cluster.apply(Change::Set(located.object));
    }
}

async fn adds(node: &Node) -> String {
    let mut times = Vec::new();
    for n in 2..=200 {
        let begin = Instant::now();
        node.add(n, &format!("pod{n}")).await.unwrap();
        times.push(begin.elapsed());
    }
    times.sort();
    format!("p50 {:?}, p90 {:?}", times[times.len() / 2], times[times.len() * 9 / 10])
}
