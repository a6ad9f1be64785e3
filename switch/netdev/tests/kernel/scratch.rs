//! A private network namespace for each test, gone with the test however it ends.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use heddle_netdev::{Netlink, Netns, create_named, delete_named};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A named namespace that is deleted on drop, a panic's unwinding included.
pub(crate) struct Scratch {
    pub(crate) name: String,
    pub(crate) netns: Netns,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let name = format!("cni-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let netns = create_named(&name).expect("these tests need root");
        Self { name, netns }
    }

    pub(crate) fn netlink(&self) -> Netlink {
        Netlink::open_in(&self.netns).unwrap()
    }

    /// Standard output of a command run by `ip netns exec`: the outside view of what this crate did.
    pub(crate) fn exec(&self, command: &str) -> String {
        let mut arguments = vec!["netns", "exec", &self.name];
        arguments.extend(command.split_whitespace());
        let output = Command::new("ip").args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = delete_named(&self.name);
    }
}
