//! Giving addresses out.

use std::fs::File;
use std::net::IpAddr;

use super::record::Record;
use super::store::{Guard, uptime};
use super::{Range, State, StateError};

/// What addresses are chosen from, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool<'a> {
    /// The node's, in the order in which they are used.
    pub(crate) ranges: &'a [Range],
    /// Never given out.
    pub(crate) reserved: &'a [IpAddr],
    /// Asked for; at most one of each family.
    pub(crate) requested: &'a [IpAddr],
}

/// An attachment that is being made; nobody else makes it until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    /// Its addresses.
    pub(crate) addresses: Vec<IpAddr>,
    _record: File,
}

impl State {
    /// Records an attachment, with an address of each family that has a range: those that are asked for, or else ones that nobody has, that do not rest, from
    /// the first of the family's ranges that has any. All of them, or none. Allocation goes round each range, so that an address
    /// is free for as long as possible before somebody else gets it; when all that are free rest, the one is taken that has done so longest.
    ///
    /// Of the attachment itself nothing may be there: what is written of it is of an ADD that died, and replaced.
    pub(crate) fn allocate(&self, mut record: Record, pool: &Pool<'_>) -> Result<Held, StateError> {
        let guard = self.lock_for(&record)?;
        let mut chosen: Vec<(&Range, IpAddr)> = Vec::with_capacity(2);
        for ipv4 in [true, false] {
            let family: Vec<&Range> = pool.ranges.iter().filter(|range| range.is_ipv4() == ipv4).collect();
            let requested = pool.requested.iter().find(|address| address.is_ipv4() == ipv4);
            match requested {
                Some(&address) => chosen.push((self.check_request(&guard, address, &family, pool)?, address)),
                None if family.is_empty() => {}
                None => chosen.push(choose(&guard, &family, pool.reserved)?),
            }
        }
        guard.set_last(&chosen);
        record.addresses = chosen.into_iter().map(|(_, address)| address).collect();
        self.hold(&guard, record)
    }

    /// Records an attachment whose addresses another plugin is about to give.
    pub(crate) fn announce(&self, record: Record) -> Result<Held, StateError> {
        let guard = self.lock_for(&record)?;
        self.hold(&guard, record)
    }

    /// Records the addresses that another plugin gave.
    pub(crate) fn take(&self, mut record: Record, addresses: &[IpAddr]) -> Result<Held, StateError> {
        let guard = self.store.lock()?;
        for &address in addresses {
            if guard.names.taken.contains(&address) {
                let reason = self.tell_holder(address);
                return Err(StateError::NotToBeHad { address, reason });
            }
        }
        addresses.clone_into(&mut record.addresses);
        self.hold(&guard, record)
    }

    /// Whether [`Self::allocate`] would find addresses now. Neither locks nor writes.
    pub(crate) fn check_free(&self, ranges: &[Range], reserved: &[IpAddr]) -> Result<(), StateError> {
        self.store.check_format()?;
        let taken = self.store.names()?.taken;
        for ipv4 in [true, false] {
            let family: Vec<&Range> = ranges.iter().filter(|range| range.is_ipv4() == ipv4).collect();
            let claimed = |address| taken.contains(&address) || reserved.contains(&address);
            let claims = taken.len() + reserved.len();
            let free = family.iter().any(|range| range.next_free(None, claims, claimed).is_some());
            if !family.is_empty() && !free {
                return Err(exhausted(&family));
            }
        }
        Ok(())
    }

    /// Locks, and clears away what an ADD of the same attachment left that died.
    fn lock_for(&self, record: &Record) -> Result<Guard, StateError> {
        let guard = self.store.lock()?;
        let interface = &record.host_interface;
        let attachment = record.attachment();
        let freed = match self.store.read(interface) {
            Ok(None) => return Ok(guard),
            Ok(Some(_)) | Err(StateError::Corrupt { .. }) if self.store.is_under_way(interface) => {
                return Err(StateError::UnderWay { record: self.store.record_path(interface) });
            }
            Ok(Some(there)) if !there.is_of(&attachment) => {
                let path = self.store.record_path(interface);
                let other = std::io::Error::other(format!(
                    "it is that of container {}, interface {}, which has the same hash; give the container another ID",
                    there.container_id, there.ifname
                ));
                return Err(super::io_error("use", &path, other));
            }
            Ok(Some(_)) | Err(StateError::Corrupt { .. }) => self.release_locked(&guard, &attachment),
            Err(error) => Err(error),
        };
        freed?;
        drop(guard);
        self.store.lock()
    }

