//! Files that are broken, foreign or odd, each with the one sentence it gets.

use std::path::Path;

use candle_core::Device;
use serde_json::{Value, json};

use super::read_header;
use crate::checkpoint::Files;
use crate::error::Error;

/// A safetensors file with this header and so many bytes of data.
fn file(header: &Value, data: usize) -> Vec<u8> {
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, bytes).unwrap();
    match read_header(&path) {
        Err(error @ Error::Damaged { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn entry(dtype: &str, shape: &[usize], from: usize, to: usize) -> Value {
    json!({"dtype": dtype, "shape": shape, "data_offsets": [from, to]})
}

#[test]
fn a_broken_file_is_told_by_name_and_by_what_is_wrong_with_it() {
    let whole = file(&json!({"a": entry("F32", &[2, 2], 0, 16)}), 16);
    for (bytes, reason) in [
        (Vec::new(), "it has 0 bytes"),
        (whole[..5].to_vec(), "it has 5 bytes"),
        (whole[..20].to_vec(), "it is cut off: its header takes"),
        (whole[..whole.len() - 1].to_vec(), "it is cut off: tensor a ends at byte 16 of the data, and 15 are there"),
        (
            file(&json!({"a": entry("F32", &[2, 2], 0, 15)}), 16),
            "tensor a of shape [2, 2] and type F32 cannot take the bytes",
        ),
        (file(&json!({"a": entry("F32", &[2, 2], 16, 0)}), 16), "cannot take the bytes 16 to 0"),
        (file(&json!({"a": entry("F32", &[usize::MAX, 8], 0, 16)}), 16), "cannot take the bytes"),
        (file(&json!({"a": entry("F99", &[4], 0, 16)}), 16), "tensor a has the type \"F99\", which is not known"),
        (
            file(&json!({"a": entry("F32", &[4], 0, 16), "b": entry("F32", &[4], 8, 24)}), 24),
            "the tensors a and b lie over each other",
        ),
        (file(&json!({"a": 1}), 0), "the entry of tensor a"),
        (file(&json!([1]), 0), "its header is not what it should be"),
        (file(&json!({}), 0), "it holds no tensors"),
        (file(&json!({"__metadata__": {"a": 1}, "a": entry("F32", &[1], 0, 4)}), 4), "its metadata is not text"),
        (u64::MAX.to_le_bytes().repeat(3), "its first eight bytes are not the length of a header"),
    ] {
        let error = refusal(&bytes);
        assert!(
            error.starts_with("model.safetensors cannot be used: ") && error.contains(reason),
            "{error} for {reason}"
        );
    }
}

#[test]
fn a_foreign_file_is_told_by_what_it_is() {
    for (bytes, what) in [
        (&b"PK\x03\x04archive/data.pkl...."[..], "a pickle checkpoint"),
        (&b"\x80\x02}q\x00(X\x05\x00\x00\x00"[..], "a pickle checkpoint"),
        (&b"version https://git-lfs.github.com/spec/v1\n"[..], "a Git LFS pointer"),
        (&b"<!DOCTYPE html><html></html>"[..], "a web page"),
        (&b"Once upon a time"[..], "text, not a safetensors file"),
        (&b"GGUF\x01\x00\x00\x00........"[..], "GGUF of version 1"),
        (&b"GGUF\x03\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..], "it is cut off"),
    ] {
        let error = refusal(bytes);
        assert!(error.contains(what), "{error}");
    }
}

/// A GGUF file with one tensor of type `kind`, and an alignment.
fn gguf(kind: u32, dimensions: &[u64], alignment: u32, data: usize) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\x00\x00\x00".to_vec();
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(2u64.to_le_bytes());
    text(&mut bytes, "general.alignment");
    bytes.extend(4u32.to_le_bytes());
    bytes.extend(alignment.to_le_bytes());
    text(&mut bytes, "general.list");
    // A list of two texts.
    bytes.extend(9u32.to_le_bytes());
    bytes.extend(8u32.to_le_bytes());
    bytes.extend(2u64.to_le_bytes());
    text(&mut bytes, "one");
    text(&mut bytes, "two");
    text(&mut bytes, "a.weight");
    bytes.extend((dimensions.len() as u32).to_le_bytes());
    dimensions.iter().for_each(|side| bytes.extend(side.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    let start = bytes.len().next_multiple_of(32);
    bytes.resize(start + data, 0x3c);
    bytes
}

#[test]
fn a_broken_gguf_file_is_refused_and_a_whole_one_read() {
    for (bytes, reason) in [
        (gguf(2, &[32, 2], 0, 36), "its general.alignment is 0"),
        (gguf(2, &[32, 2], 33, 36), "its general.alignment is 33"),
        (gguf(2, &[32, 2], 32, 35), "it is cut off: tensor a.weight ends"),
        (gguf(2, &[31, 2], 32, 36), "of shape [2, 31] and type Q4_0 cannot be"),
        (gguf(16, &[32, 2], 32, 36), "has the type 16, which is not read here"),
        (gguf(2, &[u64::MAX, u64::MAX], 32, 36), "cannot be"),
        (gguf(2, &[1; 9], 32, 36), "has 9 dimensions"),
    ] {
        let error = refusal(&bytes);
        assert!(error.contains(reason), "{error} for {reason}");
    }
    // Every byte 0x3c: scale 1.058…, values 12 and 3 less 8.
    let read = |bytes: Vec<u8>, shape: &[usize]| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("transformer")).unwrap();
        std::fs::write(folder.path().join("transformer/any.gguf"), bytes).unwrap();
        let weights = Files::Folder(folder.path().to_owned()).weights("transformer", "model", &Device::Cpu).unwrap();
        weights.get("a.weight", shape).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let scale = f32::from_bits(0x3f87_8000);
    let rows = [[4.0 * scale; 16], [-5.0 * scale; 16]].concat().repeat(2);
    assert_eq!(read(gguf(2, &[32, 2], 32, 36), &[2, 32]), rows);
    // The same bytes as Q8_K: a scale in f32, and every value 60.
    assert_eq!(read(gguf(15, &[256], 32, 292), &[256]), [60.0 * f32::from_bits(0x3c3c_3c3c); 256]);
}

fn weights(folder: &Path, header: &Value, data: &[u8]) -> super::Weights {
    let mut bytes = file(header, 0);
    bytes.extend(data);
    std::fs::create_dir_all(folder.join("unet")).unwrap();
    std::fs::write(folder.join("unet/model.safetensors"), bytes).unwrap();
    Files::Folder(folder.to_owned()).weights("unet", "model", &Device::Cpu).unwrap()
}

#[test]
fn what_no_network_reads_as_weights_is_refused_only_when_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let weights =
        weights(folder.path(), &json!({"ids": entry("I64", &[1], 0, 8), "b": entry("BF16", &[1], 8, 10)}), &[0; 10]);
    assert!(weights.get("b", &[1]).is_ok());
    let error = weights.get("ids", &[1]).unwrap_err().to_string();
    assert!(error.contains("ids is stored as I64"), "{error}");
    let error = weights.get("c", &[1]).unwrap_err().to_string();
    assert!(error.contains("c is missing"), "{error}");
    let error = weights.get("b", &[2]).unwrap_err().to_string();
    assert!(error.contains("has the shape [1], and by the config must have [2]"), "{error}");
}

#[test]
fn scales_that_fit_neither_the_tensor_nor_its_rows_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let header = json!({"a.weight": entry("F8_E4M3", &[4, 1], 0, 4), "a.weight_scale": entry("F32", &[2], 4, 12)});
    let error = weights(folder.path(), &header, &[0; 12]).get("a.weight", &[4, 1]).unwrap_err().to_string();
    assert!(error.contains("has 2 scales for 4 rows"), "{error}");
}

#[test]
fn two_files_of_weights_or_a_pickle_in_a_components_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("unet");
    std::fs::create_dir(&at).unwrap();
    let files = Files::Folder(folder.path().to_owned());
    let error = |files: &Files| files.weights("unet", "model", &Device::Cpu).err().unwrap().to_string();
    assert!(error(&files).contains("unet/model.safetensors"), "{}", error(&files));
    std::fs::write(at.join("model.bin"), b"x").unwrap();
    assert!(error(&files).contains("unet/model.bin") && error(&files).contains("pickle"), "{}", error(&files));
    std::fs::write(at.join("one.safetensors"), b"x").unwrap();
    std::fs::write(at.join("two.safetensors"), b"x").unwrap();
    assert!(error(&files).contains("more than one file"), "{}", error(&files));
}
