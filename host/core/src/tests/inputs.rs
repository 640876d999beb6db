//! Pictures that a request brings: which of them each task needs, and which a model takes.

use bytes::Bytes;

use super::fakes::{checked, model, size};
use crate::{
    Draft, Edit, ErrorKind, Image, ImageFormat, Input, InputRole, MAX_INPUT_BYTES, MAX_INPUTS, ModelInfo, ModelInputs,
    ParamNames, SizeRule, Task,
};

fn input(role: InputRole, width: u32, height: u32) -> Input {
    let image = Image { bytes: Bytes::from_static(b"picture"), format: ImageFormat::Png, size: size(width, height) };
    Input { role, image }
}

fn draft(task: Task, inputs: Vec<Input>) -> Draft {
    Draft { task, inputs, ..Draft::new("a cat") }
}

fn image() -> Input {
    input(InputRole::Image, 64, 64)
}

fn mask() -> Input {
    input(InputRole::Mask, 64, 64)
}

fn reference() -> Input {
    input(InputRole::Reference, 64, 64)
}

/// A model that does everything, with two images and one reference.
fn editor() -> ModelInfo {
    ModelInfo { tasks: Task::ALL.to_vec(), inputs: ModelInputs { images: 2, references: 1 }, ..model("editor") }
}

#[test]
fn each_task_has_the_pictures_that_it_works_on() {
    let rows = [
        (Task::TextToImage, vec![], None),
        (Task::TextToImage, vec![reference()], None),
        (Task::TextToImage, vec![image()], Some(("image", "text-to-image takes no image"))),
        (Task::TextToImage, vec![mask()], Some(("mask", "text-to-image takes no mask"))),
        (Task::ImageToImage, vec![image()], None),
        (Task::ImageToImage, vec![image(), reference(), image()], None),
        (Task::ImageToImage, vec![reference()], Some(("image", "image-to-image needs image"))),
        (Task::ImageToImage, vec![image(), mask()], Some(("mask", "image-to-image takes no mask"))),
        (Task::Inpainting, vec![mask(), image()], None),
        (Task::Inpainting, vec![image()], Some(("mask", "inpainting needs mask"))),
        (Task::Inpainting, vec![mask()], Some(("image", "inpainting needs image"))),
        (Task::Inpainting, vec![image(), mask(), mask()], Some(("mask", "inpainting takes one mask, not 2"))),
        (
            Task::Inpainting,
            vec![image(), input(InputRole::Mask, 32, 64)],
            Some(("mask", "mask must have the size of image, 64x64, not 32x64")),
        ),
    ];
    for (task, inputs, expected) in rows {
        let result = draft(task, inputs.clone()).check(&ParamNames::OURS);
        let refused = result.as_ref().err().map(|error| (error.param().unwrap_or_default(), error.message()));
        assert_eq!(refused, expected, "{task:?} {inputs:?}");
    }
}

#[test]
fn pictures_are_bounded_in_number_and_bytes() {
    let error = draft(Task::ImageToImage, vec![image(); MAX_INPUTS + 1]).check(&ParamNames::OURS).unwrap_err();
    assert_eq!(error.message(), "a request brings at most 16 pictures, not 17");
    let half = |bytes: usize| {
        let image = Image { bytes: vec![0; bytes].into(), format: ImageFormat::Png, size: size(64, 64) };
        Input { role: InputRole::Image, image }
    };
    let both =
        |more: usize| draft(Task::ImageToImage, vec![half(MAX_INPUT_BYTES / 2), half(MAX_INPUT_BYTES / 2 + more)]);
    assert!(both(0).check(&ParamNames::OURS).is_ok());
    let error = both(1).check(&ParamNames::OURS).unwrap_err();
    assert!(error.message().contains("at most 67108864 bytes together"), "{error}");
}

#[test]
fn model_takes_only_the_pictures_that_it_declares() {
    let fit = |model: &ModelInfo, task, inputs| model.fit(&checked(draft(task, inputs)), 0);
    assert!(fit(&editor(), Task::ImageToImage, vec![image(), image(), reference()]).is_ok());
    let error = fit(&editor(), Task::ImageToImage, vec![image(); 3]).unwrap_err();
    assert_eq!((error.param(), error.message()), (Some("image"), "model editor takes at most 2 as image, not 3"));
    let error = fit(&editor(), Task::TextToImage, vec![reference(), reference()]).unwrap_err();
    assert_eq!(error.param(), Some("reference"));
    let error = fit(&model("brush"), Task::TextToImage, vec![reference()]).unwrap_err();
    assert_eq!((error.param(), error.message()), (Some("reference"), "model brush does not take reference"));
    let error = fit(&model("brush"), Task::ImageToImage, vec![image()]).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unsupported, "model brush does not do image-to-image"));
    assert_eq!(error.param(), Some("model"));
    let unmasked = ModelInfo { tasks: vec![Task::ImageToImage], ..editor() };
    let error = fit(&unmasked, Task::Inpainting, vec![image(), mask()]).unwrap_err();
    assert_eq!((error.param(), error.message()), (Some("mask"), "model editor does not do inpainting"));
    let error = fit(&model("brush"), Task::Inpainting, vec![image(), mask()]).unwrap_err();
    assert_eq!(error.param(), Some("model"));
}

#[test]
fn edited_picture_keeps_its_size_where_the_model_makes_it() {
    let fit = |model: &ModelInfo, width, height| {
        let request = checked(draft(Task::ImageToImage, vec![input(InputRole::Image, width, height)]));
        model.fit(&request, 0).unwrap().request.size
    };
    assert_eq!(fit(&editor(), 640, 320), Some(size(640, 320)));
    assert_eq!(fit(&editor(), 641, 320), Some(size(512, 512)));
    let listed = ModelInfo { sizes: SizeRule::Listed(vec![size(64, 64), size(32, 64)]), ..editor() };
    assert_eq!(fit(&listed, 32, 64), Some(size(32, 64)));
    assert_eq!(fit(&listed, 64, 32), Some(size(64, 64)));
}

#[test]
fn diff_tells_what_changed_and_never_a_prompt() {
    let before = Draft { model: Some("brush".to_owned()), seed: Some(3), ..Draft::new("a secret cat") };
    let option = |json: &str| crate::OptionValue { json: json.to_owned(), on_unknown: crate::OnUnknown::Note };
    let rows = [
        (Edit::Prompt("a secret cat in a hat".to_owned()), "prompt 12 characters → 21 characters"),
        (Edit::NegativePrompt(Some("secrets".to_owned())), "negative_prompt none → 7 characters"),
        (Edit::Model(Some("pencil/1.0".to_owned())), "model brush → pencil/1.0"),
        (Edit::Model(Some("a secret cat".to_owned())), "model brush → 12 characters"),
        (Edit::Sampler(Some("s".repeat(65))), "sampler none → 65 characters"),
        (Edit::Count(2), "count 1 → 2"),
        (Edit::Size(Some(size(64, 32))), "size none → 64x32"),
        (Edit::Seed(None), "seed 3 → none"),
        (Edit::Guidance(Some(7.5)), "guidance none → 7.5"),
        (Edit::Task(Task::Inpainting), "task text-to-image → inpainting"),
        (Edit::Inputs(vec![image(), mask()]), "inputs [] of 0 bytes → [image, mask] of 14 bytes"),
        (Edit::Option("style".to_owned(), Some(option("\"secret\""))), "options.style none → 8 characters"),
        (Edit::Option("a secret".to_owned(), None), "options.8 characters none → none"),
    ];
    for (edit, expected) in rows {
        assert_eq!(edit.diff(&before), expected);
    }
}
