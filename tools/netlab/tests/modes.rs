//! The attach mode of nodes and pods is what was asked for, and shown as what it is.
#![allow(clippy::unwrap_used)]

mod common;

use common::{TestLab, Turn};
use heddle_netlab::{AttachMode, Lab, LabSpec, Pod, tcp_transfer, udp_echo};

fn annotated(pods: &[&str], mode: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for pod in pods {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, annotations: {{heddle.io/attach: {mode}}}}}\n"
        );
        std::fs::write(dir.path().join(format!("{pod}.yaml")), text).unwrap();
    }
    dir
}

#[test]
fn a_pod_s_annotation_wins_over_its_node_s_mode() {
    for (node_mode, pod_mode) in
        [(AttachMode::Direct, AttachMode::Cached), (AttachMode::Cached, AttachMode::Direct)]
    {
        let dir = annotated(&["n1p2"], pod_mode.name());
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
    let dir = annotated(&["n1p1"], "fast");
    let spec = LabSpec { manifests: Some(dir.path().to_owned()), ..LabSpec::new(1, 1) };
    let error = format!("{:#}", Lab::up(&spec, &mut ()).unwrap_err());
    assert!(error.contains("n1p1") && error.contains("heddle.io/attach is \"fast\""), "{error}");
}

/// More than enough packets for a flow to be handed over, were it to be.
fn everything_passes(from: &Pod, to: &Pod) {
    for v6 in [false, true] {
        let address = to.address(v6).unwrap();
        from.namespace.must_ping(address).unwrap();
        udp_echo(&from.namespace, &to.namespace, address, &[64; 40]).unwrap();
        tcp_transfer(&from.namespace, &to.namespace, address, 4 << 20).unwrap();
    }
}

#[test]
fn pods_of_both_modes_serve_each_other_on_nodes_of_both_modes() {
    let modes = AttachMode::ALL;
    for (node_mode, pod_mode) in modes.into_iter().zip(modes.into_iter().rev()) {
        let dir = annotated(&["n1p2", "n1p3", "n2p2"], pod_mode.name());
        let manifests = Some(dir.path().to_owned());
        let lab = TestLab::up(&LabSpec { manifests, mode: Some(node_mode), ..LabSpec::new(2, 3) });
        let handed_over = || {
            let status = lab.node("n1").unwrap().control().unwrap().status().unwrap();
            status.flow_cache.map_or(0, |cache| cache.inserted)
        };
        let pod = |name| lab.pod(name).unwrap();
        for (from, to) in [("n1p1", "n1p2"), ("n1p2", "n1p1")] {
            everything_passes(&pod(from), &pod(to));
            assert_eq!(handed_over(), 0, "flows between a cached and a direct pod pass the switch");
        }
        let [one, other] = if pod_mode == AttachMode::Cached { ["n1p2", "n1p3"] } else { ["n1p1", "n2p1"] };
        everything_passes(&pod(one), &pod(other));
        assert!(handed_over() > 0, "flows between {one} and {other} are handed over on a {node_mode} node");
        for (from, to) in [("n1p1", "n2p2"), ("n1p2", "n2p1"), ("n1p2", "n2p2"), ("n2p2", "n1p1")] {
            everything_passes(&pod(from), &pod(to));
        }
        for node in ["n1", "n2"].map(|node| lab.node(node).unwrap()) {
            for name in ["n1p1", "n1p2"] {
                node.namespace.must_ping(pod(name).address(false).unwrap()).unwrap();
            }
        }
    }
}
