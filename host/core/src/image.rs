//! Pictures as they travel: encoded bytes with their format and size. Pixels are the engine's and the plugins' host's
//! business.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

/// An encoded picture. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// The encoded file.
    pub bytes: Bytes,
    /// How the file is encoded.
    pub format: ImageFormat,
    /// The picture's size in pixels.
    pub size: Size,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({}, {}, {} bytes)", self.format, self.size, self.bytes.len())
    }
}

/// The file formats that every part of Easel reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageFormat {
    /// Lossless, the default.
    Png,
    /// Lossy, no transparency.
    Jpeg,
    /// Lossless or lossy, with transparency.
    Webp,
}

impl ImageFormat {
    /// Every format, in the order in which lists of them are written.
    pub const ALL: [Self; 3] = [Self::Png, Self::Jpeg, Self::Webp];

    /// The name in requests and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
        }
    }

    /// The ending of a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    /// Recognises a file by its first bytes; what a sender claims about it is not looked at.
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::Webp),
            _ => None,
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ImageFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "png" => Ok(Self::Png),
            "jpeg" | "jpg" => Ok(Self::Jpeg),
            "webp" => Ok(Self::Webp),
            _ => Err(()),
        }
    }
}

/// Width and height in pixels, both at least 1 and at most [`Size::MAX_SIDE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size {
    width: u32,
    height: u32,
}

impl Size {
    /// The longest side any picture here can have.
    pub const MAX_SIDE: u32 = 16_384;

    /// Makes a size; `None` when a side is 0 or over [`Size::MAX_SIDE`].
    pub fn new(width: u32, height: u32) -> Option<Self> {
        let side = 1..=Self::MAX_SIDE;
        (side.contains(&width) && side.contains(&height)).then_some(Self { width, height })
    }

    /// The width in pixels.
    pub fn width(self) -> u32 {
        self.width
    }

    /// The height in pixels.
    pub fn height(self) -> u32 {
        self.height
    }

    /// Width times height.
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Reads `WIDTHxHEIGHT` in plain decimal digits.
impl FromStr for Size {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = |part: &str| {
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse().ok()).flatten()
        };
        let (width, height) = text.split_once('x').ok_or(())?;
        Self::new(digits(width).ok_or(())?, digits(height).ok_or(())?).ok_or(())
    }
}
