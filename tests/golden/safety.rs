//! The safety checker against diffusers', and that what it blocks is given to nobody.

use std::path::Path;

use easel_core::{Backend, Draft, Error, ErrorKind, Event, Output};
use easel_engine::pixels::Pixels;
use easel_engine::trace::Recorder;
use easel_engine::{BUILT_IN, Engine, EngineOptions, Files, Safety, SafetyChecker};
use safetensors::SafeTensors;

use super::picture::{context, job};
use super::pipeline::copy_folder;
use super::{BLOCK, Golden, folder, json};

#[test]
fn the_checker_prepares_sees_and_blocks_as_diffusers_does() {
    let golden = Golden::read("safety.safetensors");
    let checker = SafetyChecker::open(&Files::Folder(folder("tiny-safety"))).unwrap();
    let verdicts = json("safety.json");
    let verdicts = verdicts.as_array().unwrap();
    assert!(verdicts.len() >= 5);
    for (index, verdict) in verdicts.iter().enumerate() {
        let picture = golden.values(&format!("{index}.picture.u8"));
        let (height, width) = (picture.dims[0] as u32, picture.dims[1] as u32);
        let picture =
            Pixels::from_bytes(picture.values.iter().map(|value| *value as u8).collect(), width, height).unwrap();
        // A level of difference in one byte would be far beyond this.
        let error = golden.error(&format!("{index}.prepared"), &checker.prepared(&picture));
        assert!(error <= 1e-7, "picture {index} is prepared {error:e} off");
        let recorder = Recorder::default();
        let got = checker.check_traced(&picture, &recorder).unwrap();
        let told = recorder.into_values();
        for key in golden.keys(&format!("{index}.safety.")) {
            let error = golden.error(key, &told[key.split_once('.').unwrap().1]);
            assert!(error <= BLOCK, "{key} is off by {error:e}");
        }
        let concepts: Vec<_> =
            verdict["concepts"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap() as usize).collect();
        let special: Vec<_> =
            verdict["special"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap() as usize).collect();
        assert_eq!(
            (&got.concepts, &got.special, got.is_blocked()),
            (&concepts, &special, !concepts.is_empty()),
            "{index}"
        );
    }
}

/// A folder of models whose shared checker finds every concept from this cosine on; -2 is in every picture, 2 in none.
fn models(threshold: f32) -> tempfile::TempDir {
    let models = tempfile::tempdir().unwrap();
    copy_folder(&folder("tiny-safety"), models.path());
    let path = models.path().join("safety_checker/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let (header, tensors) = SafeTensors::read_metadata(&bytes).unwrap();
    let (start, end) = tensors.info("concept_embeds_weights").unwrap().data_offsets;
    // In half precision 2 is 0x4000, and -2 is 0xc000.
    let half: [u8; 2] = if threshold > 0.0 { [0, 0x40] } else { [0, 0xc0] };
    bytes[8 + header + start..8 + header + end].chunks_mut(2).for_each(|value| value.copy_from_slice(&half));
    std::fs::write(path, bytes).unwrap();
    models
}

async fn make(models: &Path, safety: Safety, draft: Draft) -> (Result<Output, Error>, usize) {
    let options = EngineOptions { models: Some(models.to_owned()), safety, ..EngineOptions::default() };
    let engine = Engine::start(options).unwrap();
    assert_eq!(engine.problems(), []);
    let context = context();
    let job = job(&engine, draft, &context).unwrap();
    let mut reader = context.progress.listen();
    let result = engine.generate(&context, job).await;
    let mut partials = 0;
    drop(context);
    while let Some(event) = reader.next().await {
        partials += usize::from(matches!(event, Event::Partial { .. }));
    }
    (result, partials)
}

fn draft(count: u32) -> Draft {
    Draft { seed: Some(1), steps: Some(4), count, ..Draft::new("a red circle") }
}

#[tokio::test]
async fn a_blocked_picture_is_given_to_nobody_neither_finished_nor_on_its_way() {
    let all = models(-2.0);
    let (result, partials) = make(all.path(), Safety::Available, draft(2)).await;
    let error = result.unwrap_err();
    assert_eq!((error.kind(), partials), (ErrorKind::ContentPolicy, 0));
    assert_eq!(error.message(), "the safety checker blocked picture 1 of 2");
}

#[tokio::test]
async fn a_picture_that_shows_nothing_of_the_kind_is_given_as_ever() {
    let (result, partials) = make(models(2.0).path(), Safety::Required, draft(1)).await;
    let (checked, notes) = result.map(|output| (output.images, output.notes)).unwrap();
    assert!(partials > 0 && notes.is_empty(), "{partials} {notes:?}");
    let unchecked = make(models(-2.0).path(), Safety::Off, draft(1)).await.0.unwrap().images;
    assert_eq!(checked[0].image.bytes, unchecked[0].image.bytes);
}

#[tokio::test]
async fn a_model_without_a_checker_is_refused_where_one_is_required_and_told_where_it_is_not() {
    let models = tempfile::tempdir().unwrap();
    copy_folder(&folder("shapes"), &models.path().join(BUILT_IN));
    let error = make(models.path(), Safety::Required, draft(1)).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(error.message().contains("model shapes has no safety checker"), "{error}");
    let output = make(models.path(), Safety::Available, draft(1)).await.0.unwrap();
    let [note] = output.notes.as_slice() else { panic!("{:?}", output.notes) };
    assert_eq!(note.message, "model shapes has no safety checker; its pictures are not checked");
    assert!(make(models.path(), Safety::Off, draft(1)).await.0.unwrap().notes.is_empty());
}
