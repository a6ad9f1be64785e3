//! What the files of directories say, from look to look.
//!
//! A file that has something wrong must not open what it closed a moment ago. So what it said before stays in force, except
//! for what it says anew and rightly, until it is right as a whole or removed. The same goes for files and directories that cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use heddle_policy::manifests::{Finding, Listing, LoadError, Located, ManifestFile, combine, files};
use heddle_policy::model::{Object, ObjectKey};

use crate::source::Change;

/// A file is gone when it has been missing for this long: editors move a file away before they put its successor in place.
pub(super) const GONE_AFTER: Duration = Duration::from_millis(100);

/// A file that was changed this short a time ago may change again without its times showing it: they tick every few milliseconds.
const TOO_FRESH: Duration = Duration::from_millis(100);

/// Keeps what was read.
#[derive(Debug)]
pub(super) struct Reader {
    roots: Vec<PathBuf>,
    /// By index of the root, then by path: the order in which definitions count.
    files: BTreeMap<(usize, PathBuf), FileState>,
    /// Roots that could not be read at the last look.
    unreadable: Vec<Finding>,
    /// In force.
    objects: BTreeMap<ObjectKey, Object>,
    /// What is wrong, as it was told.
    told: BTreeSet<String>,
}

/// The files of each root, or why there is no telling.
pub(super) struct Listings(Vec<Result<Listing, LoadError>>);

impl Listings {
    /// The directories where changes of these files would show.
    pub(super) fn directories(&self) -> BTreeSet<PathBuf> {
        self.0.iter().flatten().flat_map(|listing| listing.directories.clone()).collect()
    }
}

/// What a look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Removals first: an address may go from one pod to another.
    pub(super) changes: Vec<Change>,
    /// A file is missing, and perhaps only for a moment: look again after [`GONE_AFTER`].
    pub(super) again: bool,
}

/// What came of reading files.
#[derive(Debug, Default)]
struct Read {
    /// One was read, or is gone.
    anything: bool,
    /// One is missing and perhaps not gone.
    again: bool,
}

#[derive(Debug, Default)]
struct FileState {
    /// As of the last reading; `None` if that proves nothing.
    stamp: Option<Stamp>,
    /// Good, of this or an earlier reading.
    objects: Vec<Located>,
    findings: Vec<Finding>,
    missing_since: Option<Instant>,
}

/// Tells a file's content from another, without reading it.
type Stamp = ((u64, u64), u64, (i64, i64), (i64, i64));

impl Reader {
    pub(super) fn new(roots: Vec<PathBuf>) -> Self {
        Self {
            roots,
            files: BTreeMap::new(),
            unreadable: Vec::new(),
            objects: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }

    pub(super) fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Fails if a directory cannot be read at all.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        self.roots.iter().try_for_each(|root| files(root).map(drop))
    }

    /// Which files there are.
    pub(super) fn list(&self) -> Listings {
        Listings(self.roots.iter().map(|root| files(root)).collect())
    }

    /// Reads those files that changed since the last look.
    pub(super) fn scan(&mut self, listings: Listings) -> Scan {
        let mut unreadable = Vec::new();
        let mut read = Read::default();
        for (index, listing) in listings.0.into_iter().enumerate() {
            match listing {
                Ok(listing) => self.read_files(index, &listing.files, &mut read),
                Err(error) => {
                    let reason = format!("{error}; what was in it stays in force");
                    unreadable.push(Finding::of_line(&self.roots[index], 1, reason));
                }
            }
        }
        let same = std::mem::replace(&mut self.unreadable, unreadable) == self.unreadable;
        // Mostly, a look is for a pod that starts.
        if same && !read.anything {
            return Scan { changes: Vec::new(), again: read.again };
        }
        let states = self.files.iter().map(|((_, path), state)| (path.as_path(), state.objects.as_slice()));
        let combined = combine(states);
        self.tell(&combined.findings);
        let before = std::mem::replace(&mut self.objects, combined.objects);
        Scan { changes: changes(&before, &self.objects), again: read.again }
    }

