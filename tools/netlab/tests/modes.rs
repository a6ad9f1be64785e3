//! The attach mode of nodes and pods is what was asked for, and shown as what it is.
#![allow(clippy::unwrap_used)]

mod common;

use common::{TestLab, Turn};
use heddle_netlab::{AttachMode, Lab, LabSpec};

fn annotated(pod: &str, mode: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, annotations: {{heddle.io/attach: {mode}}}}}\n"
    );
    std::fs::write(dir.path().join("pod.yaml"), pod).unwrap();
    dir
}

#[test]
fn a_pod_s_annotation_wins_over_its_node_s_mode() {
    for (node_mode, pod_mode) in
        [(AttachMode::Direct, AttachMode::Cached), (AttachMode::Cached, AttachMode::Direct)]
    {
        let dir = annotated("n1p2", pod_mode.name());
        let manifests = Some(dir.path().to_owned());
        let lab = TestLab::up(&LabSpec { manifests, mode: Some(node_mode), ..LabSpec::new(1, 2) });
        let node = lab.node("n1").unwrap();
        assert_eq!(node.state.attach_mode, Some(node_mode));
        let endpoints = node.control().unwrap().endpoints().unwrap();
        for (name, mode) in [("n1p1", node_mode), ("n1p2", pod_mode)] {
            let pod = lab.pod(name).unwrap();
            assert_eq!(pod.state.attach_mode, mode, "{name}");
            let endpoint = endpoints.iter().find(|endpoint| endpoint.pod_name == name).unwrap();
            assert_eq!(endpoint.attach_mode, mode.name(), "{name}");
            // Made for it: complete packets leave the pod in direct mode only.
            let features = pod.namespace.exec(&["ethtool", "-k", "eth0"]).unwrap();
            let offloaded = features.contains("tx-checksumming: on");
            assert_eq!(offloaded, mode == AttachMode::Cached, "{name}: {features}");
        }
    }
}

#[test]
fn a_mode_that_is_none_fails_with_its_place() {
    let _turn = Turn::wait();
    let dir = annotated("n1p1", "fast");
    let spec = LabSpec { manifests: Some(dir.path().to_owned()), ..LabSpec::new(1, 1) };
    let error = format!("{:#}", Lab::up(&spec, &mut ()).unwrap_err());
    assert!(error.contains("n1p1") && error.contains("heddle.io/attach is \"fast\""), "{error}");
}
