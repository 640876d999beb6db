//! The names under which images are served. A name is taken apart by hand into digits, hexadecimal and one of three
//! endings; no text from outside ever becomes a path.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use easel_core::{Error, ErrorKind, ImageFormat};

use crate::store::StoredImage;

const PREFIX_DIGITS: usize = 12;
const SHA256_DIGITS: usize = 64;
/// Twelve digits are enough until the year 33658.
const MAX_SECONDS: u64 = 999_999_999_999;

/// A well-formed public name: `{unix seconds}_{first 12 digits of the SHA-256}.{extension}` or `{SHA-256}.{extension}`,
/// where the extension is `png`, `jpg` or `webp` and all letters are small.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageName(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The name given when the image was kept.
    Alias(String),
    /// The content itself.
    Content { sha256: String, format: ImageFormat },
}

impl ImageName {
    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Alias(name) => f.write_str(name),
            Kind::Content { sha256, format } => write!(f, "{sha256}.{}", format.extension()),
        }
    }
}

/// Everything else is `NotFound`: it cannot be the name of an image.
impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map(Self).ok_or_else(|| Error::new(ErrorKind::NotFound, "no image has this name"))
    }
}

fn parse(text: &str) -> Option<Kind> {
    let (stem, extension) = text.split_once('.')?;
    let format = ImageFormat::ALL.into_iter().find(|format| format.extension() == extension)?;
    if is_hex(stem, SHA256_DIGITS) {
        return Some(Kind::Content { sha256: stem.to_owned(), format });
    }
    let (seconds, prefix) = stem.split_once('_')?;
    let is_time = (1..=12).contains(&seconds.len()) && seconds.bytes().all(|byte| byte.is_ascii_digit());
    (is_time && is_hex(prefix, PREFIX_DIGITS)).then(|| Kind::Alias(text.to_owned()))
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The alias of an image kept at a time.
pub(crate) fn alias(image: &StoredImage, at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().min(MAX_SECONDS);
    let prefix = image.sha256.get(..PREFIX_DIGITS).unwrap_or(&image.sha256);
    format!("{seconds}_{prefix}.{}", image.format.extension())
}
