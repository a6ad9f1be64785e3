//! The agent with the control side of the real switch, over a socket: a directory of manifests becomes what endpoints are judged by.
#![allow(clippy::unwrap_used)]

mod node;
mod process;

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
