//! `blobs`: byte strings that the host holds for a call, and how many of them it may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use easel_core::{Image, ImageFormat};
use wasmtime::component::Resource;

use crate::bindings::easel::plugin::blobs;
use crate::bindings::easel::plugin::types::ErrorKind;
use crate::budget::Pool;
use crate::fault::Failure;
use crate::state::State;

/// The most that one `read` copies into a plugin; larger parts are slower, as they miss the cache.
pub(super) const MAX_READ: usize = 64 << 10;

/// A byte string that never changes. Cloning shares it.
#[derive(Clone)]
pub struct Blob {
    pub(crate) bytes: Bytes,
    pub(crate) media_type: Arc<str>,
    /// Nothing for what belongs to the request.
    _held: Option<Arc<Held>>,
}

impl Blob {
    /// Takes bytes that `held` accounts for. Images are recognised, whatever was declared.
    pub(crate) fn new(bytes: impl Into<Bytes>, declared: &str, held: Held) -> Self {
        let bytes = bytes.into();
        let media_type = match ImageFormat::sniff(&bytes) {
            Some(format) => format.media_type().into(),
            None => declared.into(),
        };
        Self { bytes, media_type, _held: Some(Arc::new(held)) }
    }

    /// A picture that the host holds anyway, so that it counts against nothing.
    pub(crate) fn lent(image: &Image) -> Self {
        Self { bytes: image.bytes.clone(), media_type: image.format.media_type().into(), _held: None }
    }

    /// What one reading gives: what there is from here on, and never more than enters a plugin at once.
    fn part(&self, offset: u64, max: u32) -> &[u8] {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)).unwrap_or_default();
        &rest[..MAX_READ.min(max as usize).min(rest.len())]
    }
}

/// How many bytes one call may hold in blobs, documents and what becomes one.
#[derive(Clone, Debug)]
pub(crate) struct BlobQuota {
    most: u64,
    left: Arc<AtomicU64>,
    /// What all calls have together.
    pool: Option<Arc<Pool>>,
}

/// Bytes that are accounted for until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    quota: BlobQuota,
    bytes: u64,
}

impl BlobQuota {
    pub(crate) fn new(most: u64) -> Self {
        Self { most, left: Arc::new(AtomicU64::new(most)), pool: None }
    }

    /// The same within what all calls may have together.
    pub(crate) fn within(self, pool: &Arc<Pool>) -> Self {
        Self { pool: Some(Arc::clone(pool)), ..self }
    }

    /// Accounts for nothing yet.
    pub(crate) fn open(&self) -> Held {
        Held { quota: self.clone(), bytes: 0 }
    }
}

