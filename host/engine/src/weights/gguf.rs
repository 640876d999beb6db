//! What a GGUF file holds, from its header alone. The blocks themselves candle dequantises (`number.rs`).
//!
//! Reading is our own because nothing in the header may be believed: lengths are held against the file, and values of
//! keys that do not matter here are skipped, not kept.

use candle_core::quantized::GgmlDType;

use super::table::{Entry, MAX_DIMENSIONS, Stored, Table, elements};

/// How the file begins.
pub(super) const MAGIC: &[u8] = b"GGUF";

/// The deepest list of lists that is skipped.
const MAX_DEPTH: usize = 8;

/// The longest text of a key or a value that is kept.
const MAX_KEPT: usize = 4096;

type Read<T> = Result<T, String>;

/// The types of GGUF by number, with those that candle reads.
fn stored(number: u32) -> Option<Stored> {
    Some(match number {
        0 => Stored::F32,
        1 => Stored::F16,
        2 => Stored::Blocks(GgmlDType::Q4_0),
        3 => Stored::Blocks(GgmlDType::Q4_1),
        6 => Stored::Blocks(GgmlDType::Q5_0),
        7 => Stored::Blocks(GgmlDType::Q5_1),
        8 => Stored::Blocks(GgmlDType::Q8_0),
        10 => Stored::Blocks(GgmlDType::Q2K),
        11 => Stored::Blocks(GgmlDType::Q3K),
        12 => Stored::Blocks(GgmlDType::Q4K),
        13 => Stored::Blocks(GgmlDType::Q5K),
        14 => Stored::Blocks(GgmlDType::Q6K),
        15 => Stored::Blocks(GgmlDType::Q8K),
        24 => Stored::Other("I8", 8),
        25 => Stored::Other("I16", 16),
        26 => Stored::Other("I32", 32),
        27 => Stored::Other("I64", 64),
        28 => Stored::F64,
        30 => Stored::Bf16,
        _ => return None,
    })
}

/// Makes sense of a GGUF file. The error is a reason that completes "the file cannot be read: …".
pub(super) fn table(bytes: &[u8]) -> Read<Table> {
    let mut reader = Reader { bytes, at: MAGIC.len() };
    let version = reader.u32()?;
    if !matches!(version, 2 | 3) {
        return Err(format!("it is GGUF of version {version}; versions 2 and 3 are read"));
    }
    let (tensors, values) = (reader.u64()?, reader.u64()?);
    let (mut table, mut alignment) = (Table::default(), 32);
    for _ in 0..values {
        let key = reader.text()?;
        let kind = reader.u32()?;
        match (key.as_str(), kind) {
            ("general.alignment", 4) => alignment = reader.u32()? as usize,
            (_, 8) => {
                let text = reader.text()?;
                if text.len() <= MAX_KEPT {
                    table.metadata.insert(key, text);
                }
            }
            _ => reader.skip(kind, 0)?,
        }
    }
    if !alignment.is_power_of_two() || alignment > 1 << 16 {
        return Err(format!("its general.alignment is {alignment}, and must be a power of two up to 65536"));
    }
    let mut found = Vec::new();
    for _ in 0..tensors {
        let key = reader.text()?;
        let dimensions = reader.u32()? as usize;
        if dimensions > MAX_DIMENSIONS {
            return Err(format!("tensor {key} has {dimensions} dimensions, and may have {MAX_DIMENSIONS}"));
        }
        // The fastest dimension comes first.
        let mut shape = (0..dimensions).map(|_| reader.size()).collect::<Read<Vec<_>>>()?;
        shape.reverse();
        let number = reader.u32()?;
        let stored =
            stored(number).ok_or_else(|| format!("tensor {key} has the type {number}, which is not read here"))?;
        found.push((key, shape, stored, reader.size()?));
    }
    let data = reader.at.next_multiple_of(alignment);
    for (key, shape, stored, offset) in found {
        let length = elements(&shape).and_then(|values| stored.bytes(values));
        let range = length.and_then(|length| {
            let start = data.checked_add(offset)?;
            Some((start, start.checked_add(length)?))
        });
        let Some((start, end)) = range else {
            return Err(format!("tensor {key} of shape {shape:?} and type {} cannot be", stored.name()));
        };
        if end > bytes.len() {
            return Err(format!("it is cut off: tensor {key} ends at byte {end}, and {} are there", bytes.len()));
        }
        table.tensors.insert(key, Entry { stored, shape, start, end });
    }
    if table.tensors.is_empty() {
        return Err("it holds no tensors".to_owned());
    }
    table.checked()
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Read<&[u8]> {
        let taken = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        self.at = self.at.saturating_add(count);
        taken.ok_or_else(|| format!("it is cut off: its header goes on behind byte {}", self.bytes.len()))
    }

    fn u32(&mut self) -> Read<u32> {
        Ok(self.take(4)?.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
    }

    fn u64(&mut self) -> Read<u64> {
        Ok(self.take(8)?.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    fn size(&mut self) -> Read<usize> {
        let value = self.u64()?;
        usize::try_from(value).map_err(|_| format!("its header has the size {value}, which cannot be"))
    }

    fn text(&mut self) -> Read<String> {
        let length = self.size()?;
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    /// Goes over a value of this kind.
    fn skip(&mut self, kind: u32, depth: usize) -> Read<()> {
        let width = |kind| match kind {
            0 | 1 | 7 => Some(1),
            2 | 3 => Some(2),
            4..=6 => Some(4),
            10..=12 => Some(8),
            _ => None,
        };
        match (kind, width(kind)) {
            (_, Some(width)) => self.take(width).map(|_| ()),
            (8, _) => {
                let length = self.size()?;
                self.take(length).map(|_| ())
            }
            (9, _) if depth < MAX_DEPTH => {
                let (kind, count) = (self.u32()?, self.size()?);
                if let Some(width) = width(kind) {
                    return self.take(count.saturating_mul(width)).map(|_| ());
                }
                (0..count).try_for_each(|_| self.skip(kind, depth + 1))
            }
            _ => Err(format!("its header has a value of the kind {kind}, which is not known")),
        }
    }
}
