//! The demo model through the engine's seam: the picture shows what the prompt says, in every size, and says in its file
//! how it was made.

use std::collections::BTreeMap;
use std::time::Duration;

use easel_core::{
    Admission, Backend, Context, Draft, Error, ErrorKind, Event, ImageFormat, Job, NoteKind, OnUnknown, OptionValue,
    Output, ParamNames, Principal, Progress, RequestId, Size,
};
use easel_engine::{Engine, EngineOptions, StubBackend};

const PROMPT: &str = "a red circle on a blue background";

#[tokio::test]
async fn a_red_circle_on_a_blue_background_is_red_in_the_middle_and_blue_at_the_rim() {
    let engine = engine();
    for seed in [1, 2, 3] {
        let output = make(&engine, Draft { seed: Some(seed), ..Draft::new(PROMPT) }).await.unwrap();
        assert_eq!(output.notes, [], "nothing was adjusted");
        shows_the_circle(&output, (128, 128));
    }
}

#[tokio::test]
async fn other_sizes_show_the_same_unstretched_and_the_answer_says_so() {
    let engine = engine();
    for (width, height) in [(512, 512), (640, 360), (200, 333)] {
        let size = Size::new(width, height);
        let output = make(&engine, Draft { seed: Some(1), size, ..Draft::new(PROMPT) }).await.unwrap();
        shows_the_circle(&output, (width, height));
        let note = &output.notes[0];
        assert_eq!((note.kind, note.param.as_deref()), (NoteKind::Adjusted, Some("size")));
        assert!(
            note.message.contains("128x128") && note.message.contains(&format!("{width}x{height}")),
            "{}",
            note.message
        );
    }
}

#[tokio::test]
async fn pictures_of_one_request_are_those_of_their_seeds_to_the_last_byte() {
    let engine = engine();
    let draft = |seed, count| Draft { seed: Some(seed), count, steps: Some(4), ..Draft::new(PROMPT) };
    let together = make(&engine, draft(10, 3)).await.unwrap();
    for (index, made) in together.images.iter().enumerate() {
        assert_eq!(made.seed, Some(10 + index as u64));
        let alone = make(&engine, draft(10 + index as u64, 1)).await.unwrap();
        assert_eq!(alone.images[0].image.bytes, made.image.bytes, "picture {index}");
    }
}

#[tokio::test]
async fn two_requests_at_once_are_two_requests_one_after_the_other() {
    let engine = engine();
    let draft =
        |seed| Draft { seed: Some(seed), steps: Some(6), sampler: Some("Euler a".to_owned()), ..Draft::new(PROMPT) };
    let (a, b) = tokio::join!(make(&engine, draft(1)), make(&engine, draft(2)));
    for (seed, output) in [(1, a), (2, b)] {
        let alone = make(&engine, draft(seed)).await.unwrap();
        assert_eq!(output.unwrap().images[0].image.bytes, alone.images[0].image.bytes);
    }
}

