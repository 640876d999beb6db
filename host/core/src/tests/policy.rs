//! What one caller may ask: refused before anything is spent, and again once the server has chosen.

use std::sync::Arc;

use super::fakes::{FakeTransformer, checked, context, model, size, studio, world_of};
use crate::{Allowance, Context, Draft, Error, ErrorKind, OnFailure, Principal};

fn allowed(allowance: Allowance) -> Context {
    Context { principal: Principal { name: "key".into(), allowance: Arc::new(allowance) }, ..context() }
}

fn models(models: &[&str]) -> Allowance {
    Allowance { models: Some(models.iter().map(|&model| model.to_owned()).collect()), ..Allowance::default() }
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
    for (allowance, draft, refusal) in rows {
        let result = allowance.check(&checked(draft));
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

#[tokio::test(start_paused = true)]
async fn model_that_takes_the_place_of_an_unknown_one_must_be_allowed_too() {
    let (house, _) = studio();
    let request = || checked(Draft { model: Some("unheard-of".to_owned()), ..Draft::new("a cat") });

    let error = house.pipeline.run(&allowed(models(&["unheard-of"])), request()).await.unwrap_err();
    assert_eq!(error.message(), "this key may use only these models: unheard-of");

    let both = allowed(models(&["unheard-of", &model("brush").id]));
    assert!(house.pipeline.run(&both, request()).await.is_ok());
}
