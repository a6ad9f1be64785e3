//! Whatever is allocated and released, by how many at once, and whatever somebody does to the files: no address has two owners, and none is
//! lost.

mod crash;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tempfile::TempDir;

pub(in crate::state) use crash::CrashPoint;

use super::record::FORMAT;
use super::{Pool, Range, Record, State, StateError};
use crate::attachment::Attachment;
use crate::environment::PodName;

fn ranges(texts: &[&str]) -> Vec<Range> {
    texts.iter().map(|text| Range::new(text.parse().unwrap()).unwrap()).collect()
}

fn owner(number: u32) -> Attachment {
    let pod = PodName { name: "web".to_owned(), ..PodName::default() };
    Attachment { container_id: format!("c{number}"), ifname: "eth0".to_owned(), pod }
}

fn fresh() -> (TempDir, State) {
    // In memory where possible: what is tested is the order of changes, not the disk.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let state = State::new(directory.path(), 0);
    (directory, state)
}

fn allocate(
    state: &State,
    owner: &Attachment,
    ranges: &[Range],
    reserved: &[IpAddr],
) -> Result<Vec<IpAddr>, StateError> {
    let record = Record::new("net", owner, None);
    state.allocate(record, &Pool { ranges, reserved, requested: &[] }).map(|held| held.addresses)
}

fn ask(
    state: &State,
    owner: &Attachment,
    ranges: &[Range],
    address: &str,
) -> Result<Vec<IpAddr>, StateError> {
    let pool =
        Pool { ranges, reserved: &["10.1.0.9".parse().unwrap()], requested: &[address.parse().unwrap()] };
    state.allocate(Record::new("net", owner, None), &pool).map(|held| held.addresses)
}

/// Whose each address is, by the links; the records say the same, or are about to.
fn holdings(state: &State) -> BTreeMap<IpAddr, String> {
    let taken = state.store.names().unwrap().taken;
    let held = taken.into_iter().map(|address| {
        let interface = state.store.holder(address).unwrap();
        let record =
            state.store.read(&interface).unwrap().unwrap_or_else(|| panic!("{address} has no record"));
        assert!(record.addresses.contains(&address), "{address} is not in {record:?}");
        (address, record.container_id)
    });
    held.collect()
}

fn release_all(state: &State) {
    (0..1000)
        .map(owner)
        .filter(|who| state.find(who).unwrap().is_some())
        .for_each(|who| state.release(&who).unwrap());
}

