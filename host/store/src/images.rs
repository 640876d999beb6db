//! The bytes, in an object store: a local folder by default. Keys are flat, `{sha256}.{extension}`, which is also a
//! public name, so whatever serves the folder serves the images.
//!
//! `LocalFileSystem` writes to `{key}#{number}` beside the target, and with `with_fsync(true)` flushes the file, renames
//! it into place and flushes the folder before it answers. Without that option it would do none of the flushing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use easel_core::ImageFormat;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::error::StoreError;
use crate::folder::{self, Access};
use crate::store::StoredImage;

/// The object that a probe writes and deletes: one block, so that a full disk shows. On a nearly full one the probe may
/// still fit where an image does not; then keeping that image says so.
const PROBE_KEY: &str = "writable-probe";
const PROBE_BYTES: &[u8] = &[0; 4096];
/// A half-written file this old belongs to a process that has died.
const STAGED_AGE: Duration = Duration::from_secs(60 * 60);

/// The place of the bytes. A folder that cannot be used now is tried again at every call.
pub(crate) struct Images {
    folder: PathBuf,
    opened: OnceLock<Arc<dyn ObjectStore>>,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Images").field(&self.folder).finish()
    }
}

impl Images {
    /// Takes a folder, which is created when it is first needed.
    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        Self { folder, opened: OnceLock::new() }
    }

    /// Takes any object store.
    #[cfg(test)]
    pub(crate) fn over(objects: Arc<dyn ObjectStore>) -> Self {
        Self { folder: PathBuf::new(), opened: OnceLock::from(objects) }
    }

    /// Writes a file whole and durably, or not at all.
    pub(crate) async fn write(&self, image: &StoredImage, bytes: Bytes) -> Result<(), StoreError> {
        let objects = self.objects().await?;
        objects.put(&key(image), bytes.into()).await.map_err(StoreError::write_image)?;
        Ok(())
    }

    /// Whether a file with the right length is there.
    pub(crate) async fn holds(&self, image: &StoredImage) -> Result<bool, StoreError> {
        match self.objects().await?.head(&key(image)).await {
            Ok(object) => Ok(object.size == image.bytes),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(StoreError::ReadImage { source: error }),
        }
    }

    /// Reads a file whole; one whose length is not the image's is not read at all.
    pub(crate) async fn read(&self, image: &StoredImage) -> Result<Bytes, StoreError> {
        let gone_or_unreadable = |error| match error {
            object_store::Error::NotFound { .. } => StoreError::Gone { sha256: image.sha256.clone() },
            source => StoreError::ReadImage { source },
        };
        let object = self.objects().await?.get(&key(image)).await.map_err(gone_or_unreadable)?;
        if object.meta.size != image.bytes {
            return Err(StoreError::Damaged { sha256: image.sha256.clone() });
        }
        object.bytes().await.map_err(gone_or_unreadable)
    }

    /// Writes and deletes an object.
    pub(crate) async fn write_probe(&self) -> Result<(), StoreError> {
        let objects = self.objects().await?;
        let key = Key::from(PROBE_KEY);
        objects.put(&key, Bytes::from_static(PROBE_BYTES).into()).await.map_err(StoreError::write_image)?;
        match objects.delete(&key).await {
            // Another process with the same images folder deleted it first.
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(StoreError::write_image(error)),
        }
    }

    async fn objects(&self) -> Result<Arc<dyn ObjectStore>, StoreError> {
        if let Some(objects) = self.opened.get() {
            return Ok(Arc::clone(objects));
        }
        let folder = self.folder.clone();
        let opened =
            tokio::task::spawn_blocking(move || open_folder(&folder)).await.map_err(StoreError::Interrupted)??;
        Ok(Arc::clone(self.opened.get_or_init(|| opened)))
    }
}

fn key(image: &StoredImage) -> Key {
    Key::from(format!("{}.{}", image.sha256, image.format.extension()))
}

fn open_folder(folder: &Path) -> Result<Arc<dyn ObjectStore>, StoreError> {
    // Unlike the data folder it gets the usual permissions: a web server may be meant to read it.
    folder::create(folder, Access::Usual).map_err(|source| StoreError::WriteImage { source: source.into() })?;
    let objects = LocalFileSystem::new_with_prefix(folder).map_err(StoreError::write_image)?;
    remove_staged(folder);
    Ok(Arc::new(objects.with_fsync(true)))
}

/// Removes what a crash left half-written. It is only litter, so what cannot be removed stays.
fn remove_staged(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_staged = entry.file_name().to_str().is_some_and(is_staged);
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = |modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > STAGED_AGE);
        if is_staged && modified.is_ok_and(is_old) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether a file's name is one of ours while it is being written.
fn is_staged(name: &str) -> bool {
    let Some((key, number)) = name.split_once('#') else { return false };
    let is_image = key.split_once('.').is_some_and(|(stem, extension)| {
        let is_sha256 = stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_sha256 && ImageFormat::ALL.iter().any(|format| format.extension() == extension)
    });
    (is_image || key == PROBE_KEY) && number.parse::<u64>().is_ok()
}
