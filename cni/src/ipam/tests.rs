//! Whatever is allocated, released and interrupted, and by how many at once: no address has two owners, and none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{Ipam, IpamError, Owner, Range};

/// Lets a given number of steps pass and fails every later one, as the steps of a dead process do.
#[derive(Debug, Clone)]
pub(super) struct CrashPoint(Arc<AtomicU32>);

impl Default for CrashPoint {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(u32::MAX)))
    }
}

impl CrashPoint {
    fn after(&self, steps: u32) {
        self.0.store(steps, Ordering::Relaxed);
    }

    pub(super) fn pass(&self) -> io::Result<()> {
        let left = self.0.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::Error::other("crashed"));
        }
        self.0.store(if left == u32::MAX { left } else { left - 1 }, Ordering::Relaxed);
        Ok(())
    }
}

fn ranges(texts: &[&str]) -> Vec<Range> {
    texts.iter().map(|text| Range::new(text.parse().unwrap()).unwrap()).collect()
}

fn owner(number: u32) -> Owner {
    Owner { container_id: format!("c{number}"), ifname: "eth0".to_owned() }
}

fn fresh() -> (TempDir, Ipam) {
    // In memory where possible: hundreds of cases would wait for the disk thousands of times, and what a power failure
    // does to a disk is not what these tests are about.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let ipam = Ipam::new(directory.path());
    (directory, ipam)
}

fn holdings(ipam: &Ipam) -> BTreeMap<IpAddr, Owner> {
    ipam.list().unwrap().into_iter().map(|(address, entry)| (address, entry.owner)).collect()
}

fn file_of(directory: &TempDir, address: IpAddr) -> PathBuf {
    directory.path().join("ipam").join(address.to_string())
}

#[test]
fn gives_one_address_of_each_family() {
    let (_directory, ipam) = fresh();
    let both = ranges(&["fd00:1::/64", "10.1.0.0/24"]);
    let addresses = ipam.allocate(&owner(1), "default/web", &both, &[]).unwrap();
    assert_eq!(addresses, ["10.1.0.1".parse::<IpAddr>().unwrap(), "fd00:1::1".parse().unwrap()]);
    let (_, entry) = ipam.list().unwrap().remove(0);
    assert_eq!((entry.owner, entry.pod.as_str()), (owner(1), "default/web"));
    assert_eq!(ipam.release(&owner(1)).unwrap(), addresses);
    assert!(ipam.release(&owner(1)).unwrap().is_empty());
}

#[test]
fn a_released_address_rests_while_others_are_free() {
    let (_directory, ipam) = fresh();
    let range = ranges(&["10.1.0.0/29"]);
    let mut seen = Vec::new();
    for number in 0..6 {
        seen.extend(ipam.allocate(&owner(number), "", &range, &[]).unwrap());
        ipam.release(&owner(number)).unwrap();
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 6, "{seen:?}");
    assert_eq!(ipam.allocate(&owner(9), "", &range, &[]).unwrap(), [seen[0]]);
}

#[test]
fn the_next_range_serves_when_one_is_full_and_then_it_says_so() {
    let (_directory, ipam) = fresh();
    let both = ranges(&["10.1.0.0/31", "10.2.0.4/32", "fd00::/64"]);
    let reserved = ["10.1.0.0".parse().unwrap()];
    let first = ipam.allocate(&owner(1), "", &both, &reserved).unwrap();
    let second = ipam.allocate(&owner(2), "", &both, &reserved).unwrap();
    assert_eq!(first[0].to_string(), "10.1.0.1");
    assert_eq!(second[0].to_string(), "10.2.0.4");
    let before = holdings(&ipam);
    let error = ipam.allocate(&owner(3), "", &both, &reserved).unwrap_err();
    assert!(matches!(&error, IpamError::Exhausted { family: "IPv4", .. }), "{error}");
    assert!(error.to_string().contains("10.1.0.0/31, 10.2.0.4/32"), "{error}");
    assert_eq!(holdings(&ipam), before, "an IPv6 address leaked");
}

