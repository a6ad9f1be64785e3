//! Processes that outlive whoever started them: recorded so that they are found again, and never taken for another.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};
use serde::{Deserialize, Serialize};

/// How long a process may take to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How long the kernel may take to end a process after SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// How long its parent may take to collect a process that has ended. One that never does is not ours to judge.
const REAP_GRACE: Duration = Duration::from_secs(1);
/// `PF_EXITING` (include/linux/sched.h): the process is on its way out.
const PF_EXITING: u64 = 4;

/// A process, told from others with the same pid by the time it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The process ID.
    pub pid: u32,
    /// In clock ticks since boot: `starttime` in proc(5).
    pub started: u64,
}

/// How a process that was asked to end has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was not there any more.
    Gone,
    /// By SIGTERM.
    Terminated,
    /// By SIGKILL, because it did not heed SIGTERM in time.
    Killed,
}

impl Process {
    /// The process that has this pid now.
    pub fn of_pid(pid: u32) -> Result<Self> {
        let started = start_time(pid).with_context(|| format!("process {pid} is not there"))?;
        Ok(Self { pid, started })
    }

    /// True while it runs. One that was killed but is still being taken apart by the kernel, which for a switch with its
    /// memory and sockets takes a moment, does not; nor one that has ended but was not waited for.
    pub fn is_alive(self) -> bool {
        self.open().is_some_and(|fd| {
            !is_ending(self.pid).unwrap_or(true) && !ended(&fd, Duration::ZERO).unwrap_or(true)
        })
    }

    /// True when it runs the program of this name.
    pub fn runs(self, program: &str) -> bool {
        // A program whose file was replaced since has " (deleted)" behind its name.
        let path = std::fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default();
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.split(' ').next() == Some(program))
    }

    /// Sends a signal; false when the process is gone.
    pub fn signal(self, signal: Signal) -> Result<bool> {
        let Some(fd) = self.open() else { return Ok(false) };
        match pidfd_send_signal(&fd, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// Ends it: SIGTERM, and SIGKILL when that does not help in time.
    pub fn end(self) -> Result<Ending> {
        let Some(fd) = self.open() else { return Ok(Ending::Gone) };
        let mut ending = Ending::Gone;
        for (signal, grace, how) in
            [(Signal::TERM, GRACE, Ending::Terminated), (Signal::KILL, KILL_GRACE, Ending::Killed)]
        {
            match pidfd_send_signal(&fd, signal) {
                Ok(()) => ending = how,
                Err(rustix::io::Errno::SRCH) => break,
                Err(error) => return Err(error).with_context(|| format!("cannot end process {}", self.pid)),
            }
            if ended(&fd, grace)? {
                break;
            }
        }
        if !ended(&fd, Duration::ZERO)? {
            bail!("process {} is still there after SIGKILL", self.pid);
        }
        self.reap();
        Ok(ending)
    }

    /// When it is our own child, its entry in the process table is ours to collect. Otherwise its parent's, which is
    /// mostly init, and soon does.
    fn reap(self) {
        if let Some(pid) = self.raw_pid() {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        let deadline = Instant::now() + REAP_GRACE;
        while start_time(self.pid) == Some(self.started) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn raw_pid(self) -> Option<Pid> {
        Pid::from_raw(self.pid.try_into().ok()?)
    }

    /// The start time is checked after opening: from then on, the descriptor means this process and no other.
    fn open(self) -> Option<OwnedFd> {
        let fd = pidfd_open(self.raw_pid()?, PidfdFlags::empty()).ok()?;
        (start_time(self.pid) == Some(self.started)).then_some(fd)
    }
}

/// A pidfd becomes readable when its process ends.
fn ended(fd: &OwnedFd, timeout: Duration) -> Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.try_into().context("timeout too long")?;
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for a process"),
        }
    }
}

fn start_time(pid: u32) -> Option<u64> {
    stat_fields(pid, [22]).map(|[started]| started)
}

/// From the moment SIGKILL is sent: the exit code is the process's already (`complete_signal`, kernel/signal.c), while its
/// threads go on until they notice.
fn is_ending(pid: u32) -> Option<bool> {
    let [flags, exit_code] = stat_fields(pid, [9, 52])?;
    Some(flags & PF_EXITING != 0 || exit_code == u64::from(Signal::KILL.as_raw().unsigned_abs()))
}

/// Fields of `/proc/<pid>/stat` by their numbers in proc(5), from the third on.
fn stat_fields<const N: usize>(pid: u32, numbers: [usize; N]) -> Option<[u64; N]> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Field 2 is the name in parentheses, which may hold spaces and parentheses itself.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let mut values = [0; N];
    for (value, number) in values.iter_mut().zip(numbers) {
        *value = fields.get(number - 3)?.parse().ok()?;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    //! Only the process that was recorded is ended, and it is ended for certain.
    use std::process::{Command, Stdio};

    use super::*;

    #[allow(clippy::zombie_processes, reason = "`Process::end` collects the child")]
    fn spawn(script: &str) -> Process {
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        // The script says when it is ready, so that its traps are in place.
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 1]).unwrap();
        Process::of_pid(child.id()).unwrap()
    }

    #[test]
    fn ends_by_sigterm() {
        let process = spawn("echo; exec sleep 1000");
        assert!(process.is_alive());
        assert_eq!(process.end().unwrap(), Ending::Terminated);
        assert!(!process.is_alive());
        assert_eq!(process.end().unwrap(), Ending::Gone);
    }

    #[test]
    fn ends_by_sigkill_what_ignores_sigterm() {
        let process = spawn("trap '' TERM; echo; while :; do sleep 1; done");
        assert_eq!(process.end().unwrap(), Ending::Killed);
        assert!(!process.is_alive());
    }

    #[test]
    fn one_that_was_killed_does_not_run_from_that_moment() {
        for _ in 0..20 {
            let process = spawn("echo; exec sleep 1000");
            assert!(process.is_alive());
            assert!(process.signal(Signal::KILL).unwrap());
            assert!(!process.is_alive());
            process.end().unwrap();
            assert_eq!(start_time(process.pid), None, "its entry is collected");
        }
    }

    #[test]
    fn one_that_is_stopped_is_alive() {
        let process = spawn("echo; exec sleep 1000");
        assert!(process.signal(Signal::STOP).unwrap());
        assert!(process.is_alive());
        assert!(process.signal(Signal::CONT).unwrap());
        assert!(process.is_alive());
        process.end().unwrap();
    }

    #[test]
    fn another_process_with_the_same_pid_is_left_alone() {
        let process = spawn("echo; exec sleep 1000");
        let earlier = Process { started: process.started - 1, ..process };
        assert!(!earlier.is_alive());
        assert!(!earlier.signal(Signal::KILL).unwrap());
        assert_eq!(earlier.end().unwrap(), Ending::Gone);
        assert!(process.is_alive());
        process.end().unwrap();
    }
}
