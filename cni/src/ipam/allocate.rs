//! Giving addresses out and taking them back.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::entry::{Entry, Owner};
use super::{Ipam, IpamError, Range};

impl Ipam {
    /// Allocates one address of each family that has a range, from the first of its ranges that has one free and that
    /// `reserved` does not hold. All of them, or none. Allocation goes round each range, so that an address rests as long
    /// as possible before somebody else gets it.
    pub(crate) fn allocate(
        &self,
        owner: &Owner,
        pod: &str,
        ranges: &[Range],
        reserved: &[IpAddr],
    ) -> Result<Vec<IpAddr>, IpamError> {
        let guard = self.store.lock()?;
        let mut chosen = Vec::with_capacity(2);
        for ipv4 in [true, false] {
            let family: Vec<&Range> = ranges.iter().filter(|range| range.is_ipv4() == ipv4).collect();
            if !family.is_empty() {
                chosen.push(self.choose(&guard.taken, &family, reserved)?);
            }
        }
        let entry = Entry::new(owner, pod);
        let addresses: Vec<IpAddr> = chosen.iter().map(|(_, address)| *address).collect();
        let written = chosen.into_iter().try_for_each(|(range, address)| {
            self.store.set_last(range, address)?;
            self.store.create(address, &entry)
        });
        match written.and_then(|()| self.store.sync()) {
            Ok(()) => Ok(addresses),
            Err(error) => {
                // Chosen under the lock because they were free: whatever of them is there now is ours.
                for address in addresses {
                    let _ = self.store.remove(address);
                }
                Err(error)
            }
        }
    }

    /// Whether [`Self::allocate`] would find addresses now. Neither locks nor writes.
    pub(crate) fn check_free(&self, ranges: &[Range], reserved: &[IpAddr]) -> Result<(), IpamError> {
        let taken = self.store.taken()?;
        for ipv4 in [true, false] {
            let family: Vec<&Range> = ranges.iter().filter(|range| range.is_ipv4() == ipv4).collect();
            if !family.is_empty() {
                self.choose(&taken, &family, reserved)?;
            }
        }
        Ok(())
    }

    /// Gives back exactly `addresses`, as [`Self::allocate`] returned them: what another attempt for the same owner holds
    /// is left alone.
    pub(crate) fn give_back(&self, owner: &Owner, addresses: &[IpAddr]) -> Result<(), IpamError> {
        let Some(_guard) = self.store.lock_if_present()? else { return Ok(()) };
        for &address in addresses {
            self.release_one(address, owner)?;
        }
        self.store.sync()
    }

    /// Frees every address of `owner`; freeing none is fine. Goes on past errors and returns the first.
    pub(crate) fn release(&self, owner: &Owner) -> Result<Vec<IpAddr>, IpamError> {
        let Some(guard) = self.store.lock_if_present()? else { return Ok(Vec::new()) };
        let mut freed = Vec::new();
        let mut corrupt = Vec::new();
        let mut failure = None;
        for &address in &guard.taken {
            match self.release_one(address, owner) {
                Ok(Outcome::Freed) => freed.push(address),
                Ok(Outcome::SetAside(path)) => corrupt.push(path),
                Ok(Outcome::Foreign) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if !freed.is_empty() || !corrupt.is_empty() {
            self.store.sync()?;
        }
        match failure {
            Some(error) => Err(error),
            None if corrupt.is_empty() => Ok(freed),
            None => Err(IpamError::Corrupt { files: corrupt }),
        }
    }

    fn release_one(&self, address: IpAddr, owner: &Owner) -> Result<Outcome, IpamError> {
        match self.store.read(address) {
            Ok(Some(entry)) if entry.owner == *owner => self.store.remove(address).map(|()| Outcome::Freed),
            Ok(Some(_)) => Ok(Outcome::Foreign),
            Ok(None) => self.store.set_aside(address).map(Outcome::SetAside),
            // Taken by a file that was set aside before.
            Err(IpamError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Outcome::Foreign)
            }
            Err(error) => Err(error),
        }
    }

    fn choose<'a>(
        &self,
        taken: &BTreeSet<IpAddr>,
        ranges: &[&'a Range],
        reserved: &[IpAddr],
    ) -> Result<(&'a Range, IpAddr), IpamError> {
        let claims = taken.len() + reserved.len();
        let claimed = |address| taken.contains(&address) || reserved.contains(&address);
        let found = ranges
            .iter()
            .find_map(|range| Some((*range, range.next_free(self.store.last(range), claims, claimed)?)));
        found.ok_or_else(|| {
            let prefixes: Vec<_> = ranges.iter().map(|range| range.prefix().to_string()).collect();
            let family = ranges.first().map_or("", |range| range.family());
            IpamError::Exhausted { family, ranges: prefixes.join(", ") }
        })
    }
}

enum Outcome {
    Freed,
    Foreign,
    SetAside(std::path::PathBuf),
}
