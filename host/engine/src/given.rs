//! The pictures that a request brings: decoded, with the mask that says which part of the first is painted anew.
//!
//! They stay in the size they came in; who reads them brings them to the size of what is made, scaled to fit and with their rim
//! continued ([`Pixels::fitted`]). What a mask keeps is put back at the end ([`Given::kept_in`]), so that it is the given
//! picture to the last bit, whatever a network and an autoencoder made of it. Never logged.

use std::io::Cursor;

use easel_core::{Error, Image, ImageFormat, Input, InputRole, ParamNames, Size};
use image::{ImageReader, Limits};

use crate::pixels::Pixels;

/// The most bytes that one picture takes while it is decoded.
const MAX_DECODED_BYTES: u64 = 512 << 20;

/// The pictures that a request brings.
#[derive(Clone, Debug)]
pub struct Given {
    /// Those that are edited, as they came.
    pub images: Vec<Pixels>,
    /// Those that the new picture is to be like, as they came.
    pub references: Vec<Pixels>,
    /// Which part of the first image is painted anew, in its size; all of it otherwise.
    pub mask: Option<Mask>,
    /// How much is changed: 0 nothing, 1 everything.
    pub strength: f64,
}

impl Given {
    /// Decodes the pictures of a request; `None` when it brings none.
    ///
    /// # Errors
    /// `InvalidRequest` in the caller's words for what is not the picture it was said to be.
    pub(crate) fn read(inputs: &[Input], strength: f64, names: &ParamNames) -> Result<Option<Self>, Error> {
        if inputs.is_empty() {
            return Ok(None);
        }
        let read = |role: InputRole| {
            let inputs = inputs.iter().filter(move |input| input.role == role);
            inputs.map(|input| decode(&input.image, role.param(names))).collect::<Result<Vec<_>, _>>()
        };
        let mask = read(InputRole::Mask)?.pop().map(|pixels| Mask { pixels });
        let (images, references) = (read(InputRole::Image)?, read(InputRole::Reference)?);
        Ok(Some(Self { images, references, mask, strength }))
    }

    /// What was made, with the part that the mask keeps as it was given. Without a mask nothing is kept.
    #[must_use]
    pub fn kept_in(&self, made: Pixels) -> Pixels {
        let (Some(mask), Some(image)) = (&self.mask, self.images.first()) else { return made };
        let (width, height) = made.size();
        let (mask, image) = (mask.fitted(width, height), image.fitted(width, height));
        let mut bytes = Vec::with_capacity(made.as_bytes().len());
        let pixels = made.as_bytes().chunks_exact(3).zip(image.as_bytes().chunks_exact(3));
        for ((made, given), is_painted) in pixels.zip(mask.painted()) {
            bytes.extend_from_slice(if is_painted { made } else { given });
        }
        Pixels::from_bytes(bytes, width, height).unwrap_or(made)
    }
}

/// Which part of a picture is painted anew: what is at least half white, without a soft edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    pixels: Pixels,
}

impl Mask {
    /// Takes a picture, of which white is painted anew.
    #[must_use]
    pub fn new(pixels: Pixels) -> Self {
        Self { pixels }
    }

    /// The mask in another size, as [`Pixels::fitted`] has it.
    #[must_use]
    pub fn fitted(&self, width: u32, height: u32) -> Self {
        Self { pixels: self.pixels.fitted(width, height) }
    }

    /// For each pixel, row by row, whether it is painted anew.
    pub fn painted(&self) -> impl Iterator<Item = bool> {
        self.pixels.as_bytes().chunks_exact(3).map(|pixel| pixel[0] >= 128)
    }
}

fn decode(image: &Image, param: &'static str) -> Result<Pixels, Error> {
    let format = match image.format {
        ImageFormat::Png => image::ImageFormat::Png,
        ImageFormat::Jpeg => image::ImageFormat::Jpeg,
        ImageFormat::Webp => image::ImageFormat::WebP,
    };
    let mut reader = ImageReader::with_format(Cursor::new(&image.bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(Size::MAX_SIDE);
    limits.max_image_height = Some(Size::MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let decoded = reader.decode().map_err(|error| {
        Error::invalid(param, format!("{param} cannot be read as {}", image.format)).with_source(error)
    })?;
    let decoded = decoded.into_rgb8();
    let (width, height) = decoded.dimensions();
    if (width, height) != (image.size.width(), image.size.height()) {
        let message = format!("{param} is {width}x{height}, and was said to be {}", image.size);
        return Err(Error::invalid(param, message));
    }
    Pixels::from_bytes(decoded.into_raw(), width, height).map_err(Into::into)
}
