//! What cannot be set up ends in the error that says what to do. Needs root.
#![allow(clippy::unwrap_used)]

mod common;

use common::{sandbox, veth};
use heddle_xsk::{Arena, ArenaError, Options, Socket, SocketError};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

#[test]
fn interfaces_that_cannot_have_a_socket() {
    sandbox(|| {
        let arena = Arena::umem(256, 2048).unwrap();
        let bind = |name: &str, queue| Socket::bind(&arena, name, queue, Options::default()).map(drop);
        assert!(matches!(bind("nothing", 0), Err(SocketError::NoInterface(name)) if name == "nothing"));
        for name in ["", "..", "a/b", "a b", "sixteen-letters-", "nul\0"] {
            assert!(matches!(bind(name, 0), Err(SocketError::InterfaceName(_))), "{name:?}");
        }
        veth("xsk-a", "xsk-b", 1500);
        assert!(matches!(bind("xsk-a", 1), Err(SocketError::Queue { queue: 1, .. })));
        let _socket = Socket::bind(&arena, "xsk-a", 0, Options::default()).unwrap();
        let error = bind("xsk-a", 0).unwrap_err();
        assert!(matches!(error, SocketError::Busy { queue: 0, .. }), "{error:?}");
        assert!(matches!(bind("lo", 0), Err(SocketError::Busy { .. })), "the anchor is there");
    });
}

#[test]
fn a_second_arena_in_a_namespace_is_refused_until_the_first_is_gone() {
    sandbox(|| {
        let first = Arena::umem(256, 2048).unwrap();
        let error = Arena::umem(256, 2048).unwrap_err();
        assert!(matches!(error, ArenaError::Anchor(SocketError::Busy { .. })));
        assert!(error.to_string().contains("another heddle-switch in this network namespace"), "{error}");
        drop(first);
        Arena::umem(256, 2048).unwrap();
    });
}

#[test]
fn impossible_options_and_heap_arenas() {
    sandbox(|| {
        let arena = Arena::umem(256, 2048).unwrap();
        let good = Options::default();
        for bad in [
            Options { rx_ring: 0, ..good },
            Options { tx_ring: 100, ..good },
            Options { rx_ring: 1 << 16, ..good },
            Options { receive_frames: 0, ..good },
            Options { receive_frames: 1025, ..good },
        ] {
            assert!(matches!(Socket::bind(&arena, "lo", 0, bad), Err(SocketError::Options(_))), "{bad:?}");
        }
        let heap = Arena::heap(256, 2048).unwrap();
        assert!(matches!(Socket::bind(&heap, "lo", 0, good), Err(SocketError::HeapArena)));
    });
}

/// Takes a capability from the calling thread, not from the process.
fn without(capability: CapabilitySet) {
    let mut sets = capabilities(None).unwrap();
    sets.effective.remove(capability);
    set_capabilities(None, sets).unwrap();
}

#[test]
fn missing_capabilities_and_limits() {
    sandbox(|| {
        // Counts only without CAP_IPC_LOCK, which the other tests have.
        setrlimit(Resource::Memlock, Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) }).unwrap();
        without(CapabilitySet::IPC_LOCK);
        let error = Arena::umem(8192, 2048).unwrap_err();
        assert!(matches!(error, ArenaError::LockedMemory { bytes: 16_777_216 }), "{error}");
        without(CapabilitySet::NET_RAW);
        assert!(matches!(Arena::umem(256, 2048), Err(ArenaError::NotPermitted)));
    });
}
