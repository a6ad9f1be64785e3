//! Labs: nodes and pods in network namespaces, with the real switch and the real plugin, for the command line, the demo,
//! the tests and the benchmarks.
//!
//! A lab is made of named namespaces (`ip netns` shows them): `hd-wire`, the segment between the nodes; `hd-n1`, `hd-n2` …,
//! the nodes, each with its own `heddle-switch` and `heddle-agent`; `hd-n1p1` …, the pods, each attached by `heddle-cni` as a container runtime
//! would. Files are in [`STATE_DIR`]. Whoever raises a lab takes it down by dropping it; [`Lab::keep`] leaves it for
//! later, and [`take_down_any`] removes whatever is left of one. Everything needs root.
#![forbid(unsafe_code)]

mod agent;
mod binaries;
mod cni;
mod control;
mod daemon;
mod inhabitants;
mod lab;
mod lock;
mod losses;
mod manifests;
mod names;
mod namespace;
mod observer;
mod parallel;
mod peer;
mod process;
mod random;
mod ready;
mod restart;
mod spec;
mod state;
mod stream;
mod swarm;
mod teardown;
mod traffic;
mod wire;

pub use binaries::{BIN_DIR_VARIABLE, find as find_binary};
pub use control::Control;
pub use inhabitants::inhabitants;
pub use lab::{Lab, Node, Pod};
pub use lock::{Lock, WhenTaken};
pub use losses::TcpCounters;
pub use names::Name;
pub use namespace::{Namespace, Ping, Pong};
pub use observer::{Interrupt, Observer, Step};
pub use peer::LinuxVxlanPeer;
pub use process::{Ending, Process};
pub use random::Random;
pub use spec::{AttachMode, LabSpec, MAX_NODES, MAX_PODS_PER_NODE, Underlay, WORLD};
pub use state::{NodeState, PodState, STATE_DIR, State};
pub use stream::Stream;
pub use swarm::Swarm;
pub use teardown::take_down_any;
pub use traffic::{Transfer, source_seen, tcp_transfer, udp_echo};
