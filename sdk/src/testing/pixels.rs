//! The stand-in for `pixels`: no picture is decoded. What would be made is known by its head, and keeps the bytes of what
//! it was made from; of given pictures only a PNG's head is read.

use std::rc::Rc;

use super::stand_in::blobs::Blob;
use super::stand_in::failure;
use crate::ErrorKind;
use crate::bindings::adapter::easel::plugin::types::PluginError;

#[derive(Clone, Debug)]
pub(crate) struct PictureHead {
    pub(crate) format: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

#[derive(Clone, Copy)]
pub(crate) enum Fit {
    Exact,
    Contain,
    Cover,
}

#[derive(Clone, Copy)]
pub(crate) enum MaskFrom {
    Transparent,
    Opaque,
}

pub(crate) fn head(image: &Blob) -> Option<PictureHead> {
    if image.made.is_some() {
        return image.made.clone();
    }
    let sizes = image.bytes.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR")?;
    let side = |at: usize| sizes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    Some(PictureHead { format: "png".to_owned(), width: side(0)?, height: side(4)? })
}

pub(crate) fn resize(image: &Blob, width: u32, height: u32, fit: Fit) -> Result<Blob, PluginError> {
    let head = known(image)?;
    let (width, height) = match fit {
        Fit::Exact | Fit::Cover => (width, height),
        Fit::Contain => {
            let scale = (f64::from(width) / f64::from(head.width)).min(f64::from(height) / f64::from(head.height));
            let side = |side: u32| (f64::from(side) * scale).round().max(1.0) as u32;
            (side(head.width), side(head.height))
        }
    };
    Ok(made(image, PictureHead { width, height, ..head }))
}

pub(crate) fn convert(image: &Blob, format: &str, _quality: Option<u8>) -> Result<Blob, PluginError> {
    let head = known(image)?;
    Ok(made(image, PictureHead { format: format.to_owned(), ..head }))
}

pub(crate) fn alpha_to_mask(image: &Blob, white: MaskFrom) -> Result<Blob, PluginError> {
    match white {
        MaskFrom::Transparent | MaskFrom::Opaque => convert(image, "png", None),
    }
}

pub(crate) fn mask_to_alpha(mask: &Blob, white: MaskFrom) -> Result<Blob, PluginError> {
    match white {
        MaskFrom::Transparent | MaskFrom::Opaque => convert(mask, "png", None),
    }
}

fn known(image: &Blob) -> Result<PictureHead, PluginError> {
    head(image).ok_or_else(|| failure(ErrorKind::Upstream, "the bytes are no picture".to_owned()))
}

fn made(from: &Blob, head: PictureHead) -> Blob {
    Blob { media_type: format!("image/{}", head.format), bytes: Rc::clone(&from.bytes), made: Some(head) }
}
