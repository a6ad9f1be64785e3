//! A pod's way from ADD to its policy in force, against the control side of the real switch, over a socket and without packets.
//! Prints a line for each thing measured: `cargo bench -p heddle-agent`.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/against_switch/node.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod node;

use std::time::Instant;

use heddle_agent::{Change, Cluster, LocalEndpoint};
use heddle_policy::manifests::ManifestFile;
use heddle_policy::model::ObjectName;
use heddle_switch::config::PolicyMode;
use node::{Node, POLICY, pod};

#[tokio::main]
async fn main() {
    small_clusters().await;
    large_cluster();
}

/// What the wait for a policy adds to an ADD at the switch, and what a changed file takes.
async fn small_clusters() {
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

/// What one more endpoint takes beside 100,000 pods and 10,000 policies.
fn large_cluster() {
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