#[tokio::test]
async fn a_picture_carries_how_it_was_made() {
    let engine = engine();
    let draft = Draft {
        negative_prompt: Some("blurry".to_owned()),
        seed: Some(7),
        steps: Some(3),
        guidance: Some(4.5),
        sampler: Some("Euler Karras".to_owned()),
        ..Draft::new(PROMPT)
    };
    let output = make(&engine, draft).await.unwrap();
    let file = &output.images[0].image.bytes;
    let has = |text: &str| file.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("parameters\0a red circle on a blue background\nNegative prompt: blurry\nSteps: 3, Sampler: Euler, "));
    assert!(has("Schedule type: Karras, CFG scale: 4.5, Seed: 7, Size: 128x128, Model: shapes"));
    assert!(has(r#""noise":"torch-cpu""#));
}

#[tokio::test]
async fn every_format_is_what_it_says() {
    let engine = engine();
    for format in ImageFormat::ALL {
        let draft = Draft { format: Some(format), steps: Some(2), seed: Some(1), ..Draft::new(PROMPT) };
        let image = make(&engine, draft).await.unwrap().images.remove(0).image;
        assert_eq!((ImageFormat::sniff(&image.bytes), image.format), (Some(format), format));
    }
}

#[tokio::test]
async fn steps_and_partial_pictures_are_told_to_who_listens() {
    let engine = engine();
    let context = context();
    let mut reader = context.progress.listen();
    let job = job(&engine, Draft { seed: Some(1), steps: Some(8), ..Draft::new(PROMPT) }, &context).unwrap();
    engine.generate(&context, job).await.unwrap();
    drop(context);
    let (mut steps, mut partials, mut stages) = (Vec::new(), 0, Vec::new());
    while let Some(event) = reader.next().await {
        match event {
            Event::Step { image: 0, step, steps: 8 } => steps.push(step),
            Event::Begun { .. } | Event::Step { .. } => panic!("{event:?}"),
            Event::Partial { picture, .. } => {
                assert_eq!((picture.size.width(), picture.size.height()), (128, 128));
                partials += 1;
            }
            Event::Stage(stage) => stages.push(stage),
        }
    }
    assert_eq!(steps, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(partials, 3);
    assert_eq!(stages, ["loading", "encoding", "denoising", "decoding"]);
}

#[tokio::test]
async fn a_caller_who_has_gone_stops_the_work_within_a_step_and_frees_the_place() {
    let engine = engine();
    let admission = Admission::new(1, BTreeMap::new());
    let context = context();
    let request =
        Draft { seed: Some(1), steps: Some(200), count: 10, ..Draft::new(PROMPT) }.check(&ParamNames::OURS).unwrap();
    let model = engine.models().remove(0);
    let job = Job { request, model, permit: admission.admit(Engine::ID).unwrap() };
    let mut reader = context.progress.listen();
    {
        let work = engine.generate(&context, job);
        tokio::pin!(work);
        // Until the first step is told; then the future is dropped, as a closed connection drops it.
        loop {
            tokio::select! {
                _ = &mut work => panic!("two thousand steps are not done so soon"),
                event = reader.next() => if let Some(Event::Step { .. }) = event { break },
            }
        }
    }
    for _ in 0..500 {
        if admission.inflight() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the permit is still held");
}

#[tokio::test]
async fn cancelling_the_context_ends_the_work_with_that_reason() {
    let engine = engine();
    let context = context();
    context.cancellation.cancel();
    let job = job(&engine, Draft::new(PROMPT), &context).unwrap();
    assert_eq!(engine.generate(&context, job).await.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn what_is_not_possible_is_refused_in_the_callers_words() {
    let engine = engine();
    let option = |name: &str, json: &str| {
        let value = OptionValue { json: json.to_owned(), on_unknown: OnUnknown::Refuse };
        Draft { options: [(name.to_owned(), value)].into(), ..Draft::new(PROMPT) }
    };
    for (draft, param, says) in [
        (
            Draft { sampler: Some("DPM adaptive".to_owned()), ..Draft::new(PROMPT) },
            "sampler",
            "ddim, ddpm, pndm, euler",
        ),
        (option("schedule", "\"ays\""), "options.schedule", "karras"),
        (option("eta", "2"), "options.eta", "from 0 to 1"),
        (option("clip_skip", "3"), "options.clip_skip", "from 0 to 2"),
        (option("tiling", "true"), "options.tiling", "clip_skip, eta, schedule, strength"),
    ] {
        let error = make(&engine, draft).await.unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some(param)), "{error}");
        assert!(error.message().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_cut_and_the_answer_says_so() {
    let engine = engine();
    let output = make(&engine, Draft { steps: Some(1), ..Draft::new("red circle ".repeat(60)) }).await.unwrap();
    let note = output.notes.iter().find(|note| note.param.as_deref() == Some("prompt")).expect("a note");
    assert!(note.message.contains("45 tokens more than the 75"), "{}", note.message);
}

#[tokio::test]
async fn the_stub_answers_without_a_model() {
    let stub = StubBackend::new();
    let size = Size::new(321, 123);
    let output = make(&stub, Draft { size, count: 2, seed: Some(5), ..Draft::new(PROMPT) }).await.unwrap();
    assert_eq!(output.images.iter().map(|made| made.seed).collect::<Vec<_>>(), [Some(5), Some(6)]);
    for made in &output.images {
        let picture = image::load_from_memory(&made.image.bytes).unwrap();
        assert_eq!((picture.width(), picture.height()), (321, 123));
    }
}

pub(crate) fn engine() -> Engine {
    Engine::start(EngineOptions::default()).unwrap()
}

pub(crate) fn context() -> Context {
    Context {
        id: RequestId::new("test").unwrap(),
        principal: Principal::local(),
        deadline: tokio::time::Instant::now() + Duration::from_secs(300),
        cancellation: Default::default(),
        progress: Progress::new(),
        fallback_seed: 99,
        trace_parent: None,
    }
}

pub(crate) fn job(backend: &dyn Backend, draft: Draft, context: &Context) -> Result<Job, Error> {
    let request = draft.check(&ParamNames::OURS)?;
    let model = backend.models().remove(0);
    let request = model.fit(&request, context.fallback_seed)?.request;
    let permit = Admission::new(8, BTreeMap::new()).admit(backend.id())?;
    Ok(Job { request, model, permit })
}

pub(crate) async fn make(backend: &dyn Backend, draft: Draft) -> Result<Output, Error> {
    let context = context();
    let job = job(backend, draft, &context)?;
    backend.generate(&context, job).await
}

/// Red in the middle, blue along the whole rim.
fn shows_the_circle(output: &Output, (width, height): (u32, u32)) {
    let picture = image::load_from_memory(&output.images[0].image.bytes).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), (width, height));
    let mean = |wanted: &dyn Fn(u32, u32) -> bool| {
        let pixels: Vec<_> =
            picture.enumerate_pixels().filter(|(x, y, _)| wanted(*x, *y)).map(|(_, _, pixel)| pixel.0).collect();
        [0, 1, 2].map(|c| pixels.iter().map(|pixel| f64::from(pixel[c])).sum::<f64>() / pixels.len() as f64)
    };
    let side = width.min(height);
    let near = |x: u32, y: u32| x.abs_diff(width / 2) <= side / 16 && y.abs_diff(height / 2) <= side / 16;
    let rim = |x: u32, y: u32| {
        let edge = side / 24;
        x < edge || y < edge || x >= width - edge || y >= height - edge
    };
    let [red, green, blue] = mean(&near);
    assert!(red > 150.0 && red > 2.0 * green && red > 2.0 * blue, "the middle is {red:.0} {green:.0} {blue:.0}");
    let [red, green, blue] = mean(&rim);
    assert!(blue > 120.0 && blue > 1.5 * green && blue > 1.5 * red, "the rim is {red:.0} {green:.0} {blue:.0}");
}
