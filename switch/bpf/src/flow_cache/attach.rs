//! The flow cache's programs on interfaces, and the pins that remember them.
//!
//! ```text
//! <bpffs>/flow-cache/maps/<map>               the maps
//! <bpffs>/flow-cache/links/<interface>        a tcx link
//! <bpffs>/flow-cache/filters/<interface>      the program of a clsact filter, which tells ours from others'
//! <bpffs>/flow-cache/filters/<interface>%new  the program that is about to replace it
//! ```
//!
//! Crossings are attached in the same way, below `<bpffs>/crossings`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libbpf_rs::{Link, Program, ProgramMut, TC_INGRESS, TcHook};
use rustix::io::Errno;

use super::cache::{Hook, Role};
use super::error::FlowCacheError;
use crate::SteeringError;
use crate::attach::{ifindex, is_dead};
use crate::pins::{Pins, escape, fd_info, pin_error, unescape, unpin};
use crate::syscalls::attach_tcx;

/// Where our filter goes among others. Its number is nobody's default.
const FILTER_PRIORITY: u32 = 0x4844;
const FILTER_HANDLE: u32 = 1;

/// A program on an interface. Both the link and the filter are found again by their pin.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) ifindex: u32,
    pub(super) role: Role,
    pub(super) hook: Hook,
}

impl Attachment {
    pub(super) fn is(&self, ifindex: u32, role: Role) -> bool {
        self.ifindex == ifindex && self.role == role
    }

    pub(super) fn hook(&self) -> Hook {
        self.hook
    }
}

/// The flow cache's part of the switch's directory.
#[derive(Debug)]
pub(crate) struct Place {
    pins: Arc<Pins>,
    root: PathBuf,
}

impl Place {
    pub(crate) fn find(pins: &Arc<Pins>) -> Self {
        Self { pins: Arc::clone(pins), root: pins.root().join("flow-cache") }
    }

    /// The same for the crossings.
    pub(crate) fn crossings(pins: &Arc<Pins>) -> Self {
        Self { pins: Arc::clone(pins), root: pins.root().join("crossings") }
    }

    pub(super) fn open(pins: &Arc<Pins>) -> Result<Self, SteeringError> {
        Self::find(pins).make()
    }

    pub(crate) fn open_crossings(pins: &Arc<Pins>) -> Result<Self, SteeringError> {
        Self::crossings(pins).make()
    }

    fn make(self) -> Result<Self, SteeringError> {
        let place = self;
        for path in [place.maps(), place.root.join("links"), place.root.join("filters")] {
            fs::create_dir_all(&path).map_err(pin_error(&path))?;
        }
        Ok(place)
    }

    pub(super) fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    fn link_path(&self, interface: &str) -> PathBuf {
        self.root.join("links").join(escape(interface))
    }

    fn filter_path(&self, interface: &str) -> PathBuf {
        self.root.join("filters").join(escape(interface))
    }

    /// No interface has this name: `escape` leaves `%` only in front of two digits.
    fn next_filter_path(&self, interface: &str) -> PathBuf {
        self.root.join("filters").join(escape(interface) + "%new")
    }

