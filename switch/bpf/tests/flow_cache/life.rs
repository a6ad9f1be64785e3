//! Maps and attachments outlive the switch, are taken over by the next if they fit, go when their interface goes or the switch
//! says so, and leave others' alone; by links and by filters.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use heddle_bpf::{
    FlowCache, FlowCacheError, FlowCacheOptions, Hook, Hop, Inserted, Outcome, Port, Role, Start, Steering,
    Trial,
};

use crate::bench::{POD_ONE, POD_TWO, flow, ifindex};
use crate::common::{BPFFS, ip, sandbox, veth};
use crate::raw::send_frame;
use crate::sample::SAMPLES;

const HOOKS: [Option<Hook>; 2] = [None, Some(Hook::Clsact)];

fn directory() -> PathBuf {
    Path::new(BPFFS).join("heddle")
}

fn steering() -> Steering {
    Steering::open(&directory()).unwrap()
}

fn cache(steering: &Steering, hook: Option<Hook>) -> FlowCache {
    FlowCache::open(steering, &FlowCacheOptions { flows: 1000, hook }).unwrap()
}

/// Everything pinned for interfaces.
fn pins() -> BTreeSet<String> {
    ["links", "filters"]
        .iter()
        .flat_map(|kind| fs::read_dir(directory().join("flow-cache").join(kind)).into_iter().flatten())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// True if a program of ours gets what `far` sends to the other end of its pair: without a port or a tag, it drops it.
fn is_on(cache: &FlowCache, far: &str) -> bool {
    let dropped = || {
        let counters = cache.counters().unwrap();
        counters.get(Outcome::NoPort) + counters.get(Outcome::BadTag)
    };
    let before = dropped();
    for _ in 0..50 {
        send_frame(far, &[0xff; 60]);
        std::thread::sleep(std::time::Duration::from_millis(2));
        if dropped() > before {
            return true;
        }
    }
    false
}

#[test]
fn maps_are_taken_over_with_all_that_is_in_them() {
    sandbox(|| {
        veth("fc-one", "fc-two", 1500);
        let steering_one = steering();
        let old = cache(&steering_one, None);
        assert_eq!(old.start(), Start::Fresh);
        let vtep = Hop::Vtep { address: [172, 31, 0, 2].into(), mtu: 1450, mac: [2; 6] };
        old.set_hop(0x8001, 77, Some(vtep)).unwrap();
        old.set_hop(5, 3, None).unwrap();
        let port = Port { hop: 1, trunk: 2, mac: Some([6; 6]) };
        old.set_port(99, port).unwrap();
        let peers: [(IpAddr, u32); 2] =
            [([172, 31, 0, 2].into(), 0x8001), ("fd00::2".parse().unwrap(), 0x8002)];
        for (address, hop) in peers {
            old.set_peer(address, hop).unwrap();
        }
        let key = SAMPLES[0].key(ifindex("fc-one"));
        old.flows().insert(&[(key, flow(POD_ONE, POD_TWO))]).unwrap();
        let trial =
            Trial { role: Role::Endpoint, interface: "fc-one", packet: &[0; 60], gso: None, summed: false };
        old.try_packet(&trial).unwrap();
        // One switch to a directory.
        assert!(Steering::open(&directory()).is_err());
        drop(old);
        assert!(Steering::open(&directory()).is_err(), "the flow cache's lock is steering's");
        drop(steering_one);

        let steering = steering();
        let new = cache(&steering, None);
        assert_eq!(new.start(), Start::TakenOver);
        assert_eq!(new.hop(0x8001).unwrap(), (77, Some(vtep)));
        assert_eq!(new.hop(5).unwrap(), (3, None));
        assert_eq!(new.ports().unwrap(), [(99, port)]);
        let read: BTreeSet<_> = new.peers().unwrap().into_iter().collect();
        assert_eq!(read, peers.into_iter().collect());
        assert_eq!(new.flows().insert(&[(key, flow(POD_ONE, POD_TWO))]).unwrap(), [Inserted::Already]);
        assert_eq!(new.counters().unwrap().get(Outcome::NoPort), 1);
    });
}

#[test]
fn maps_that_do_not_fit_are_made_anew() {
    sandbox(|| {
        let key = SAMPLES[0].key(1);
        let steering = steering();
        let fill = |cache: &FlowCache| {
            cache.set_hop(1, 5, None).unwrap();
            cache.flows().insert(&[(key, flow(POD_ONE, POD_TWO))]).unwrap();
        };
        let assert_empty = |cache: &FlowCache, why: &str| {
            assert!(
                matches!(cache.start(), Start::Afresh(reason) if reason.contains(why)),
                "{:?}",
                cache.start()
            );
            assert_eq!(cache.hop(1).unwrap(), (0, None));
            assert_eq!(cache.flows().read(&key).unwrap(), None);
        };
        fill(&cache(&steering, None));
        let other = FlowCache::open(&steering, &FlowCacheOptions { flows: 500, hook: None }).unwrap();
        assert_empty(&other, "number of flows");
        assert_eq!(other.flows().capacity(), 500);
        fill(&other);
        drop(other);
        // An upgrade that changed a shape, and a switch that was killed when it made maps.
        let maps = directory().join("flow-cache/maps");
        fs::rename(maps.join("ports"), maps.join("spare")).unwrap();
        fs::rename(maps.join("peers"), maps.join("ports")).unwrap();
        fs::rename(maps.join("spare"), maps.join("peers")).unwrap();
        let other = FlowCache::open(&steering, &FlowCacheOptions { flows: 500, hook: None }).unwrap();
        assert_empty(&other, "another version");
        fill(&other);
        fs::remove_file(maps.join("settings")).unwrap();
        drop(other);
        let other = FlowCache::open(&steering, &FlowCacheOptions { flows: 500, hook: None }).unwrap();
        assert_empty(&other, "missing");
        drop(other);
        let again = FlowCache::open(&steering, &FlowCacheOptions { flows: 500, hook: None }).unwrap();
        assert_eq!(again.start(), Start::TakenOver);
        assert!(matches!(
            FlowCache::open(&steering, &FlowCacheOptions { flows: 0, hook: None }),
            Err(FlowCacheError::Impossible(_))
        ));
    });
}

#[test]
fn attachments_are_taken_over_and_taken_off() {
    for hook in HOOKS {
        sandbox(move || {
            veth("fc-one", "fc-two", 1500);
            // A dot is not allowed in the name of a pin, but in an interface's.
            veth("fc-three.1", "fc-four", 1500);
            let expected = hook.unwrap_or(Hook::Tcx);
            let steering_one = steering();
            let mut old = cache(&steering_one, hook);
            assert!(!is_on(&old, "fc-two"));
            for interface in ["fc-one", "fc-three.1", "fc-four"] {
                assert_eq!(old.attach(interface, Role::Endpoint).unwrap(), expected);
                assert_eq!(old.attach(interface, Role::Endpoint).unwrap(), expected);
            }
            assert!(is_on(&old, "fc-two") && is_on(&old, "fc-four") && is_on(&old, "fc-three.1"));
            // Another program on the same interface.
            old.attach("fc-four", Role::Trunk).unwrap();
            assert!(is_on(&old, "fc-three.1"));
            assert!(old.counters().unwrap().get(Outcome::BadTag) > 0);
            drop((old, steering_one));

            let steering_two = steering();
            let mut new = cache(&steering_two, hook);
            assert!(is_on(&new, "fc-two"), "the old program runs on, on the same maps");
            // However it is asked to attach, what is there is taken over.
            assert_eq!(new.attach("fc-one", Role::Endpoint).unwrap(), expected);
            assert!(is_on(&new, "fc-two"));
            assert_eq!(new.detach_unclaimed().unwrap(), ["fc-four", "fc-three.1"]);
            assert_eq!(pins(), BTreeSet::from(["fc-one".into()]));
            assert!(!is_on(&new, "fc-four") && !is_on(&new, "fc-three.1"));
            new.detach("fc-one").unwrap();
            new.detach("fc-one").unwrap();
            assert!(!is_on(&new, "fc-two") && pins().is_empty());
            new.attach("fc-one", Role::Endpoint).unwrap();
            drop((new, steering_two));
            Steering::cleanup(&directory()).unwrap();
            assert!(!directory().exists());
            let steering = steering();
            let other = cache(&steering, hook);
            assert_eq!(other.start(), Start::Fresh);
            assert!(!is_on(&other, "fc-two"));
        });
    }
}

#[test]
fn a_changed_hook_takes_over_what_is_there() {
    for [before, after] in [[HOOKS[0], HOOKS[1]], [HOOKS[1], HOOKS[0]]] {
        sandbox(move || {
            veth("fc-one", "fc-two", 1500);
            let steering = steering();
            cache(&steering, before).attach("fc-one", Role::Endpoint).unwrap();
            let mut new = cache(&steering, after);
            assert_eq!(new.attach("fc-one", Role::Endpoint).unwrap(), before.unwrap_or(Hook::Tcx));
            assert!(is_on(&new, "fc-two"));
            new.detach("fc-one").unwrap();
            assert!(!is_on(&new, "fc-two"));
        });
    }
}

#[test]
fn attachments_go_with_their_interface() {
    for hook in HOOKS {
        sandbox(move || {
            veth("fc-one", "fc-two", 1500);
            veth("fc-three", "fc-four", 1500);
            let steering = steering();
            let mut old = cache(&steering, hook);
            for interface in ["fc-one", "fc-three"] {
                old.attach(interface, Role::Endpoint).unwrap();
            }
            // Another of the same name while the switch runs.
            ip("link del fc-one");
            veth("fc-one", "fc-two", 1500);
            assert!(!is_on(&old, "fc-two"));
            old.attach("fc-one", Role::Endpoint).unwrap();
            assert!(is_on(&old, "fc-two"));
            // One that is gone when it is to be detached, and one while no switch runs.
            ip("link del fc-three");
            old.detach("fc-three").unwrap();
            assert_eq!(pins(), BTreeSet::from(["fc-one".into()]));
            drop(old);
            ip("link del fc-one");
            veth("fc-one", "fc-two", 1500);
            let mut new = cache(&steering, hook);
            if hook.is_none() {
                assert!(pins().is_empty());
            }
            assert!(!is_on(&new, "fc-two"));
            new.attach("fc-one", Role::Endpoint).unwrap();
            assert!(is_on(&new, "fc-two"));
            drop(new);
            ip("link del fc-one");
            cache(&steering, hook);
            assert!(pins().is_empty());
        });
    }
}

#[test]
fn a_switch_without_a_flow_cache_removes_it() {
    for hook in HOOKS {
        sandbox(move || {
            veth("fc-one", "fc-two", 1500);
            let steering = steering();
            assert!(FlowCache::remove(&steering).unwrap().is_empty());
            cache(&steering, hook).attach("fc-one", Role::Endpoint).unwrap();
            assert_eq!(FlowCache::remove(&steering).unwrap(), ["fc-one"]);
            assert!(!directory().join("flow-cache").exists());
            let other = cache(&steering, hook);
            assert_eq!(other.start(), Start::Fresh);
            assert!(!is_on(&other, "fc-two"));
        });
    }
}

fn tc(arguments: &[&str]) -> String {
    let output = Command::new("tc").args(arguments).output().unwrap();
    assert!(output.status.success(), "tc {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn filters() -> String {
    tc(&["filter", "show", "dev", "fc-one", "ingress"])
}

#[test]
fn others_filters_are_left_alone() {
    sandbox(|| {
        veth("fc-one", "fc-two", 1500);
        tc(&["qdisc", "add", "dev", "fc-one", "clsact"]);
        // One of classic BPF, that takes nothing.
        let filter =
            ["filter", "add", "dev", "fc-one", "ingress", "prio", "1", "bpf", "bytecode", "1,6 0 0 0"];
        tc(&filter);
        let theirs = |text: &str| text.contains("bytecode");
        let steering_one = steering();
        let mut ours = cache(&steering_one, Some(Hook::Clsact));
        ours.attach("fc-one", Role::Endpoint).unwrap();
        assert!(is_on(&ours, "fc-two"));
        let both = filters();
        assert!(theirs(&both) && both.contains("from_endpoint"), "{both}");
        ours.detach("fc-one").unwrap();
        let one = filters();
        assert!(theirs(&one) && !one.contains("from_endpoint"), "{one}");

        // Another's where ours would go: another directory's, which is as good as a stranger's.
        let strangers = Steering::open(&Path::new(BPFFS).join("strangers")).unwrap();
        let mut stranger = cache(&strangers, Some(Hook::Clsact));
        stranger.attach("fc-one", Role::Endpoint).unwrap();
        let result = ours.attach("fc-one", Role::Endpoint);
        assert!(matches!(result, Err(FlowCacheError::Conflict(name)) if name == "fc-one"));
        assert!(pins().is_empty());
        drop((ours, steering_one));
        Steering::cleanup(&directory()).unwrap();
        assert!(is_on(&stranger, "fc-two"));
    });
}

#[test]
fn impossible_attachments_say_why() {
    sandbox(|| {
        let steering = steering();
        let mut cache = cache(&steering, None);
        for name in ["", "..", "../x", "fc-none"] {
            assert!(matches!(cache.attach(name, Role::Endpoint), Err(FlowCacheError::Place(_))), "{name:?}");
            cache.detach(name).unwrap();
        }
    });
}
