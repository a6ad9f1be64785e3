//! Attachments outlive the switch, are taken over by the next, and vanish when they should. Needs root.
#![allow(clippy::unwrap_used)]

#[path = "../../xsk/tests/common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::{BPFFS, End, assert_all_home, ip, packet, sandbox, veth};
use heddle_bpf::{Steering, SteeringError, UplinkFilter, XdpMode};
use heddle_xsk::{Arena, Options, Socket};
use rustix::net::{AddressFamily, SocketType, socket};

fn any_socket() -> std::os::fd::OwnedFd {
    socket(AddressFamily::XDP, SocketType::RAW, None).unwrap()
}

fn filter() -> UplinkFilter {
    UplinkFilter { vni: 1, port: 4789, addresses: vec![IpAddr::from([172, 31, 0, 1])] }
}

fn directory() -> PathBuf {
    Path::new(BPFFS).join("heddle")
}

/// Number of the program on `interface`, as Linux shows it.
fn program_on(interface: &str) -> Option<u64> {
    let output = Command::new("ip").args(["-d", "link", "show", interface]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<_> = text.split_whitespace().collect();
    let at = words.iter().position(|word| word.starts_with("prog/xdp"))?;
    words[at..].iter().skip_while(|word| **word != "id").nth(1)?.parse().ok()
}

fn pins() -> BTreeSet<String> {
    ["links", "generic"]
        .iter()
        .flat_map(|kind| fs::read_dir(directory().join(kind)).into_iter().flatten())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_killed_switchs_links_hold_and_are_taken_over() {
    sandbox(|| {
        veth("xsk-a", "xsk-b", 1500);
        let run = |expected: u32| {
            let arena = Arena::umem(1024, 2048).unwrap();
            let mut steering = Steering::open(&directory()).unwrap();
            let [mut a, mut b] = ["xsk-a", "xsk-b"].map(|name| {
                let socket = Socket::bind(&arena, name, 0, Options::default()).unwrap();
                assert_eq!(steering.attach_port(name, socket.as_fd()).unwrap(), XdpMode::Native);
                End::new(&arena, socket)
            });
            a.send(&[packet(expected, 100)]);
            assert_eq!(b.expect(1), [packet(expected, 100)]);
            (Arc::clone(&arena), steering, a, b)
        };
        // What is left of a killed process is what dropping leaves: all descriptors closed, nothing detached.
        let (_, steering, a, b) = run(1);
        let first = program_on("xsk-b").unwrap();
        drop((steering, a, b));
        assert_eq!(program_on("xsk-b"), Some(first), "still there, so packets are dropped and not passed");

        let (arena, steering, a, b) = run(2);
        let second = program_on("xsk-b").unwrap();
        assert_ne!(first, second, "the new switch runs its own program");
        assert_eq!(pins(), BTreeSet::from(["xsk-a".into(), "xsk-b".into()]));
        drop((steering, a, b));
        assert_all_home(&arena);
        drop(arena);

        Steering::cleanup(&directory()).unwrap();
        assert_eq!((program_on("xsk-a"), program_on("xsk-b")), (None, None));
        assert!(!directory().exists());
        Steering::cleanup(&directory()).unwrap();
    });
}

#[test]
fn pins_of_vanished_interfaces_are_removed() {
    sandbox(|| {
        veth("xsk-a", "xsk-b", 1500);
        // A dot is not allowed in the name of a pin, but in an interface's.
        veth("xsk-c.1", "xsk-d", 1500);
        let socket = any_socket();
        let mut steering = Steering::open(&directory()).unwrap();
        for interface in ["xsk-a", "xsk-c.1"] {
            steering.attach_port(interface, socket.as_fd()).unwrap();
        }
        steering.attach_uplink("xsk-d", &filter(), &[]).unwrap();
        drop(steering);
        ip("link del xsk-a");
        assert_eq!(pins().len(), 3);
        let mut steering = Steering::open(&directory()).unwrap();
        assert_eq!(pins(), BTreeSet::from(["xsk-c%2e1".into(), "xsk-d".into()]));

        // Another interface of the old name, while the switch runs.
        steering.attach_port("xsk-c.1", socket.as_fd()).unwrap();
        ip("link del xsk-c.1");
        veth("xsk-c.1", "xsk-e", 1500);
        steering.attach_port("xsk-c.1", socket.as_fd()).unwrap();
        assert!(program_on("xsk-c.1").is_some());
        // And one that is gone when it is to be detached.
        ip("link del xsk-c.1");
        steering.detach_port("xsk-c.1").unwrap();
        assert_eq!(steering.detach_unclaimed().unwrap(), ["xsk-d"]);
        assert!(pins().is_empty());
    });
}

#[test]
fn what_is_not_attached_again_is_detached_on_request() {
    sandbox(|| {
        veth("xsk-a", "xsk-b", 1500);
        let socket = any_socket();
        let mut steering = Steering::open(&directory()).unwrap();
        steering.attach_port("xsk-a", socket.as_fd()).unwrap();
        steering.attach_uplink("xsk-b", &filter(), &[(0, socket.as_fd())]).unwrap();
        drop(steering);
        let mut steering = Steering::open(&directory()).unwrap();
        steering.attach_port("xsk-a", socket.as_fd()).unwrap();
        assert_eq!(steering.detach_unclaimed().unwrap(), ["xsk-b"]);
        assert!(program_on("xsk-a").is_some());
        assert_eq!(program_on("xsk-b"), None);
    });
}

#[test]
fn the_uplink_falls_back_to_generic_and_comes_back() {
    sandbox(|| {
        // Too large for native XDP on a veth.
        veth("xsk-a", "xsk-b", 9000);
        let socket = any_socket();
        let mut steering = Steering::open(&directory()).unwrap();
        let attach =
            |steering: &mut Steering| steering.attach_uplink("xsk-a", &filter(), &[(0, socket.as_fd())]);
        assert_eq!(attach(&mut steering).unwrap(), XdpMode::Generic);
        assert!(matches!(steering.attach_port("xsk-b", socket.as_fd()), Err(SteeringError::Attach { .. })));
        let first = program_on("xsk-a").unwrap();
        drop(steering);

        let mut steering = Steering::open(&directory()).unwrap();
        assert_eq!(program_on("xsk-a"), Some(first));
        assert_eq!(attach(&mut steering).unwrap(), XdpMode::Generic);
        assert_ne!(program_on("xsk-a").unwrap(), first);
        steering.detach_uplink().unwrap();
        assert_eq!(program_on("xsk-a"), None);
        assert!(pins().is_empty());

        attach(&mut steering).unwrap();
        drop(steering);
        ip("link set xsk-a mtu 1500");
        ip("link set xsk-b mtu 1500");
        let mut steering = Steering::open(&directory()).unwrap();
        assert_eq!(attach(&mut steering).unwrap(), XdpMode::Native);
        drop(steering);
        Steering::cleanup(&directory()).unwrap();
        assert_eq!(program_on("xsk-a"), None);
    });
}

#[test]
fn others_programs_and_directories_are_left_alone() {
    sandbox(|| {
        veth("xsk-a", "xsk-b", 1500);
        let socket = any_socket();
        let mut theirs = Steering::open(&Path::new(BPFFS).join("theirs")).unwrap();
        theirs.attach_port("xsk-a", socket.as_fd()).unwrap();
        let before = program_on("xsk-a");
        assert!(matches!(Steering::open(&Path::new(BPFFS).join("theirs")), Err(SteeringError::InUse(_))));
        let mut ours = Steering::open(&directory()).unwrap();
        let conflict = |result| matches!(result, Err(SteeringError::Conflict(name)) if name == "xsk-a");
        assert!(conflict(ours.attach_port("xsk-a", socket.as_fd())));
        assert!(conflict(ours.attach_uplink("xsk-a", &filter(), &[])));
        drop(ours);
        Steering::cleanup(&directory()).unwrap();
        assert_eq!(program_on("xsk-a"), before);
    });
}

#[test]
fn impossible_requests_say_why() {
    sandbox(|| {
        let mut steering = Steering::open(&directory()).unwrap();
        let socket = any_socket();
        for name in ["", "..", "../../x", "a/b"] {
            let result = steering.attach_port(name, socket.as_fd());
            assert!(matches!(result, Err(SteeringError::InterfaceName(_))), "{name:?}");
        }
        assert!(matches!(
            steering.attach_port("xsk-none", socket.as_fd()),
            Err(SteeringError::NoInterface(_))
        ));
        for bad in [
            UplinkFilter { vni: 1 << 24, ..filter() },
            UplinkFilter { port: 0, ..filter() },
            UplinkFilter { addresses: Vec::new(), ..filter() },
        ] {
            assert!(
                matches!(steering.attach_uplink("lo", &bad, &[]), Err(SteeringError::Filter(_))),
                "{bad:?}"
            );
        }
        let sockets = [(256, socket.as_fd())];
        assert!(matches!(steering.attach_uplink("lo", &filter(), &sockets), Err(SteeringError::Filter(_))));
        assert_eq!(program_on("lo"), None);
    });
}
