//! The last picture that was kept, in a file of its own, for whoever watches one: replaced whole, so a reader sees the old
//! picture or the new one and never half of either. It is a convenience; that it cannot be written fails no request.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::error::StoreError;
use crate::folder::{self, Access};

/// The file of the last picture.
#[derive(Debug)]
pub(crate) struct LastImage {
    path: PathBuf,
    /// Held while it is replaced, because all that replace it write to the same file beside it first.
    turn: Mutex<()>,
}

impl LastImage {
    /// Takes the file's place; the folder is created when it is first needed.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, turn: Mutex::new(()) }
    }

    /// Replaces the file.
    pub(crate) async fn replace(&self, bytes: Bytes) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let path = self.path.clone();
        let replaced = tokio::task::spawn_blocking(move || replace(&path, &bytes)).await;
        replaced.map_err(StoreError::Interrupted)?.map_err(|source| StoreError::WriteLast { source })
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    folder::create(folder, Access::Usual)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let staged = folder.join(name);
    let written = File::create(&staged).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&staged, path)).inspect_err(|_| {
        // Litter at most.
        let _ = std::fs::remove_file(&staged);
    })
}
