//! Unpacks gzip piece by piece, so that a small answer never becomes a large one at once.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

/// How much is unpacked at once. Gzip grows a thousandfold at most, so a mebibyte comes of it.
const PIECE: usize = 1 << 10;

/// A body while it is unpacked.
pub(super) struct Gunzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    packed: Bytes,
}

impl Gunzip {
    pub(super) fn new() -> Self {
        Self { decoder: MultiGzDecoder::new(Vec::new()), packed: Bytes::new() }
    }

    /// Takes the next part; the one before was unpacked to its end.
    pub(super) fn feed(&mut self, packed: Bytes) {
        self.packed = packed;
    }

    /// The next bytes of what was fed; nothing once it is used up.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        while !self.packed.is_empty() {
            let piece = self.packed.split_to(PIECE.min(self.packed.len()));
            self.decoder.write_all(&piece)?;
            let unpacked = std::mem::take(self.decoder.get_mut());
            if !unpacked.is_empty() {
                return Ok(Some(unpacked.into()));
            }
        }
        Ok(None)
    }

    /// The last bytes; an error when it is cut off.
    pub(super) fn finish(&mut self) -> io::Result<Bytes> {
        self.decoder.try_finish()?;
        Ok(std::mem::take(self.decoder.get_mut()).into())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(parts: &[&[u8]]) -> io::Result<Vec<u8>> {
        let mut gunzip = Gunzip::new();
        let mut bytes = Vec::new();
        for part in parts {
            gunzip.feed(Bytes::copy_from_slice(part));
            while let Some(part) = gunzip.next()? {
                assert!(part.len() <= 2 << 20, "{} bytes at once", part.len());
                bytes.extend(part);
            }
        }
        bytes.extend(gunzip.finish()?);
        Ok(bytes)
    }

    #[test]
    fn gzip_comes_in_parts_and_never_much_at_once() {
        let bytes = vec![b'x'; 20 << 20];
        let packed = packed(&bytes);
        assert!(packed.len() < 64 << 10);
        let (first, second) = packed.split_at(11);
        assert!(unpacked(&[first, second]).unwrap() == bytes);
    }

    #[test]
    fn broken_and_cut_off_gzip_is_an_error() {
        let packed = packed(b"hello hello hello");
        assert_eq!(unpacked(&[&packed]).unwrap(), b"hello hello hello");
        assert!(unpacked(&[&packed[..packed.len() - 5]]).is_err());
        assert!(unpacked(&[b"this is no gzip at all"]).is_err());
        let mut wrong = packed;
        let last = wrong.len() - 6;
        wrong[last] ^= 1;
        assert!(unpacked(&[&wrong]).is_err());
    }
}