impl Held {
    /// Accounts for so many bytes more.
    pub(crate) fn grow(&mut self, amount: usize) -> Result<(), Failure> {
        let bytes = amount as u64;
        let take = |left: u64| left.checked_sub(bytes);
        if self.quota.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            let message = format!("a call may hold at most {} bytes in blobs", self.quota.most);
            return Err(Failure::new(ErrorKind::LimitExceeded, message));
        }
        if let Some(pool) = self.quota.pool.as_ref().filter(|pool| !pool.take(amount)) {
            self.quota.left.fetch_add(bytes, Ordering::Relaxed);
            let message = format!("plugins hold {} bytes in blobs, as much as they may together", pool.most());
            return Err(Failure::new(ErrorKind::Overloaded, message));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back all but so many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let freed = self.bytes.saturating_sub(bytes as u64);
        self.quota.left.fetch_add(freed, Ordering::Relaxed);
        if let Some(pool) = &self.quota.pool {
            // It was taken as a usize.
            pool.give_back(usize::try_from(freed).unwrap_or(usize::MAX));
        }
        self.bytes -= freed;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// A blob while it is written.
pub struct BlobWriter {
    bytes: Vec<u8>,
    media_type: String,
    held: Held,
}

impl blobs::Host for State {}

impl blobs::HostBlob for State {
    fn size(&mut self, blob: Resource<Blob>) -> wasmtime::Result<u64> {
        self.trail.step("blob.size");
        Ok(self.table.get(&blob)?.bytes.len() as u64)
    }

    fn media_type(&mut self, blob: Resource<Blob>) -> wasmtime::Result<String> {
        self.trail.step("blob.media-type");
        Ok(self.table.get(&blob)?.media_type.to_string())
    }

    fn read(&mut self, blob: Resource<Blob>, offset: u64, max: u32) -> wasmtime::Result<Vec<u8>> {
        self.trail.step("blob.read");
        Ok(self.table.get(&blob)?.part(offset, max).to_vec())
    }

    fn share(&mut self, blob: Resource<Blob>) -> wasmtime::Result<Resource<Blob>> {
        self.trail.step("blob.share");
        let blob = self.table.get(&blob)?.clone();
        Ok(self.table.push(blob)?)
    }

    fn drop(&mut self, blob: Resource<Blob>) -> wasmtime::Result<()> {
        self.table.delete(blob)?;
        Ok(())
    }
}

impl blobs::HostBlobWriter for State {
    fn new(&mut self, media_type: String) -> wasmtime::Result<Resource<BlobWriter>> {
        self.trail.step("blob-writer.new");
        let media_type = crate::fault::clean(&media_type, 128);
        let held = self.call.blobs.open();
        Ok(self.table.push(BlobWriter { bytes: Vec::new(), media_type, held })?)
    }

    fn write(&mut self, writer: Resource<BlobWriter>, bytes: Vec<u8>) -> Result<(), Failure> {
        self.trail.step("blob-writer.write");
        let writer = self.table.get_mut(&writer)?;
        writer.held.grow(bytes.len())?;
        writer.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn finish(&mut self, writer: Resource<BlobWriter>) -> wasmtime::Result<Resource<Blob>> {
        self.trail.step("blob-writer.finish");
        let BlobWriter { bytes, media_type, held } = self.table.delete(writer)?;
        Ok(self.table.push(Blob::new(bytes, &media_type, held))?)
    }

    fn drop(&mut self, writer: Resource<BlobWriter>) -> wasmtime::Result<()> {
        self.table.delete(writer)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_of_all_calls_are_summed_and_given_back() {
        let pool = Pool::new(10);
        let quota = || BlobQuota::new(8).within(&pool);
        let (one, other) = (quota(), quota());
        let (mut first, mut second) = (one.open(), other.open());
        assert!(first.grow(8).is_ok() && second.grow(2).is_ok() && second.grow(1).is_err());
        first.shrink_to(7);
        assert!(second.grow(1).is_ok(), "what was refused took nothing");
        drop(first);
        assert!(second.grow(5).is_ok() && second.grow(1).is_err(), "its own quota counts as well");
        drop(second);
        assert!(pool.take(10) && !pool.take(1));
    }

    #[test]
    fn quota_counts_what_is_held_and_no_more() {
        let quota = BlobQuota::new(10);
        let mut first = quota.open();
        first.grow(6).ok().unwrap();
        let mut second = quota.open();
        assert!(second.grow(5).is_err());
        first.shrink_to(2);
        second.grow(8).ok().unwrap();
        assert!(first.grow(1).is_err());
        drop(second);
        first.grow(8).ok().unwrap();
    }

    #[test]
    fn reading_gives_what_there_is_and_no_more_than_enters_a_plugin_at_once() {
        let blob = Blob::new(vec![7; MAX_READ + 10], "text/plain", BlobQuota::new(10).open());
        let part = |offset, max| blob.part(offset, max).len();
        assert_eq!(
            [part(0, u32::MAX), part(10, u32::MAX), part(11, u32::MAX), part(3, 5)],
            [MAX_READ, MAX_READ, MAX_READ - 1, 5]
        );
        assert_eq!([part(MAX_READ as u64 + 10, 9), part(u64::MAX, u32::MAX), part(5, 0)], [0, 0, 0]);
    }

    #[test]
    fn images_are_recognised_whatever_was_declared() {
        let held = || BlobQuota::new(10).open();
        assert_eq!(&*Blob::new(&b"\xff\xd8\xff\xe0"[..], "text/plain", held()).media_type, "image/jpeg");
        assert_eq!(&*Blob::new(&b"hello"[..], "text/plain", held()).media_type, "text/plain");
    }
}
