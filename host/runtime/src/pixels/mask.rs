//! A mask made of a picture's transparency.

use image::{DynamicImage, GrayImage, Luma};

/// What becomes white; the rest becomes black.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum White {
    Transparent,
    Opaque,
}

/// Makes a grey picture of the same size. What is half transparent becomes grey.
pub(crate) fn alpha_to_mask(picture: DynamicImage, white: White) -> DynamicImage {
    let (width, height) = (picture.width(), picture.height());
    let alpha = if picture.color().has_alpha() {
        let picture = picture.into_rgba8();
        GrayImage::from_fn(width, height, |x, y| Luma([picture.get_pixel(x, y).0[3]]))
    } else {
        GrayImage::from_pixel(width, height, Luma([u8::MAX]))
    };
    let mut mask = alpha;
    if white == White::Transparent {
        mask.iter_mut().for_each(|value| *value = u8::MAX - *value);
    }
    mask.into()
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    #[test]
    fn hole_in_a_picture_becomes_white_or_black() {
        let picture = RgbaImage::from_fn(3, 1, |x, _| Rgba([9, 9, 9, [0, 100, 255][x as usize]]));
        let mask = |white| alpha_to_mask(picture.clone().into(), white).into_luma8().into_raw();
        assert_eq!(mask(White::Transparent), [255, 155, 0]);
        assert_eq!(mask(White::Opaque), [0, 100, 255]);
    }

    #[test]
    fn picture_without_transparency_is_opaque_all_over() {
        let picture = DynamicImage::from(RgbImage::from_pixel(2, 1, Rgb([0, 0, 0])));
        assert_eq!(alpha_to_mask(picture.clone(), White::Transparent).into_luma8().into_raw(), [0, 0]);
        assert_eq!(alpha_to_mask(picture, White::Opaque).into_luma8().into_raw(), [255, 255]);
    }
}
