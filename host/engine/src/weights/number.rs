//! From stored bytes to f32, whatever the file holds.
//!
//! Eight-bit floats may have a scale beside them: one number for the whole tensor or one for each row. Blocks are
//! dequantised by candle. Only the rows that are asked for are touched.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};

use super::layout::Rows;
use super::table::{Entry, Stored, elements};

/// The name that weights end in, when they may have scales.
const WEIGHT: &str = "weight";

/// Where the scale of a tensor may lie: two names are written.
pub(super) fn scale_keys(key: &str) -> Vec<String> {
    match key.strip_suffix(WEIGHT) {
        Some(stem) => ["scale_weight", "weight_scale"].map(|name| format!("{stem}{name}")).to_vec(),
        None => Vec::new(),
    }
}

/// What is to be read.
pub(super) struct Part<'a> {
    pub(super) entry: &'a Entry,
    pub(super) bytes: &'a [u8],
    /// The rows of the first dimension; all when there is nothing here.
    pub(super) rows: Option<Rows>,
    /// One scale, or one for each row.
    pub(super) scale: Option<&'a [f32]>,
}

/// The scales of a tensor.
pub(super) fn scale(entry: &Entry, bytes: &[u8]) -> Result<Vec<f32>, String> {
    values(entry.stored, bytes).ok_or_else(|| format!("has scales of the type {}", entry.stored.name()))
}

/// Reads a tensor. The error is a reason that completes "the tensor …".
pub(super) fn tensor(part: &Part<'_>, device: &Device) -> Result<Tensor, String> {
    let Part { entry, bytes, rows, scale } = part;
    let all = entry.shape.first().copied().unwrap_or(1);
    let (first, count) = match rows {
        Some(rows) => rows
            .of(all)
            .ok_or_else(|| format!("has {all} rows in the file, which do not part into {} equal parts", rows.parts))?,
        None => (0, all),
    };
    // Blocks may go across the rows of a tensor, and then it can be read whole only.
    let bytes = match bytes.len().checked_div(all) {
        Some(row) if row * all == bytes.len() => bytes.get(first * row..(first + count) * row).unwrap_or_default(),
        _ if count == all => bytes,
        _ => return Err(format!("has rows that are not whole blocks of {}", entry.stored.name())),
    };
    let mut shape = entry.shape.clone();
    if let Some(side) = shape.first_mut() {
        *side = count;
    }
    let failed = |error: candle_core::Error| format!("cannot be read: {error}");
    let dtype = match entry.stored {
        Stored::F64 => DType::F64,
        Stored::F32 => DType::F32,
        Stored::F16 => DType::F16,
        Stored::Bf16 => DType::BF16,
        Stored::E4m3 | Stored::E5m2 => {
            let mut values = values(entry.stored, bytes).unwrap_or_default();
            match scale {
                None => {}
                Some([scale]) => values.iter_mut().for_each(|value| *value *= scale),
                Some(scales) if scales.len() == all => {
                    let width = values.len() / count.max(1);
                    for (row, scale) in values.chunks_mut(width.max(1)).zip(scales.iter().skip(first)) {
                        row.iter_mut().for_each(|value| *value *= scale);
                    }
                }
                Some(scales) => {
                    return Err(format!("has {} scales for {all} rows; one or one each is read", scales.len()));
                }
            }
            return Tensor::from_vec(values, shape, device).map_err(failed);
        }
        Stored::Blocks(kind) => return blocks(bytes, kind, &shape, device).map_err(failed),
        Stored::Other(name, _) => return Err(format!("is stored as {name}, which is not read as weights")),
    };
    let tensor =
        Tensor::from_raw_buffer(bytes, dtype, &shape, &Device::Cpu).and_then(|tensor| tensor.to_dtype(DType::F32));
    tensor.and_then(|tensor| tensor.to_device(device)).map_err(failed)
}

fn blocks(bytes: &[u8], kind: GgmlDType, shape: &[usize], device: &Device) -> candle_core::Result<Tensor> {
    let values = elements(shape).unwrap_or(0);
    if Stored::Blocks(kind).bytes(values) != Some(bytes.len()) {
        candle_core::bail!("its rows are not whole blocks of {}", kind.block_size());
    }
    // A copy, because a mapped file may lie at any address and blocks may not.
    let storage = QStorage::from_data(Cow::Owned(bytes.to_vec()), &Device::Cpu, kind)?;
    QTensor::new(storage, shape)?.dequantize(&Device::Cpu)?.to_device(device)
}

/// The values of a plain type; nothing for others.
fn values(stored: Stored, bytes: &[u8]) -> Option<Vec<f32>> {
    let table = match stored {
        Stored::E4m3 => e4m3,
        Stored::E5m2 => e5m2,
        Stored::F32 => {
            return Some(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect());
        }
        Stored::Bf16 => {
            let value = |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            return Some(bytes.as_chunks::<2>().0.iter().map(value).collect());
        }
        Stored::F64 | Stored::F16 | Stored::Blocks(_) | Stored::Other(..) => return None,
    };
    let table: Vec<f32> = (0..=u8::MAX).map(table).collect();
    Some(bytes.iter().filter_map(|byte| table.get(usize::from(*byte)).copied()).collect())
}

/// The finite eight-bit float of four exponent bits: no infinities, one not-a-number.
fn e4m3(byte: u8) -> f32 {
    float(byte, 3, 7, byte & 0x7f == 0x7f)
}

/// The eight-bit float of five exponent bits: the upper half of an f16.
fn e5m2(byte: u8) -> f32 {
    match (byte & 0x7c == 0x7c, byte & 3, byte & 0x80) {
        (true, 0, 0) => f32::INFINITY,
        (true, 0, _) => f32::NEG_INFINITY,
        (is_not_a_number, ..) => float(byte, 2, 15, is_not_a_number),
    }
}

fn float(byte: u8, fraction_bits: u32, bias: i32, is_not_a_number: bool) -> f32 {
    if is_not_a_number {
        return f32::NAN;
    }
    let fraction = f32::from(byte & ((1 << fraction_bits) - 1)) / (1u32 << fraction_bits) as f32;
    let exponent = i32::from((byte & 0x7f) >> fraction_bits);
    // The lowest exponent has no leading one.
    let value = match exponent {
        0 => fraction * 2f32.powi(1 - bias),
        _ => (1.0 + fraction) * 2f32.powi(exponent - bias),
    };
    if byte & 0x80 == 0 { value } else { -value }
}
