//! Transformers: their order, their verdicts, and what happens when one fails.

use std::sync::Arc;
use std::time::Duration;

use super::fakes::{FakeBackend, FakeTransformer, House, checked, context, made, model, output, size, world_of};
use crate::{
    Allowance, Context, Draft, Edit, Error, ErrorKind, GenerationRequest, Money, Note, NoteKind, OnFailure,
    OptionValue, Output, Principal, Review, Stage, Verdict,
};

fn edits(edits: impl Fn(&GenerationRequest) -> Vec<Edit> + Send + Sync + 'static) -> FakeTransformer {
    FakeTransformer::new("editor").before(move |request| Ok(Verdict::Next { edits: edits(request), notes: Vec::new() }))
}

fn broken() -> Error {
    Error::new(ErrorKind::PluginFault, "it trapped")
}

/// A house with one backend and these transformers.
fn house(stages: Vec<Stage>) -> (House, Arc<FakeBackend>) {
    let backend = Arc::new(FakeBackend::new("studio", &[model("brush"), model("pencil")]));
    let mut world = world_of(vec![Arc::clone(&backend)]);
    world.stages = stages;
    world.aliases = [("lead".to_owned(), "pencil".to_owned())].into();
    (House::new(world), backend)
}

fn allowed(allowance: Allowance) -> Context {
    Context { principal: Principal { name: "key".into(), allowance: Arc::new(allowance) }, ..context() }
}

#[tokio::test(start_paused = true)]
async fn transformers_edit_in_their_configured_order() {
    let append = |word: &'static str| {
        edits(move |request| vec![Edit::Prompt(format!("{} {word}", request.prompt))]).stage(OnFailure::Closed)
    };
    let (house, backend) = house(vec![append("in"), append("ink")]);

    house.run(Draft::new("a cat")).await.unwrap();

    assert_eq!(backend.seen()[0].prompt, "a cat in ink");
}

#[tokio::test(start_paused = true)]
async fn every_edit_reaches_the_backend() {
    let option = OptionValue { json: "true".to_owned(), on_unknown: crate::OnUnknown::Refuse };
    let all = vec![
        Edit::Prompt("a dog".to_owned()),
        Edit::NegativePrompt(Some("cats".to_owned())),
        Edit::Model(Some("pencil".to_owned())),
        Edit::Count(2),
        Edit::Size(Some(size(128, 64))),
        Edit::Seed(Some(5)),
        Edit::Steps(Some(6)),
        Edit::Guidance(Some(3.0)),
        Edit::Sampler(Some("ddim".to_owned())),
        Edit::Format(Some(crate::ImageFormat::Jpeg)),
        Edit::Compression(Some(80)),
        Edit::Option("tiling".to_owned(), Some(option.clone())),
    ];
    let (house, backend) = house(vec![edits(move |_| all.clone()).stage(OnFailure::Closed)]);

    let generation = house.run(Draft::new("a cat")).await.unwrap();

    let seen = backend.seen().remove(0);
    let expected = Draft {
        negative_prompt: Some("cats".to_owned()),
        model: Some("pencil".to_owned()),
        count: 2,
        size: Some(size(128, 64)),
        seed: Some(5),
        steps: Some(6),
        guidance: Some(3.0),
        sampler: Some("ddim".to_owned()),
        format: Some(crate::ImageFormat::Jpeg),
        compression: Some(80),
        options: [("tiling".to_owned(), option)].into(),
        ..Draft::new("a dog")
    };
    assert_eq!(*seen, expected);
    assert_eq!(generation.model, "pencil");
}

#[tokio::test(start_paused = true)]
async fn edits_that_make_the_request_invalid_are_the_transformers_fault() {
    let wrong = || edits(|_| vec![Edit::Seed(Some(1)), Edit::Count(99)]);
    let (closed, backend) = house(vec![wrong().stage(OnFailure::Closed)]);

    let error = closed.run(Draft::new("a cat")).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::PluginFault);
    assert_eq!(error.message(), "transformer editor made the request invalid: count must be from 1 to 10, not 99");
    assert!(backend.seen().is_empty());

    let (open, backend) = house(vec![wrong().stage(OnFailure::Open)]);
    open.run(Draft { seed: Some(7), ..Draft::new("a cat") }).await.unwrap();
    assert_eq!((backend.seen()[0].seed, backend.seen()[0].count), (Some(7), 1), "all edits are applied, or none");
}

