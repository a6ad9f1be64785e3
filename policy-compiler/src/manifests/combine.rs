//! What several files say together.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use super::{Finding, Located};
use crate::model::{Object, ObjectKey, Pod};

/// The objects of several files.
#[derive(Debug, Clone, Default)]
pub struct Combined {
    /// By kind and name.
    pub objects: BTreeMap<ObjectKey, Object>,
    /// Objects that are defined more than once. The first definition holds.
    pub findings: Vec<Finding>,
}

/// Puts the objects of files together, which come in order.
///
/// One thing may be said in two places: people write pods without `status`, and somebody else knows their addresses. Of two definitions
/// of a Pod, exactly one of which has addresses, the other one says what the pod is.
pub fn combine<'a>(files: impl Iterator<Item = (&'a Path, &'a [Located])>) -> Combined {
    let mut combined = Combined::default();
    // Where it was first defined, and whether two definitions have been made one.
    let mut places: BTreeMap<ObjectKey, (&Path, bool)> = BTreeMap::new();
    let located = files.flat_map(|(path, objects)| objects.iter().map(move |located| (path, located)));
    for (path, Located { object, line, .. }) in located {
        let key = object.key();
        match combined.objects.entry(key.clone()) {
            Entry::Vacant(free) => {
                free.insert(object.clone());
                places.insert(key, (path, false));
            }
            Entry::Occupied(mut there) => {
                let Some((first, joined)) = places.get_mut(&key) else { continue };
                match (there.get(), object) {
                    (Object::Pod(one), Object::Pod(other))
                        if !*joined && one.addresses.is_empty() != other.addresses.is_empty() =>
                    {
                        *joined = true;
                        there.insert(Object::Pod(join(one, other)));
                    }
                    _ => combined.findings.push(Finding {
                        kind: key.kind.into(),
                        object: Some(key.name),
                        field: "metadata.name".into(),
                        ..Finding::of_line(path, *line, format!("also defined in {}", first.display()))
                    }),
                }
            }
        }
    }
    combined
}

/// One pod of two halves: what it is, and where it is.
fn join(one: &Pod, other: &Pod) -> Pod {
    let (written, seen) = if one.addresses.is_empty() { (one, other) } else { (other, one) };
    Pod {
        addresses: seen.addresses.clone(),
        node: written.node.clone().or_else(|| seen.node.clone()),
        finished: written.finished || seen.finished,
        created: written.created.max(seen.created),
        ..written.clone()
    }
}
