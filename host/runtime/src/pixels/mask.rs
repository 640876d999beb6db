//! A mask made of a picture's transparency, and transparency made of a mask.

use image::{DynamicImage, GrayImage, Luma, Rgba, RgbaImage};

/// What white stands for; black stands for the other.
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

/// Makes a picture of the same size that is as transparent as the mask says, grey half so. The greys stay as its colours, so
/// that whoever looks at these instead sees the mask.
pub(crate) fn mask_to_alpha(mask: DynamicImage, white: White) -> DynamicImage {
    let mask = mask.into_luma8();
    let pixel = |grey: u8| {
        let alpha = match white {
            White::Transparent => u8::MAX - grey,
            White::Opaque => grey,
        };
        Rgba([grey, grey, grey, alpha])
    };
    RgbaImage::from_fn(mask.width(), mask.height(), |x, y| pixel(mask.get_pixel(x, y).0[0])).into()
}

#[cfg(test)]
mod tests {
    use image::{LumaA, Rgb, RgbImage};

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

    #[test]
    fn white_or_black_of_a_mask_becomes_a_hole() {
        let mask = GrayImage::from_fn(3, 2, |x, _| Luma([[255, 100, 0][x as usize]]));
        let made = |white| mask_to_alpha(mask.clone().into(), white);
        let row = |white| -> Vec<_> { made(white).into_rgba8().pixels().take(3).map(|pixel| pixel.0).collect() };
        assert_eq!((made(White::Opaque).width(), made(White::Opaque).height()), (3, 2));
        assert_eq!(row(White::Transparent), [[255, 255, 255, 0], [100, 100, 100, 155], [0, 0, 0, 255]]);
        assert_eq!(row(White::Opaque), [[255, 255, 255, 255], [100, 100, 100, 100], [0, 0, 0, 0]]);
    }

    #[test]
    fn mask_in_colour_counts_by_its_brightness_and_not_by_its_own_transparency() {
        let alphas = |mask: DynamicImage| -> Vec<_> {
            mask_to_alpha(mask, White::Transparent).into_rgba8().pixels().map(|pixel| pixel.0[3]).collect()
        };
        let grey = image::GrayAlphaImage::from_fn(2, 1, |x, _| LumaA([[255, 0][x as usize], [0, 9][x as usize]]));
        assert_eq!(alphas(grey.into()), [0, 255]);
        let colour = RgbaImage::from_fn(2, 1, |x, _| Rgba([[255, 255, 255, 3], [0, 0, 0, 255]][x as usize]));
        assert_eq!(alphas(colour.into()), [0, 255]);
        assert_eq!(alphas(RgbImage::from_pixel(1, 1, Rgb([255, 255, 255])).into()), [0]);
        let deep = image::ImageBuffer::<Luma<u16>, _>::from_pixel(1, 1, Luma([u16::MAX]));
        assert_eq!(alphas(deep.into()), [0]);
    }

    #[test]
    fn mask_comes_back_as_it_was() {
        let mask = GrayImage::from_fn(16, 16, |x, y| Luma([(y * 16 + x) as u8]));
        for white in [White::Transparent, White::Opaque] {
            assert_eq!(alpha_to_mask(mask_to_alpha(mask.clone().into(), white), white).into_luma8(), mask);
        }
    }
}
