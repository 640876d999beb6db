//! The straight way through, and what becomes of the images at its end.

use std::sync::Arc;

use super::fakes::{
    FakeBackend, FakeKeeper, FakeTransformer, House, by_address, context, made, model, output, size, studio, world_of,
};
use crate::{Draft, ErrorKind, Money, Note, NoteKind, OnFailure, Output, Readiness, Usage, Verdict};

#[tokio::test(start_paused = true)]
async fn a_prompt_alone_becomes_a_kept_picture_with_every_choice_filled_in() {
    let (house, backend) = studio();

    let generation = house.run(Draft::new("a red circle")).await.unwrap();

    assert_eq!((generation.backend.as_str(), generation.model.as_str()), ("studio", "brush"));
    assert_eq!((generation.images.len(), generation.kept.len()), (1, 1));
    assert_eq!(generation.reason, "default model");
    assert_eq!(generation.notes, Vec::new());
    let seen = backend.seen().remove(0);
    assert_eq!((seen.size, seen.seed), (Some(size(512, 512)), Some(4_711)));
    assert_eq!((seen.steps, seen.guidance), (Some(20), Some(7.5)));
    assert!(seen.format.is_some());
    assert_eq!(house.keeper.kept.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_backend_tells_reaches_the_answer() {
    let cost = Money { micros: 39_000, currency: "USD".to_owned() };
    let usage = Usage { unit: "output_tokens".to_owned(), quantity: 7 };
    let told = Output { cost: Some(cost.clone()), usage: vec![usage.clone()], ..output(1) };
    let backend = FakeBackend::new("studio", &[model("brush")]).making(move |_, _| {
        let told = told.clone();
        async move { Ok(told) }
    });

    let generation = House::new(world_of(vec![Arc::new(backend)])).run(Draft::new("a cat")).await.unwrap();

    assert_eq!((generation.cost, generation.usage), (Some(cost), vec![usage]));
}

#[tokio::test(start_paused = true)]
async fn notes_stand_in_the_order_in_which_the_walk_came_to_them() {
    let note = |message: &str| Note::general(NoteKind::Advice, message);
    let backend = FakeBackend::new("studio", &[model("brush")]).making(move |_, _| async move {
        Ok(Output { notes: vec![Note::general(NoteKind::Advice, "from the backend")], ..output(1) })
    });
    let before = FakeTransformer::new("first")
        .before(move |_| Ok(Verdict::Next { edits: Vec::new(), notes: vec![note("from the transformer")] }));
    let after = FakeTransformer::new("last").after(|_| Err(crate::Error::new(ErrorKind::PluginFault, "it broke")));
    let mut world = world_of(vec![Arc::new(backend)]);
    world.stages = vec![before.stage(OnFailure::Closed), after.stage(OnFailure::Open)];
    let house = House::with_keeper(world, FakeKeeper { is_full: true, ..FakeKeeper::default() });
    let draft =
        Draft { model: Some("unheard-of".to_owned()), format: Some(crate::ImageFormat::Webp), ..Draft::new("a cat") };

    let generation = house.run(draft).await.unwrap();

    let messages: Vec<_> = generation.notes.iter().map(|note| note.message.as_str()).collect();
    let order = [
        "from the transformer",
        "is not known here",
        "does not give webp",
        "from the backend",
        "transformer last failed",
        "were not kept",
    ];
    assert_eq!(messages.len(), order.len(), "{messages:?}");
    for (message, part) in messages.iter().zip(order) {
        assert!(message.contains(part), "{message:?} should be about {part:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_fails_what_is_answered_by_address_and_names_the_backend() {
    let backend = Arc::new(FakeBackend::new("studio", &[model("brush")]));
    let house = House::with_keeper(world_of(vec![backend]), FakeKeeper { is_full: true, ..FakeKeeper::default() });

    let error = house.run(by_address("a cat")).await.unwrap_err();

    assert_eq!((error.kind(), error.message()), (ErrorKind::Storage, "the disk is full"));
    assert_eq!((error.backend(), error.model()), (Some("studio"), Some("brush")));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_a_note_where_the_answer_holds_the_picture() {
    let backend = Arc::new(FakeBackend::new("studio", &[model("brush")]));
    let house = House::with_keeper(world_of(vec![backend]), FakeKeeper { is_full: true, ..FakeKeeper::default() });

    let generation = house.run(Draft::new("a cat")).await.unwrap();

    assert_eq!((generation.images.len(), generation.kept.len()), (1, 0));
    assert_eq!(generation.notes.len(), 1);
    assert!(generation.notes[0].message.contains("the disk is full"), "{:?}", generation.notes);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_makes_too_few_or_too_many_images_has_failed() {
    for made in [0, 1, 3] {
        let backend = FakeBackend::new("studio", &[model("brush")]).making(move |_, _| async move { Ok(output(made)) });
        let house = House::new(world_of(vec![Arc::new(backend)]));

        let error = house.run(Draft { count: 2, ..Draft::new("two cats") }).await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Upstream);
        assert_eq!(error.message(), format!("the backend made {made} images where 2 were asked for"));
        assert_eq!(error.backend(), Some("studio"));
        assert!(house.keeper.kept.lock().unwrap().is_empty(), "half an answer is not kept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_not_ready_is_not_asked() {
    let not_ready = Readiness::NotReady("missing credentials".to_owned());
    let backend = Arc::new(FakeBackend::new("studio", &[model("brush")]).standing(not_ready));
    let house = House::new(world_of(vec![Arc::clone(&backend)]));

    let error = house.run(Draft::new("a cat")).await.unwrap_err();

    assert_eq!((error.kind(), error.code()), (ErrorKind::NotReady, "backend_not_ready"));
    assert_eq!(error.message(), "backend studio is not ready: missing credentials");
    assert_eq!(error.retry_after().map(|after| after.as_secs()), Some(30));
    assert_eq!(error.backend(), Some("studio"));
    assert!(backend.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_loading_is_waited_for() {
    let backend = FakeBackend::new("studio", &[model("brush")]).standing(Readiness::Loading);

    let generation = House::new(world_of(vec![Arc::new(backend)])).run(Draft::new("a cat")).await;

    assert!(generation.is_ok(), "{generation:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_backend_keeps_its_words_and_names_the_route() {
    let backend = FakeBackend::new("studio", &[model("brush")]).making(|_, _| async {
        Err(crate::Error::new(ErrorKind::InsufficientFunds, "the provider wants money").with_hint("pay"))
    });

    let error = House::new(world_of(vec![Arc::new(backend)])).run(Draft::new("a cat")).await.unwrap_err();

    assert_eq!((error.kind(), error.hint()), (ErrorKind::InsufficientFunds, Some("pay")));
    assert_eq!((error.backend(), error.model()), (Some("studio"), Some("brush")));
}

#[tokio::test(start_paused = true)]
async fn a_request_keeps_the_backend_of_its_snapshot_when_another_is_swapped_in() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let old = Arc::new(FakeBackend::new("studio", &[model("old-brush")]).behind(&gate));
    let new = Arc::new(FakeBackend::new("studio", &[model("new-brush")]));
    let house = Arc::new(House::new(world_of(vec![Arc::clone(&old)])));

    let running = tokio::spawn({
        let house = Arc::clone(&house);
        async move { house.run(Draft::new("a cat")).await }
    });
    super::fakes::until("the old backend works", || old.seen().len() == 1).await;
    house.pipeline.world().swap(world_of(vec![Arc::clone(&new)]));
    let next = house.run(Draft::new("a dog")).await.unwrap();
    gate.add_permits(1);
    let first = running.await.unwrap().unwrap();

    assert_eq!(first.model, "old-brush");
    assert_eq!(next.model, "new-brush");
    assert_eq!((old.seen().len(), new.seen().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_images_of_the_answer_are_those_of_the_backend_in_order() {
    let backend = FakeBackend::new("studio", &[model("brush")])
        .making(|_, _| async { Ok(Output { images: vec![made(7), made(9)], ..Output::default() }) });
    let house = House::new(world_of(vec![Arc::new(backend)]));

    let generation = house.run(Draft { count: 2, ..Draft::new("two cats") }).await.unwrap();

    let bytes: Vec<_> = generation.images.iter().map(|made| made.image.bytes[0]).collect();
    assert_eq!(bytes, [7, 9]);
}

#[tokio::test(start_paused = true)]
async fn every_time_of_the_answer_lies_within_the_request() {
    let (house, _) = studio();
    let begun = std::time::Instant::now();

    let generation = house.pipeline.run(&context(), super::fakes::checked(Draft::new("a cat"))).await.unwrap();

    let timings = generation.timings;
    assert!(timings.prepare + timings.generate + timings.keep <= begun.elapsed(), "{timings:?}");
}
