//! containerd as a kubelet drives it: two pods with Kubernetes names, that talk to each other, are stopped and removed.

use std::net::IpAddr;
use std::process::Command;

use crate::calls::record;
use crate::common::capsule::succeeds;
use crate::machine::{CGROUP, IMAGE, Machine, wait_for};
use crate::messages::{
    Client, ContainerConfig, ContainerMetadata, CreateContainerRequest, ExecSyncRequest, ExecSyncResponse,
    Id, ImageSpec, LinuxPodSandboxConfig, Nothing, PodSandboxConfig, PodSandboxMetadata,
    PodSandboxStatusResponse, RunPodSandboxRequest, StatusResponse,
};
use crate::pods::{GREETING, PORT, SERVE, assert_serves};

const SOCKET: &str = "/run/containerd/containerd.sock";

/// What is set for machines on which a container runtime may do less than it would: no raising of scores, no overlay, no cgroups for pods.
const CONFIGURATION: &str = r#"
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
disable_cgroup = true
sandbox_image = "heddle.test/busybox:1"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
"#;

/// Starts containerd, and gives it the image in this namespace of its own.
pub(crate) fn start_containerd(machine: &Machine, namespace: &str) {
    machine.write("/etc/containerd/config.toml", CONFIGURATION);
    machine.start_daemon(&["containerd", "--config", "/etc/containerd/config.toml"], "/run/containerd.log");
    let answers = || machine.try_run(&["ctr", "version"]).status.success().then_some(());
    wait_for("containerd", answers);
    make_image(machine);
    let import =
        ["ctr", "-n", namespace, "images", "import", "--snapshotter", "native", "/run/image/image.tar"];
    machine.run(&import);
}

/// An image as `docker save` writes it (the "Docker image format" v1.2): a layer, its configuration, and the list of both.
fn make_image(machine: &Machine) {
    machine.root_file_system("/run/image/root");
    let path = machine.path("/run/image");
    let tar = |what: &mut Command| succeeds(what.current_dir(&path));
    tar(Command::new("tar").args(["-C", "root", "-cf", "layer.tar", "."]));
    let digest = tar(Command::new("sha256sum").arg("layer.tar"));
    let digest = digest.split(' ').next().unwrap();
    let configuration = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let list = serde_json::json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
    machine.write("/run/image/config.json", &configuration.to_string());
    machine.write("/run/image/manifest.json", &list.to_string());
    tar(Command::new("tar").args(["-cf", "image.tar", "manifest.json", "config.json", "layer.tar"]));
}

/// A pod that runs.
struct Pod<'a> {
    client: &'a Client,
    sandbox: Id,
    container: Id,
    addresses: Vec<IpAddr>,
}

impl<'a> Pod<'a> {
    fn start(client: &'a Client, namespace: &str, name: &str) -> Self {
        let metadata = PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            namespace: namespace.to_owned(),
        };
        let config = PodSandboxConfig {
            metadata: Some(metadata),
            annotations: [("heddle.io/attach".to_owned(), "direct".to_owned())].into(),
            linux: Some(LinuxPodSandboxConfig { cgroup_parent: CGROUP.to_owned() }),
        };
        let request = RunPodSandboxRequest { config: Some(config.clone()) };
        let sandbox: Id = client.call("RunPodSandbox", request).unwrap();
        let status: PodSandboxStatusResponse = client.call("PodSandboxStatus", sandbox.clone()).unwrap();
        let network = status.status.unwrap().network.unwrap();
        let more = network.additional_ips.into_iter().map(|ip| ip.ip);
        let addresses = std::iter::once(network.ip).chain(more).map(|ip| ip.parse().unwrap()).collect();
        let container = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".to_owned() }),
            image: Some(ImageSpec { image: IMAGE.to_owned() }),
            command: SERVE.map(str::to_owned).to_vec(),
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(container),
            sandbox_config: Some(config),
        };
        let container: Id = client.call("CreateContainer", request).unwrap();
        client.call::<_, Nothing>("StartContainer", container.clone()).unwrap();
        Self { client, sandbox, container, addresses }
    }

    /// What a command inside says, if it succeeds.
    fn exec(&self, command: &[&str]) -> Option<String> {
        let request = ExecSyncRequest {
            container_id: self.container.id.clone(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: 10,
        };
        let answer: ExecSyncResponse = self.client.call("ExecSync", request).unwrap();
        let [said, complaint] = [answer.stdout, answer.stderr].map(|text| String::from_utf8(text).unwrap());
        if answer.exit_code != 0 {
            // For the reader of a failed test.
            eprintln!("{command:?}: {} {said}{complaint}", answer.exit_code);
        }
        (answer.exit_code == 0).then_some(said)
    }

    fn stop(&self) {
        self.client.call::<_, Nothing>("StopPodSandbox", self.sandbox.clone()).unwrap();
    }

    fn remove(&self) {
        self.client.call::<_, Nothing>("RemovePodSandbox", self.sandbox.clone()).unwrap();
    }
}

#[test]
fn pods_by_cri() {
    let machine = Machine::up(&[]);
    start_containerd(&machine, "k8s.io");
    let client = Client::connect(&machine.path(SOCKET));
    // Containerd has read the configuration that was installed.
    let ready = || {
        let status: StatusResponse = client.call("Status", Nothing {}).unwrap();
        let conditions = status.status.unwrap().conditions;
        conditions.iter().find(|c| c.kind == "NetworkReady")?.status.then_some(())
    };
    wait_for("a network that is ready", ready);

    let [web, shell] = ["web-0", "shell-0"].map(|name| Pod::start(&client, "shop", name));
    assert_serves(&machine, &web.addresses);
    for address in &web.addresses {
        // busybox's wget looks services up, which a program that is linked statically cannot.
        let get = format!(r"printf 'GET /greeting HTTP/1.0\r\n\r\n' | /bin/nc {address} {PORT}");
        let answer = || shell.exec(&["/bin/sh", "-c", &get]);
        let page = wait_for("a page, from pod to pod", answer);
        assert!(page.ends_with(&format!("\r\n\r\n{GREETING}")), "{page}");
    }
    // The switch knows them as Kubernetes does, and the annotation came through.
    let endpoints = machine.lab().node("n1").unwrap().control().unwrap().endpoints().unwrap();
    for (pod, name) in [(&web, "web-0"), (&shell, "shell-0")] {
        let endpoint = endpoints.iter().find(|e| e.pod_name == name).unwrap();
        assert_eq!((endpoint.pod_namespace.as_str(), endpoint.attach_mode.as_str()), ("shop", "direct"));
        assert_eq!(endpoint.id, format!("{}/eth0", pod.sandbox.id));
    }

    web.stop();
    // A kubelet does so again, until the pod is removed.
    web.stop();
    let gone = machine.lab().node("n1").unwrap().control().unwrap().endpoints().unwrap();
    assert!(gone.iter().all(|endpoint| endpoint.pod_name != "web-0"));
    web.remove();
    // One that is not stopped first.
    shell.remove();

    let calls = machine.calls();
    let of = |pod: &Pod, verb: &str| {
        calls.iter().filter(|call| call.verb() == verb && call.container() == pod.sandbox.id).count()
    };
    for pod in [&web, &shell] {
        assert!(of(pod, "ADD") == 1 && of(pod, "DEL") >= 1);
    }
    for call in &calls {
        assert!(call.success, "{call}");
    }
    record("cri", &calls);
    machine.assert_only_the_labs_pod_is_left();
}
