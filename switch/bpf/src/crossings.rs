//! Crossings (`c/crossing.bpf.c`): what comes in by one interface leaves by the queue of another.
//!
//! They stay when the switch stops. The next one puts its own program in their place, with a map of its own that says the same.

use std::collections::HashMap;
use std::fmt;

use libbpf_rs::{MapCore, MapFlags, Object, ObjectBuilder};

use crate::attach::ifindex;
use crate::flow_cache::{FlowCacheError, Place, attach};
use crate::{Steering, SteeringError};

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/crossing.bpf.o"));

const PROGRAM: &str = "cross";
const MAP: &str = "crossings";

/// The crossings of one switch, in the calling thread's network namespace.
pub struct Crossings {
    object: Object,
    place: Place,
    /// Index of the interface they are on, by name.
    attached: HashMap<String, u32>,
}

impl Crossings {
    /// Loads the program into the directory of `steering`. Crossings that an earlier switch left go on, until made again or
    /// removed by [`Self::remove_unclaimed`].
    pub fn open(steering: &Steering) -> Result<Self, FlowCacheError> {
        let place = Place::open_crossings(steering.pins())?;
        let object = ObjectBuilder::default().open_memory(OBJECT).and_then(libbpf_rs::OpenObject::load);
        place.clear_dead()?;
        Ok(Self { object: object.map_err(FlowCacheError::Load)?, place, attached: HashMap::new() })
    }

    /// Takes off whatever an earlier switch left in the directory of `steering`, for a switch without crossings.
    pub fn remove_all(steering: &Steering) -> Result<(), FlowCacheError> {
        Ok(clean_up(steering.pins())?)
    }

    /// Lets everything that comes in by `from` leave by `to`.
    pub fn make(&mut self, from: &str, to: &str) -> Result<(), FlowCacheError> {
        let (from_index, to_index) = (ifindex(from)?, ifindex(to)?);
        // The map first: a crossing that is taken over never leads nowhere.
        self.set(from_index, Some(to_index))?;
        let program = self.object.progs_mut().find(|program| program.name() == PROGRAM);
        let Some(program) = program else {
            return Err(FlowCacheError::Impossible("the object file lacks the crossing's program"));
        };
        match attach(program, &self.place, None, from, from_index) {
            Ok(_) => {
                self.attached.insert(from.to_owned(), from_index);
                Ok(())
            }
            Err(error) => {
                let _ = self.set(from_index, None);
                Err(error)
            }
        }
    }

    /// Undoes [`Self::make`]. Nothing to undo, or an interface that has gone, is fine.
    pub fn remove(&mut self, from: &str) -> Result<(), FlowCacheError> {
        let Some(index) = self.attached.remove(from) else { return Ok(()) };
        let unset = self.set(index, None);
        self.place.clear(from)?;
        unset
    }

    /// Takes off what an earlier switch left and this one has not made again. Returns the interfaces.
    pub fn remove_unclaimed(&mut self) -> Result<Vec<String>, FlowCacheError> {
        let mut removed = Vec::new();
        for interface in self.place.interfaces()? {
            if !self.attached.contains_key(&interface) {
                self.place.clear(&interface)?;
                removed.push(interface);
            }
        }
        Ok(removed)
    }

    fn set(&self, from: u32, to: Option<u32>) -> Result<(), FlowCacheError> {
        let map = self.object.maps().find(|map| map.name() == MAP);
        let Some(map) = map else {
            return Err(FlowCacheError::Impossible("the object file lacks the crossings' map"));
        };
        let done = match to {
            Some(to) => map.update(&from.to_ne_bytes(), &to.to_ne_bytes(), MapFlags::ANY),
            None => match map.delete(&from.to_ne_bytes()) {
                Err(error) if error.kind() == libbpf_rs::ErrorKind::NotFound => Ok(()),
                deleted => deleted,
            },
        };
        done.map_err(|source| FlowCacheError::Map { map: MAP, source })
    }
}

/// Takes everything off that an earlier switch left.
pub(crate) fn clean_up(pins: &std::sync::Arc<crate::pins::Pins>) -> Result<(), SteeringError> {
    Place::crossings(pins).remove().map(drop)
}

impl fmt::Debug for Crossings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crossings").field("attached", &self.attached).finish_non_exhaustive()
    }
}
