//! Pictures to look at while making another: checked, brought to a size that the network reads, as values in -1..1.
//!
//! Defined by diffusers' `Flux2ImageProcessor`: nothing is enlarged or stretched; what is too large is scaled down, and sides
//! that are no multiple lose their rim evenly.

use crate::error::{Error, Result};
use crate::pixels::Pixels;
use crate::trace::Values;

/// The shortest side.
const LEAST_SIDE: u32 = 64;

/// The most that one side is longer than the other.
const MOST_ASPECT: f64 = 8.0;

/// The most pixels; larger pictures are scaled down to about as many.
const MOST_PIXELS: u32 = 1024 * 1024;

/// Brings a picture to a size whose sides `multiple` divides: `[1, 3, height, width]` in -1..1.
///
/// # Errors
/// [`Error::Option`] for a picture that is too small or too long.
pub(crate) fn prepare(picture: &Pixels, multiple: u32) -> Result<Values> {
    let (width, height) = picture.size();
    let wrong = |message: String| Err(Error::Option { name: "image", message });
    if width.min(height) < LEAST_SIDE {
        return wrong(format!("a picture to look at is {width}x{height}; its sides must be at least {LEAST_SIDE}"));
    }
    if f64::from(width.max(height)) / f64::from(width.min(height)) > MOST_ASPECT {
        return wrong(format!(
            "a picture to look at is {width}x{height}; one side must be at most {MOST_ASPECT} times the other"
        ));
    }
    let scaled = match u64::from(width) * u64::from(height) > u64::from(MOST_PIXELS) {
        true => {
            let scale = (f64::from(MOST_PIXELS) / (f64::from(width) * f64::from(height))).sqrt();
            let side = |side: u32| (f64::from(side) * scale) as u32;
            picture.scaled(side(width), side(height))?
        }
        false => picture.clone(),
    };
    let (width, height) = scaled.size();
    let (kept_width, kept_height) = (width / multiple * multiple, height / multiple * multiple);
    let (left, top) = ((width - kept_width) / 2, (height - kept_height) / 2);
    let bytes = scaled.as_bytes();
    let mut values = Vec::with_capacity((3 * kept_width * kept_height) as usize);
    for channel in 0..3 {
        for row in top..top + kept_height {
            let from = 3 * (row * width + left) as usize;
            let row = bytes.get(from..from + 3 * kept_width as usize).unwrap_or_default();
            values.extend(
                row.chunks(3).filter_map(|pixel| pixel.get(channel)).map(|byte| f32::from(*byte) / 255.0 * 2.0 - 1.0),
            );
        }
    }
    Ok(Values { dims: vec![1, 3, kept_height as usize, kept_width as usize], values })
}

#[cfg(test)]
mod tests {
    use super::prepare;
    use crate::pixels::Pixels;

    fn picture(width: u32, height: u32) -> Pixels {
        let bytes = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 0]));
        Pixels::from_bytes(bytes.collect(), width, height).unwrap()
    }

    #[test]
    fn sides_lose_their_rim_evenly() {
        let values = prepare(&picture(75, 130), 16).unwrap();
        assert_eq!(values.dims, [1, 3, 128, 64]);
        let first = values.values[0];
        assert!((first - (5.0 / 255.0 * 2.0 - 1.0)).abs() < 1e-6, "the first column kept is the sixth");
        assert!((values.values[128 * 64] - (1.0 / 255.0 * 2.0 - 1.0)).abs() < 1e-6, "the first row kept is the second");
    }

    #[test]
    fn what_is_too_large_is_scaled_down_and_nothing_is_enlarged() {
        assert_eq!(prepare(&picture(2048, 1536), 16).unwrap().dims, [1, 3, 880, 1168]);
        assert_eq!(prepare(&picture(64, 64), 16).unwrap().dims, [1, 3, 64, 64]);
    }

    #[test]
    fn what_is_too_small_or_too_long_is_refused_with_its_size() {
        for (width, height) in [(63, 100), (64, 520)] {
            let error = prepare(&picture(width, height), 16).unwrap_err().to_string();
            assert!(error.contains(&format!("{width}x{height}")), "{error}");
        }
    }
}
