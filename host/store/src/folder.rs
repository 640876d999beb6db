//! The data folder: made for its owner only, and locked, so that one process at a time writes the database. The lock is
//! the kernel's and ends with the process, however that ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// A locked data folder.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    lock: File,
}

impl DataFolder {
    /// Creates the folder if it is missing, and locks it. Blocks on the disk.
    pub(crate) fn open(path: PathBuf) -> Result<Self, StoreError> {
        let unusable = |source| StoreError::DataFolder { folder: path.clone(), source };
        create(&path, Access::Owner).map_err(unusable)?;
        let lock = create_file(&path.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { folder: path }),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let folder = Self { path, lock };
        // SQLite gives its other files the permissions of this one, and the prompts in it are private even where the
        // folder already was there and is open to others.
        let unusable = |source| StoreError::DataFolder { folder: folder.path.clone(), source };
        create_file(&folder.database()).map_err(unusable)?;
        sync(&folder.path).map_err(unusable)?;
        Ok(folder)
    }

    /// The database's file.
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("easel.sqlite3")
    }

    /// Gives the folder free.
    pub(crate) fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            // The kernel gives it free when the process ends.
            tracing::warn!(error = %error, "the lock on the data folder stays until the process ends");
        }
    }
}

/// Who may enter a folder that is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Its owner only.
    Owner,
    /// Whoever the process usually lets in.
    Usual,
}

/// Creates a folder and what is missing above it, so that a crash does not undo it. Blocks on the disk.
pub(crate) fn create(folder: &Path, access: Access) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    if let Some(above) = above {
        create(above, Access::Usual)?;
    }
    match builder(access).create(folder) {
        Ok(()) => above.map_or(Ok(()), sync),
        // Somebody else was faster.
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn builder(access: Access) -> DirBuilder {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = DirBuilder::new();
    builder.mode(match access {
        Access::Owner => 0o700,
        Access::Usual => 0o777,
    });
    builder
}

#[cfg(not(unix))]
fn builder(_: Access) -> DirBuilder {
    DirBuilder::new()
}

/// Opens a file of the data folder, creating it for its owner only.
fn create_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Flushes a folder's list of files. Elsewhere than on Unix a folder cannot be opened for that.
fn sync(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
