//! What the host does to pictures. Their pixels never enter the plugin.

use crate::raw::pixels;
use crate::{Blob, Format, Result, Size};

/// What a picture says about itself in its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureHead {
    /// How the file is encoded.
    pub format: Format,
    /// Its size.
    pub size: Size,
}

/// How a picture gets into another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Stretched to exactly that size.
    Exact,
    /// As large as fits into it, its proportions kept; one side may come out shorter.
    Contain,
    /// Exactly that size, its proportions kept; what does not fit is cut off evenly on both sides.
    Cover,
}

/// What white stands for in a mask; black stands for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskFrom {
    /// What is transparent: the part to paint, where a picture marks it by a hole.
    Transparent,
    /// What is opaque.
    Opaque,
}

/// For a blob that is a picture: a PNG, JPEG or WebP file. What is made is a new blob. Each fails with `Upstream` when
/// it is no picture, and with `LimitExceeded` when it has too many pixels, or the call had too many worked on.
impl Blob {
    /// Its format and size; `None` when it is no picture. Nothing is decoded.
    pub fn head(&self) -> Option<PictureHead> {
        let head = pixels::head(&self.0)?;
        Some(PictureHead { format: head.format.parse().ok()?, size: Size::new(head.width, head.height) })
    }

    /// The picture in another size and the same format.
    ///
    /// # Errors
    /// `Upstream`, `LimitExceeded`.
    pub fn resize(&self, size: Size, fit: Fit) -> Result<Self> {
        let fit = match fit {
            Fit::Exact => pixels::Fit::Exact,
            Fit::Contain => pixels::Fit::Contain,
            Fit::Cover => pixels::Fit::Cover,
        };
        Ok(Self(pixels::resize(&self.0, size.width, size.height, fit)?))
    }

    /// The picture in another format. `quality`, 0 to 100, is for JPEG, where transparency becomes white; the others
    /// lose nothing.
    ///
    /// # Errors
    /// `Upstream`, `LimitExceeded`.
    pub fn convert(&self, format: Format, quality: Option<u8>) -> Result<Self> {
        Ok(Self(pixels::convert(&self.0, format.name(), quality)?))
    }

    /// A grey PNG of the same size, made of the picture's transparency.
    ///
    /// # Errors
    /// `Upstream`, `LimitExceeded`.
    pub fn alpha_to_mask(&self, white: MaskFrom) -> Result<Self> {
        Ok(Self(pixels::alpha_to_mask(&self.0, white.into())?))
    }

    /// The way back, for upstreams that take a mask as a picture with a hole: an RGBA PNG of the same size whose transparency is
    /// made of this mask. A mask of a request is white where the image is painted anew.
    ///
    /// # Errors
    /// `Upstream`, `LimitExceeded`.
    pub fn mask_to_alpha(&self, white: MaskFrom) -> Result<Self> {
        Ok(Self(pixels::mask_to_alpha(&self.0, white.into())?))
    }
}

impl From<MaskFrom> for pixels::MaskFrom {
    fn from(white: MaskFrom) -> Self {
        match white {
            MaskFrom::Transparent => Self::Transparent,
            MaskFrom::Opaque => Self::Opaque,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a PNG file.
    fn png(width: u32, height: u32) -> Blob {
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        file.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
        Blob::new("image/png", &file).unwrap()
    }

    fn head(format: Format, width: u32, height: u32) -> Option<PictureHead> {
        Some(PictureHead { format, size: Size::new(width, height) })
    }

    #[test]
    fn stand_in_knows_the_heads_of_what_would_be_made() {
        let picture = png(100, 50);
        assert_eq!(picture.head(), head(Format::Png, 100, 50));
        let size = Size::new(20, 20);
        assert_eq!(picture.resize(size, Fit::Exact).unwrap().head(), head(Format::Png, 20, 20));
        assert_eq!(picture.resize(size, Fit::Contain).unwrap().head(), head(Format::Png, 20, 10));
        let jpeg = picture.convert(Format::Jpeg, Some(80)).unwrap();
        assert_eq!((jpeg.head(), jpeg.media_type().as_str()), (head(Format::Jpeg, 100, 50), "image/jpeg"));
        assert_eq!(jpeg.alpha_to_mask(MaskFrom::Opaque).unwrap().head(), head(Format::Png, 100, 50));
        assert_eq!(jpeg.mask_to_alpha(MaskFrom::Transparent).unwrap().head(), head(Format::Png, 100, 50));
    }

    #[test]
    fn what_is_no_picture_is_told() {
        let text = Blob::new("text/plain", b"hello").unwrap();
        assert_eq!(text.head(), None);
        assert_eq!(text.convert(Format::Png, None).unwrap_err().kind, crate::ErrorKind::Upstream);
    }
}