/// Runs a request with an edit that asks for more than the key may, and gives back the error.
async fn widened(allowance: Allowance, edit: Edit) -> Error {
    let (house, backend) = house(vec![edits(move |_| vec![edit.clone()]).stage(OnFailure::Open)]);
    let request = checked(Draft { size: Some(size(64, 64)), model: Some("brush".to_owned()), ..Draft::new("a cat") });
    let context = allowed(allowance);
    let snapshot = house.pipeline.world().snapshot();
    context.principal.allowance.check(&snapshot, &request).expect("the caller's own request is allowed");
    let error = house.pipeline.run(&context, request).await.unwrap_err();
    assert!(backend.seen().is_empty());
    error
}

#[tokio::test(start_paused = true)]
async fn transformer_cannot_widen_the_allowed_size() {
    let allowance = Allowance { max_pixels: Some(64 * 64), ..Allowance::default() };
    let error = widened(allowance, Edit::Size(Some(size(64, 72)))).await;
    assert_eq!((error.kind(), error.param()), (ErrorKind::Forbidden, Some("size")));
}

#[tokio::test(start_paused = true)]
async fn transformer_cannot_widen_the_allowed_size_by_removing_it() {
    let allowance = Allowance { max_pixels: Some(64 * 64), ..Allowance::default() };
    let error = widened(allowance, Edit::Size(None)).await;
    assert_eq!((error.kind(), error.param()), (ErrorKind::Forbidden, Some("size")));
    assert_eq!(error.backend(), Some("studio"), "the model's default size is known once it is routed");
}

#[tokio::test(start_paused = true)]
async fn transformer_cannot_widen_the_allowed_count() {
    let allowance = Allowance { max_count: Some(1), ..Allowance::default() };
    let error = widened(allowance, Edit::Count(2)).await;
    assert_eq!((error.kind(), error.param()), (ErrorKind::Forbidden, Some("count")));
    assert_eq!(error.backend(), None, "it is refused before it is routed, so it learns nothing of what there is");
}

#[tokio::test(start_paused = true)]
async fn transformer_cannot_choose_a_model_that_the_key_may_not_use() {
    let brush_only = || Allowance { models: Some(["brush".to_owned()].into()), ..Allowance::default() };
    for model in ["pencil", "studio/pencil", "lead"] {
        let error = widened(brush_only(), Edit::Model(Some(model.to_owned()))).await;
        assert_eq!((error.kind(), error.param()), (ErrorKind::Forbidden, Some("model")), "{model}");
    }
}

