//! GC alone, ADD and DEL beside each other: a lock on the directory of records, shared by those, exclusive for GC.

use std::fs::File;
use std::io;
use std::time::Duration;

use super::lock::{Kind, wait_for_lock};
use super::{State, StateError, io_error};

/// How long ADD and DEL wait for a GC, which takes milliseconds an attachment.
const FOR_GC: Duration = Duration::from_secs(5);

/// How long GC waits for those that are under way: longer than an ADD can take that waits for the switch and is undone.
const FOR_OTHERS: Duration = Duration::from_secs(15);

/// Being among those who change attachments, until dropped.
#[derive(Debug)]
pub(crate) struct Presence {
    _directory: File,
}

impl State {
    /// For ADD: no GC until this is dropped. Makes the state if there is none.
    pub(crate) fn join(&self) -> Result<Presence, StateError> {
        if let Some(presence) = self.enter(Kind::Shared, FOR_GC)? {
            return Ok(presence);
        }
        self.store.make()?;
        let gone = || io_error("open", &self.store.attachments, io::ErrorKind::NotFound.into());
        self.enter(Kind::Shared, FOR_GC)?.ok_or_else(gone)
    }

    /// For DEL: the same, but where there is no state, there is nothing to keep a GC from.
    pub(crate) fn join_if_present(&self) -> Result<Option<Presence>, StateError> {
        self.enter(Kind::Shared, FOR_GC)
    }

    /// For GC: neither ADD nor DEL until this is dropped; nothing where there is no state.
    pub(crate) fn exclude(&self) -> Result<Option<Presence>, StateError> {
        self.enter(Kind::Exclusive, FOR_OTHERS)
    }

    fn enter(&self, kind: Kind, patience: Duration) -> Result<Option<Presence>, StateError> {
        let path = &self.store.attachments;
        match File::open(path) {
            Ok(directory) => {
                wait_for_lock(directory, path, kind, patience).map(|file| Some(Presence { _directory: file }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("open", path, error)),
        }
    }
}
