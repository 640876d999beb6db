//! Every limit has a plugin that runs into it.

use std::time::{Duration, Instant};

use easel_core::{Draft, ErrorKind, Event, Job, Output, Result};
use tokio::task::JoinHandle;

use super::{Host, context, permit, request};
use crate::harness::{PATIENCE, until};

async fn exhaust(prompt: &str, expected: &str) {
    let host = Host::new().await;
    let error = host.fault(prompt).await;
    assert_eq!(error.kind(), ErrorKind::PluginFault, "{error}");
    assert!(error.message().contains(expected), "{:?} should contain {expected:?}", error.message());
}

#[tokio::test]
async fn endless_loop_ends_with_its_cpu_budget() {
    let host = Host::new().await;
    let begun = Instant::now();
    let error = host.fault("loop").await;
    assert_eq!(error.message(), "plugin hostile ran past its CPU budget of 500 ms");
    assert!(begun.elapsed() >= Duration::from_millis(500));
}

#[tokio::test]
async fn work_within_the_budget_is_let_be() {
    let host = Host::new().await;
    assert_eq!(host.answer("work 50").await, "worked true");
}

#[tokio::test]
async fn waiting_costs_no_cpu_budget() {
    let host = Host::limited(|limits| limits.cpu = Duration::from_millis(100)).await;
    assert_eq!(host.answer("sleep 400").await, "slept");
}

#[tokio::test]
async fn wall_clock_ends_a_call_that_waits() {
    let host = Host::limited(|limits| limits.wall = Duration::from_millis(200)).await;
    let error = host.fault("sleep 60000").await;
    assert_eq!(error.message(), "plugin hostile took longer than 200ms");
}

#[tokio::test]
async fn others_are_served_while_guests_spin() {
    let host = Host::limited(|limits| limits.cpu = Duration::from_millis(700)).await;
    let spinning = (0..4).map(|_| host.generate("loop"));
    let others = async {
        for _ in 0..10 {
            assert_eq!(host.answer("count").await, "1");
        }
    };
    let (spun, ()) = tokio::join!(futures_util::future::join_all(spinning), others);
    assert!(spun.iter().all(Result::is_err));
}

#[tokio::test]
async fn memory_is_bounded() {
    exhaust("memory", "took more than 32 MiB of memory").await;
    let host = Host::new().await;
    assert_eq!(host.answer("memory 8").await, "8 MiB");
}

#[tokio::test]
async fn manifest_can_ask_for_less_than_the_host_gives() {
    let folder = tempfile::TempDir::new().unwrap();
    let manifest = format!("{}\n[limits]\nmemory_mib = 4\ncpu_ms = 60\n", super::MANIFEST);
    super::install(folder.path(), "hostile", env!("COMPONENT_HOSTILE_GUEST"), &manifest);
    let host = Host::start(folder, [].into(), super::limits()).await;
    let error = host.fault("memory 8").await;
    assert!(error.message().contains("took more than 4 MiB of memory"), "{error}");
    let error = host.fault("loop").await;
    assert!(error.message().contains("ran past its CPU budget of 60 ms"), "{error}");
}

#[tokio::test]
async fn handles_are_bounded_in_the_guest_and_in_the_host() {
    let host = Host::limited(|limits| (limits.handles, limits.resources) = (100, 1_000_000)).await;
    let error = host.fault("handles").await;
    assert!(error.message().contains("handle"), "{error}");
    let host = Host::limited(|limits| (limits.handles, limits.resources) = (1_000_000, 100)).await;
    let error = host.fault("handles").await;
    assert!(error.message().contains("resource table has no free keys"), "{error}");
}

#[tokio::test]
async fn one_host_call_carries_only_so_much() {
    exhaust("big-list 12", "plugin hostile failed: ").await;
    let host = Host::new().await;
    assert_eq!(host.answer("big-list 2").await, "true");
}

#[tokio::test]
async fn blobs_are_bounded_by_an_error_value() {
    let host = Host::limited(|limits| limits.blob_bytes = 8 << 20).await;
    let error = host.fault("huge-blob").await;
    assert_eq!(error.message(), "a call may hold at most 8388608 bytes in blobs");
}

#[tokio::test]
async fn reading_beyond_a_blob_gives_what_is_there() {
    let host = Host::new().await;
    let answer = host.answer("read-out-of-bounds").await;
    let (size, read) = answer.split_once(' ').unwrap();
    assert_eq!(read, format!("[{size}, 0, 0, 0, 1, 0]"));
}

#[tokio::test]
async fn floods_of_log_lines_are_dropped() {
    let host = Host::new().await;
    assert_eq!(host.answer("log-flood 300").await, "flooded");
    assert_eq!(host.answer("output-flood 2000").await, "flooded");
}

