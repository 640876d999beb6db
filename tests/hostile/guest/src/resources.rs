//! What uses up something of the host's.

use crate::bindings::easel::plugin::blobs::BlobWriter;
use crate::bindings::easel::plugin::host::{self, Level};
use crate::bindings::easel::plugin::types::PluginError;
use crate::{PNG, blob};

/// Does as it is told, until the host stops it; nothing for words of others.
pub fn exhaust(what: &str, words: &[&str]) -> Option<Result<String, PluginError>> {
    let number = words.first().and_then(|word| word.parse::<usize>().ok());
    Some(Ok(match what {
        "memory" => memory(number.unwrap_or(usize::MAX)),
        "work" => work(number.unwrap_or(0)),
        "handles" => handles(),
        "log-flood" => log_flood(number.unwrap_or(1_000_000)),
        "output-flood" => output_flood(number.unwrap_or(100_000)),
        "huge-blob" => return Some(huge_blob()),
        "big-list" => big_list(number.unwrap_or(32)),
        "read-out-of-bounds" => read_out_of_bounds(),
        _ => return None,
    }))
}

/// Takes so many MiB.
fn memory(mebibytes: usize) -> String {
    let mut taken = Vec::new();
    for _ in 0..mebibytes {
        taken.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&taken);
    }
    format!("{} MiB", taken.len())
}

/// Computes for so many milliseconds.
fn work(millis: usize) -> String {
    let begun = std::time::Instant::now();
    let mut steps = 0_u64;
    while begun.elapsed().as_millis() < millis as u128 {
        steps = std::hint::black_box(steps + 1);
    }
    format!("worked {}", steps > 0)
}

fn handles() -> String {
    let writers: Vec<_> = (0..10_000).map(|_| BlobWriter::new("text/plain")).collect();
    writers.len().to_string()
}

fn log_flood(lines: usize) -> String {
    let line = "flood ".repeat(4096);
    for _ in 0..lines {
        host::log(Level::Info, &line);
    }
    "flooded".to_owned()
}

fn output_flood(lines: usize) -> String {
    for number in 0..lines {
        println!("line {number} of a flood");
        eprintln!("line {number} of another");
    }
    "flooded".to_owned()
}

fn huge_blob() -> Result<String, PluginError> {
    let writer = BlobWriter::new("application/octet-stream");
    let part = vec![7_u8; 1 << 20];
    for _ in 0..100_000 {
        writer.write(&part)?;
    }
    Ok("written".to_owned())
}

/// One list of so many MiB in one call.
fn big_list(mebibytes: usize) -> String {
    let writer = BlobWriter::new("application/octet-stream");
    format!("{:?}", writer.write(&vec![7_u8; mebibytes << 20]).is_ok())
}

fn read_out_of_bounds() -> String {
    let blob = blob(PNG, "image/png");
    let size = blob.size();
    let lengths = [(0, u32::MAX), (size, 1), (size + 1, 1), (u64::MAX, u32::MAX), (size - 1, 10), (0, 0)];
    let read: Vec<_> = lengths.iter().map(|(offset, max)| blob.read(*offset, *max).len()).collect();
    format!("{size} {read:?}")
}
