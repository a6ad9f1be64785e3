//! The flows themselves, for the thread that owns them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::error::FlowCacheError;
use super::maps::{FENCES, FLOWS};
use super::shapes::{FLOW_KEY_SIZE, FLOW_SIZE};
use super::types::{Flow, FlowKey, Use};
use crate::syscalls::{Batch, read_batch};

/// Entries read at once.
const BATCH: usize = 1024;

/// A handle to the flows and fences. Cheap to copy, and any thread may use it.
#[derive(Clone)]
pub struct Flows {
    maps: Arc<(MapHandle, MapHandle)>,
}

/// What became of a flow that was to be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is there.
    Yes,
    /// A flow of that key is there already, and was left as it is.
    Already,
    /// There is no room.
    Full,
}

impl Flows {
    pub(super) fn new(flows: MapHandle, fences: MapHandle) -> Self {
        Self { maps: Arc::new((flows, fences)) }
    }

    /// How many flows there is room for.
    pub fn capacity(&self) -> u32 {
        self.flows().max_entries()
    }

    /// Inserts flows, pending from now on unless they are to be open at once. Fences of pending ones were reset before
    /// ([`Self::reset_fence`]).
    pub fn insert(&self, flows: &[(FlowKey, Flow)]) -> Result<Vec<Inserted>, FlowCacheError> {
        let now = now();
        flows.iter().map(|(key, flow)| self.insert_one(key, flow, now)).collect()
    }

    fn insert_one(&self, key: &FlowKey, flow: &Flow, now: Duration) -> Result<Inserted, FlowCacheError> {
        check(key, flow)?;
        match self.flows().update(&key.to_bytes(), &flow.to_bytes(key, now), MapFlags::NO_EXIST) {
            Ok(()) => Ok(Inserted::Yes),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Inserted::Already),
            // libbpf-rs has no kind for it, but libbpf leaves errno set.
            Err(_) if io::Error::last_os_error().raw_os_error() == Some(Errno::TOOBIG.raw_os_error()) => {
                Ok(Inserted::Full)
            }
            Err(source) => Err(FlowCacheError::Map { map: FLOWS, source }),
        }
    }

    /// Removes flows. Tells the use of each at its end, `None` for one that was not there.
    pub fn remove(&self, keys: &[FlowKey]) -> Result<Vec<Option<Use>>, FlowCacheError> {
        keys.iter()
            .map(|key| {
                let value = self
                    .flows()
                    .lookup_and_delete(&key.to_bytes())
                    .map_err(|source| FlowCacheError::Map { map: FLOWS, source })?;
                Ok(value.map(|bytes| Flow::from_bytes(key, &bytes).1))
            })
            .collect()
    }

    /// A flow, if it is there.
    pub fn read(&self, key: &FlowKey) -> Result<Option<(Flow, Use)>, FlowCacheError> {
        let value = self
            .flows()
            .lookup(&key.to_bytes(), MapFlags::ANY)
            .map_err(|source| FlowCacheError::Map { map: FLOWS, source })?;
        Ok(value.map(|bytes| Flow::from_bytes(key, &bytes)))
    }

    /// Shows every flow to `visit`. Those that stay are seen once, those that come or go meanwhile perhaps.
    pub fn scan(&self, mut visit: impl FnMut(FlowKey, Flow, Use)) -> Result<(), FlowCacheError> {
        let (mut room, mut position) = (BATCH, None);
        let mut keys = vec![0; room * FLOW_KEY_SIZE];
        let mut values = vec![0; room * FLOW_SIZE];
        loop {
            let batch = read_batch(self.flows(), position, &mut keys, &mut values);
            let (count, next) = match batch.map_err(FlowCacheError::Scan)? {
                Batch::More(count, next) => (count, Some(next)),
                Batch::Last(count) => (count, None),
                Batch::NoRoom => {
                    room *= 2;
                    keys.resize(room * FLOW_KEY_SIZE, 0);
                    values.resize(room * FLOW_SIZE, 0);
                    continue;
                }
            };
            let (keys, values) = (keys.chunks_exact(FLOW_KEY_SIZE), values.chunks_exact(FLOW_SIZE));
            for (key, value) in keys.zip(values).take(count as usize) {
                let key = FlowKey::from_bytes(key);
                let (flow, used) = Flow::from_bytes(&key, value);
                visit(key, flow, used);
            }
            if next.is_none() {
                return Ok(());
            }
            position = next;
        }
    }

    /// Makes a fence ready for a flow: nothing is known to be under way.
    pub fn reset_fence(&self, fence: u16) -> Result<(), FlowCacheError> {
        self.maps
            .1
            .update(&u32::from(fence).to_ne_bytes(), &[0; 8], MapFlags::ANY)
            .map_err(|source| FlowCacheError::Map { map: FENCES, source })
    }

    fn flows(&self) -> &MapHandle {
        &self.maps.0
    }
}

impl fmt::Debug for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flows").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

fn check(key: &FlowKey, flow: &Flow) -> Result<(), FlowCacheError> {
    let v4 = key.source.is_ipv4();
    if key.destination.is_ipv4() != v4 || flow.rewrite.is_some_and(|rewrite| rewrite.address.is_ipv4() != v4)
    {
        return Err(FlowCacheError::Impossible("a flow's addresses are of one family"));
    }
    if !matches!(key.protocol, 6 | 17) {
        return Err(FlowCacheError::Impossible("flows are TCP or UDP"));
    }
    Ok(())
}

/// The time by `CLOCK_MONOTONIC`, as the programs have it.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
