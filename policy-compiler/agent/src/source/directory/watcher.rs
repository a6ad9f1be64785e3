//! Being told that something happened in directories. What it was, the reader finds out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode};
use notify::{Config, Event, EventKind, INotifyWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Watches directories, each by itself, and what they are called by.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: INotifyWatcher,
    /// Directories whose every entry matters.
    inside: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// Directories in which one entry matters: that of a watched directory, which may be a link that is exchanged.
    above: Vec<PathBuf>,
}

impl Watch {
    /// Wakes when something happens to `roots` themselves, or inside the directories that are [followed](Self::follow).
    pub(super) fn new(roots: &[PathBuf], wake: mpsc::Sender<()>) -> notify::Result<Self> {
        let inside = Arc::new(Mutex::new(BTreeSet::<PathBuf>::new()));
        let (seen_inside, entries) = (Arc::clone(&inside), entries(roots));
        let above = entries.iter().filter_map(|entry| Some(entry.parent()?.to_owned())).collect();
        let matters = move |path: &PathBuf| {
            let inside = seen_inside.lock().unwrap_or_else(PoisonError::into_inner);
            entries.contains(path)
                || inside.contains(path)
                || path.parent().is_some_and(|parent| inside.contains(parent))
        };
        let told = move |event: notify::Result<Event>| {
            let relevant = match event {
                Ok(event) => {
                    is_change(event.kind) && (event.paths.is_empty() || event.paths.iter().any(&matters))
                }
                // Events were lost, perhaps: better look.
                Err(_) => true,
            };
            if relevant {
                // One wake-up that has not been heeded is as good as two.
                let _ = wake.try_send(());
            }
        };
        let mut watch = Self { watcher: INotifyWatcher::new(told, Config::default())?, inside, above };
        watch.follow(&BTreeSet::new());
        Ok(watch)
    }

    /// Watches these directories and no others; true if one of them is new. Saying it again is cheap, and finds directories made
    /// anew under an old name.
    pub(super) fn follow(&mut self, directories: &BTreeSet<PathBuf>) -> bool {
        let before = std::mem::replace(
            &mut *self.inside.lock().unwrap_or_else(PoisonError::into_inner),
            directories.clone(),
        );
        for gone in before.difference(directories).filter(|gone| !self.above.contains(gone)) {
            let _ = self.watcher.unwatch(gone);
        }
        for directory in directories.iter().chain(&self.above) {
            // It may be gone by now, or the user has no watches left: then the slow look has to do.
            if let Err(error) = self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::debug!(directory = %directory.display(), %error, "not watched");
            }
        }
        !directories.is_subset(&before)
    }
}

/// The names the roots have in their parents' directories, as the watcher will report them.
fn entries(roots: &[PathBuf]) -> BTreeSet<PathBuf> {
    let entry = |root: &PathBuf| {
        let root = std::path::absolute(root).ok()?;
        let parent = root.parent().unwrap_or(Path::new("/"));
        Some(std::fs::canonicalize(parent).ok()?.join(root.file_name()?))
    };
    roots.iter().filter_map(entry).collect()
}

/// Our own reading of files is an event too, and no change.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}