    /// Brings the files of one root up to date.
    fn read_files(&mut self, root: usize, paths: &[PathBuf], read: &mut Read) {
        for path in paths {
            read.anything |= self.files.entry((root, path.clone())).or_default().read(path);
        }
        let listed: BTreeSet<_> = paths.iter().collect();
        let now = Instant::now();
        self.files.retain(|(of, path), state| {
            let missing = *of == root && (!listed.contains(path) || state.missing_since.is_some());
            if !missing {
                return true;
            }
            let since = *state.missing_since.get_or_insert(now);
            let stays = now.duration_since(since) < GONE_AFTER;
            read.again |= stays;
            read.anything |= !stays;
            stays
        });
    }

    /// Logs what is wrong now and was not before, and what is right again.
    fn tell(&mut self, duplicates: &[Finding]) {
        let findings = self.unreadable.iter().chain(self.files.values().flat_map(|state| &state.findings));
        let now: BTreeSet<_> = findings.chain(duplicates).map(ToString::to_string).collect();
        for finding in now.difference(&self.told) {
            tracing::warn!("{finding}");
        }
        if now.is_empty() && !self.told.is_empty() {
            tracing::info!("nothing is wrong with the manifests any more");
        }
        self.told = now;
    }
}

impl FileState {
    /// Reads a file, if it is not as it was; true if so.
    fn read(&mut self, path: &Path) -> bool {
        let metadata = fs::metadata(path);
        let stamp = metadata.as_ref().ok().map(stamp);
        if stamp.is_some() && stamp == self.stamp {
            self.missing_since = None;
            return false;
        }
        // Taken before the content: what changes meanwhile is read again.
        self.stamp = metadata.as_ref().ok().filter(|metadata| is_settled(metadata)).map(self::stamp);
        let read = metadata.and_then(|_| ManifestFile::read(path));
        match read {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.missing_since.get_or_insert_with(Instant::now);
                return false;
            }
            Err(error) => {
                self.stamp = None;
                self.keep(path, Vec::new(), vec![Finding::of_file(path, &error)]);
            }
            Ok(file) if file.is_empty() && !self.objects.is_empty() => {
                let reason = "is empty; remove the file, if what was in it is to go".to_owned();
                self.keep(path, Vec::new(), vec![Finding::of_line(path, 1, reason)]);
            }
            Ok(file) if file.findings.is_empty() => {
                (self.objects, self.findings) = (file.objects, Vec::new());
            }
            Ok(file) => self.keep(path, file.objects, file.findings),
        }
        self.missing_since = None;
        true
    }

    /// Takes in the good part of a file that has something wrong.
    fn keep(&mut self, path: &Path, mut objects: Vec<Located>, mut findings: Vec<Finding>) {
        let anew: BTreeSet<_> = objects.iter().map(|located| located.object.key()).collect();
        let old = std::mem::take(&mut self.objects).into_iter();
        let kept: Vec<_> = old.filter(|located| !anew.contains(&located.object.key())).collect();
        if !kept.is_empty() {
            let names: Vec<_> = kept.iter().map(|located| located.object.key().to_string()).collect();
            let reason = format!("until the file is right, these stay as they were: {}", names.join(", "));
            findings.push(Finding::of_line(path, 1, reason));
        }
        objects.extend(kept);
        (self.objects, self.findings) = (objects, findings);
    }
}

/// The way from one state to another, removals first.
fn changes(before: &BTreeMap<ObjectKey, Object>, after: &BTreeMap<ObjectKey, Object>) -> Vec<Change> {
    let removed = before.keys().filter(|key| !after.contains_key(*key)).cloned().map(Change::Remove);
    let set = after.iter().filter(|(key, object)| before.get(*key) != Some(*object));
    removed.chain(set.map(|(_, object)| Change::Set(object.clone()))).collect()
}

fn stamp(metadata: &Metadata) -> Stamp {
    let (modified, changed) = (metadata.mtime(), metadata.ctime());
    let place = (metadata.dev(), metadata.ino());
    (place, metadata.len(), (modified, metadata.mtime_nsec()), (changed, metadata.ctime_nsec()))
}

fn is_settled(metadata: &Metadata) -> bool {
    let (seconds, nanoseconds) = (metadata.ctime().try_into(), metadata.ctime_nsec().try_into());
    let changed = Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(changed) >= TOO_FRESH
}

#[cfg(test)]
mod tests;
