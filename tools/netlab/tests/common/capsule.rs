//! Processes, mounts and files that the kernel takes away all at once, however the test ends: everything in a capsule is in mount, PID
//! and cgroup namespaces whose first process ends with its standard input, which only the test holds open.

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

/// See the module.
pub(crate) struct Capsule {
    first: Child,
    input: Option<ChildStdin>,
    /// Programs that end with the capsule.
    others: RefCell<Vec<Child>>,
}

impl Capsule {
    /// Starts one in the network namespace of the calling thread. The script, which gets these arguments, says
    /// "ready", and ends when its standard input does. It may mount whatever it likes: nobody else sees it.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let mut unshare = Command::new("unshare");
        // In a session of its own: the terminal's Ctrl-C is for the test.
        unshare.args(["--mount", "--pid", "--cgroup", "--fork", "--kill-child", "--mount-proc"]);
        unshare.args(["setsid", "sh", "-c", script, "sh"]).args(arguments);
        let mut first = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(first.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "the capsule's script does not come to its end");
        let input = first.stdin.take();
        Self { first, input, others: RefCell::default() }
    }

    /// A command inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let namespaces = format!("/proc/{}/ns", self.first.id());
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount={namespaces}/mnt"))
            .arg(format!("--net={namespaces}/net"))
            .arg(format!("--cgroup={namespaces}/cgroup"))
            // `unshare` itself is outside.
            .arg(format!("--pid={namespaces}/pid_for_children"))
            .args(["--", program])
            .stdin(Stdio::null());
        command
    }

    /// What a command says that has to succeed.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> String {
        succeeds(self.command(words[0]).args(&words[1..]))
    }

    /// What a command says, however it ends.
    pub(crate) fn try_run(&self, words: &[&str]) -> Output {
        self.command(words[0]).args(&words[1..]).output().unwrap()
    }

    /// Starts a program that goes on until the capsule ends; what it says goes to a file inside.
    pub(crate) fn start_daemon(&self, words: &[&str], log: &str) {
        let daemon = self.spawn(words, log);
        self.others.borrow_mut().push(daemon);
    }

    /// The same for one that the caller ends.
    pub(crate) fn spawn(&self, words: &[&str], log: &str) -> Child {
        let log = std::fs::File::create(self.path(log)).unwrap();
        let mut command = self.command(words[0]);
        command.args(&words[1..]).stdout(log.try_clone().unwrap()).stderr(log);
        command.spawn().unwrap()
    }

    /// A path inside, as it is seen from outside.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(self.first.id().to_string()).join("root").join(path.trim_start_matches('/'))
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Ends everything inside.
    pub(crate) fn end(&mut self) {
        drop(self.input.take());
        let _ = self.first.wait();
        for mut other in self.others.take() {
            let _ = other.wait();
        }
    }
}

impl Drop for Capsule {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a command says, which has to succeed.
#[track_caller]
pub(crate) fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
