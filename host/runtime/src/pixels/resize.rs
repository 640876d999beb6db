//! A picture in another size.

use image::imageops::FilterType;
use image::{DynamicImage, ImageBuffer, Rgba};

/// How a picture gets into a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Stretched.
    Exact,
    /// As large as fits into it.
    Contain,
    /// Filling it; the rest is cut off.
    Cover,
}

/// A part of a picture, and the size that it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    /// Left, top, width and height.
    part: (u32, u32, u32, u32),
    size: (u32, u32),
}

impl Frame {
    fn new(from: (u32, u32), to: (u32, u32), fit: Fit) -> Self {
        let whole = (0, 0, from.0, from.1);
        // Which of both is wider is decided in whole numbers, so that equal proportions are equal.
        let is_wider = u64::from(from.0) * u64::from(to.1) > u64::from(to.0) * u64::from(from.1);
        match fit {
            Fit::Exact => Self { part: whole, size: to },
            Fit::Contain if is_wider => Self { part: whole, size: (to.0, scaled(from.1, to.0, from.0).min(to.1)) },
            Fit::Contain => Self { part: whole, size: (scaled(from.0, to.1, from.1).min(to.0), to.1) },
            Fit::Cover if is_wider => {
                let width = scaled(to.0, from.1, to.1).min(from.0);
                Self { part: ((from.0 - width) / 2, 0, width, from.1), size: to }
            }
            Fit::Cover => {
                let height = scaled(to.1, from.0, to.0).min(from.1);
                Self { part: (0, (from.1 - height) / 2, from.0, height), size: to }
            }
        }
    }
}

/// `value * times / by`, rounded, at least 1.
fn scaled(value: u32, times: u32, by: u32) -> u32 {
    let (value, times, by) = (u64::from(value), u64::from(times), u64::from(by).max(1));
    u32::try_from((value * times + by / 2) / by).unwrap_or(u32::MAX).max(1)
}

/// The most pixels that the picture has at any time while it is resized. The sides are at least 1.
pub(crate) fn pixels_on_the_way(from: (u32, u32), to: (u32, u32), fit: Fit) -> u64 {
    let Frame { part, size } = Frame::new(from, to, fit);
    // First the height is changed, then the width.
    let between = u64::from(part.2) * u64::from(size.1);
    between.max(u64::from(size.0) * u64::from(size.1))
}

/// Brings a picture into a size. The sides are at least 1.
pub(crate) fn resize(picture: &DynamicImage, to: (u32, u32), fit: Fit) -> DynamicImage {
    let Frame { part, size } = Frame::new((picture.width(), picture.height()), to, fit);
    let (left, top, width, height) = part;
    let is_whole = (width, height) == (picture.width(), picture.height());
    let cut = if is_whole { None } else { Some(picture.crop_imm(left, top, width, height)) };
    let picture = cut.as_ref().unwrap_or(picture);
    if !picture.color().has_alpha() {
        return picture.resize_exact(size.0, size.1, FilterType::Lanczos3);
    }
    // A transparent pixel has a colour too, which must not bleed into its neighbours: colours are weighted by their
    // alpha while pixels are mixed.
    let is_deep = picture.color().bytes_per_pixel() > picture.color().channel_count();
    let weighted = if is_deep {
        DynamicImage::from(each(picture.to_rgba16(), weigh))
    } else {
        DynamicImage::from(each(picture.to_rgba8(), weigh))
    };
    match weighted.resize_exact(size.0, size.1, FilterType::Lanczos3) {
        DynamicImage::ImageRgba16(picture) => each(picture, unweigh).into(),
        picture => each(picture.into_rgba8(), unweigh).into(),
    }
}

type Pixels<S> = ImageBuffer<Rgba<S>, Vec<S>>;

