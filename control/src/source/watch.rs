//! Tells when the configuration has changed on disk.
//!
//! What counts is what a load would read: after anything happened nearby, and once it has been quiet for
//! [`QUIET`], the files are compared with what they were. So editors that write twice, files that are replaced by
//! renaming, the `..data` symlink by which Kubernetes swaps a whole directory, and a file that is gone for a moment all
//! give one change. Files are also compared every [`POLL_INTERVAL`], for the file systems that tell nothing.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::Source;
use super::yaml::text::files_of;

/// How long it must be quiet before a change is told.
pub const QUIET: Duration = Duration::from_millis(200);

/// The longest that a change is held back because it is never quiet, or because a file is not there.
pub const QUIET_DEADLINE: Duration = Duration::from_secs(2);

/// How often files are compared although nothing was told.
pub const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Symbolic links that are followed from one file; a longer chain is a circle.
const LINKS_MAX: usize = 40;

/// Watches the files of some sources for as long as it lives: configuration, and revocation lists.
#[derive(Debug)]
pub struct Watcher {
    changes: mpsc::Receiver<()>,
    events: Sender<Event>,
}

/// What the files of some sources look like, for a [`Watcher`] that begins later: it takes a thread, and a load that
/// comes first may want to be alone.
#[derive(Debug)]
pub struct Glimpse(Marks);

impl Glimpse {
    /// What they look like now.
    pub fn of(sources: &[Source]) -> Glimpse {
        Glimpse(marks(&paths_of(sources)))
    }
}

fn paths_of(sources: &[Source]) -> Vec<PathBuf> {
    let path = |source: &Source| match source {
        Source::Path(path) => Some(path.clone()),
        Source::Stdin | Source::Text { .. } => None,
    };
    sources.iter().filter_map(path).collect()
}

enum Event {
    SomethingHappened,
    Stop,
}

impl Watcher {
    /// Watches from now on. What changed between loading and this is told too if `sources` are watched first.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(sources: &[Source]) -> io::Result<Watcher> {
        Watcher::since(sources, Glimpse::of(sources))
    }

    /// Watches from now on, and tells what has changed since `before`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn since(sources: &[Source], before: Glimpse) -> io::Result<Watcher> {
        let (events, received) = channel();
        let (told, changes) = mpsc::channel(1);
        let mut watch = Watch::new(paths_of(sources), events.clone(), told, before.0);
        watch.refresh();
        // The first look is at once.
        let _held = events.send(Event::SomethingHappened);
        let name = thread::Builder::new().name("config-watch".into());
        name.spawn(move || watch.run(&received))?;
        Ok(Watcher { changes, events })
    }

    /// Waits for the next change. Changes that nobody waited for are told as one.
    ///
    /// Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            // The thread that watches ends only with us.
            std::future::pending::<()>().await;
        }
    }

    /// Whether there was a change since the last time.
    pub fn has_changed(&mut self) -> bool {
        self.changes.try_recv().is_ok()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _gone = self.events.send(Event::Stop);
    }
}

/// The thread's side.
struct Watch {
    paths: Vec<PathBuf>,
    told: mpsc::Sender<()>,
    notify: Option<RecommendedWatcher>,
    /// Directories that are watched, and which they were: the watch of another one under the same name must end.
    watched: BTreeMap<PathBuf, Option<FileMark>>,
    seen: Marks,
}

