//! Directories of manifests, watched.

mod reader;
mod watcher;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Source, SourceError, SourceEvent};
use reader::{GONE_AFTER, Reader, Scan};
use watcher::Watch;

/// Files are read when nothing has happened for this long, so that they are written to their end ...
const QUIET: Duration = Duration::from_millis(50);
/// ... but also when something happens all the time.
const IMPATIENT: Duration = Duration::from_millis(500);
/// How often to look without having been told: file systems without inotify, lost events, files behind links of links.
const RESCAN: Duration = Duration::from_secs(10);
/// The same where nothing can be watched.
const RESCAN_UNWATCHED: Duration = Duration::from_secs(1);

/// Directories of manifests as `kubectl apply` would take them; of an object that several define, the first definition holds.
#[derive(Debug)]
pub struct DirectorySource {
    reader: Reader,
}

/// What is moved to a thread that may wait for the disk, and back.
struct Eyes {
    reader: Reader,
    watch: Option<Watch>,
}

impl DirectorySource {
    /// Watches these directories, in this order. Fails when one cannot be read.
    pub fn new(directories: Vec<PathBuf>) -> Result<Self, SourceError> {
        let reader = Reader::new(directories);
        reader.check().map_err(|error| SourceError(error.to_string()))?;
        Ok(Self { reader })
    }
}

impl Source for DirectorySource {
    async fn run(
        self,
        sink: mpsc::Sender<SourceEvent>,
        mut asked: watch::Receiver<u64>,
    ) -> Result<(), SourceError> {
        let (wake, mut woken) = mpsc::channel(1);
        let watch = Watch::new(self.reader.roots(), wake);
        let watch = watch.inspect_err(|error| {
            tracing::warn!(%error, "manifests cannot be watched; looking every second instead");
        });
        let mut eyes = Eyes { reader: self.reader, watch: watch.ok() };
        let rescan = if eyes.watch.is_some() { RESCAN } else { RESCAN_UNWATCHED };
        let mut answered = None;
        loop {
            let question = *asked.borrow_and_update();
            let (back, scan) = look(eyes).await?;
            eyes = back;
            let changes = (!scan.changes.is_empty()).then_some(SourceEvent::Changes(scan.changes));
            let answer = answered.replace(question) != Some(question);
            let answer = answer.then_some(SourceEvent::Settled(question));
            for event in changes.into_iter().chain(answer) {
                if sink.send(event).await.is_err() {
                    return Ok(());
                }
            }
            let nothing_else =
                async { if scan.again { sleep(GONE_AFTER).await } else { wait(&mut woken, rescan).await } };
            tokio::select! {
                question = asked.changed() => if question.is_err() { return Ok(()) },
                () = nothing_else => {}
            }
        }
    }
}

/// Reads what changed. Directories that are new are watched first and listed again, so that nothing in them is missed.
async fn look(mut eyes: Eyes) -> Result<(Eyes, Scan), SourceError> {
    let work = move || {
        let mut listings = eyes.reader.list();
        if let Some(watch) = &mut eyes.watch {
            while watch.follow(&listings.directories()) {
                listings = eyes.reader.list();
            }
        }
        let scan = eyes.reader.scan(listings);
        (eyes, scan)
    };
    let looked = tokio::task::spawn_blocking(work).await;
    looked.map_err(|error| SourceError(format!("reading the manifests failed: {error}")))
}

/// Waits until something happened and is over, or for `rescan`.
async fn wait(woken: &mut mpsc::Receiver<()>, rescan: Duration) {
    if timeout_at(Instant::now() + rescan, woken.recv()).await.is_err() {
        return;
    }
    let impatient = Instant::now() + IMPATIENT;
    loop {
        let quiet = (Instant::now() + QUIET).min(impatient);
        if timeout_at(quiet, woken.recv()).await.is_err() {
            return;
        }
    }
}
