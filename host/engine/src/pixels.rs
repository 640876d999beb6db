//! Pixels: from what a decoder gives to an encoded picture.
//!
//! Eight bits per channel, RGB, rows from the top. Fitting a picture into another size never changes the aspect of what is
//! shown: the picture is scaled to fit and its rim is continued outwards. Encoded files hold no time and no request id, so
//! equal requests are equal bytes.

use std::borrow::Cow;

use bytes::Bytes;
use easel_core::{Image, ImageFormat, Size};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::imageops::FilterType;
use image::{ExtendedColorType, ImageEncoder, RgbImage};

use crate::error::{Error, Result};
use crate::resample::{LANCZOS, resize};

/// An RGB picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    image: RgbImage,
}

impl Pixels {
    /// Takes what a decoder gives: rows of RGB in -1..1, rounded as diffusers rounds.
    ///
    /// # Errors
    /// [`Error::NotAPicture`] for values that are not numbers, for a picture that is black throughout although its values are
    /// not, and for a wrong number of values.
    pub fn from_signed(values: &[f32], width: u32, height: u32) -> Result<Self> {
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Error::NotAPicture { what: "values that are not numbers" });
        }
        // Half the range up, 255 steps, to the nearest even: what numpy does with 127.5.
        let bytes: Vec<u8> =
            values.iter().map(|value| ((value * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8).collect();
        // What is meant to be black scatters around -1; far below it everywhere is an overflow that was clipped.
        if values.iter().all(|value| *value < -2.0) {
            return Err(Error::NotAPicture { what: "black throughout" });
        }
        Self::from_bytes(bytes, width, height)
    }

    /// Takes rows of RGB bytes.
    ///
    /// # Errors
    /// [`Error::NotAPicture`] when there are too few.
    pub fn from_bytes(bytes: Vec<u8>, width: u32, height: u32) -> Result<Self> {
        let image = RgbImage::from_raw(width, height, bytes);
        Ok(Self { image: image.ok_or(Error::NotAPicture { what: "too few values" })? })
    }

    /// Rows of RGB bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.image.as_raw()
    }

    /// Width and height.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        self.image.dimensions()
    }

    /// The picture in another size: scaled until it fits, and its rim continued where the other size is longer.
    #[must_use]
    pub fn fitted(&self, width: u32, height: u32) -> Self {
        let (old_width, old_height) = self.size();
        if (old_width, old_height) == (width, height) || old_width == 0 || old_height == 0 {
            return self.clone();
        }
        let scale = (f64::from(width) / f64::from(old_width)).min(f64::from(height) / f64::from(old_height));
        let side = |old: u32, new: u32| ((f64::from(old) * scale).round() as u32).clamp(1, new.max(1));
        let (inner_width, inner_height) = (side(old_width, width), side(old_height, height));
        let inner = image::imageops::resize(&self.image, inner_width, inner_height, FilterType::Lanczos3);
        let (left, top) = ((width - inner_width) / 2, (height - inner_height) / 2);
        let image = RgbImage::from_fn(width, height, |x, y| {
            let x = x.saturating_sub(left).min(inner_width - 1);
            let y = y.saturating_sub(top).min(inner_height - 1);
            *inner.get_pixel(x, y)
        });
        Self { image }
    }

    /// The picture with other sides, stretched to them by Lanczos' window as Python programs do.
    ///
    /// # Errors
    /// [`Error::NotAPicture`] for a side of 0.
    pub fn scaled(&self, width: u32, height: u32) -> Result<Self> {
        let sides = |(width, height): (u32, u32)| (width as usize, height as usize);
        if width == 0 || height == 0 {
            return Err(Error::NotAPicture { what: "a size that is not possible" });
        }
        let bytes = resize(self.as_bytes(), sides(self.size()), sides((width, height)), LANCZOS);
        Self::from_bytes(bytes, width, height)
    }

    /// Encodes the picture. `quality` is for JPEG; `texts` are written into a PNG, by keyword.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn encode(&self, format: ImageFormat, quality: Option<u8>, texts: &[(&str, Cow<'_, str>)]) -> Result<Image> {
        let (width, height) = self.size();
        let Some(size) = Size::new(width, height) else {
            return Err(Error::NotAPicture { what: "a size that is not possible" });
        };
        let encoded = match format {
            ImageFormat::Png => self.png(texts).map_err(Into::into),
            ImageFormat::Jpeg => {
                let mut out = Vec::new();
                let encoder = JpegEncoder::new_with_quality(&mut out, quality.unwrap_or(92).clamp(1, 100));
                encoder
                    .write_image(self.as_bytes(), width, height, ExtendedColorType::Rgb8)
                    .map(|()| out)
                    .map_err(Into::into)
            }
            ImageFormat::Webp => {
                let mut out = Vec::new();
                let encoder = WebPEncoder::new_lossless(&mut out);
                encoder
                    .write_image(self.as_bytes(), width, height, ExtendedColorType::Rgb8)
                    .map(|()| out)
                    .map_err(Into::into)
            }
        };
        let bytes = encoded.map_err(|source| Error::Encode { format, source })?;
        Ok(Image { bytes: Bytes::from(bytes), format, size })
    }

    fn png(&self, texts: &[(&str, Cow<'_, str>)]) -> Result<Vec<u8>, png::EncodingError> {
        let (width, height) = self.size();
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        for (keyword, text) in texts {
            // tEXt holds Latin-1 only, and is what older readers look for.
            if text.chars().all(|c| matches!(c, '\n' | ' '..='~' | '\u{a1}'..='\u{ff}')) {
                encoder.add_text_chunk((*keyword).to_owned(), text.clone().into_owned())?;
            } else {
                encoder.add_itxt_chunk((*keyword).to_owned(), text.clone().into_owned())?;
            }
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.as_bytes())?;
        writer.finish()?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use easel_core::ImageFormat;

    use super::Pixels;

    fn two_by_two() -> Pixels {
        Pixels::from_signed(&[1., -1., -1., -1., 1., -1., -1., -1., 1., 0., 0., 0.], 2, 2).unwrap()
    }

    #[test]
    fn values_round_to_the_nearest_even_byte() {
        assert_eq!(two_by_two().as_bytes()[9..], [128, 128, 128]);
        assert_eq!(two_by_two().as_bytes()[..3], [255, 0, 0]);
    }

    #[test]
    fn what_is_not_a_number_or_black_throughout_is_refused() {
        assert!(Pixels::from_signed(&[f32::NAN; 3], 1, 1).is_err());
        assert!(Pixels::from_signed(&[-40.0; 3], 1, 1).is_err());
        assert!(Pixels::from_signed(&[-1.05; 3], 1, 1).is_ok(), "a black picture is a picture");
    }

    #[test]
    fn fitting_continues_the_rim_and_never_stretches() {
        // A red square in the middle of blue stays square in a picture twice as wide.
        let bytes: Vec<u8> = (0..16 * 16)
            .flat_map(|i| {
                if (4..12).contains(&(i % 16)) && (4..12).contains(&(i / 16)) { [255, 0, 0] } else { [0, 0, 255] }
            })
            .collect();
        let wide = Pixels::from_bytes(bytes, 16, 16).unwrap().fitted(128, 64);
        assert_eq!(wide.size(), (128, 64));
        let red = |x: usize, y: usize| wide.as_bytes()[(y * 128 + x) * 3] > 128;
        let across = (0..128).filter(|x| red(*x, 32)).count();
        let down = (0..64).filter(|y| red(64, *y)).count();
        assert_eq!((across, down), (32, 32));
        assert!(!red(0, 0) && !red(127, 63));
    }

    #[test]
    fn each_format_reads_back_as_what_it_says() {
        for format in ImageFormat::ALL {
            let image = two_by_two().encode(format, None, &[("parameters", "a café\nSteps: 1".into())]).unwrap();
            assert_eq!(ImageFormat::sniff(&image.bytes), Some(format));
            let read = image::load_from_memory(&image.bytes).unwrap();
            assert_eq!((read.width(), read.height()), (2, 2));
        }
    }

    #[test]
    fn text_beyond_latin_1_is_kept_as_it_is() {
        let image = two_by_two().encode(ImageFormat::Png, None, &[("parameters", "円 → 赤".into())]).unwrap();
        let reader = png::Decoder::new(std::io::Cursor::new(&image.bytes)).read_info().unwrap();
        let text = reader.info().utf8_text.first().map(|chunk| chunk.get_text().unwrap());
        assert_eq!(text.as_deref(), Some("円 → 赤"));
    }
}