/// Everything a load would read, with what tells a changed file from an unchanged one.
type Marks = BTreeMap<PathBuf, Option<FileMark>>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct FileMark {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl FileMark {
    fn of_file(metadata: &Metadata) -> FileMark {
        FileMark {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// A directory changes all the time; it only matters which one it is.
    fn of_directory(metadata: &Metadata) -> FileMark {
        FileMark { bytes: 0, changed: (0, 0), ..FileMark::of_file(metadata) }
    }
}

impl Watch {
    fn new(
        paths: Vec<PathBuf>,
        events: Sender<Event>,
        told: mpsc::Sender<()>,
        seen: Marks,
    ) -> Watch {
        let handler = move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| may_change(event.kind)) {
                let _gone = events.send(Event::SomethingHappened);
            }
        };
        let notify = notify::recommended_watcher(handler);
        if let Err(error) = &notify {
            tracing::warn!(%error, "files are compared every {POLL_INTERVAL:?}, changes are not told");
        }
        Watch { paths, told, notify: notify.ok(), watched: BTreeMap::new(), seen }
    }

    fn run(mut self, events: &Receiver<Event>) {
        loop {
            match events.recv_timeout(POLL_INTERVAL) {
                Ok(Event::SomethingHappened) => {
                    if !self.is_quiet(events) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            self.refresh();
            self.compare();
        }
    }

    /// Waits until nothing happens any more and every file is there. `false`: stop.
    fn is_quiet(&self, events: &Receiver<Event>) -> bool {
        let deadline = Instant::now() + QUIET_DEADLINE;
        loop {
            let happened = match events.recv_timeout(QUIET) {
                Ok(Event::SomethingHappened) => true,
                Err(RecvTimeoutError::Timeout) => self.paths.iter().any(|path| !path.exists()),
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            };
            if !happened || Instant::now() >= deadline {
                return true;
            }
        }
    }

    fn compare(&mut self) {
        let marks = marks(&self.paths);
        if marks != self.seen {
            self.seen = marks;
            // Full: the last change is still to be taken, and stands for this one too.
            let _full = self.told.try_send(());
        }
    }

    /// Watches the directories in which something could happen now.
    fn refresh(&mut self) {
        let Some(notify) = &mut self.notify else { return };
        let mut wanted = BTreeMap::new();
        for path in &self.paths {
            for directory in directories_of(path) {
                let mark = directory.metadata().ok().as_ref().map(FileMark::of_directory);
                wanted.insert(directory, mark);
            }
        }
        for (directory, mark) in &self.watched {
            if wanted.get(directory) != Some(mark) {
                // It may be gone, and its watch with it.
                let _gone = notify.unwatch(directory);
            }
        }
        for directory in wanted.keys() {
            // Those that are watched, too, which changes nothing for them: file systems give the number of a directory
            // that is gone to the next one, so one that was made anew may look the same, and has lost its watch.
            let _gone = notify.watch(directory, RecursiveMode::NonRecursive);
        }
        self.watched = wanted;
    }
}

/// Whether an event of this kind may mean a change. Somebody who only reads, and be it all the time, changes nothing.
fn may_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

fn marks(paths: &[PathBuf]) -> Marks {
    let mut marks = Marks::new();
    for path in paths {
        match files_of(path) {
            Ok(files) => marks.extend(files.into_iter().map(|file| {
                let mark = file.metadata().ok().as_ref().map(FileMark::of_file);
                (file, mark)
            })),
            Err(_) => {
                marks.insert(path.clone(), None);
            }
        }
    }
    marks
}

/// The directories in which a change can concern `path`: its own, the one it is, and those its links lead through. In
/// place of one that is not there, the next one above it that is.
fn directories_of(path: &Path) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let files = files_of(path).unwrap_or_default();
    if path.is_dir() {
        directories.push(path.to_path_buf());
    }
    for path in std::iter::once(path).chain(files.iter().map(PathBuf::as_path)) {
        let mut link = path.to_path_buf();
        for _ in 0..LINKS_MAX {
            directories.extend(existing_parent(&link));
            match link.read_link() {
                Ok(target) => link = parent(&link).join(target),
                Err(_) => break,
            }
        }
    }
    directories
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn existing_parent(path: &Path) -> Option<PathBuf> {
    let mut parent = parent(path);
    while !parent.is_dir() {
        parent = self::parent(parent);
        if parent == Path::new(".") || parent == Path::new("/") {
            break;
        }
    }
    Some(parent.canonicalize().unwrap_or_else(|_| parent.to_path_buf()))
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, ModifyKind, RemoveKind, RenameMode};

    use super::*;

    #[test]
    fn reading_is_no_change() {
        let rows = [
            ("a reader opens", EventKind::Access(AccessKind::Open(AccessMode::Any)), false),
            ("a reader reads", EventKind::Access(AccessKind::Read), false),
            ("a reader closes", EventKind::Access(AccessKind::Close(AccessMode::Read)), false),
            ("a writer closes", EventKind::Access(AccessKind::Close(AccessMode::Write)), true),
            ("a file is made", EventKind::Create(CreateKind::File), true),
            ("a file is written", EventKind::Modify(ModifyKind::Any), true),
            ("renamed into place", EventKind::Modify(ModifyKind::Name(RenameMode::To)), true),
            ("a file is removed", EventKind::Remove(RemoveKind::File), true),
            ("something else", EventKind::Any, true),
        ];
        for (name, kind, want) in rows {
            assert_eq!(may_change(kind), want, "{name}");
        }
    }
}