    /// Interfaces that something is pinned for.
    pub(crate) fn interfaces(&self) -> Result<Vec<String>, SteeringError> {
        let mut names = Vec::new();
        for path in [self.root.join("links"), self.root.join("filters")] {
            for entry in entries(&path)? {
                names.extend(unescape(entry.strip_suffix("%new").unwrap_or(&entry)));
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Removes the pins of interfaces that have gone.
    pub(crate) fn clear_dead(&self) -> Result<(), SteeringError> {
        for interface in self.interfaces()? {
            let dead = match Link::open(self.link_path(&interface)) {
                Ok(link) => is_dead(&link),
                Err(_) => ifindex(&interface).is_err(),
            };
            if dead {
                self.clear(&interface)?;
            }
        }
        Ok(())
    }

    /// Takes everything off that is pinned for an interface.
    pub(crate) fn clear(&self, interface: &str) -> Result<(), SteeringError> {
        let path = self.link_path(interface);
        if let Ok(link) = Link::open(&path) {
            if !is_dead(&link) {
                link.detach()
                    .map_err(|source| SteeringError::Detach { interface: interface.to_owned(), source })?;
            }
            unpin(&path)?;
        }
        if let Ok(ifindex) = ifindex(interface) {
            self.clear_filter(interface, ifindex)?;
        }
        unpin(&self.next_filter_path(interface)).and(unpin(&self.filter_path(interface)))
    }

    /// Takes everything off that an earlier switch left, and removes the directory.
    pub(crate) fn remove(self) -> Result<Vec<String>, SteeringError> {
        if !self.root.exists() {
            return Ok(Vec::new());
        }
        let interfaces = self.interfaces()?;
        for interface in &interfaces {
            self.clear(interface)?;
        }
        for map in entries(&self.maps())? {
            unpin(&self.maps().join(map))?;
        }
        for path in [self.maps(), self.root.join("links"), self.root.join("filters"), self.root.clone()] {
            match fs::remove_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(pin_error(&path)(error)),
                _ => {}
            }
        }
        Ok(interfaces)
    }

    /// Takes off the filter, if it is still ours that is there.
    fn clear_filter(&self, interface: &str, ifindex: u32) -> Result<(), SteeringError> {
        let Some(program) = self.our_filter(interface, ifindex) else { return Ok(()) };
        filter(program.as_fd(), ifindex)
            .detach()
            .map_err(|source| SteeringError::Detach { interface: interface.to_owned(), source })
    }

    /// The program of our filter on an interface, if there is one. A switch that was killed while it replaced a program
    /// leaves two pins.
    fn our_filter(&self, interface: &str, ifindex: u32) -> Option<OwnedFd> {
        let there = filter(self.pins.as_fd(), ifindex).query().ok()?;
        [self.filter_path(interface), self.next_filter_path(interface)]
            .into_iter()
            .filter_map(|path| Program::fd_from_pinned_path(path).ok())
            .find(|program| fd_info(program, "prog_id") == Some(there))
    }
}

/// Names in a directory, which may be missing.
fn entries(path: &Path) -> Result<Vec<String>, SteeringError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(pin_error(path))?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<io::Result<_>>().map_err(pin_error(path))
}

/// Our place among the ingress filters of an interface.
fn filter(program: BorrowedFd<'_>, ifindex: u32) -> TcHook {
    let mut hook = TcHook::new(program);
    hook.ifindex(ifindex.cast_signed())
        .attach_point(TC_INGRESS)
        .handle(FILTER_HANDLE)
        .priority(FILTER_PRIORITY);
    hook
}

/// Attaches a program, or puts it in place of the one that an earlier switch attached, however it did.
pub(crate) fn attach(
    program: ProgramMut<'_>,
    place: &Place,
    hook: Option<Hook>,
    interface: &str,
    ifindex: u32,
) -> Result<Hook, FlowCacheError> {
    let mut site = Site { program, place, interface, ifindex };
    match (site.adopt_link()?, hook) {
        (true, _) => Ok(Hook::Tcx),
        (false, _) if site.has_filter() => site.set_filter(),
        (false, Some(Hook::Clsact)) => site.set_filter(),
        (false, hook) => match site.create_link() {
            Ok(hook) => Ok(hook),
            // Kernels before 6.6 do not know this kind of attachment.
            Err(error) if hook.is_none() && is_unknown(&error) => site.set_filter(),
            Err(source) => Err(site.refused(source)),
        },
    }
}

fn is_unknown(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

/// A program and where it goes.
struct Site<'a> {
    program: ProgramMut<'a>,
    place: &'a Place,
    interface: &'a str,
    ifindex: u32,
}

impl Site<'_> {
    fn refused(&self, source: io::Error) -> FlowCacheError {
        FlowCacheError::Attach { interface: self.interface.to_owned(), source }
    }

    /// Takes over the link pinned for the interface. One that is left from another interface of that name is removed.
    fn adopt_link(&self) -> Result<bool, FlowCacheError> {
        let Ok(mut link) = Link::open(self.place.link_path(self.interface)) else { return Ok(false) };
        if fd_info(&link, "ifindex") != Some(self.ifindex) {
            self.place.clear(self.interface)?;
            return Ok(false);
        }
        link.update_prog(&self.program)
            .map_err(|error| self.refused(io::Error::other(format!("{error:#}"))))?;
        Ok(true)
    }

    fn create_link(&self) -> io::Result<Hook> {
        let mut link = attach_tcx(&self.program, self.ifindex)?;
        link.pin(self.place.link_path(self.interface))
            .map_err(|error| io::Error::other(format!("{error:#}")))?;
        Ok(Hook::Tcx)
    }

    fn has_filter(&self) -> bool {
        self.place.our_filter(self.interface, self.ifindex).is_some()
    }

    /// Makes our filter run the program. The program is pinned before it runs and until another does, so that whatever
    /// happens in between, the filter is known for ours.
    fn set_filter(&mut self) -> Result<Hook, FlowCacheError> {
        let (path, next) =
            (self.place.filter_path(self.interface), self.place.next_filter_path(self.interface));
        let ours = self.has_filter();
        unpin(&next)?;
        self.program.pin(&next).map_err(|error| self.refused(io::Error::other(format!("{error:#}"))))?;
        let mut filter = filter(self.program.as_fd(), self.ifindex);
        if let Err(error) = filter.create().and_then(|_| filter.replace(ours).attach()) {
            let conflict = error.kind() == libbpf_rs::ErrorKind::AlreadyExists;
            unpin(&next)?;
            return Err(if conflict {
                FlowCacheError::Conflict(self.interface.to_owned())
            } else {
                self.refused(io::Error::other(format!("{error:#}")))
            });
        }
        fs::rename(&next, &path).map_err(|error| FlowCacheError::Place(pin_error(&path)(error)))?;
        Ok(Hook::Clsact)
    }
}
