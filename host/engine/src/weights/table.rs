//! What a safetensors file holds, from its header alone: eight bytes of length, then JSON.
//!
//! Every number in the header is the file's own claim, so each is held against the file before anything is read by it. A
//! file that is something else is told by what it is.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::quantized::GgmlDType;
use serde_json::Value;

use crate::checkpoint::{Bytes, PICKLE};
use crate::error::{Error, Result};

/// The longest header that is read: what the format itself allows.
const MAX_HEADER: usize = 100_000_000;

/// The most dimensions of a tensor.
pub(super) const MAX_DIMENSIONS: usize = 8;

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    F64,
    F32,
    F16,
    Bf16,
    /// Eight bits: sign, four of exponent, three of fraction.
    E4m3,
    /// Eight bits: sign, five of exponent, two of fraction.
    E5m2,
    /// Blocks of few bits with their own scales.
    Blocks(GgmlDType),
    /// What no network reads as weights, such as positions: its name and bits for each value.
    Other(&'static str, usize),
}

/// The types of safetensors, by the name in the header.
const TYPES: &[(&str, Stored)] = &[
    ("F64", Stored::F64),
    ("F32", Stored::F32),
    ("F16", Stored::F16),
    ("BF16", Stored::Bf16),
    ("F8_E4M3", Stored::E4m3),
    ("F8_E5M2", Stored::E5m2),
    ("BOOL", Stored::Other("BOOL", 8)),
    ("U8", Stored::Other("U8", 8)),
    ("I8", Stored::Other("I8", 8)),
    ("U16", Stored::Other("U16", 16)),
    ("I16", Stored::Other("I16", 16)),
    ("U32", Stored::Other("U32", 32)),
    ("I32", Stored::Other("I32", 32)),
    ("U64", Stored::Other("U64", 64)),
    ("I64", Stored::Other("I64", 64)),
    ("C64", Stored::Other("C64", 64)),
    ("F8_E8M0", Stored::Other("F8_E8M0", 8)),
    ("F4", Stored::Other("F4", 4)),
    ("F6_E2M3", Stored::Other("F6_E2M3", 6)),
    ("F6_E3M2", Stored::Other("F6_E3M2", 6)),
];

impl Stored {
    /// How many bytes so many values take; nothing when they do not fill whole bytes or blocks.
    pub(super) fn bytes(self, values: usize) -> Option<usize> {
        let bits = match self {
            Self::F64 => 64,
            Self::F32 => 32,
            Self::F16 | Self::Bf16 => 16,
            Self::E4m3 | Self::E5m2 => 8,
            Self::Other(_, bits) => bits,
            Self::Blocks(kind) => {
                let blocks = values.is_multiple_of(kind.block_size()).then_some(values / kind.block_size())?;
                return blocks.checked_mul(kind.type_size());
            }
        };
        let bits = values.checked_mul(bits)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Whether it is one of the eight-bit floats, which may have scales beside them.
    pub(crate) fn is_fp8(self) -> bool {
        matches!(self, Self::E4m3 | Self::E5m2)
    }

    /// The name in files.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Blocks(kind) => format!("{kind:?}").replace('K', "_K"),
            other => TYPES.iter().find(|(_, stored)| *stored == other).map_or("?", |(name, _)| name).to_owned(),
        }
    }
}

/// Where a tensor lies in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) stored: Stored,
    pub(crate) shape: Vec<usize>,
    /// Its first byte, counted from the beginning of the file.
    pub(crate) start: usize,
    /// The byte behind its last.
    pub(crate) end: usize,
}

/// Where every tensor of a file lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) tensors: BTreeMap<String, Entry>,
    /// What the file says about itself.
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Table {
    /// Whether a tensor is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.tensors.contains_key(key)
    }

    /// The shape of a tensor that is there.
    pub(crate) fn shape(&self, key: &str) -> Option<&[usize]> {
        self.tensors.get(key).map(|entry| entry.shape.as_slice())
    }

    /// The tensors whose names begin so.
    pub(crate) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.tensors
            .range(prefix.to_owned()..)
            .map(|(key, _)| key.as_str())
            .take_while(move |key| key.starts_with(prefix))
    }

    /// Refuses tensors that share bytes.
    pub(super) fn checked(self) -> std::result::Result<Self, String> {
        let mut order: Vec<_> = self.tensors.iter().filter(|(_, entry)| entry.start < entry.end).collect();
        order.sort_unstable_by_key(|(_, entry)| entry.start);
        for pair in order.windows(2) {
            let [(left, before), (right, after)] = pair else { continue };
            if after.start < before.end {
                return Err(format!("the tensors {left} and {right} lie over each other"));
            }
        }
        Ok(self)
    }
}

