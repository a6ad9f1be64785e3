//! Which files of a directory are manifests.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::LoadError;

/// All `*.yaml`, `*.yml` and `*.json` in a directory and below it, in order of their names. Links to directories are followed, as
/// mounted `ConfigMap`s consist of them; what vanishes meanwhile is not there.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let mut found = Vec::new();
    let mut entered = BTreeSet::new();
    walk(directory, &mut entered, &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(
    directory: &Path,
    entered: &mut BTreeSet<PathBuf>,
    found: &mut Vec<PathBuf>,
) -> Result<(), LoadError> {
    let failed = |source| LoadError { path: directory.to_owned(), source };
    // A link may lead back up.
    if !entered.insert(fs::canonicalize(directory).map_err(failed)?) {
        return Ok(());
    }
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        // Hidden ones are editors' and, in a mounted ConfigMap, the data behind the links that are read.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => match walk(&path, entered, found) {
                Err(error) if error.source.kind() == ErrorKind::NotFound => {}
                walked => walked?,
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // What else is wrong with a file shows when it is read.
            _ if is_manifest(&path) => found.push(path),
            _ => {}
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|wanted| end == *wanted))
}