    /// The record first: whoever has an address can be found.
    fn hold(&self, guard: &Guard, mut record: Record) -> Result<Held, StateError> {
        guard.boot.clone_into(&mut record.boot);
        let held = || {
            let file = self.store.write(&record)?;
            for &address in &record.addresses {
                self.store.claim(address, &record.host_interface)?;
            }
            Ok(file)
        };
        match held() {
            Ok(file) => Ok(Held { addresses: record.addresses, _record: file }),
            Err(error) => {
                // The first error is the one to tell, and DEL finds what is left.
                let _ = self.release_locked(guard, &record.attachment());
                Err(error)
            }
        }
    }

    fn check_request<'a>(
        &self,
        guard: &Guard,
        address: IpAddr,
        family: &[&'a Range],
        pool: &Pool<'_>,
    ) -> Result<&'a Range, StateError> {
        let refuse = |reason: String| Err(StateError::NotToBeHad { address, reason });
        let Some(range) = family.iter().copied().find(|range| range.prefix().contains(&address)) else {
            let all: Vec<_> = pool.ranges.iter().map(|range| range.prefix().to_string()).collect();
            return refuse(format!("is in none of this node's pod CIDRs; ask for one of {}", all.join(", ")));
        };
        if !range.holds(address) || pool.reserved.contains(&address) {
            return refuse(format!(
                "is reserved in {} (network, broadcast, gateway); ask for another one",
                range.prefix()
            ));
        }
        if guard.names.taken.contains(&address) {
            return refuse(self.tell_holder(address));
        }
        Ok(range)
    }

    fn tell_holder(&self, address: IpAddr) -> String {
        let holder =
            self.store.holder(address).and_then(|interface| self.store.read(interface).ok().flatten());
        let whose = holder.map_or_else(String::new, |record| {
            format!(" by container {}, interface {}", record.container_id, record.ifname)
        });
        format!("is taken{whose}; ask for another one, or delete that pod")
    }

    /// When an address that is freed now may be given out again; nothing when it need not rest.
    pub(super) fn rests_until(&self) -> Option<u64> {
        (self.rest > 0).then(|| uptime() + u64::from(self.rest))
    }
}

fn choose<'a>(
    guard: &Guard,
    ranges: &[&'a Range],
    reserved: &[IpAddr],
) -> Result<(&'a Range, IpAddr), StateError> {
    let (taken, resting) = (&guard.names.taken, &guard.names.resting);
    let claims = taken.len() + resting.len() + reserved.len();
    let claimed =
        |address| taken.contains(&address) || resting.contains_key(&address) || reserved.contains(&address);
    let rested =
        ranges.iter().find_map(|range| Some((*range, range.next_free(guard.last(range), claims, claimed)?)));
    let longest = || {
        let of_range = |address: &IpAddr| ranges.iter().copied().find(|range| range.holds(*address));
        let usable = resting.iter().filter(|(address, _)| !reserved.contains(address));
        let usable = usable.filter_map(|(address, until)| Some((until, *address, of_range(address)?)));
        usable.min_by_key(|(until, ..)| **until).map(|(_, address, range)| (range, address))
    };
    rested.or_else(longest).ok_or_else(|| exhausted(ranges))
}

fn exhausted(ranges: &[&Range]) -> StateError {
    let prefixes: Vec<_> = ranges.iter().map(|range| range.prefix().to_string()).collect();
    let family = ranges.first().map_or("", |range| range.family());
    StateError::Exhausted { family, ranges: prefixes.join(", ") }
}