/// Reads the header of a file of weights, and no more.
///
/// # Errors
/// [`Error::File`] when it cannot be opened, [`Error::Damaged`] when it is something else or broken.
pub(crate) fn read_header(path: &Path) -> Result<Table> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let bytes = Bytes::map(path).map_err(|source| Error::File { file: name.clone(), source })?;
    Ok(super::Opened::new(name, bytes)?.table)
}

/// Makes sense of a safetensors file. The error is a reason that completes "the file cannot be read: …".
pub(super) fn table(bytes: &[u8]) -> std::result::Result<Table, String> {
    if let Some(what) = what_it_is(bytes) {
        return Err(what.to_owned());
    }
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("it has {} bytes, and its header alone takes more", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    let length = match usize::try_from(length) {
        Ok(length) if length <= MAX_HEADER => length,
        _ => {
            return Err("it is not a safetensors file: its first eight bytes are not the length of a header".to_owned());
        }
    };
    let Some((header, data)) = rest.split_at_checked(length) else {
        return Err(format!("it is cut off: its header takes {length} bytes, and {} are there", rest.len()));
    };
    let header: BTreeMap<String, Value> =
        serde_json::from_slice(header).map_err(|error| format!("its header is not what it should be: {error}"))?;
    let mut table = Table::default();
    for (key, value) in header {
        if key == "__metadata__" {
            table.metadata =
                serde_json::from_value(value).map_err(|error| format!("its metadata is not text: {error}"))?;
            continue;
        }
        let entry = entry(&key, value, 8 + length, data.len())?;
        table.tensors.insert(key, entry);
    }
    if table.tensors.is_empty() {
        return Err("it holds no tensors".to_owned());
    }
    table.checked()
}

#[derive(serde::Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

fn entry(key: &str, value: Value, data: usize, there: usize) -> std::result::Result<Entry, String> {
    let raw: RawEntry = serde_json::from_value(value).map_err(|error| format!("the entry of tensor {key}: {error}"))?;
    let Some((_, stored)) = TYPES.iter().find(|(name, _)| *name == raw.dtype) else {
        return Err(format!("tensor {key} has the type {:?}, which is not known", raw.dtype));
    };
    let (start, end) = raw.data_offsets;
    let needed = elements(&raw.shape).and_then(|values| stored.bytes(values));
    if end < start || needed != Some(end - start) {
        let shape = raw.shape;
        return Err(format!(
            "tensor {key} of shape {shape:?} and type {} cannot take the bytes {start} to {end}",
            raw.dtype
        ));
    }
    if end > there {
        return Err(format!("it is cut off: tensor {key} ends at byte {end} of the data, and {there} are there"));
    }
    Ok(Entry { stored: *stored, shape: raw.shape, start: data + start, end: data + end })
}

/// How many values a shape has, if that can be counted.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    let few = shape.len() <= MAX_DIMENSIONS;
    shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side)).filter(|_| few)
}

/// What a file is that is certainly no safetensors file, told for people.
fn what_it_is(bytes: &[u8]) -> Option<&'static str> {
    let text =
        |prefix: &str| bytes.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
    if text("version https://git-lfs") {
        return Some("it is a Git LFS pointer; the file itself has not been fetched");
    }
    if text("<!doctype") || text("<html") {
        return Some("it is a web page, not a file of weights; its download was answered with a page");
    }
    // PyTorch's archives are zip files; older ones begin with the pickle protocol.
    if bytes.starts_with(b"PK\x03\x04") || matches!(bytes, [0x80, 2..=5, ..]) {
        return Some(PICKLE);
    }
    if bytes.len() >= 8 && bytes.iter().take(8).all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~')) {
        return Some("it is text, not a safetensors file");
    }
    None
}
