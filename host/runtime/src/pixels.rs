//! What the host does to pictures that plugins bring: it reads their format and size from the bytes, and turns them into
//! the format that was asked for where the provider gave another. What plugins may ask for themselves (`host/pixels.rs`)
//! is here as well: [`resize`] and [`mask`].

use std::io::Cursor;

use bytes::Bytes;
use easel_core::{Image, ImageFormat, Size};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ImageReader, Limits};

mod mask;
mod resize;

pub(crate) use mask::{White, alpha_to_mask, mask_to_alpha};
pub(crate) use resize::{Fit, pixels_on_the_way, resize};

/// The most memory that decoding one picture may take.
const MAX_DECODED: u64 = 512 << 20;

/// The quality of JPEG where nobody names one.
const DEFAULT_QUALITY: u8 = 90;

/// What stands in a picture's head. The sides may be longer than any that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) format: ImageFormat,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Head {
    /// Reads the head of a picture, and nothing behind it.
    pub(crate) fn read(bytes: &Bytes) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("it is empty".to_owned());
        }
        let format = ImageFormat::sniff(bytes).ok_or("it is neither PNG nor JPEG nor WebP")?;
        let (width, height) = file(bytes, format).into_dimensions().map_err(|error| error.to_string())?;
        Ok(Self { format, width, height })
    }

    pub(crate) fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// Reads what a picture says about itself.
pub(crate) fn inspect(bytes: Bytes) -> Result<Image, String> {
    let Head { format, width, height } = Head::read(&bytes)?;
    let size =
        Size::new(width, height).ok_or_else(|| format!("it is {width}x{height}; a side is 1 to {}", Size::MAX_SIDE))?;
    Ok(Image { bytes, format, size })
}

/// Makes the same picture in another format. `quality` is for JPEG, 0 to 100; transparency becomes white there. Takes
/// tens of milliseconds: not for threads that serve.
pub(crate) fn convert(picture: &Image, format: ImageFormat, quality: Option<u8>) -> Result<Image, String> {
    let bytes = encode(decode(&picture.bytes, picture.format)?, format, quality)?;
    Ok(Image { bytes: bytes.into(), format, size: picture.size })
}

/// Decodes a picture. Who calls has looked at its head.
pub(crate) fn decode(bytes: &Bytes, format: ImageFormat) -> Result<DynamicImage, String> {
    reader(bytes, format).decode().map_err(|error| error.to_string())
}

/// Writes a picture's file.
pub(crate) fn encode(picture: DynamicImage, format: ImageFormat, quality: Option<u8>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let written = match format {
        ImageFormat::Png => picture.write_with_encoder(PngEncoder::new(&mut bytes)),
        ImageFormat::Webp => eight_bits(picture).write_with_encoder(WebPEncoder::new_lossless(&mut bytes)),
        ImageFormat::Jpeg => {
            let quality = quality.unwrap_or(DEFAULT_QUALITY).clamp(1, 100);
            on_white(picture).write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality))
        }
    };
    written.map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// A picture's file, within the bounds of memory that decoders keep by themselves.
fn file(bytes: &Bytes, format: ImageFormat) -> ImageReader<Cursor<Bytes>> {
    let format = match format {
        ImageFormat::Png => image::ImageFormat::Png,
        ImageFormat::Jpeg => image::ImageFormat::Jpeg,
        ImageFormat::Webp => image::ImageFormat::WebP,
    };
    ImageReader::with_format(Cursor::new(bytes.clone()), format)
}

