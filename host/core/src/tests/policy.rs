//! What one caller may ask: refused before anything is spent, and again once the server has chosen.

use std::sync::Arc;

use super::fakes::{FakeBackend, FakeTransformer, House, checked, context, model, size, studio, world_of};
use crate::{Allowance, Context, Draft, Edit, Error, ErrorKind, OnFailure, Principal, Snapshot, Verdict};

fn allowed(allowance: Allowance) -> Context {
    Context { principal: Principal { name: "key".into(), allowance: Arc::new(allowance) }, ..context() }
}

fn models(models: &[&str]) -> Allowance {
    Allowance { models: Some(models.iter().map(|&model| model.to_owned()).collect()), ..Allowance::default() }
}

/// Two backends that share a model, and an alias for one of each.
fn two_studios() -> Snapshot {
    let studio = FakeBackend::new("studio", &[model("brush"), model("shared")]);
    let attic = FakeBackend::new("attic", &[model("pencil"), model("shared")]);
    let aliases = [("fast", "brush"), ("spare", "attic/shared")];
    let aliases = aliases.map(|(alias, model)| (alias.to_owned(), model.to_owned())).into();
    Snapshot { aliases, ..world_of(vec![Arc::new(studio), Arc::new(attic)]) }
}

#[test]
fn allowance_is_checked_at_its_bounds() {
    let pixels = |most| Allowance { max_pixels: Some(most), ..Allowance::default() };
    let count = |most| Allowance { max_count: Some(most), ..Allowance::default() };
    let sized = || Draft { size: Some(size(64, 32)), ..Draft::new("a cat") };
    let many = |count| Draft { count, ..Draft::new("a cat") };
    let named = || Draft { model: Some("brush".to_owned()), ..Draft::new("a cat") };
    let rows = [
        (Allowance::default(), many(10), None),
        (count(2), many(2), None),
        (count(2), many(3), Some(("count", "this key may ask for at most 2 images at a time"))),
        (pixels(2_048), sized(), None),
        (pixels(2_047), sized(), Some(("size", "this key may ask for at most 2047 pixels, 64x32 has more"))),
        (pixels(1), many(1), None),
        (models(&["brush", "pencil"]), named(), None),
        (models(&["brush"]), many(1), None),
        (models(&["ink", "pencil"]), named(), Some(("model", "this key may use only these models: ink, pencil"))),
    ];
    let world = two_studios();
    for (allowance, draft, refusal) in rows {
        let result = allowance.check(&world, &checked(draft));
        let refused = result.as_ref().err().map(|error| (error.param().unwrap_or_default(), error.message()));
        assert_eq!(refused, refusal);
    }
}

#[tokio::test(start_paused = true)]
async fn request_beyond_its_allowance_reaches_neither_transformer_nor_backend() {
    let (house, backend) = studio();
    let mut world = world_of(vec![Arc::clone(&backend)]);
    let nosy = FakeTransformer::new("nosy").before(|_| Err(Error::new(ErrorKind::Internal, "it was asked")));
    world.stages = vec![nosy.stage(OnFailure::Closed)];
    house.pipeline.world().swap(world);
    let context = allowed(Allowance { max_count: Some(1), ..Allowance::default() });

    let error = house.pipeline.run(&context, checked(Draft { count: 2, ..Draft::new("two cats") })).await.unwrap_err();

    assert_eq!((error.kind(), error.param()), (ErrorKind::Forbidden, Some("count")));
    assert_eq!(error.backend(), None);
    assert!(backend.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn default_model_and_default_size_stay_within_the_allowance() {
    let (house, backend) = studio();
    for (allowance, param) in [
        (models(&["pencil"]), "model"),
        (Allowance { max_pixels: Some(512 * 512 - 1), ..Allowance::default() }, "size"),
    ] {
        let request = checked(Draft::new("a cat"));
        let error = house.pipeline.run(&allowed(allowance), request).await.unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::Forbidden, Some(param)));
        assert_eq!(error.backend(), Some("studio"), "it was chosen by then");
    }
    assert!(backend.seen().is_empty());
}

