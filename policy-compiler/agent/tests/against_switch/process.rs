//! The program: what it cannot start with is one line, and SIGTERM ends it.

use std::process::{Command, Output, Stdio};

use crate::node::{Node, POLICY, pod};

const AGENT: &str = env!("CARGO_BIN_EXE_heddle-agent");

fn agent(arguments: &[&str]) -> Output {
    Command::new(AGENT).args(arguments).output().unwrap()
}

#[test]
fn one_line_says_what_is_wrong() {
    for (arguments, words) in [
        (
            &["--node", "n1", "--manifests", "/nowhere/at/all"][..],
            "cannot read the manifests in /nowhere/at/all",
        ),
        (&["--node", "n1", "--manifests", "/proc/version"], "/proc/version"),
        (&["--node", "n1", "--manifests", "/", "--log", "=x="], "--log"),
    ] {
        let output = agent(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("heddle-agent: ") && said.contains(words) && said.lines().count() == 1,
            "{said}"
        );
    }
    assert_eq!(agent(&["--node", "n1"]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_it_does_and_ends_when_told() {
    let node = Node::start().await;
    node.write("a.yaml", &(POLICY.to_owned() + &pod("db", "db")));
    node.write("b.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {nam: x}\n");
    let log = node.path("agent.log");
    let mut command = Command::new(AGENT);
    command.arg("--node").arg("n1").arg("--manifests").arg(node.manifests());
    command.arg("--socket").arg(node.path("switch.sock"));
    let mut child =
        command.stderr(std::fs::File::create(&log).unwrap()).stdin(Stdio::null()).spawn().unwrap();
    node.add(1, "db").await.unwrap();
    assert!(!node.allows(1, 1));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    let log = std::fs::read_to_string(log).unwrap();
    for words in ["b.yaml:3", "metadata.nam", "policy is in force", "stopped"] {
        assert!(log.contains(words), "{words}: {log}");
    }
}
