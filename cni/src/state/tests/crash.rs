//! A plugin that dies between any two changes of the state: no address has two owners, and none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{allocate, fresh, holdings, owner, ranges, release_all};
use crate::state::{Range, State, StateError};

/// Lets a given number of steps pass and fails every later one, as the steps of a dead process do.
#[derive(Debug, Clone)]
pub(in crate::state) struct CrashPoint(Arc<AtomicU32>);

impl Default for CrashPoint {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(u32::MAX)))
    }
}

impl CrashPoint {
    fn after(&self, steps: u32) {
        self.0.store(steps, Ordering::Relaxed);
    }

    pub(in crate::state) fn pass(&self) -> io::Result<()> {
        let left = self.0.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::Error::other("crashed"));
        }
        self.0.store(if left == u32::MAX { left } else { left - 1 }, Ordering::Relaxed);
        Ok(())
    }
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
    // The very first allocation takes 7 steps, one that replaces another 8 (see Store::step): dying anywhere, and not at all, are both in reach.
    prop_oneof![
        (0..8u32).prop_map(Action::Allocate),
        (0..8u32).prop_map(Action::Release),
        (0..8u32, 0..10u32).prop_map(|(who, steps)| Action::CrashingAllocate(who, steps)),
        (0..8u32, 0..5u32).prop_map(|(who, steps)| Action::CrashingRelease(who, steps)),
    ]
}

/// Does what `action` says, for whom it says.
fn perform(directory: &TempDir, action: &Action, rest: u32, both: &[Range]) -> u32 {
    let state = State::new(directory.path(), rest);
    let before = holdings(&state);
    let try_allocate = |who: u32| match allocate(&state, &owner(who), both, &[]) {
        Ok(given) => {
            assert_eq!(given.len(), 2);
            let others = |address: &IpAddr| before.get(address).is_some_and(|of| *of != format!("c{who}"));
            assert!(!given.iter().any(others), "given twice: {given:?}");
        }
        Err(StateError::Exhausted { .. } | StateError::Io { .. }) => {}
        Err(error) => panic!("{error}"),
    };
    match *action {
        Action::Allocate(who) => try_allocate(who),
        Action::Release(who) => state.release(&owner(who)).unwrap(),
        Action::CrashingAllocate(who, steps) => {
            state.store.crash.after(steps);
            try_allocate(who);
        }
        Action::CrashingRelease(who, steps) => {
            state.store.crash.after(steps);
            let _ = state.release(&owner(who));
        }
    }
    match *action {
        Action::Allocate(who)
        | Action::Release(who)
        | Action::CrashingAllocate(who, _)
        | Action::CrashingRelease(who, _) => who,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_sequence_doubles_or_loses_an_address(
        actions in prop::collection::vec(action(), 1..24),
        rest in prop_oneof![Just(0), Just(3600)],
    ) {
        let (directory, state) = fresh();
        let both = ranges(&["10.1.0.0/28", "fd00::/64"]);
        for action in &actions {
            let before = holdings(&state);
            let who = format!("c{}", perform(&directory, action, rest, &both));
            let after = holdings(&state);
            for (address, of) in before.iter().filter(|(_, of)| **of != who) {
                prop_assert_eq!(after.get(address), Some(of), "{} went by {:?}", address, action);
            }
            for (address, of) in after.iter().filter(|(_, of)| **of != who) {
                prop_assert_eq!(before.get(address), Some(of), "{} came by {:?}", address, action);
            }
        }
        // Nothing is lost: with everybody gone, nothing is left, and the whole range can be given out again.
        release_all(&state);
        prop_assert_eq!(holdings(&state), BTreeMap::new());
        prop_assert!(state.store.interfaces().unwrap().is_empty());
        let all: BTreeSet<_> =
            (0..14).map(|who| allocate(&state, &owner(who), &both[..1], &[]).unwrap()[0]).collect();
        prop_assert_eq!(all.len(), 14);
        prop_assert!(state.store.names().unwrap().leftovers.is_empty());
    }
}