/// What becomes of a request for a model: the place that makes it, or the kind of its refusal.
async fn asked(allowed_models: &[&str], backend: Option<&str>, model: Option<&str>) -> Result<String, ErrorKind> {
    let house = House::new(two_studios());
    let draft = Draft { backend: backend.map(str::to_owned), model: model.map(str::to_owned), ..Draft::new("a cat") };
    let result = house.pipeline.run(&allowed(models(allowed_models)), checked(draft)).await;
    result.map(|made| format!("{}/{}", made.backend, made.model)).map_err(|error| error.kind())
}

#[tokio::test(start_paused = true)]
async fn model_counts_and_not_the_word_it_is_asked_by() {
    /// What the key may use; the backend and the model that are asked for; who makes it.
    type Row = (&'static [&'static str], Option<&'static str>, Option<&'static str>, Result<&'static str, ErrorKind>);
    const REFUSED: Result<&str, ErrorKind> = Err(ErrorKind::Forbidden);
    let rows: [Row; 18] = [
        // By id: under every name, on every backend that has it.
        (&["brush"], None, Some("brush"), Ok("studio/brush")),
        (&["brush"], None, Some("studio/brush"), Ok("studio/brush")),
        (&["brush"], None, Some("fast"), Ok("studio/brush")),
        (&["brush"], Some("studio"), None, Ok("studio/brush")),
        (&["brush"], None, None, Ok("studio/brush")),
        (&["brush"], None, Some("pencil"), REFUSED),
        (&["brush"], None, Some("spare"), REFUSED),
        (&["brush"], Some("attic"), None, REFUSED),
        (&["shared"], None, Some("attic/shared"), Ok("attic/shared")),
        (&["shared"], None, Some("shared"), Ok("studio/shared")),
        // By backend and id: only there.
        (&["attic/shared"], None, Some("attic/shared"), Ok("attic/shared")),
        (&["attic/shared"], None, Some("spare"), Ok("attic/shared")),
        (&["attic/shared"], Some("attic"), Some("shared"), Ok("attic/shared")),
        (&["attic/shared"], None, Some("shared"), REFUSED),
        // By an alias: what it stands for.
        (&["fast"], None, Some("studio/brush"), Ok("studio/brush")),
        (&["spare"], None, Some("shared"), REFUSED),
        // A name that nobody has allows nothing.
        (&["gone"], None, Some("brush"), REFUSED),
        (&["gone"], None, None, REFUSED),
    ];
    for (allowed_models, backend, model, expected) in rows {
        let result = asked(allowed_models, backend, model).await;
        assert_eq!(result, expected.map(str::to_owned), "{allowed_models:?} {backend:?} {model:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn model_that_takes_the_place_of_an_unknown_one_must_be_allowed_too() {
    assert_eq!(asked(&["unheard-of"], None, Some("unheard-of")).await, Err(ErrorKind::Forbidden));
    assert_eq!(asked(&["brush"], None, Some("unheard-of")).await, Ok("studio/brush".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn model_that_a_key_may_not_use_is_refused_before_a_transformer_is_asked() {
    for (named, is_asked) in [("pencil", false), ("attic/pencil", false), ("unheard-of", true), ("brush", true)] {
        let to_brush = |_: &_| Ok(Verdict::Next { edits: vec![Edit::Model(Some("brush".to_owned()))], notes: vec![] });
        let mut world = two_studios();
        world.stages = vec![FakeTransformer::new("picker").before(to_brush).stage(OnFailure::Closed)];
        let request = checked(Draft { model: Some(named.to_owned()), ..Draft::new("a cat") });
        let result = House::new(world).pipeline.run(&allowed(models(&["brush"])), request).await;
        assert_eq!(result.is_ok(), is_asked, "{named}");
    }
}