#[tokio::test]
async fn result_is_bounded() {
    exhaust("many-notes", "gave more than 64 notes").await;
    exhaust("wrong-cost", "a currency is three capitals").await;
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_and_not_queued() {
    let host = Host::limited(|limits| limits.calls = 2).await;
    let calls = [running(&host, 0).await, running(&host, 0).await];
    let error = host.generate("count").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(error.message(), "2 plugin calls run, as many as may");
    calls.iter().for_each(JoinHandle::abort);
    until("the slots are free again", async || host.generate("count").await.is_ok()).await;
}

#[tokio::test]
async fn one_plugin_takes_only_its_own_share_of_the_calls() {
    let folder = tempfile::TempDir::new().unwrap();
    let manifest = format!("{}\n[limits]\nconcurrency = 1\n", super::MANIFEST);
    super::install(folder.path(), "hostile", env!("COMPONENT_HOSTILE_GUEST"), &manifest);
    let other = super::MANIFEST.replace("\"hostile\"", "\"other\"");
    super::install(folder.path(), "other", env!("COMPONENT_HOSTILE_GUEST"), &other);
    let host = Host::start(folder, [].into(), super::limits()).await;
    let call = running(&host, 0).await;
    let error = host.generate("count").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(error.message(), "1 calls of plugin hostile run, as many as may");
    let others = host.runtime.backends().pop().unwrap();
    assert_eq!(others.id(), "other");
    assert!(super::generate(&*others, Draft::new("count")).await.is_ok());
    call.abort();
    until("the slot is free again", async || host.generate("count").await.is_ok()).await;
}

#[tokio::test]
async fn memory_of_all_calls_together_is_bounded_and_nobody_is_blamed() {
    let host = Host::limited(|limits| limits.total_memory_bytes = 32 << 20).await;
    let calls = [running(&host, 10).await, running(&host, 10).await];
    let error = host.generate("memory 16").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert_eq!(error.message(), "plugins hold 32 MiB of memory, as much as they may together");
    assert!(error.retry_after().is_some());
    // Others that need little go on.
    assert_eq!(host.answer("count").await, "1");
    calls.iter().for_each(JoinHandle::abort);
    until("the memory is free again", async || host.generate("memory 16").await.is_ok()).await;
}

/// A call that runs with so many MiB, and goes on until it is stopped.
async fn running(host: &Host, mib: u32) -> JoinHandle<Result<Output>> {
    let (backend, context) = (host.backend(), context());
    let mut reader = context.progress.listen();
    let model = backend.models().remove(0);
    let job = Job { request: request(Draft::new(format!("until-unwanted {mib}"))), model, permit: permit().1 };
    let call = tokio::spawn(async move { backend.generate(&context, job).await });
    let Some(Event::Stage(stage)) = reader.next().await else { panic!("the call tells that it runs") };
    assert_eq!(stage, "waiting");
    call
}

#[tokio::test]
async fn call_ends_when_the_caller_goes_and_gives_its_permit_back() {
    for prompt in ["until-unwanted", "spin"] {
        let host = Host::limited(|limits| limits.cpu = 2 * PATIENCE).await;
        let (backend, context, (admission, permit)) = (host.backend(), context(), permit());
        let mut reader = context.progress.listen();
        let model = backend.models().remove(0);
        let job = Job { request: request(Draft::new(prompt)), model, permit };
        let call = tokio::spawn({
            let context = context.clone();
            async move { backend.generate(&context, job).await }
        });
        assert!(reader.next().await.is_some(), "the call tells that it runs");
        assert_eq!(admission.inflight(), 1);
        context.cancellation.cancel();
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        until("the permit is back", async || admission.inflight() == 0).await;
    }
}

#[tokio::test]
async fn dropped_call_ends_as_well() {
    let host = Host::limited(|limits| limits.calls = 1).await;
    let call = running(&host, 0).await;
    assert!(host.generate("count").await.is_err());
    call.abort();
    until("its slot is free", async || host.generate("count").await.is_ok()).await;
}

#[tokio::test]
async fn plugin_is_told_when_the_caller_goes() {
    let host = Host::new().await;
    let backend = host.backend();
    let model = backend.models().remove(0);
    let mut told = context();
    told.deadline = tokio::time::Instant::now() + Duration::from_millis(300);
    let job = Job { request: request(Draft::new("until-unwanted")), model, permit: permit().1 };
    // The guest stops by itself at the deadline, or is stopped there.
    match backend.generate(&told, job).await {
        Ok(output) => assert_eq!(output.images[0].revised_prompt.as_deref(), Some("stopped")),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
    }
}

#[tokio::test]
async fn blobs_of_all_calls_together_are_bounded_and_nobody_is_blamed() {
    let host = Host::limited(|limits| limits.total_blob_bytes = 2 << 20).await;
    let error = host.generate("huge-blob").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady, "{error}");
    assert_eq!(error.message(), "plugins hold 2097152 bytes in blobs, as much as they may together");
    // What the call held is free again, so others go on.
    assert_eq!(host.answer("count").await, "1");
    let own = Host::limited(|limits| limits.blob_bytes = 1 << 20).await;
    let error = own.generate("huge-blob").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PluginFault, "its own limit is its fault: {error}");
}