fn record_file(directory: &TempDir, owner: &Attachment) -> PathBuf {
    directory.path().join("attachments").join(format!("{}.json", owner.host_interface()))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn gives_one_address_of_each_family_and_says_whose() {
    let (directory, state) = fresh();
    let both = ranges(&["fd00:1::/64", "10.1.0.0/24"]);
    assert_eq!(allocate(&state, &owner(1), &both, &[]).unwrap(), [address("10.1.0.1"), address("fd00:1::1")]);
    // As a person looks it up.
    let text = fs::read_to_string(directory.path().join("ipam/10.1.0.1")).unwrap();
    assert!(text.contains(r#""containerID": "c1""#) && text.contains(r#""podName": "web""#), "{text}");
    state.release(&owner(1)).unwrap();
    assert_eq!(holdings(&state), BTreeMap::new());
    assert_eq!(state.find(&owner(1)).unwrap(), None);
    state.release(&owner(1)).unwrap();
}

#[test]
fn allocation_goes_round() {
    let (_directory, state) = fresh();
    let range = ranges(&["10.1.0.0/29"]);
    let mut seen = Vec::new();
    for number in 0..6 {
        seen.extend(allocate(&state, &owner(number), &range, &[]).unwrap());
        state.release(&owner(number)).unwrap();
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 6, "{seen:?}");
    assert_eq!(allocate(&state, &owner(9), &range, &[]).unwrap(), [seen[0]]);
}

#[test]
fn a_freed_address_rests_unless_nothing_else_is_free() {
    let (directory, state) = fresh();
    let resting = State { rest: 3600, ..state.clone() };
    let range = ranges(&["10.1.0.0/29"]);
    for number in 0..6 {
        allocate(&resting, &owner(number), &range, &[]).unwrap();
    }
    for number in [3, 1] {
        resting.release(&owner(number)).unwrap();
    }
    // Two rest since the same second; one more that does so for longer, and one that has done.
    for (number, name) in [(2, "10.1.0.3.rests-until-4000000000"), (4, "10.1.0.5.rests-until-1")] {
        state.release(&owner(number)).unwrap();
        symlink("../attachments/gone.json", directory.path().join("ipam").join(name)).unwrap();
    }
    let next = |number| allocate(&resting, &owner(number), &range, &[]).unwrap()[0].to_string();
    assert_eq!(next(10), "10.1.0.5", "the only one that does not rest");
    assert_eq!(BTreeSet::from([next(11), next(12)]), BTreeSet::from(["10.1.0.4".into(), "10.1.0.2".into()]));
    assert_eq!(next(13), "10.1.0.3", "the last");
    assert!(matches!(allocate(&resting, &owner(14), &range, &[]), Err(StateError::Exhausted { .. })));
    // Who asks for one by name means it.
    resting.release(&owner(13)).unwrap();
    assert_eq!(ask(&resting, &owner(15), &range, "10.1.0.3").unwrap(), [address("10.1.0.3")]);
    let names = state.store.names().unwrap();
    assert_eq!((names.taken.len(), names.leftovers.len()), (6, 0));
}

#[test]
fn the_next_range_serves_when_one_is_full_and_then_it_says_so() {
    let (_directory, state) = fresh();
    let both = ranges(&["10.1.0.0/31", "10.2.0.4/32", "fd00::/64"]);
    let reserved = [address("10.1.0.0")];
    assert_eq!(allocate(&state, &owner(1), &both, &reserved).unwrap()[0], address("10.1.0.1"));
    assert!(state.check_free(&both, &reserved).is_ok());
    assert_eq!(allocate(&state, &owner(2), &both, &reserved).unwrap()[0], address("10.2.0.4"));
    let before = holdings(&state);
    let error = allocate(&state, &owner(3), &both, &reserved).unwrap_err();
    assert!(matches!(&error, StateError::Exhausted { family: "IPv4", .. }), "{error}");
    assert!(error.to_string().contains("10.1.0.0/31, 10.2.0.4/32"), "{error}");
    assert_eq!(holdings(&state), before, "an IPv6 address leaked");
    assert!(matches!(state.check_free(&both, &reserved), Err(StateError::Exhausted { .. })));
}

#[test]
fn an_address_that_is_asked_for_is_given_or_it_is_said_why_not() {
    let (_directory, state) = fresh();
    let both = ranges(&["10.1.0.0/28", "fd00::/64"]);
    assert_eq!(ask(&state, &owner(1), &both, "10.1.0.7").unwrap(), [address("10.1.0.7"), address("fd00::1")]);
    for (wanted, why) in [
        ("10.1.0.7", "is taken by container c1, interface eth0"),
        ("10.2.0.1", "none of this node's pod CIDRs; ask for one of 10.1.0.0/28, fd00::/64"),
        ("fd01::1", "none of this node's pod CIDRs"),
        ("10.1.0.0", "is reserved in 10.1.0.0/28"),
        ("10.1.0.15", "is reserved"),
        ("10.1.0.9", "is reserved"),
        ("fd00::", "is reserved"),
    ] {
        let error = ask(&state, &owner(2), &both, wanted).unwrap_err();
        assert!(matches!(error, StateError::NotToBeHad { .. }) && error.to_string().contains(why), "{error}");
    }
    assert_eq!(holdings(&state).len(), 2);
}

#[test]
fn releasing_from_nothing_makes_nothing() {
    let (directory, state) = fresh();
    state.release(&owner(1)).unwrap();
    assert!(state.exclude().unwrap().is_none() && state.join_if_present().unwrap().is_none());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn what_an_add_that_died_left_is_replaced_and_one_that_lives_is_not() {
    let (_directory, state) = fresh();
    let both = ranges(&["10.1.0.0/24", "fd00::/64"]);
    allocate(&state, &owner(1), &both, &[]).unwrap();
    let pool = Pool { ranges: &both, reserved: &[], requested: &[] };
    let held = state.allocate(Record::new("net", &owner(1), None), &pool).unwrap();
    assert_eq!(holdings(&state).len(), 2, "the first ones are free again");
    let error = allocate(&state, &owner(1), &both, &[]).unwrap_err();
    assert!(matches!(error, StateError::UnderWay { .. }), "{error}");
    assert_eq!(holdings(&state).into_keys().collect::<Vec<_>>(), held.addresses);
}

#[test]
fn addresses_of_another_plugin_are_kept_like_our_own() {
    let (_directory, state) = fresh();
    let state = State { rest: 3600, ..state };
    let record = |number| Record::new("net", &owner(number), Some("host-local"));
    let given = [address("192.0.2.1"), address("2001:db8::1")];
    let announced = state.announce(record(1)).unwrap();
    assert!(announced.addresses.is_empty() && state.find(&owner(1)).unwrap().is_some());
    state.take(record(1), &given).unwrap();
    state.announce(record(2)).unwrap();
    let error = state.take(record(2), &given[..1]).unwrap_err();
    assert!(error.to_string().contains("192.0.2.1 that was asked for is taken by container c1"), "{error}");
    state.release(&owner(1)).unwrap();
    // When it may be used again is up to the one that gave it.
    assert!(state.store.names().unwrap().resting.is_empty());
    state.take(record(2), &given).unwrap();
}

#[test]
fn a_corrupt_record_is_told_and_hides_nothing_from_del() {
    let (directory, state) = fresh();
    let range = ranges(&["10.1.0.0/30"]);
    allocate(&state, &owner(1), &range, &[]).unwrap();
    let good = allocate(&state, &owner(2), &range, &[]).unwrap()[0];
    fs::write(record_file(&directory, &owner(1)), "{ not json").unwrap();
    let (records, errors) = state.records();
    assert_eq!((records.len(), errors.len()), (1, 1));
    let told = errors[0].to_string();
    assert!(told.contains(&record_file(&directory, &owner(1)).display().to_string()), "{told}");
    assert!(matches!(allocate(&state, &owner(3), &range, &[]), Err(StateError::Exhausted { .. })));
    state.release(&owner(1)).unwrap();
    assert_eq!(holdings(&state), BTreeMap::from([(good, "c2".to_owned())]));
}

#[test]
fn a_later_format_is_refused_and_left_alone() {
    let (directory, state) = fresh();
    let range = ranges(&["10.1.0.0/30"]);
    allocate(&state, &owner(1), &range, &[]).unwrap();
    let later = format!(r#"{{"format":{},"anything":"else"}}"#, FORMAT + 1);
    let marker = directory.path().join("ipam/boot");
    let (record, known) = (record_file(&directory, &owner(1)), fs::read(&marker).unwrap());
    let refused = |error: StateError| {
        assert!(matches!(error, StateError::Newer { .. }), "{error}");
        assert!(error.to_string().contains("install the version that wrote it"), "{error}");
    };
    for file in [&record, &marker] {
        fs::write(file, &later).unwrap();
        refused(state.release(&owner(1)).unwrap_err());
        refused(state.find(&owner(1)).unwrap_err());
        refused(state.records().1.remove(0));
        assert_eq!(fs::read_to_string(file).unwrap(), later);
    }
    refused(allocate(&state, &owner(2), &range, &[]).unwrap_err());
    refused(state.check_free(&range, &[]).unwrap_err());
    // A boot that this version would sweep, with a record in it that it must not.
    fs::write(&marker, known).unwrap();
    fs::remove_file(&marker).unwrap();
    refused(allocate(&state, &owner(2), &range, &[]).unwrap_err());
    assert!(record.exists() && directory.path().join("ipam/10.1.0.1").is_symlink());
}

#[test]
fn what_is_of_an_earlier_boot_is_swept_and_nothing_else() {
    let (directory, state) = fresh();
    let state = State { rest: 3600, ..state };
    let range = ranges(&["10.1.0.0/29"]);
    for number in 0..4 {
        allocate(&state, &owner(number), &range, &[]).unwrap();
    }
    state.release(&owner(3)).unwrap();
    // One of an earlier boot, one torn by the power failure that ended it; the third is of this one, whose marker somebody removed.
    let file = record_file(&directory, &owner(0));
    let text = fs::read_to_string(&file).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(&file, text.replace(boot.trim(), "another")).unwrap();
    fs::write(record_file(&directory, &owner(1)), "").unwrap();
    fs::remove_file(directory.path().join("ipam/boot")).unwrap();
    allocate(&state, &owner(7), &range, &[]).unwrap();
    let owners: BTreeSet<_> = holdings(&state).into_values().collect();
    assert_eq!(owners, BTreeSet::from(["c2".to_owned(), "c7".to_owned()]));
    assert!(state.store.names().unwrap().resting.is_empty());
    assert_eq!(state.store.interfaces().unwrap().len(), 2);
}

#[test]
fn addresses_that_lead_nowhere_can_be_freed() {
    let (directory, state) = fresh();
    let range = ranges(&["10.1.0.0/29"]);
    allocate(&state, &owner(1), &range, &[]).unwrap();
    allocate(&state, &owner(2), &range, &[]).unwrap();
    fs::remove_file(record_file(&directory, &owner(1))).unwrap();
    state.free_ownerless().unwrap();
    assert_eq!(holdings(&state).into_values().collect::<Vec<_>>(), ["c2"]);
}

#[test]
fn a_spoiled_hint_is_no_obstacle() {
    let (directory, state) = fresh();
    let range = ranges(&["10.1.0.0/29"]);
    let first = allocate(&state, &owner(1), &range, &[]).unwrap();
    fs::write(directory.path().join("ipam/lock"), b"\xff\0\n10.1.0").unwrap();
    assert_ne!(first, allocate(&state, &owner(2), &range, &[]).unwrap());
}

#[test]
fn leftovers_of_a_crash_are_swept() {
    let (directory, state) = fresh();
    let range = ranges(&["10.1.0.0/29"]);
    allocate(&state, &owner(1), &range, &[]).unwrap();
    let leftover = directory.path().join(format!("ipam/{}.tmp", owner(2).host_interface()));
    fs::write(&leftover, "half a rec").unwrap();
    assert_eq!(allocate(&state, &owner(2), &range, &[]).unwrap()[0].to_string(), "10.1.0.2");
    assert!(!leftover.exists());
}

#[test]
fn sixteen_at_once_get_different_addresses_and_leave_none() {
    let (directory, state) = fresh();
    let both = ranges(&["10.1.0.0/24", "fd00::/64"]);
    let mut given: Vec<IpAddr> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..16)
            .map(|worker| {
                // An own handle each: the lock is the file's, not the object's.
                let (state, both) = (State::new(directory.path(), 0), &both);
                scope.spawn(move || {
                    let mut given = Vec::new();
                    for round in 0..8 {
                        let owner = owner(worker * 10 + round);
                        let addresses = allocate(&state, &owner, both, &[]).unwrap();
                        if round % 2 == 0 {
                            given.extend(addresses);
                        } else {
                            state.release(&owner).unwrap();
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
    assert_eq!(given, holdings(&state).into_keys().collect::<Vec<_>>());
    release_all(&state);
    assert_eq!(holdings(&state), BTreeMap::new());
}
