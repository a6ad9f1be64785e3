//! Which files of a directory are manifests.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::LoadError;

/// What a directory consists of.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The manifests, in order of their names.
    pub files: Vec<PathBuf>,
    /// The real directories that the files, and the links to them, are in: where something happens when a manifest changes.
    pub directories: BTreeSet<PathBuf>,
}

/// All `*.yaml`, `*.yml` and `*.json` in a directory and below it, in order of their names. Links to directories are followed, as
/// mounted `ConfigMap`s consist of them; what vanishes meanwhile is not there.
pub fn files(directory: &Path) -> Result<Listing, LoadError> {
    let mut listing = Listing::default();
    walk(directory, &mut listing)?;
    listing.files.sort();
    // Behind a link to a file is a directory that was not walked.
    let links = listing.files.iter().filter(|file| file.is_symlink());
    let real = links.filter_map(|link| fs::canonicalize(link).ok());
    let behind: Vec<_> = real.filter_map(|file| Some(file.parent()?.to_owned())).collect();
    listing.directories.extend(behind);
    Ok(listing)
}

fn walk(directory: &Path, listing: &mut Listing) -> Result<(), LoadError> {
    let failed = |source| LoadError { path: directory.to_owned(), source };
    // A link may lead back up.
    if !listing.directories.insert(fs::canonicalize(directory).map_err(failed)?) {
        return Ok(());
    }
    let entries = fs::read_dir(directory).map_err(failed)?;
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    // Of two ways to one directory the first is gone, so it had better be the same one every time.
    names.sort();
    for name in names {
        // Hidden ones are editors' and, in a mounted ConfigMap, the data behind the links that are read.
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = directory.join(name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => match walk(&path, listing) {
                Err(error) if error.source.kind() == ErrorKind::NotFound => {}
                walked => walked?,
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // What else is wrong with a file shows when it is read.
            _ if is_manifest(&path) => listing.files.push(path),
            _ => {}
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|wanted| end == *wanted))
}
