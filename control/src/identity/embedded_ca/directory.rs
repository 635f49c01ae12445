//! The directory an authority lives in: who may read it, and writes that survive a crash.
//!
//! A file appears whole or not at all (temporary file, fsync, rename, fsync of the directory); writers exclude each
//! other by a lock file; a private key others could read, or a directory others could write, is refused.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

/// No certificate or key file is larger; what is, is not one.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// How long a writer waits for another: they hold the lock for milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

const LOCK_FILE: &str = ".lock";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Why the directory cannot be used.
#[derive(Debug)]
pub enum DirectoryError {
    /// The system refused.
    Io {
        /// What we tried, as in "read".
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others may read a private key.
    KeyReadableByOthers {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Others may write into the directory, and so replace the root.
    WritableByOthers {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The path is something else.
    NotADirectory(PathBuf),
    /// The file is larger than any certificate.
    TooLarge(PathBuf),
    /// Another process holds the lock for too long.
    Locked(PathBuf),
}

impl std::fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io { doing, path, error } => {
                write!(f, "cannot {doing} {}: {error}", path.display())
            }
            Self::KeyReadableByOthers { path, mode } => {
                let path = path.display();
                write!(
                    f,
                    "{path} has mode {mode:04o}: a private key must be readable by its owner only; run `chmod 600 {path}`"
                )
            }
            Self::WritableByOthers { path, mode } => {
                let path = path.display();
                write!(
                    f,
                    "{path} has mode {mode:04o}: whoever can write there can replace the root; run `chmod 700 {path}`"
                )
            }
            Self::NotADirectory(path) => write!(f, "{} is not a directory", path.display()),
            Self::TooLarge(path) => {
                write!(
                    f,
                    "{} is larger than {FILE_BYTES_MAX} bytes: not a certificate or key",
                    path.display()
                )
            }
            Self::Locked(path) => write!(
                f,
                "{} is held by another process for more than {} s; see `fuser {}`",
                path.display(),
                LOCK_TIMEOUT.as_secs(),
                path.display()
            ),
        }
    }
}

impl std::error::Error for DirectoryError {}

/// A directory fit to hold private keys.
#[derive(Debug, Clone)]
pub struct CaDirectory {
    path: PathBuf,
}

/// Held while files are written. The lock goes with the process, so a killed writer blocks nobody.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// What tells one state of a file from the next, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp(Option<(u64, u64, i64, i64, u64)>);

impl CaDirectory {
    /// Opens the directory, which must be there.
    ///
    /// # Errors
    /// When it is missing, not a directory, or writable by others.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let directory = Self { path: path.to_owned() };
        let metadata = fs::metadata(path).map_err(|error| io_error("open", path, error))?;
        if !metadata.is_dir() {
            return Err(DirectoryError::NotADirectory(path.to_owned()));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(DirectoryError::WritableByOthers { path: path.to_owned(), mode });
        }
        Ok(directory)
    }

    /// Opens the directory, making it (mode 0700) if it is missing.
    ///
    /// # Errors
    /// As [`CaDirectory::open`], or when it cannot be made.
    pub fn open_or_create(path: &Path) -> Result<Self, DirectoryError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| io_error("create the directory", path, error))?;
        Self::open(path)
    }

    /// Excludes other writers until the guard is dropped.
    ///
    /// # Errors
    /// When the lock file cannot be made, or is held for longer than any writer needs.
    pub fn lock(&self) -> Result<DirectoryLock, DirectoryError> {
        let path = self.path.join(LOCK_FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| io_error("open", &path, error))?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_TIMEOUT => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Err(DirectoryError::Locked(path)),
                Err(TryLockError::Error(error)) => return Err(io_error("lock", &path, error)),
            }
        }
        self.remove_leftovers();
        Ok(DirectoryLock { _file: file })
    }

    /// Reads a public file; `None` if it is missing.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, DirectoryError> {
        let path = self.path.join(name);
        let Some(file) = open_existing(&path)? else { return Ok(None) };
        read_bounded(file, &path).map(Some)
    }

    /// Reads a private key; `None` if it is missing.
    ///
    /// # Errors
    /// [`DirectoryError::KeyReadableByOthers`] when its mode grants others anything.
    pub fn read_key(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, DirectoryError> {
        let path = self.path.join(name);
        let Some(file) = open_existing(&path)? else { return Ok(None) };
        // Asked of the open file: between a check of the path and its opening it could be another.
        let metadata = file.metadata().map_err(|error| io_error("inspect", &path, error))?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(DirectoryError::KeyReadableByOthers { path, mode });
        }
        read_bounded(file, &path).map(|bytes| Some(Zeroizing::new(bytes)))
    }

    /// Replaces a file so that every reader sees the old one or the new one, also after a power cut.
    ///
    /// # Errors
    /// When any step fails; the old file is then untouched.
    pub fn write(
        &self,
        _lock: &DirectoryLock,
        name: &str,
        bytes: &[u8],
        mode: u32,
    ) -> Result<(), DirectoryError> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!(".{name}.{}{TEMPORARY_SUFFIX}", std::process::id()));
        let written = write_synced(&temporary, bytes, mode)
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| File::open(&self.path)?.sync_all());
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            io_error("write", &path, error)
        })
    }

    /// Removes a file; a missing one is fine.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, _lock: &DirectoryLock, name: &str) -> Result<(), DirectoryError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// What `name` looks like now; differs after every replacement.
    pub fn stamp(&self, name: &str) -> FileStamp {
        let metadata = fs::metadata(self.path.join(name)).ok();
        FileStamp(metadata.map(|metadata| {
            (
                metadata.dev(),
                metadata.ino(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.len(),
            )
        }))
    }

    /// Whether `name` is there.
    pub fn contains(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Temporary files of writers that were killed. Only called under the lock.
    fn remove_leftovers(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') && name.ends_with(TEMPORARY_SUFFIX) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn open_existing(path: &Path) -> Result<Option<File>, DirectoryError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path, error)),
    }
}

fn read_bounded(file: File, path: &Path) -> Result<Vec<u8>, DirectoryError> {
    let mut bytes = Vec::with_capacity(4096);
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| io_error("read", path, error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(DirectoryError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The mode given to open is narrowed by the umask: others need to read the root certificate.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn io_error(doing: &'static str, path: &Path, error: io::Error) -> DirectoryError {
    DirectoryError::Io { doing, path: path.to_owned(), error }
}
