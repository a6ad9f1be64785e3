//! The loaded programs with their maps, pinned so that a later switch takes them over.

use std::os::fd::AsFd;
use std::path::Path;

use libbpf_rs::{ErrorKind, Map, MapCore, MapFlags, MapHandle, MapType, Object, ObjectBuilder, ProgramMut};

use super::cache::{Role, Start};
use super::counters::Counters;
use super::error::FlowCacheError;
use super::shapes::{FLOW_KEY_SIZE, FLOW_SIZE, FORMAT, HOP_SIZE, HOPS, PORT_SIZE, SETTINGS_SIZE, TRUNKS};
use crate::SteeringError;
use crate::pins::unpin;

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/flow_cache.bpf.o"));

pub(super) const FLOWS: &str = "flows";
pub(super) const FENCES: &str = "fences";

/// A map as `c/maps.h` defines it.
struct Shape {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

/// `settings` is last: it says the format, so it is pinned when all others are.
fn shapes(flows: u32) -> [Shape; 8] {
    let shape = |name, kind, key, value, entries| Shape { name, kind, key, value, entries };
    [
        shape(FLOWS, MapType::Hash, FLOW_KEY_SIZE, FLOW_SIZE, flows),
        shape("hops", MapType::Array, 4, HOP_SIZE, HOPS),
        shape(FENCES, MapType::Array, 4, 8, 65_536),
        shape("ports", MapType::Hash, 4, PORT_SIZE, 8192),
        shape("peers", MapType::Hash, 16, 4, 16_384),
        shape("trunks", MapType::Array, 4, 4, TRUNKS),
        shape("counters", MapType::PercpuArray, 4, 256, 1),
        shape("settings", MapType::Array, 4, SETTINGS_SIZE, 1),
    ]
}

/// Key and value.
type Entry = (Vec<u8>, Vec<u8>);

pub(super) struct Maps {
    object: Object,
}

impl Maps {
    /// Loads the programs, on the maps pinned in `directory` if they are all there and fit, else on new ones.
    pub(super) fn load(directory: &Path, flows: u32) -> Result<(Self, Start), FlowCacheError> {
        let shapes = shapes(flows);
        let pinned = match find(directory, &shapes) {
            Ok(pinned) => pinned,
            Err(why) => return Ok((Self::make(directory, &shapes, flows)?, why)),
        };
        let maps = Self { object: load(flows, &pinned)? };
        Ok((maps, Start::TakenOver))
    }

    fn make(directory: &Path, shapes: &[Shape], flows: u32) -> Result<Self, FlowCacheError> {
        for shape in shapes.iter().rev() {
            unpin(&directory.join(shape.name))?;
        }
        let maps = Self { object: load(flows, &[])? };
        let mut blank = [0; SETTINGS_SIZE];
        blank[..4].copy_from_slice(&FORMAT.to_ne_bytes());
        maps.set("settings", &0_u32.to_ne_bytes(), &blank)?;
        for shape in shapes {
            maps.handle(shape.name)?
                .pin(directory.join(shape.name))
                .map_err(|source| FlowCacheError::Keep { map: shape.name, source })?;
        }
        Ok(maps)
    }

    pub(super) fn program(&self, role: Role) -> ProgramMut<'_> {
        let name = match role {
            Role::Endpoint => "from_endpoint",
            Role::Trunk => "from_trunk",
            Role::Overlay => "from_overlay",
        };
        self.object
            .progs_mut()
            .find(|program| program.name() == name)
            .expect("c/flow_cache.bpf.c has all the programs named here")
    }

    fn map(&self, name: &'static str) -> Map<'_> {
        self.object.maps().find(|map| map.name() == name).expect("c/maps.h has all the maps named here")
    }

    /// A handle of its own to a map.
    pub(super) fn handle(&self, name: &'static str) -> Result<MapHandle, FlowCacheError> {
        MapHandle::try_from(&self.map(name)).map_err(|source| FlowCacheError::Map { map: name, source })
    }

    pub(super) fn set(&self, name: &'static str, key: &[u8], value: &[u8]) -> Result<(), FlowCacheError> {
        self.map(name)
            .update(key, value, MapFlags::ANY)
            .map_err(|source| FlowCacheError::Map { map: name, source })
    }

    /// Removes an entry if it is there.
    pub(super) fn unset(&self, name: &'static str, key: &[u8]) -> Result<(), FlowCacheError> {
        match self.map(name).delete(key) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(FlowCacheError::Map { map: name, source })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn get(&self, name: &'static str, key: &[u8]) -> Result<Vec<u8>, FlowCacheError> {
        let value = self.map(name).lookup(key, MapFlags::ANY);
        Ok(value.map_err(|source| FlowCacheError::Map { map: name, source })?.unwrap_or_default())
    }

    pub(super) fn entries(&self, name: &'static str) -> Result<Vec<Entry>, FlowCacheError> {
        let keys = self.map(name).keys().collect::<Vec<_>>();
        keys.into_iter().map(|key| self.get(name, &key).map(|value| (key, value))).collect()
    }

    pub(super) fn counters(&self) -> Result<Counters, FlowCacheError> {
        let all = self
            .map("counters")
            .lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| FlowCacheError::Map { map: "counters", source })?;
        let mut sum = Counters::default();
        for processor in all.iter().flatten() {
            sum += Counters::from_bytes(processor);
        }
        Ok(sum)
    }
}

/// The pinned maps, if all are there and fit.
fn find(directory: &Path, shapes: &[Shape]) -> Result<Vec<(&'static str, MapHandle)>, Start> {
    let mut found = Vec::new();
    for shape in shapes {
        if let Ok(map) = MapHandle::from_pinned_path(directory.join(shape.name)) {
            found.push((shape.name, map));
        }
    }
    if found.is_empty() {
        return Err(Start::Fresh);
    }
    if found.len() < shapes.len() {
        return Err(Start::Afresh("maps are missing"));
    }
    for (shape, (_, map)) in shapes.iter().zip(&found) {
        let kind = map.map_type() == shape.kind;
        let sizes = (map.key_size() as usize, map.value_size() as usize) == (shape.key, shape.value);
        if !kind || !sizes {
            return Err(Start::Afresh("maps are of another version"));
        }
        if map.max_entries() != shape.entries {
            return Err(Start::Afresh("the number of flows has changed"));
        }
    }
    let format = found
        .last()
        .and_then(|(_, settings)| settings.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).ok().flatten());
    if format.is_some_and(|settings| settings.starts_with(&FORMAT.to_ne_bytes())) {
        Ok(found)
    } else {
        Err(Start::Afresh("maps are of another version"))
    }
}

fn load(flows: u32, pinned: &[(&'static str, MapHandle)]) -> Result<Object, FlowCacheError> {
    let refused = |error: libbpf_rs::Error| match error.kind() {
        ErrorKind::PermissionDenied => FlowCacheError::Place(SteeringError::NotPermitted),
        _ => FlowCacheError::Load(error),
    };
    let mut object = ObjectBuilder::default().open_memory(OBJECT).map_err(refused)?;
    for mut map in object.maps_mut() {
        if map.name() == FLOWS {
            map.set_max_entries(flows).map_err(FlowCacheError::Load)?;
        }
        if let Some((name, kept)) = pinned.iter().find(|(name, _)| map.name() == *name) {
            map.reuse_fd(kept.as_fd()).map_err(|source| FlowCacheError::Keep { map: name, source })?;
        }
    }
    object.load().map_err(refused)
}
