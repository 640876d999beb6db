//! Given pictures through the engine's seam: what a mask keeps is kept to the last bit, in every size; strength and sizes are
//! what they say; what cannot be done is refused in the caller's words.

use bytes::Bytes;
use easel_core::{
    Draft, Error, ErrorKind, Image, ImageFormat, Input, InputRole, NoteKind, OnUnknown, OptionValue, Output, Size, Task,
};
use easel_engine::pixels::Pixels;

use super::picture::{engine, make};

const PROMPT: &str = "a red circle on a blue background";

#[tokio::test]
async fn outside_the_mask_every_pixel_is_the_given_one() {
    for (given, asked) in [((128, 128), None), ((96, 64), None), ((100, 60), Some((100, 60)))] {
        let picture = noise(given);
        // The left half is painted anew.
        let half = Pixels::from_bytes(
            (0..given.0 * given.1).flat_map(|i| if i % given.0 < given.0 / 2 { [255; 3] } else { [0; 3] }).collect(),
            given.0,
            given.1,
        );
        let inputs = vec![input(InputRole::Image, &picture), input(InputRole::Mask, &half.unwrap())];
        let size = asked.and_then(|(width, height)| Size::new(width, height));
        let output = edit(Draft { task: Task::Inpainting, size, inputs, ..Draft::new(PROMPT) }, None).await.unwrap();
        let got = image::load_from_memory(&output.images[0].image.bytes).unwrap().to_rgb8();
        assert_eq!(got.dimensions(), given, "a picture that is edited stays as large as it is");
        let (mut kept, mut painted) = (0, 0);
        for (index, (got, want)) in got.pixels().zip(picture.as_bytes().chunks_exact(3)).enumerate() {
            if index as u32 % given.0 >= given.0 / 2 {
                assert_eq!(got.0, want, "pixel {index} of {given:?}");
                kept += 1;
            } else if got.0 != want {
                painted += 1;
            }
        }
        assert!(kept > 0 && painted * 10 > kept * 9, "{painted} were painted, {kept} kept");
    }
}

#[tokio::test]
async fn a_weaker_change_stays_nearer_to_the_given_picture() {
    let picture = noise((128, 128));
    let mut distances = Vec::new();
    for strength in ["0.25", "0.5", "1"] {
        let inputs = vec![input(InputRole::Image, &picture)];
        let output = edit(Draft { task: Task::ImageToImage, inputs, ..Draft::new(PROMPT) }, Some(strength)).await;
        let output = output.unwrap();
        let got = image::load_from_memory(&output.images[0].image.bytes).unwrap().to_rgb8();
        let gaps = got.as_raw().iter().zip(picture.as_bytes()).map(|(a, b)| f64::from(a.abs_diff(*b)));
        distances.push(gaps.sum::<f64>());
    }
    assert!(distances[0] < distances[1] && distances[1] < distances[2], "{distances:?}");
}

#[tokio::test]
async fn a_variation_needs_no_prompt_and_one_seed_gives_one_picture() {
    let mut files = Vec::new();
    for _ in 0..2 {
        let inputs = vec![input(InputRole::Image, &noise((128, 128)))];
        let output = edit(Draft { task: Task::Variation, inputs, ..Draft::new("") }, None).await.unwrap();
        files.push(output.images[0].image.bytes.clone());
    }
    assert_eq!(files[0], files[1]);
}

#[tokio::test]
async fn a_picture_of_another_size_is_fitted_and_the_answer_says_so() {
    let inputs = vec![input(InputRole::Image, &noise((64, 128)))];
    let size = Size::new(128, 128);
    let output = edit(Draft { task: Task::ImageToImage, size, inputs, ..Draft::new(PROMPT) }, None).await.unwrap();
    let note = &output.notes[0];
    assert_eq!((note.kind, note.param.as_deref()), (NoteKind::Adjusted, Some("image")));
    assert!(note.message.contains("64x128") && note.message.contains("128x128"), "{}", note.message);
}

#[tokio::test]
async fn strength_without_a_picture_is_told_to_do_nothing() {
    let output = edit(Draft::new(PROMPT), Some("0.5")).await.unwrap();
    let note = &output.notes[0];
    assert_eq!((note.kind, note.param.as_deref()), (NoteKind::Ignored, Some("strength")));
}

#[tokio::test]
async fn what_cannot_be_changed_is_refused_in_the_callers_words() {
    let image = || vec![input(InputRole::Image, &noise((128, 128)))];
    let broken = |bytes: &'static [u8]| {
        let image =
            Image { bytes: Bytes::from_static(bytes), format: ImageFormat::Png, size: Size::new(8, 8).unwrap() };
        vec![Input { role: InputRole::Image, image }]
    };
    let mut said_smaller = image();
    said_smaller[0].image.size = Size::new(64, 64).unwrap();
    for (inputs, strength, param, says) in [
        (image(), Some("0.1"), "strength", "leaves none of 4 steps"),
        (image(), Some("2"), "strength", "from 0 to 1"),
        (broken(b"no picture"), None, "image", "cannot be read as png"),
        (said_smaller, None, "image", "is 128x128, and was said to be 64x64"),
    ] {
        let error = edit(Draft { task: Task::ImageToImage, inputs, ..Draft::new(PROMPT) }, strength).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
        assert!(error.message().contains(says), "{error} does not say {says}");
        assert_eq!(error.param(), Some(param), "{error}");
    }
    let style = Draft { inputs: vec![input(InputRole::Reference, &noise((128, 128)))], ..Draft::new(PROMPT) };
    let error = edit(style, None).await.unwrap_err();
    assert_eq!(error.param(), Some("reference"), "{error}");
}

async fn edit(draft: Draft, strength: Option<&str>) -> Result<Output, Error> {
    let options = strength.map(|strength| {
        ("strength".to_owned(), OptionValue { json: strength.to_owned(), on_unknown: OnUnknown::Note })
    });
    make(&engine(), Draft { seed: Some(3), steps: Some(4), options: options.into_iter().collect(), ..draft }).await
}

fn input(role: InputRole, pixels: &Pixels) -> Input {
    Input { role, image: pixels.encode(ImageFormat::Png, None, &[]).unwrap() }
}

/// A picture that no network makes.
fn noise((width, height): (u32, u32)) -> Pixels {
    let mut generator = easel_engine::rng::TorchGenerator::new(5);
    let bytes = (0..3 * width * height).map(|_| generator.next_u32() as u8).collect();
    Pixels::from_bytes(bytes, width, height).unwrap()
}
