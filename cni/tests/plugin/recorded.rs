//! What container runtimes really call, recorded by `tools/netlab/tests/runtimes` (`HEDDLE_RECORD`), succeeds call by call, and the last
//! of them leaves nothing.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::node::{Place, TestNode};

const CTR: &str = include_str!("recorded/ctr.json");
const CRI: &str = include_str!("recorded/cri.json");
const PODMAN: &str = include_str!("recorded/podman.json");

/// One call as it was recorded.
#[derive(Deserialize)]
struct Call {
    variables: BTreeMap<String, String>,
    input: Value,
}

fn calls(recording: &str) -> Vec<Call> {
    serde_json::from_str(recording).unwrap()
}

impl Call {
    fn variable(&self, name: &str) -> &str {
        &self.variables[name]
    }

    fn verb(&self) -> &str {
        self.variable("CNI_COMMAND")
    }

    /// Makes the call here: a path of a namespace is that of the container's, and a blank one, or a word, stays what it is.
    fn make(&self, node: &TestNode, containers: &mut BTreeMap<String, Place>) {
        let mut variables = self.variables.clone();
        if self.variable("CNI_NETNS").starts_with('/') {
            let container = containers.entry(self.variable("CNI_CONTAINERID").to_owned());
            variables.insert("CNI_NETNS".to_owned(), container.or_insert_with(Place::new).path());
        }
        let mut input = self.input.clone();
        for key in ["socket", "stateDir"] {
            input[key] = node.config("1.0.0")[key].clone();
        }
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = node.call(self.verb(), &variables, &input).succeeds();
        match self.verb() {
            "ADD" => assert_eq!(answer["ips"].as_array().map(Vec::len), Some(2), "{answer}"),
            "VERSION" => assert_eq!(answer["cniVersion"], input["cniVersion"]),
            _ => assert_eq!(answer, Value::Null, "{} says nothing", self.verb()),
        }
    }
}

fn replay(recording: &str) {
    let (node, mut containers) = (TestNode::new(), BTreeMap::new());
    for call in calls(recording) {
        call.make(&node, &mut containers);
    }
    node.assert_clean();
}

/// The same when the node forgets the containers' namespaces before DEL, as at a reboot.
fn replay_without_namespaces(recording: &str) {
    let (node, mut containers) = (TestNode::new(), BTreeMap::new());
    for mut call in calls(recording) {
        if call.verb() == "DEL" {
            containers.clear();
            call.variables.insert("CNI_NETNS".to_owned(), String::new());
        }
        call.make(&node, &mut containers);
    }
    node.assert_clean();
}

#[test]
fn ctr_run() {
    let recorded = calls(CTR);
    assert!(recorded.iter().all(|call| call.variable("CNI_ARGS").is_empty()), "no pod is named");
    let del = recorded.iter().find(|call| call.verb() == "DEL").unwrap();
    assert_eq!(del.variable("CNI_NETNS"), "", "the process has gone, and its namespace with it");
    replay(CTR);
    replay_without_namespaces(CTR);
}

#[test]
fn containerd_by_cri() {
    let recorded = calls(CRI);
    let add = recorded.iter().find(|call| call.verb() == "ADD").unwrap();
    assert!(add.variable("CNI_ARGS").contains("K8S_POD_NAMESPACE=shop"));
    assert_eq!(add.input["runtimeConfig"]["io.kubernetes.cri.pod-annotations"]["heddle.io/attach"], "direct");
    let dels = |id: &str| {
        let of =
            recorded.iter().filter(|call| call.verb() == "DEL" && call.variable("CNI_CONTAINERID") == id);
        of.count()
    };
    assert!(recorded.iter().any(|call| dels(call.variable("CNI_CONTAINERID")) > 1), "DEL twice");
    replay(CRI);
    replay_without_namespaces(CRI);
}

#[test]
fn podman() {
    let recorded = calls(PODMAN);
    let dummy = &recorded[0];
    assert_eq!((dummy.verb(), dummy.variable("CNI_NETNS")), ("VERSION", "dummy"), "VERSION comes first");
    assert_eq!(dummy.input, json!({ "cniVersion": "1.0.0" }));
    replay(PODMAN);
    replay_without_namespaces(PODMAN);
}