#[test]
fn releasing_from_nothing_makes_nothing() {
    let (directory, ipam) = fresh();
    assert!(ipam.release(&owner(1)).unwrap().is_empty());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn same_container_other_interface_is_another_owner() {
    let (_directory, ipam) = fresh();
    let range = ranges(&["10.1.0.0/24"]);
    let second = Owner { ifname: "net1".to_owned(), ..owner(1) };
    ipam.allocate(&owner(1), "", &range, &[]).unwrap();
    let kept = ipam.allocate(&second, "", &range, &[]).unwrap();
    ipam.release(&owner(1)).unwrap();
    assert_eq!(holdings(&ipam), BTreeMap::from([(kept[0], second)]));
}

#[test]
fn a_corrupt_file_is_named_once_and_its_address_never_given_out() {
    let (directory, ipam) = fresh();
    let range = ranges(&["10.1.0.0/30"]);
    let spoiled = ipam.allocate(&owner(1), "", &range, &[]).unwrap()[0];
    let good = ipam.allocate(&owner(2), "", &range, &[]).unwrap()[0];
    fs::write(file_of(&directory, spoiled), "{ not json").unwrap();

    let error = ipam.release(&owner(2)).unwrap_err();
    assert!(error.to_string().contains(&file_of(&directory, spoiled).display().to_string()), "{error}");
    assert!(!file_of(&directory, good).exists(), "the readable one was to be freed all the same");
    assert!(ipam.release(&owner(2)).unwrap().is_empty());
    assert_eq!(ipam.allocate(&owner(3), "", &range, &[]).unwrap(), [good]);
    let error = ipam.allocate(&owner(4), "", &range, &[]).unwrap_err();
    assert!(matches!(error, IpamError::Exhausted { .. }), "{error}");
}

#[test]
fn a_spoiled_hint_is_no_obstacle() {
    let (directory, ipam) = fresh();
    let range = ranges(&["10.1.0.0/29"]);
    let first = ipam.allocate(&owner(1), "", &range, &[]).unwrap();
    fs::write(directory.path().join("ipam/last-10.1.0.0-29"), b"\xff\0").unwrap();
    let second = ipam.allocate(&owner(2), "", &range, &[]).unwrap();
    assert_ne!(first, second);
}

#[test]
fn leftovers_of_a_crash_are_swept() {
    let (directory, ipam) = fresh();
    let range = ranges(&["10.1.0.0/29"]);
    ipam.allocate(&owner(1), "", &range, &[]).unwrap();
    let leftover = directory.path().join("ipam/10.1.0.2.tmp");
    fs::write(&leftover, "half a fi").unwrap();
    assert_eq!(ipam.allocate(&owner(2), "", &range, &[]).unwrap()[0].to_string(), "10.1.0.2");
    assert!(!leftover.exists());
}

#[test]
fn sixteen_at_once_get_different_addresses_and_leave_none() {
    let (directory, ipam) = fresh();
    let both = ranges(&["10.1.0.0/24", "fd00::/64"]);
    let mut given: Vec<IpAddr> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..16)
            .map(|worker| {
                // An own handle each: the lock is the file's, not the object's.
                let (ipam, both) = (Ipam::new(directory.path()), &both);
                scope.spawn(move || {
                    let mut given = Vec::new();
                    for round in 0..8 {
                        let owner = owner(worker * 100 + round);
                        given.extend(ipam.allocate(&owner, "", both, &[]).unwrap());
                        if round % 2 == 1 {
                            given.truncate(given.len() - ipam.release(&owner).unwrap().len());
                        }
                    }
                    given
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    given.sort_unstable();
    assert_eq!(given.len(), 16 * 4 * 2);
    assert_eq!(given, holdings(&ipam).into_keys().collect::<Vec<_>>());
    for (_, owner) in holdings(&ipam) {
        ipam.release(&owner).unwrap();
    }
    assert_eq!(holdings(&ipam), BTreeMap::new());
}

#[derive(Debug, Clone)]
enum Action {
    Allocate(u32),
    Release(u32),
    /// The same, by a plugin that dies after so many steps.
    CrashingAllocate(u32, u32),
    CrashingRelease(u32, u32),
}

fn action() -> impl Strategy<Value = Action> {
    // An allocation of two addresses takes 13 steps (see Store::step): dying anywhere, and not at all, are both in reach.
    prop_oneof![
        (0..8u32).prop_map(Action::Allocate),
        (0..8u32).prop_map(Action::Release),
        (0..8u32, 0..16u32).prop_map(|(who, steps)| Action::CrashingAllocate(who, steps)),
        (0..8u32, 0..5u32).prop_map(|(who, steps)| Action::CrashingRelease(who, steps)),
    ]
}

/// Does what `action` says. Returns whose holdings may have grown, and whose may have shrunk.
fn perform(directory: &TempDir, action: &Action, both: &[Range]) -> (Option<Owner>, Option<Owner>) {
    let ipam = Ipam::new(directory.path());
    let before = holdings(&ipam);
    let allocate = |who: u32| match ipam.allocate(&owner(who), "", both, &[]) {
        Ok(given) => {
            assert_eq!(given.len(), 2);
            assert!(given.iter().all(|address| !before.contains_key(address)), "given twice: {given:?}");
        }
        Err(IpamError::Exhausted { .. } | IpamError::Io { .. }) => {}
        Err(error) => panic!("{error}"),
    };
    match *action {
        Action::Allocate(who) => allocate(who),
        Action::Release(who) => drop(ipam.release(&owner(who)).unwrap()),
        Action::CrashingAllocate(who, steps) => {
            ipam.store.crash.after(steps);
            allocate(who);
        }
        Action::CrashingRelease(who, steps) => {
            ipam.store.crash.after(steps);
            let _ = ipam.release(&owner(who));
        }
    }
    match *action {
        Action::Allocate(who) | Action::CrashingAllocate(who, _) => (Some(owner(who)), None),
        Action::Release(who) | Action::CrashingRelease(who, _) => (None, Some(owner(who))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_sequence_doubles_or_loses_an_address(actions in prop::collection::vec(action(), 1..24)) {
        let (directory, ipam) = fresh();
        let both = ranges(&["10.1.0.0/28", "fd00::/64"]);
        for action in &actions {
            let before = holdings(&ipam);
            let (grows, shrinks) = perform(&directory, action, &both);
            let after = holdings(&ipam);
            for (address, who) in &before {
                prop_assert!(after.get(address) == Some(who) || shrinks.as_ref() == Some(who),
                    "{address} of {who:?} went by {action:?}");
            }
            for (address, who) in &after {
                prop_assert!(before.get(address) == Some(who) || grows.as_ref() == Some(who),
                    "{address} came to {who:?} by {action:?}");
            }
        }
        // Nothing is lost: with everybody gone, the whole range can be given out again.
        (0..8).for_each(|who| drop(ipam.release(&owner(who)).unwrap()));
        prop_assert_eq!(holdings(&ipam), BTreeMap::new());
        let all: BTreeSet<_> = (0..14)
            .map(|who| ipam.allocate(&owner(who), "", &both[..1], &[]).unwrap()[0])
            .collect();
        prop_assert_eq!(all.len(), 14);
    }
}
