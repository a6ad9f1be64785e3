//! Taking addresses back, and looking at what is there.

use super::record::Record;
use super::store::Guard;
use super::{State, StateError};
use crate::attachment::Attachment;

impl State {
    /// Frees every address of the attachment and forgets it; one that is not there is fine.
    pub(crate) fn release(&self, attachment: &Attachment) -> Result<(), StateError> {
        if !self.store.addresses.exists() {
            return Ok(());
        }
        let guard = self.store.lock()?;
        self.release_locked(&guard, attachment)
    }

    pub(super) fn release_locked(&self, guard: &Guard, attachment: &Attachment) -> Result<(), StateError> {
        let interface = attachment.host_interface();
        let (addresses, until) = match self.store.read(&interface) {
            Ok(None) => return Ok(()),
            Ok(Some(record)) if !record.is_of(attachment) => return Ok(()),
            // When an address that another plugin gave is used again is up to that plugin.
            Ok(Some(record)) => {
                let until = if record.ipam.is_some() { None } else { self.rests_until() };
                (record.addresses, until)
            }
            // Its name says whose it is, and the links lead to it.
            Err(StateError::Corrupt { .. }) => {
                (guard.names.taken.iter().copied().collect(), self.rests_until())
            }
            Err(error) => return Err(error),
        };
        for address in addresses {
            self.store.free(address, &interface, until)?;
        }
        self.store.remove(&interface)
    }

    /// Frees addresses that lead to no record. Only a hand, or a file system's repair, makes such.
    pub(crate) fn free_ownerless(&self) -> Result<(), StateError> {
        let _guard = self.store.lock()?;
        self.store.free_ownerless()
    }

    /// The record of an attachment.
    pub(crate) fn find(&self, attachment: &Attachment) -> Result<Option<Record>, StateError> {
        self.store.check_format()?;
        let record = self.store.read(attachment.host_interface())?;
        Ok(record.filter(|record| record.is_of(attachment)))
    }

    /// All records that can be read, in the order of their names, and what is wrong with the others.
    pub(crate) fn records(&self) -> (Vec<Record>, Vec<StateError>) {
        let (mut records, mut errors) = (Vec::new(), Vec::new());
        let interfaces = self.store.check_format().and_then(|()| self.store.interfaces());
        for interface in interfaces.unwrap_or_else(|error| {
            errors.push(error);
            Vec::new()
        }) {
            match self.store.read(interface) {
                Ok(record) => records.extend(record),
                Err(error) => errors.push(error),
            }
        }
        (records, errors)
    }
}
