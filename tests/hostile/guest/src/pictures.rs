//! What has the host work on pictures.

use crate::bindings::easel::plugin::blobs::Blob;
use crate::bindings::easel::plugin::pixels::{self, Fit, MaskFrom};
use crate::bindings::easel::plugin::types::{ErrorKind, PluginError};
use crate::{PNG, blob, error};

/// `pixels DO PICTURE …`, where a picture is `tiny`, `text`, or `WIDTHxHEIGHT` for a file that claims that size.
pub fn pixels(words: &[&str]) -> Result<String, PluginError> {
    let (what, picture, rest) = match words {
        [what, picture, rest @ ..] => (*what, picture_of(picture), rest),
        _ => return Err(error(ErrorKind::InvalidRequest, "pixels DO PICTURE")),
    };
    match what {
        "head" => Ok(head(&picture)),
        "resize" => Ok(head(&pixels::resize(&picture, number(rest, 0), number(rest, 1), fit(rest))?)),
        "convert" => {
            let quality = rest.get(1).and_then(|quality| quality.parse().ok());
            Ok(head(&pixels::convert(&picture, rest.first().unwrap_or(&""), quality)?))
        }
        "mask" => {
            let mask = pixels::alpha_to_mask(&picture, MaskFrom::Opaque)?;
            Ok(format!("{} {}", head(&mask), mask.size() == pixels::alpha_to_mask(&picture, MaskFrom::Opaque)?.size()))
        }
        "hole" => Ok(head(&pixels::mask_to_alpha(&picture, MaskFrom::Transparent)?)),
        // Until the host has enough.
        "flood" => loop {
            pixels::resize(&picture, number(rest, 0), number(rest, 1), Fit::Exact)?;
        },
        // Whatever comes of it is kept.
        "hoard" => {
            let mut kept = Vec::new();
            loop {
                kept.push(pixels::resize(&picture, number(rest, 0), number(rest, 1), Fit::Exact)?);
            }
        }
        _ => Err(error(ErrorKind::InvalidRequest, "no such work")),
    }
}

fn head(picture: &Blob) -> String {
    match pixels::head(picture) {
        Some(head) => format!("{} {}x{} {}", head.format, head.width, head.height, picture.media_type()),
        None => "no picture".to_owned(),
    }
}

fn number(words: &[&str], at: usize) -> u32 {
    words.get(at).and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn fit(words: &[&str]) -> Fit {
    match words.get(2).copied() {
        Some("contain") => Fit::Contain,
        Some("cover") => Fit::Cover,
        _ => Fit::Exact,
    }
}

fn picture_of(word: &str) -> Blob {
    match word.split_once('x').map(|(width, height)| (width.parse(), height.parse())) {
        Some((Ok(width), Ok(height))) => blob(&claiming(width, height), "image/png"),
        _ if word == "text" => blob(b"this is no picture", "text/plain"),
        _ => blob(PNG, "image/png"),
    }
}

/// The tiny picture with a head that claims another size, its checksum right.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut file = PNG.to_vec();
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = checksum(&file[12..29]);
    file[29..33].copy_from_slice(&sum.to_be_bytes());
    file
}

fn checksum(bytes: &[u8]) -> u32 {
    let bit = |sum: u32| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| bit(sum)))
}
