//! The parts of a request that a transformer gets to see and to change, by its manifest; and its network, by the manifest
//! and the operator.

use easel_core::{
    Draft, Edit, ErrorKind, Image, ImageFormat, Input, InputRole, OnUnknown, OptionValue, Size, Task, Verdict,
};
use easel_runtime::{PluginSettings, PluginState};

use super::transformers::{Twist, manifest};
use super::{context, request};
use crate::harness::{Reply, Upstream, pictures};

fn input(role: InputRole, width: u32) -> Input {
    let image =
        Image { bytes: pictures::png(width, 4).into(), format: ImageFormat::Png, size: Size::new(width, 4).unwrap() };
    Input { role, image }
}

/// A request that edits two pictures, one of them only a reference.
fn editing(what: &str) -> easel_core::GenerationRequest {
    let option = OptionValue { json: format!("\"{what}\""), on_unknown: OnUnknown::Note };
    request(Draft {
        task: Task::ImageToImage,
        negative_prompt: Some("a secret dog".to_owned()),
        inputs: vec![input(InputRole::Image, 8), input(InputRole::Reference, 2)],
        options: [("do".to_owned(), option)].into(),
        ..Draft::new("a secret cat")
    })
}

async fn ask(twist: &Twist, what: &str) -> easel_core::Result<Verdict> {
    twist.transformer().before(&context(), &editing(what)).await
}

/// What the transformer answered by a note.
async fn told(twist: &Twist, what: &str) -> String {
    match ask(twist, what).await.unwrap() {
        Verdict::Next { notes, .. } => notes.into_iter().map(|note| note.message).collect(),
        other => panic!("{what}: {other:?}"),
    }
}

async fn edits(twist: &Twist, what: &str) -> Vec<Edit> {
    match ask(twist, what).await.unwrap() {
        Verdict::Next { edits, .. } => edits,
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn parts_that_are_not_needed_are_not_seen() {
    let lengths = (pictures::png(8, 4).len(), pictures::png(2, 4).len());
    let words = "\"a secret cat\" Some(\"a secret dog\")";
    let inputs = format!("[image png 8x4 {}, reference png 2x4 {}]", lengths.0, lengths.1);
    let blobs = format!("[Some({}), Some({}), None]", lengths.0, lengths.1);
    let rows = [
        ("", format!("{words} [] [None, None, None]")),
        ("prompt = false", "\"\" None [] [None, None, None]".to_owned()),
        ("inputs = true", format!("{words} {inputs} {blobs}")),
        ("prompt = false\ninputs = true", format!("\"\" None {inputs} {blobs}")),
    ];
    for (needs, expected) in rows {
        let twist = Twist::with(&manifest(needs)).await;
        assert_eq!(told(&twist, "see").await, format!("image-to-image {expected}"), "{needs}");
    }
}

#[tokio::test]
async fn parts_that_are_not_seen_are_not_changed() {
    let twist = Twist::with(&manifest("prompt = false")).await;
    for what in ["change-prompt", "inputs add mask x", "inputs replace 0 x", "inputs remove 0"] {
        let error = ask(&twist, what).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PluginFault, "{what}: {error}");
    }
    let error = ask(&twist, "change-prompt").await.unwrap_err();
    assert!(error.message().contains("its manifest says that it needs none"), "{error}");
    let error = ask(&twist, "inputs remove 0").await.unwrap_err();
    assert!(error.message().contains("its manifest does not say that it needs inputs"), "{error}");
}

#[tokio::test]
async fn inputs_are_added_replaced_and_taken_away() {
    let twist = Twist::with(&manifest("inputs = true")).await;
    let roles = |edits: &[Edit]| match edits {
        [Edit::Inputs(inputs)] => {
            inputs.iter().map(|input| format!("{} {}", input.role, input.image.size)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let rows = [
        ("inputs add reference first", vec!["image 8x4", "reference 2x4", "reference 8x4"]),
        ("inputs replace 1 first", vec!["image 8x4", "reference 8x4"]),
        ("inputs remove 1", vec!["image 8x4"]),
        // The others keep their numbers.
        ("inputs remove 0 replace 1 first add image first", vec!["reference 8x4", "image 8x4"]),
    ];
    for (what, expected) in rows {
        assert_eq!(roles(&edits(&twist, what).await), expected, "{what}");
    }
    let both = edits(&twist, "inputs task text-to-image remove 0").await;
    let edited = editing("nothing").edit(both).unwrap();
    assert_eq!((edited.task, edited.inputs.len()), (Task::TextToImage, 1));
}

#[tokio::test]
async fn wrong_inputs_are_told() {
    let twist = Twist::with(&manifest("inputs = true")).await;
    let rows = [
        ("inputs add portrait first", "added an input as \"portrait\"; it is image, mask or reference"),
        ("inputs replace 2 first", "changed input 2, which is not there; there were 2"),
        ("inputs remove 0 remove 0", "changed input 0, which is not there"),
        ("task", "set the task \"painting\"; it is text-to-image, image-to-image or inpainting"),
    ];
    for (what, expected) in rows {
        let error = ask(&twist, what).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PluginFault, "{what}: {error}");
        assert!(error.message().contains(expected), "{error}");
    }
    // No picture is a value, which this guest passes on.
    let Verdict::Reject(error) = ask(&twist, "inputs add mask x").await.unwrap() else { panic!("not rejected") };
    assert_eq!(error.kind(), ErrorKind::Upstream);
}

#[tokio::test]
async fn transformer_has_network_only_if_it_wants_it_and_the_operator_grants_it() {
    let upstream = Upstream::start(|_| Reply::bytes(204, "text/plain", bytes::Bytes::new())).await;
    let what = format!("fetch {}/", upstream.origin());

    let wants_none = super::transformers::MANIFEST.replace("origins = [\"operator\"]", "origins = []");
    let status = Twist::with(&wants_none).await.host.status("twist");
    assert_eq!(status.state, PluginState::Failed);
    let reason = status.reason.unwrap();
    assert!(
        reason.contains("easel:plugin/fetch@0.3.0, and its manifest wants no network: name the origins"),
        "{reason}"
    );

    let not_granted = Twist::with(&manifest("")).await;
    let Verdict::Reject(error) = ask(&not_granted, &what).await.unwrap() else { panic!("not denied") };
    assert_eq!(error.kind(), ErrorKind::PluginFault, "{error}");
    assert!(upstream.received().is_empty());

    let settings = PluginSettings { origins: vec![upstream.origin()], ..PluginSettings::default() };
    let granted = Twist::set(&manifest(""), settings).await;
    assert_eq!(told(&granted, &what).await, "status 204");
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn config_is_checked_when_it_is_loaded() {
    let rows = [
        ("refuse", "it does not take its config: config: check must not be refuse"),
        ("trap", "plugin twist trapped: unreachable"),
        ("loop", "plugin twist ran past its CPU budget of 200 ms"),
        ("store", "there is no store here while a plugin is loaded"),
        ("fetch", "there is no network while a plugin is"),
    ];
    for (told, expected) in rows {
        // On a busy machine the processor time takes longer by the clock.
        let manifest = manifest("store = true").replace("wall_s = 1", "wall_s = 10");
        let twist = Twist::set(&manifest, super::configured("check", told)).await;
        let status = twist.host.status("twist");
        assert_eq!(status.state, PluginState::Failed, "{told}");
        let reason = status.reason.unwrap();
        assert!(reason.contains(expected), "{reason:?} should contain {expected:?}");
        assert!(twist.host.runtime.transformers().is_empty());
    }
}
