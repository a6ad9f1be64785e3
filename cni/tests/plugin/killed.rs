//! Whenever the plugin is killed, in ADD, DEL or GC: what the runtime does next sets everything right, nothing is left, and nobody else loses anything.
//!
//! Once at every system call of interest, by strace, which ends the process as it enters the call; and at random moments.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node::{Place, TestNode};

/// When the plugin's life ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Entering a thread's n-th of these calls.
    AtCall(&'static str, u32),
    /// So long after its start.
    After(Duration),
}

/// Everything by which this plugin changes anything: files, locks, netlink and the switch's socket, threads and the namespaces they enter.
const CALLS: [&str; 11] = [
    "flock", "write", "rename", "symlink", "unlink", "sendto", "connect", "setns", "ioctl", "writev",
    "clone3",
];

/// A node with a pod that nobody touches, and a place for one that is made and unmade.
struct Scene {
    node: TestNode,
    stays: Place,
    pod: Place,
    kills: u32,
}

impl Scene {
    fn new() -> Self {
        let (node, stays, pod) = (TestNode::new(), Place::new(), Place::new());
        node.add("stays", &stays).succeeds();
        Self { node, stays, pod, kills: 0 }
    }

    fn call(&self, verb: &str) -> crate::node::Outcome {
        match verb {
            "GC" => self.node.gc("heddle", &["stays"], &Value::Null),
            verb => self.node.attachment(verb, "c1", &self.pod.path()),
        }
    }

    /// Starts a call and ends it early; false when it had ended by itself.
    fn kill(&mut self, verb: &str, end: End) -> bool {
        let plugin = env!("CARGO_BIN_EXE_heddle-cni");
        let mut command = match end {
            End::AtCall(call, number) => {
                let mut strace = Command::new("strace");
                let inject = format!("inject={call}:signal=KILL:when={number}");
                strace.args(["-f", "-qq", "-o", "/dev/null", "-e"]).args([
                    &format!("trace={call}"),
                    "-e",
                    &inject,
                ]);
                strace.arg(plugin);
                strace
            }
            End::After(_) => Command::new(plugin),
        };
        let mut config = self.node.config("1.1.0");
        config["cni.dev/valid-attachments"] = json!([{ "containerID": "stays", "ifname": "eth0" }]);
        let path = self.pod.path();
        let variables = [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", path.as_str())];
        let mut child = self.node.start(&mut command, verb, &variables, &config);
        if let End::After(time) = end {
            let due = Instant::now() + time;
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            let _ = child.kill();
        }
        let status = child.wait_with_output().unwrap().status;
        let killed = status.signal() == Some(9);
        assert!(killed || status.success(), "{verb} {end:?}: {status}");
        self.kills += u32::from(killed);
        killed
    }

    #[track_caller]
    fn assert_only_the_other_is_left(&self, what: &str) {
        assert_eq!(self.node.allocated(), ["10.244.1.1", "fd00:10:244:1::1"], "{what}");
        assert_eq!(self.node.records().len(), 1, "{what}");
        assert_eq!(self.node.leftovers(), Vec::<String>::new(), "{what}");
        let state = self.node.state();
        let ids: Vec<_> =
            state.lock().unwrap().endpoints.iter().map(|endpoint| endpoint.id.clone()).collect();
        assert_eq!(ids, ["stays/eth0"], "{what}");
        let count = |place: &Place| place.count_interfaces();
        assert_eq!((count(&self.node.host), count(&self.stays), count(&self.pod)), (1, 1, 0), "{what}");
    }

    /// ADD dies, and then the runtime does what `next` says: DEL, GC, or ADD again.
    fn add_dies(&mut self, end: End, next: &str) -> bool {
        let what = format!("ADD {end:?}, then {next}");
        let killed = self.kill("ADD", end);
        if next == "ADD" && killed {
            let again = self.call("ADD");
            // What it left of the interfaces is in the way, and the runtime is told to call DEL.
            let in_the_way = !again.success && again.output["code"] == 102;
            assert!(again.success || in_the_way, "{what}: {}", again.output);
        }
        self.call(if next == "GC" { "GC" } else { "DEL" }).succeeds();
        self.assert_only_the_other_is_left(&what);
        killed
    }

    /// The same of a DEL or GC.
    fn removal_dies(&mut self, verb: &str, end: End, next: &str) -> bool {
        self.call("ADD").succeeds();
        let killed = self.kill(verb, end);
        self.call(next).succeeds();
        self.assert_only_the_other_is_left(&format!("{verb} {end:?}, then {next}"));
        killed
    }
}

#[test]
fn at_every_call_that_matters() {
    let mut scene = Scene::new();
    let mut seen = Vec::new();
    for call in CALLS {
        let before = scene.kills;
        let next = |number: u32| ["DEL", "GC", "ADD"][number as usize % 3];
        (1..200).take_while(|&number| scene.add_dies(End::AtCall(call, number), next(number))).count();
        let next = |number: u32| ["DEL", "GC"][number as usize % 2];
        (1..200)
            .take_while(|&number| scene.removal_dies("DEL", End::AtCall(call, number), next(number)))
            .count();
        (1..200)
            .take_while(|&number| scene.removal_dies("GC", End::AtCall(call, number), next(number + 1)))
            .count();
        seen.push((call, scene.kills - before));
    }
    println!("{seen:?}");
    // Were a call named otherwise on this system, nothing would be killed there.
    for essential in ["rename", "symlink", "sendto", "flock", "setns"] {
        assert!(seen.iter().any(|(call, kills)| *call == essential && *kills > 0), "{essential}: {seen:?}");
    }
}

#[test]
fn at_random_moments() {
    let mut scene = Scene::new();
    let seed: u64 = std::env::var("HEDDLE_SEED").map_or_else(
        |_| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        |text| text.parse().expect("HEDDLE_SEED is a number"),
    );
    println!("HEDDLE_SEED={seed}");
    let mut random = seed | 1;
    let mut moment = |longest: Duration| {
        // xorshift64 (Marsaglia 2003).
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        longest * (random >> 40) as u32 / (1 << 24)
    };
    let time = |scene: &Scene, verb: &str| {
        let start = Instant::now();
        scene.call(verb).succeeds();
        start.elapsed()
    };
    let (add, del) = (time(&scene, "ADD"), time(&scene, "DEL"));
    for round in 0..80 {
        let next = ["DEL", "GC", "ADD"][round % 3];
        scene.add_dies(End::After(moment(add)), next);
        scene.removal_dies("DEL", End::After(moment(del)), ["GC", "DEL"][round % 2]);
        scene.removal_dies("GC", End::After(moment(del)), ["DEL", "GC"][round % 2]);
    }
    println!("{} kills", scene.kills);
    assert!(scene.kills > 50, "hardly any of 240 calls was killed before its end: {}", scene.kills);
}
