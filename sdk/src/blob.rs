//! Byte strings that the host holds. Image bytes stay there; a plugin moves handles.

use crate::raw::blobs;
use crate::{Error, ErrorKind, Result};

/// Pieces of this size cross the border cheapest; the host gives no larger ones.
const PIECE: u32 = 64 * 1024;

/// A byte string in the host that never changes.
#[derive(Debug)]
pub struct Blob(pub(crate) blobs::Blob);

impl Clone for Blob {
    /// Another handle to the same bytes.
    fn clone(&self) -> Self {
        self.share()
    }
}

/// Of the same media type, with the same bytes; they are read piece by piece.
impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        let is_alike = self.size() == other.size() && self.media_type() == other.media_type();
        let mut pieces = (0..self.size()).step_by(PIECE as usize);
        is_alike && pieces.all(|offset| self.0.read(offset, PIECE) == other.0.read(offset, PIECE))
    }
}

impl Blob {
    /// Copies bytes into the host.
    ///
    /// # Errors
    /// `LimitExceeded` beyond the plugin's blob limit.
    pub fn new(media_type: &str, bytes: &[u8]) -> Result<Self> {
        let writer = blobs::BlobWriter::new(media_type);
        for piece in bytes.chunks(PIECE as usize) {
            writer.write(piece)?;
        }
        Ok(Self(blobs::BlobWriter::finish(writer)))
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.0.size()
    }

    /// Its media type, as sniffed by the host for images, else as it was declared.
    pub fn media_type(&self) -> String {
        self.0.media_type()
    }

    /// Another handle to the same bytes.
    #[must_use]
    pub fn share(&self) -> Self {
        Self(self.0.share())
    }

    /// Copies all bytes into the plugin's memory.
    ///
    /// # Errors
    /// `LimitExceeded` when there are more than `max`.
    pub fn bytes(&self, max: usize) -> Result<Vec<u8>> {
        let size = self.size();
        if size > max as u64 {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("a blob of {size} bytes, at most {max} are read"),
            ));
        }
        let mut bytes = Vec::new();
        loop {
            let piece = self.0.read(bytes.len() as u64, PIECE);
            if piece.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&piece);
        }
    }

    pub(crate) fn from_raw(raw: blobs::Blob) -> Self {
        Self(raw)
    }

    pub(crate) fn into_raw(self) -> blobs::Blob {
        self.0
    }
}