/// Maps the colours of every pixel: the colour, the alpha, and the largest value of both.
fn each<S>(mut picture: Pixels<S>, map: fn(u32, u32, u32) -> u32) -> Pixels<S>
where
    S: image::Primitive + Into<u32> + TryFrom<u32>,
    Rgba<S>: image::Pixel<Subpixel = S>,
{
    let most = S::DEFAULT_MAX_VALUE;
    for pixel in picture.pixels_mut() {
        let [red, green, blue, alpha] = pixel.0;
        let colour = |value: S| S::try_from(map(value.into(), alpha.into(), most.into())).unwrap_or(most);
        pixel.0 = [colour(red), colour(green), colour(blue), alpha];
    }
    picture
}

fn weigh(colour: u32, alpha: u32, most: u32) -> u32 {
    // At most 65535 * 65535 + 32767, which fits.
    (colour * alpha + most / 2) / most
}

fn unweigh(colour: u32, alpha: u32, most: u32) -> u32 {
    (colour.min(alpha) * most + alpha / 2).checked_div(alpha).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use image::{GenericImageView as _, RgbaImage};

    use super::*;

    #[test]
    fn frame_keeps_proportions_as_the_fit_says() {
        let rows = [
            ((100, 50), (20, 20), Fit::Exact, (0, 0, 100, 50), (20, 20)),
            ((100, 50), (20, 20), Fit::Contain, (0, 0, 100, 50), (20, 10)),
            ((50, 100), (20, 20), Fit::Contain, (0, 0, 50, 100), (10, 20)),
            ((100, 50), (20, 20), Fit::Cover, (25, 0, 50, 50), (20, 20)),
            ((50, 100), (20, 20), Fit::Cover, (0, 25, 50, 50), (20, 20)),
            ((64, 32), (128, 64), Fit::Cover, (0, 0, 64, 32), (128, 64)),
            // However thin a picture is, nothing becomes empty, and nothing larger than what was asked for.
            ((16_384, 1), (64, 64), Fit::Contain, (0, 0, 16_384, 1), (64, 1)),
            ((16_384, 1), (64, 64), Fit::Cover, (8_191, 0, 1, 1), (64, 64)),
            ((1, 16_384), (1_000, 1), Fit::Cover, (0, 8_191, 1, 1), (1_000, 1)),
        ];
        for (from, to, fit, part, size) in rows {
            assert_eq!(Frame::new(from, to, fit), Frame { part, size }, "{from:?} {to:?} {fit:?}");
        }
    }

    #[test]
    fn what_is_made_on_the_way_is_counted() {
        assert_eq!(pixels_on_the_way((100, 10), (10, 100), Fit::Exact), 100 * 100);
        assert_eq!(pixels_on_the_way((100, 10), (10, 100), Fit::Cover), 10 * 100);
        assert_eq!(pixels_on_the_way((10, 10), (100, 100), Fit::Contain), 100 * 100);
    }

    #[test]
    fn colours_behind_transparency_do_not_bleed() {
        // Left half opaque blue, right half transparent red.
        let colour = |x: u32| if x < 8 { Rgba([0, 0, 255, 255]) } else { Rgba([255, 0, 0, 0]) };
        let picture = DynamicImage::from(RgbaImage::from_fn(16, 16, |x, _| colour(x)));
        for picture in [picture.clone(), picture.into_rgba16().into()] {
            let small = resize(&picture, (5, 5), Fit::Exact).into_rgba8();
            assert!(small.pixels().all(|pixel| pixel.0[0] == 0), "{small:?}");
            let ([_, _, blue, alpha], far) = (small.get_pixel(0, 2).0, small.get_pixel(4, 2).0[3]);
            assert!(blue > 250 && alpha > 245 && far < 10, "{blue} {alpha} {far}");
        }
    }

    #[test]
    fn depth_and_colours_stay_what_they_were() {
        let deep = DynamicImage::from(ImageBuffer::from_pixel(4, 4, image::Luma([60_000_u16])));
        let small = resize(&deep, (2, 3), Fit::Exact);
        assert_eq!((small.color(), small.dimensions()), (image::ColorType::L16, (2, 3)));
        assert_eq!(small.into_luma16().get_pixel(1, 1).0, [60_000]);
    }
}
