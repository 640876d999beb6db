//! The end of a request's time, and a caller who goes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fakes::{FakeBackend, FakeTransformer, House, PATIENCE, checked, context, model, output, studio, world_of};
use crate::{Context, Draft, ErrorKind, OnFailure, RequestId, Stage};

#[tokio::test(start_paused = true)]
async fn deadline_ends_the_request_and_tells_what_still_works_for_it() {
    let backend = FakeBackend::new("studio", &[model("brush")]).making(|_, _| std::future::pending());
    let house = House::new(world_of(vec![Arc::new(backend)]));
    let context = context();
    let begun = Instant::now();

    let error = house.pipeline.run(&context, checked(Draft::new("a cat"))).await.unwrap_err();

    assert_eq!((error.kind(), begun.elapsed()), (ErrorKind::Timeout, PATIENCE));
    assert!(context.cancellation.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn timeout_and_cancellation_name_the_backend_that_had_been_chosen() {
    let stuck = || {
        let backend = FakeBackend::new("studio", &[model("brush")]).making(|context: Context, _| async move {
            // The caller goes while the backend works, or never.
            if context.id.as_str() == "goes" {
                context.cancellation.cancel();
            }
            std::future::pending().await
        });
        House::new(world_of(vec![Arc::new(backend)]))
    };
    for (id, kind) in [("stays", ErrorKind::Timeout), ("goes", ErrorKind::Cancelled)] {
        let context = Context { id: RequestId::new(id).unwrap(), ..context() };

        let error = stuck().pipeline.run(&context, checked(Draft::new("a cat"))).await.unwrap_err();

        assert_eq!(error.kind(), kind);
        assert_eq!((error.backend(), error.model()), (Some("studio"), Some("brush")), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn deadline_that_has_passed_ends_the_request_before_any_work() {
    let (house, backend) = studio();
    let context = Context { deadline: Instant::now(), ..context() };

    let error = house.pipeline.run(&context, checked(Draft::new("a cat"))).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(backend.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn caller_who_has_gone_costs_nothing() {
    let (house, backend) = studio();
    let context = context();
    context.cancellation.cancel();

    let error = house.pipeline.run(&context, checked(Draft::new("a cat"))).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(backend.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn deadline_reaches_into_a_transformer() {
    let slow = FakeTransformer::new("slow").taking(PATIENCE * 2);
    let stage = Stage { time_limit: PATIENCE * 3, ..slow.stage(OnFailure::Open) };
    let backend = Arc::new(FakeBackend::new("studio", &[model("brush")]));
    let mut world = world_of(vec![Arc::clone(&backend)]);
    world.stages = vec![stage];

    let error = House::new(world).run(Draft::new("a cat")).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(backend.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn finished_request_does_not_look_cancelled() {
    let backend = FakeBackend::new("studio", &[model("brush")]).making(|_, _| async {
        tokio::time::sleep(PATIENCE - Duration::from_millis(1)).await;
        Ok(output(1))
    });
    let house = House::new(world_of(vec![Arc::new(backend)]));
    let context = context();

    house.pipeline.run(&context, checked(Draft::new("a cat"))).await.unwrap();

    assert!(!context.cancellation.is_cancelled());
    assert!(context.check().is_ok());
}

#[tokio::test(start_paused = true)]
async fn context_tells_whether_going_on_is_worth_it() {
    let gone = context();
    gone.cancellation.cancel();
    assert_eq!(gone.check().unwrap_err().kind(), ErrorKind::Cancelled);

    let late = Context { deadline: Instant::now() + Duration::from_secs(1), ..context() };
    assert!(late.check().is_ok());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(late.check().unwrap_err().kind(), ErrorKind::Timeout);
}