/// The same within ours.
fn reader(bytes: &Bytes, format: ImageFormat) -> ImageReader<Cursor<Bytes>> {
    let mut reader = file(bytes, format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(Size::MAX_SIDE);
    limits.max_image_height = Some(Size::MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    reader
}

/// The encoder takes RGB and RGBA of 8 bits.
fn eight_bits(picture: DynamicImage) -> DynamicImage {
    if picture.color().has_alpha() { picture.into_rgba8().into() } else { picture.into_rgb8().into() }
}

fn on_white(picture: DynamicImage) -> DynamicImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8().into();
    }
    let picture = picture.into_rgba8();
    let mut flat = image::RgbImage::new(picture.width(), picture.height());
    for (to, from) in flat.pixels_mut().zip(picture.pixels()) {
        let [red, green, blue, alpha] = from.0.map(u32::from);
        let over = |colour: u32| u8::try_from((colour * alpha + 255 * (255 - alpha) + 127) / 255).unwrap_or(u8::MAX);
        to.0 = [over(red), over(green), over(blue)];
    }
    flat.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Image {
        let pixels = image::RgbaImage::from_fn(5, 3, |x, y| {
            image::Rgba([x as u8 * 50, y as u8 * 80, 200, if x == 0 { 0 } else { 255 }])
        });
        let mut bytes = Vec::new();
        DynamicImage::from(pixels).write_with_encoder(PngEncoder::new(&mut bytes)).unwrap();
        inspect(bytes.into()).unwrap()
    }

    #[test]
    fn format_and_size_come_from_the_bytes() {
        let picture = picture();
        assert_eq!((picture.format, picture.size), (ImageFormat::Png, Size::new(5, 3).unwrap()));
        for (bytes, expected) in [(&b""[..], "empty"), (b"GIF89a", "neither PNG"), (b"\x89PNG\r\n\x1a\nxx", "")] {
            let error = inspect(Bytes::from_static(bytes)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn every_format_becomes_every_other() {
        let png = picture();
        for format in ImageFormat::ALL {
            let there = convert(&png, format, None).unwrap();
            assert_eq!(ImageFormat::sniff(&there.bytes), Some(format));
            for back in ImageFormat::ALL {
                let back = inspect(convert(&there, back, Some(50)).unwrap().bytes).unwrap();
                assert_eq!(back.size, png.size);
            }
        }
        let webp = convert(&png, ImageFormat::Webp, None).unwrap();
        assert_eq!(
            reader(&webp.bytes, ImageFormat::Webp).decode().unwrap(),
            reader(&png.bytes, ImageFormat::Png).decode().unwrap()
        );
    }

    #[test]
    fn transparency_becomes_white_in_jpeg() {
        let jpeg = convert(&picture(), ImageFormat::Jpeg, Some(100)).unwrap();
        let decoded = reader(&jpeg.bytes, ImageFormat::Jpeg).decode().unwrap().into_luma8();
        assert!(decoded.get_pixel(0, 1).0[0] > 200 && decoded.get_pixel(2, 0).0[0] < 200);
    }

    /// A PNG of one pixel that claims to be so large, in 16-bit RGBA.
    fn claiming(width: u32, height: u32) -> Bytes {
        let mut bytes = Vec::new();
        DynamicImage::from(image::RgbImage::new(1, 1)).write_with_encoder(PngEncoder::new(&mut bytes)).unwrap();
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        bytes[24..26].copy_from_slice(&[16, 6]);
        // Its checksum is right, so that it is believed.
        let mut checksum = u32::MAX;
        for byte in &bytes[12..29] {
            checksum ^= u32::from(*byte);
            for _ in 0..8 {
                checksum = (checksum >> 1) ^ (0xedb8_8320 & (checksum & 1).wrapping_neg());
            }
        }
        bytes[29..33].copy_from_slice(&(!checksum).to_be_bytes());
        bytes.into()
    }

    #[test]
    fn decoding_is_bounded() {
        // 2 GiB decoded.
        let error = decode(&claiming(16384, 16384), ImageFormat::Png).unwrap_err();
        assert!(error.to_lowercase().contains("limit"), "{error}");
        let error = decode(&claiming(8, 8), ImageFormat::Png).unwrap_err();
        assert!(!error.to_lowercase().contains("limit"), "a small one is looked into: {error}");
    }

    #[test]
    fn picture_with_too_long_a_side_is_none() {
        assert!(inspect(claiming(16384, 1)).is_ok());
        let error = inspect(claiming(16385, 1)).unwrap_err();
        assert_eq!(error, "it is 16385x1; a side is 1 to 16384");
    }
}
