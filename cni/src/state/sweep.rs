//! After a reboot: no interface has come through it, so whatever is written down is of attachments that are no more.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::record::{FORMAT, later_format};
use super::store::{Store, TEMPORARY};
use super::{StateError, io_error};

const BOOT: &str = "boot";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Says of which boot the state is. Written once a boot.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    format: u32,
    boot: String,
}

impl Store {
    /// Refuses what a later version wrote, whatever else it may look like.
    pub(super) fn check_format(&self) -> Result<(), StateError> {
        self.marker().map(drop)
    }

    /// Removes what is of another boot than this, whose identifier is returned. Called with the lock held.
    pub(super) fn sweep_earlier_boots(&self) -> Result<String, StateError> {
        let marker = self.marker()?;
        let boot = fs::read_to_string(BOOT_ID).map_err(|e| io_error("read", BOOT_ID.as_ref(), e))?;
        let boot = boot.trim().to_owned();
        if marker.is_some_and(|marker| marker.boot == boot) {
            return Ok(boot);
        }
        // The marker alone is not believed: somebody may have removed it from under running pods.
        let is_of_this = |interface: &String| match self.read(interface) {
            Ok(record) => Ok(record.is_some_and(|record| record.boot == boot)),
            // A torn one. Only now: while the machine is up, it is told of and left.
            Err(StateError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        };
        for interface in self.interfaces()? {
            if !is_of_this(&interface)? {
                self.remove(&interface)?;
            }
        }
        self.free_ownerless()?;
        for (address, until) in self.names()?.resting {
            // Its clock has begun anew. What stays rests longer than it has to.
            let _ = fs::remove_file(self.resting_path(address, until));
        }
        self.mark(&boot)?;
        Ok(boot)
    }

    /// Frees addresses whose link leads to no record. Called with the lock held.
    pub(super) fn free_ownerless(&self) -> Result<(), StateError> {
        for address in self.names()?.taken {
            let Some(interface) = self.holder(address) else { continue };
            if !self.record_path(&interface).exists() {
                self.free(address, &interface, None)?;
            }
        }
        Ok(())
    }

    fn marker(&self) -> Result<Option<Marker>, StateError> {
        let path = self.addresses.join(BOOT);
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path, error)),
        };
        match later_format(&json) {
            Some(format) => Err(StateError::Newer { file: path, format }),
            None => Ok(serde_json::from_slice(&json).ok()),
        }
    }

    fn mark(&self, boot: &str) -> Result<(), StateError> {
        let path = self.addresses.join(BOOT);
        let temporary = self.addresses.join(format!("{BOOT}{TEMPORARY}"));
        let marker = Marker { format: FORMAT, boot: boot.to_owned() };
        let json = serde_json::to_vec(&marker).unwrap_or_default();
        let write = || {
            fs::write(&temporary, json)?;
            self.step()?;
            fs::rename(&temporary, &path)
        };
        self.step().and_then(|()| write()).map_err(|e| io_error("write", &path, e))
    }
}
