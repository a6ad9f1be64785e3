//! Network namespaces of pods and other nodes.

use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, unshare};

use crate::common::ip;

type Work = Box<dyn FnOnce() + Send>;

/// A network namespace, which is a thread's and vanishes with it.
pub(crate) struct Namespace {
    thread: Option<(Sender<Work>, JoinHandle<()>)>,
    id: i32,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let (sender, works) = channel::<Work>();
        let (id_sender, id) = channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            id_sender.send(nix::unistd::gettid().as_raw()).unwrap();
            for work in works {
                work();
            }
        });
        let namespace = Self { thread: Some((sender, thread)), id: id.recv().unwrap() };
        namespace.run(|| ip("link set lo up"));
        namespace
    }

    /// Runs `work` there. Sockets it returns stay there.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = channel();
        let (works, _) = self.thread.as_ref().unwrap();
        works.send(Box::new(move || drop(sender.send(work())))).unwrap();
        result.recv().expect("what ran in the namespace panicked")
    }

    /// Runs `ip` there for every line.
    pub(crate) fn ip(&self, commands: &str) {
        let commands = commands.to_owned();
        self.run(move || {
            for command in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
                ip(command);
            }
        });
    }

    /// Moves an interface of the calling thread's namespace there.
    pub(crate) fn take(&self, interface: &str) {
        ip(&format!("link set {interface} netns {}", self.id));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let (works, thread) = self.thread.take().unwrap();
        drop(works);
        let _ = thread.join();
    }
}