#[tokio::test(start_paused = true)]
async fn transformer_answers_in_place_of_a_backend_and_the_answer_is_kept() {
    let cache = FakeTransformer::new("cache").before(|_| Ok(Verdict::Answer(output(1))));
    let never = edits(|_| vec![Edit::Prompt("never seen".to_owned())]);
    let (house, backend) = house(vec![cache.stage(OnFailure::Closed), never.stage(OnFailure::Closed)]);

    let generation = house.run(Draft::new("a cat")).await.unwrap();

    assert_eq!((generation.backend.as_str(), generation.model.as_str()), ("cache", "cache"));
    assert_eq!(generation.reason, "answered by a transformer");
    assert_eq!((generation.images.len(), generation.kept.len()), (1, 1));
    assert!(backend.seen().is_empty());
    assert_eq!(house.keeper.kept.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn transformer_that_answers_with_another_number_of_images_has_failed() {
    for (on_failure, answered) in [(OnFailure::Closed, 1), (OnFailure::Closed, 3)] {
        let cache = FakeTransformer::new("cache").before(move |_| Ok(Verdict::Answer(output(answered))));
        let (house, _) = house(vec![cache.stage(on_failure)]);

        let error = house.run(Draft { count: 2, ..Draft::new("two cats") }).await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::PluginFault);
        assert_eq!(error.message(), format!("transformer cache gave {answered} images where 2 were asked for"));
    }
}

#[tokio::test(start_paused = true)]
async fn transformer_refuses_with_its_own_error_even_where_failures_are_left_out() {
    let judge = FakeTransformer::new("judge")
        .before(|_| Ok(Verdict::Reject(Error::new(ErrorKind::ContentPolicy, "no cats").with_param("prompt"))));
    let (house, backend) = house(vec![judge.stage(OnFailure::Open)]);

    let error = house.run(Draft::new("a cat")).await.unwrap_err();

    assert_eq!((error.kind(), error.message(), error.param()), (ErrorKind::ContentPolicy, "no cats", Some("prompt")));
    assert!(backend.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn failing_transformer_fails_the_request_or_is_left_out_with_a_note() {
    let failing = || FakeTransformer::new("shaky").before(|_| Err(broken()));
    let (closed, backend) = house(vec![failing().stage(OnFailure::Closed)]);
    assert_eq!(closed.run(Draft::new("a cat")).await.unwrap_err().kind(), ErrorKind::PluginFault);
    assert!(backend.seen().is_empty());

    let (open, backend) = house(vec![failing().stage(OnFailure::Open)]);
    let generation = open.run(Draft::new("a cat")).await.unwrap();
    assert_eq!(generation.notes[0].message, "transformer shaky failed and was left out");
    assert_eq!(backend.seen()[0].prompt, "a cat");
}

#[tokio::test(start_paused = true)]
async fn slow_transformer_is_stopped_at_its_time_limit() {
    let slow = |takes| FakeTransformer::new("slow").taking(Duration::from_millis(takes));
    let (patient, _) = house(vec![slow(999).stage(OnFailure::Closed)]);
    assert!(patient.run(Draft::new("a cat")).await.is_ok());

    let begun = tokio::time::Instant::now();
    let (closed, backend) = house(vec![slow(30_000).stage(OnFailure::Closed)]);
    let error = closed.run(Draft::new("a cat")).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::PluginFault, "transformer slow took longer than 1s"));
    assert_eq!(begun.elapsed().as_secs(), 1);
    assert!(backend.seen().is_empty());

    let (open, backend) = house(vec![slow(30_000).stage(OnFailure::Open)]);
    assert!(open.run(Draft::new("a cat")).await.is_ok());
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn transformers_replace_the_images_in_their_configured_order() {
    let add = |number: u8| {
        let next = move |images: &[crate::Made]| {
            let images = images.iter().map(|image| made(image.image.bytes[0] * 10 + number)).collect();
            Ok(Review::Replace(Output { images, ..Output::default() }))
        };
        FakeTransformer::new("painter").after(next).stage(OnFailure::Closed)
    };
    let (house, _) = house(vec![add(2), add(3)]);

    let generation = house.run(Draft::new("a cat")).await.unwrap();

    assert_eq!(generation.images[0].image.bytes[0], 123);
    assert_eq!(house.keeper.kept.lock().unwrap()[0].images[0].image.bytes[0], 123, "what is answered is what is kept");
}

#[tokio::test(start_paused = true)]
async fn failing_transformer_on_the_way_out_keeps_the_images_or_fails_the_request() {
    let failing = || FakeTransformer::new("shaky").after(|_| Err(broken()));
    let (closed, _) = house(vec![failing().stage(OnFailure::Closed)]);
    let error = closed.run(Draft::new("a cat")).await.unwrap_err();
    assert_eq!((error.kind(), error.backend()), (ErrorKind::PluginFault, Some("studio")));
    assert!(closed.keeper.kept.lock().unwrap().is_empty());

    let (open, _) = house(vec![failing().stage(OnFailure::Open)]);
    let generation = open.run(Draft::new("a cat")).await.unwrap();
    assert_eq!((generation.images.len(), generation.notes.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn transformer_that_loses_or_adds_images_has_failed() {
    for left in [0, 1, 3] {
        let thief = || {
            FakeTransformer::new("thief").after(move |_| {
                let images = (0..left).map(|_| made(9)).collect();
                Ok(Review::Replace(Output { images, ..Output::default() }))
            })
        };
        let draft = || Draft { count: 2, ..Draft::new("two cats") };
        let (closed, _) = house(vec![thief().stage(OnFailure::Closed)]);
        let error = closed.run(draft()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PluginFault);
        assert_eq!(error.message(), format!("transformer thief gave {left} images where 2 were asked for"));

        let (open, _) = house(vec![thief().stage(OnFailure::Open)]);
        let generation = open.run(draft()).await.unwrap();
        assert_eq!(generation.images.iter().map(|made| made.image.bytes[0]).collect::<Vec<_>>(), [1, 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn refusal_on_the_way_out_counts_even_where_failures_are_left_out() {
    let judge = FakeTransformer::new("judge")
        .after(|_| Ok(Review::Reject(Error::new(ErrorKind::ContentPolicy, "not to be seen"))));
    let (house, backend) = house(vec![judge.stage(OnFailure::Open)]);

    let error = house.run(Draft::new("a cat")).await.unwrap_err();

    assert_eq!((error.kind(), error.message()), (ErrorKind::ContentPolicy, "not to be seen"));
    assert_eq!(backend.seen().len(), 1);
    assert!(house.keeper.kept.lock().unwrap().is_empty(), "what was refused is not kept");
}

#[tokio::test(start_paused = true)]
async fn slow_transformer_on_the_way_out_is_stopped_at_its_time_limit() {
    let slow = || {
        let quick = |_: &GenerationRequest| Ok(Verdict::Next { edits: Vec::new(), notes: Vec::new() });
        FakeTransformer::new("slow").before(quick).taking_after(Duration::from_secs(30))
    };
    let (closed, _) = house(vec![slow().stage(OnFailure::Closed)]);
    let error = closed.run(Draft::new("a cat")).await.unwrap_err();
    assert_eq!(error.message(), "transformer slow took longer than 1s");

    let (open, _) = house(vec![slow().stage(OnFailure::Open)]);
    let generation = open.run(Draft::new("a cat")).await.unwrap();
    assert_eq!(generation.notes[0].message, "transformer slow failed and was left out");
}

/// Runs a request whose pictures are replaced at this price, after they were made at that one.
async fn cost(made_at: Option<Money>, replaced_at: Option<Money>) -> Option<Money> {
    let backend = FakeBackend::new("studio", &[model("brush")]).making(move |_, job| {
        let cost = made_at.clone();
        async move { Ok(Output { cost, ..output(job.request.count) }) }
    });
    let enlarger = FakeTransformer::new("enlarger").after(move |images| {
        let note = Note::about(NoteKind::Adjusted, "size", "enlarged");
        Ok(Review::Replace(Output {
            images: images.to_vec(),
            notes: vec![note],
            cost: replaced_at.clone(),
            ..Output::default()
        }))
    });
    let mut world = world_of(vec![Arc::new(backend)]);
    world.stages = vec![enlarger.stage(OnFailure::Closed)];
    let generation = House::new(world).run(Draft::new("a cat")).await.unwrap();
    assert_eq!(generation.notes[0].message, "enlarged");
    generation.cost
}

#[tokio::test(start_paused = true)]
async fn what_a_transformer_costs_is_added_where_both_are_known() {
    let usd = |micros| Some(Money { micros, currency: "USD".to_owned() });
    assert_eq!(cost(usd(1), usd(2)).await, usd(3));
    assert_eq!(cost(usd(1), None).await, usd(1));
    assert_eq!(cost(None, usd(2)).await, None, "unknown is not zero");
    assert_eq!(cost(usd(1), Some(Money { micros: 2, currency: "EUR".to_owned() })).await, None);
}
