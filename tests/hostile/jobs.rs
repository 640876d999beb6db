//! Providers that answer with a job: the host polls, and whatever ends that, nothing goes on unasked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use easel_core::{Begun, Context, Draft, ErrorKind, Event, Job, Money, Output, Record, Result, Ticket};
use easel_runtime::{HostLimits, PluginSettings};
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{Host, context, generate, install, limits, permit, request};
use crate::harness::{Reply, Upstream, until};

/// The limits of these tests: polls come as fast as they can.
pub fn fast() -> HostLimits {
    HostLimits { poll_least: Duration::from_millis(1), question: Duration::from_millis(500), ..limits() }
}

pub fn settings(origins: &[String], config: &[(&str, &str)]) -> PluginSettings {
    let config: Map<_, _> = config.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
    PluginSettings { origins: origins.to_vec(), config, ..PluginSettings::default() }
}

/// The adapter with every ability, in a folder of its own.
pub async fn host(settings: PluginSettings, limits: HostLimits) -> Host {
    let folder = TempDir::new().unwrap();
    let manifest = include_str!("guest/jobs/plugin.toml");
    install(folder.path(), "hostile-jobs", env!("COMPONENT_HOSTILE_JOBS"), manifest);
    Host::start(folder, [("hostile-jobs".to_owned(), settings)].into(), limits).await
}

async fn plain() -> Host {
    host(PluginSettings::default(), fast()).await
}

/// An upstream whose jobs are done once it is told so, and a host that may ask it.
async fn with_upstream(limits: HostLimits) -> (Host, Upstream, Arc<AtomicBool>) {
    let is_done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_done);
    let upstream = Upstream::start(move |_| {
        let word = if told.load(Ordering::SeqCst) { "done" } else { "pending" };
        Reply::bytes(200, "text/plain", word.into())
    })
    .await;
    let host = host(settings(&[upstream.origin()], &[("generation", "one")]), limits).await;
    (host, upstream, is_done)
}

fn asked(upstream: &Upstream, path: &str) -> usize {
    upstream.received().iter().filter(|received| received.path == path).count()
}

async fn generate_in(host: &Host, context: &Context, prompt: &str) -> Result<Output> {
    let backend = host.backend();
    let job = Job { request: request(Draft::new(prompt)), model: backend.models().remove(0), permit: permit().1 };
    backend.generate(context, job).await
}

#[tokio::test]
async fn job_is_polled_in_fresh_instances_until_it_is_done() {
    let host = plain().await;
    assert_eq!(host.answer("job").await, "generation  poll 3 version 1");
    assert_eq!(host.answer("at-once").await, "at once", "a result may be there at once");
}

#[tokio::test]
async fn polls_tell_progress_too() {
    let host = plain().await;
    let context = context();
    let mut reader = context.progress.listen();
    generate_in(&host, &context, "job").await.unwrap();
    drop(context);
    let mut steps = Vec::new();
    while let Some(event) = reader.next().await {
        let Event::Step { step, .. } = event else { panic!("{event:?}") };
        steps.push(step);
    }
    assert_eq!(steps, [2, 3, 4]);
}

#[tokio::test]
async fn what_was_said_at_the_start_stays_said() {
    let host = plain().await;
    let output = host.generate("priced").await.unwrap();
    assert_eq!(output.cost, Some(Money { micros: 7, currency: "USD".into() }));
    assert_eq!((output.usage[0].unit.as_str(), output.notes[0].message.as_str()), ("jobs", "told at the start"));
    let error = host.generate("failing").await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Upstream, "the job went wrong"));
    assert_eq!(error.billed(), Some(&Money { micros: 7, currency: "USD".into() }), "it was charged all the same");
}

#[tokio::test]
async fn job_that_breaks_the_contract_is_a_fault() {
    let host = plain().await;
    let rows = [
        ("large-state", "at most 16384 are kept"),
        ("long-id", "gave a job with an id of 257 bytes; an id has 1 to 256"),
        ("both", "answered with pictures and with a job"),
        ("trap", "trapped: "),
    ];
    for (prompt, expected) in rows {
        let error = host.generate(prompt).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PluginFault, "{prompt}: {error}");
        assert!(error.message().contains(expected), "{:?} should contain {expected:?}", error.message());
    }
    assert_eq!(host.answer("at-once").await, "at once");
}

#[tokio::test]
async fn job_of_a_plugin_that_cannot_be_polled_is_a_fault() {
    let host = Host::new().await;
    let error = host.fault("pending").await;
    assert!(error.message().ends_with("answered with a job and does not export easel:plugin/jobs"), "{error}");
}

#[tokio::test]
async fn polling_for_ever_ends_with_the_deadline_and_the_job_is_cancelled() {
    let (host, upstream, _) = with_upstream(fast()).await;
    let context = Context { deadline: Instant::now() + Duration::from_millis(500), ..context() };
    let error = generate_in(&host, &context, &format!("forever {}", upstream.origin())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(asked(&upstream, "/poll") > 1);
    until("the job is cancelled", async || asked(&upstream, "/cancel") == 1).await;
}

#[tokio::test]
async fn job_whose_next_poll_comes_after_the_deadline_ends_with_the_deadline() {
    let hour = Duration::from_secs(3600);
    let (host, upstream, _) = with_upstream(HostLimits { poll_least: hour, poll_most: hour, ..fast() }).await;
    let context = Context { deadline: Instant::now() + Duration::from_millis(500), ..context() };
    let prompt = format!("forever {}", upstream.origin());
    let ended = tokio::time::timeout(crate::harness::PATIENCE, generate_in(&host, &context, &prompt));
    let error = ended.await.expect("it waits no longer").unwrap_err();
    assert_eq!((error.kind(), asked(&upstream, "/poll")), (ErrorKind::Timeout, 0), "{error}");
}

#[tokio::test]
async fn polls_keep_within_the_bounds_of_the_host() {
    let slow = HostLimits { poll_least: Duration::from_millis(100), ..fast() };
    let (host, upstream, _) = with_upstream(slow).await;
    let context = Context { deadline: Instant::now() + Duration::from_millis(500), ..context() };
    generate_in(&host, &context, &format!("forever {}", upstream.origin())).await.unwrap_err();
    assert!(asked(&upstream, "/poll") <= 5, "not more often than every 100 ms");

    let eager = HostLimits { poll_most: Duration::from_millis(10), ..fast() };
    let host = self::host(PluginSettings::default(), eager).await;
    assert_eq!(host.answer("slow").await, "generation  poll 3 version 1", "an hour was asked for");
}

#[tokio::test]
async fn polls_share_one_budget_of_processor_time() {
    let host = plain().await;
    let error = host.generate("burn").await.unwrap_err();
    assert_eq!(error.message(), "plugin hostile-jobs ran past its CPU budget of 500 ms");
}

#[tokio::test]
async fn job_is_cancelled_when_the_caller_goes_or_the_poll_fails() {
    let (host, upstream, _) = with_upstream(fast()).await;
    let context = context();
    let prompt = format!("forever {}", upstream.origin());
    let going = async {
        until("it is polled", async || asked(&upstream, "/poll") > 0).await;
        context.cancellation.cancel();
    };
    let (result, ()) = tokio::join!(generate_in(&host, &context, &prompt), going);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    until("the job is cancelled", async || asked(&upstream, "/cancel") == 1).await;

    for (number, prompt) in [(2, "failing"), (3, "trap")] {
        host.generate(&format!("{prompt} {}", upstream.origin())).await.unwrap_err();
        until("the job is cancelled", async || asked(&upstream, "/cancel") == number).await;
    }
}

#[tokio::test]
async fn job_that_is_done_is_not_cancelled() {
    let (host, upstream, is_done) = with_upstream(fast()).await;
    is_done.store(true, Ordering::SeqCst);
    let prompt = format!("until-told {}", upstream.origin());
    assert_eq!(host.answer(&prompt).await, "generation one poll 1 version 1");
    // The one that fails is cancelled after it, so its turn has passed.
    host.generate(&format!("failing {}", upstream.origin())).await.unwrap_err();
    until("the other is cancelled", async || asked(&upstream, "/cancel") > 0).await;
    assert_eq!(asked(&upstream, "/cancel"), 1);
}

/// Remembers what is written down; says that this process ends once it is told so.
#[derive(Default)]
struct Notebook {
    tickets: Mutex<Vec<Ticket>>,
    is_leaving: AtomicBool,
}

#[async_trait::async_trait]
impl Record for Notebook {
    async fn begun(&self, _: &Begun) -> Result<()> {
        Ok(())
    }

    async fn pending(&self, ticket: &Ticket) -> Result<()> {
        self.tickets.lock().unwrap().push(ticket.clone());
        Ok(())
    }

    fn is_left(&self) -> bool {
        self.is_leaving.load(Ordering::SeqCst)
    }
}

fn job_of(host: &Host, prompt: &str) -> Job {
    Job { request: request(Draft::new(prompt)), model: host.backend().models().remove(0), permit: permit().1 }
}

#[tokio::test]
async fn job_that_is_written_down_is_left_when_the_process_ends_and_another_goes_on() {
    let (host, upstream, is_done) = with_upstream(fast()).await;
    let notebook = Arc::new(Notebook::default());
    let prompt = format!("until-told {}", upstream.origin());
    let context = context();
    let backend = host.backend();
    let mut first = Box::pin(backend.generate_recorded(&context, job_of(&host, &prompt), Arc::clone(&notebook) as _));
    tokio::select! {
        _ = &mut first => panic!("it is not done"),
        () = until("it is polled", async || asked(&upstream, "/poll") > 0) => {}
    }
    notebook.is_leaving.store(true, Ordering::SeqCst);
    drop(first);
    let ticket = notebook.tickets.lock().unwrap().last().cloned().expect("the job is written down before it is polled");
    assert_eq!((ticket.id.as_str(), ticket.version), ("job-1", 1));
    drop((backend, host));

    is_done.store(true, Ordering::SeqCst);
    let next = self::host(settings(&[upstream.origin()], &[("generation", "two")]), fast()).await;
    let notebook = Arc::new(Notebook::default());
    let resumed = next.backend().resume(&context, job_of(&next, &prompt), ticket, notebook).await.unwrap();
    let told = resumed.images[0].revised_prompt.clone().unwrap();
    assert!(told.starts_with("generation two poll "), "{told}");
    assert_eq!(asked(&upstream, "/cancel"), 0);
}

#[tokio::test]
async fn what_was_said_before_a_restart_stays_said_and_is_counted_once() {
    let host = plain().await;
    let notebook = Arc::new(Notebook::default());
    let whole = host
        .backend()
        .generate_recorded(&context(), job_of(&host, "priced"), Arc::clone(&notebook) as _)
        .await
        .unwrap();
    let first = notebook.tickets.lock().unwrap()[0].clone();
    let resumed = host.backend().resume(&context(), job_of(&host, "priced"), first, notebook).await.unwrap();
    assert_eq!((&resumed.cost, &resumed.usage, &resumed.notes), (&whole.cost, &whole.usage, &whole.notes));
    assert_eq!(resumed.cost, Some(Money { micros: 7, currency: "USD".into() }));
}

#[tokio::test]
async fn job_that_is_written_down_is_cancelled_like_any_other_while_the_process_goes_on() {
    let (host, upstream, _) = with_upstream(fast()).await;
    let context = Context { deadline: Instant::now() + Duration::from_millis(300), ..context() };
    let job = job_of(&host, &format!("forever {}", upstream.origin()));
    host.backend().generate_recorded(&context, job, Arc::new(Notebook::default())).await.unwrap_err();
    until("the job is cancelled", async || asked(&upstream, "/cancel") == 1).await;
}

#[tokio::test]
async fn cancelling_that_hangs_is_ended_and_the_permit_held_until_then() {
    let (host, upstream, _) = with_upstream(fast()).await;
    let (backend, (admission, permit)) = (host.backend(), permit());
    let context = Context { deadline: Instant::now() + Duration::from_millis(200), ..context() };
    let draft = Draft::new(format!("cancel-hangs {}", upstream.origin()));
    let job = Job { request: request(draft), model: backend.models().remove(0), permit };
    backend.generate(&context, job).await.unwrap_err();
    until("it is asked to cancel", async || asked(&upstream, "/cancel") == 1).await;
    assert_eq!(admission.inflight(), 1, "the work is not over yet");
    until("the permit is back", async || admission.inflight() == 0).await;
    assert_eq!(host.answer("at-once").await, "at once");
}

#[tokio::test]
async fn jobs_that_are_waited_for_are_cancelled_before_the_runtime_has_stopped() {
    let (host, upstream, _) = with_upstream(fast()).await;
    let backend = host.backend();
    let prompt = format!("forever {}", upstream.origin());
    let stopping = async {
        until("it is polled", async || asked(&upstream, "/poll") > 0).await;
        host.runtime.shutdown().await;
        assert_eq!(asked(&upstream, "/cancel"), 1, "the provider was told before");
        let polls = asked(&upstream, "/poll");
        let error = generate(&*backend, Draft::new("at-once")).await.unwrap_err();
        assert_eq!((error.kind(), asked(&upstream, "/poll")), (ErrorKind::NotReady, polls));
    };
    let context = context();
    let (result, ()) = tokio::join!(generate_in(&host, &context, &prompt), stopping);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::NotReady);
}

#[tokio::test]
async fn cancelling_that_hangs_holds_the_end_of_the_runtime_up_no_longer_than_a_question_may_take() {
    let (host, upstream, _) = with_upstream(fast()).await;
    let prompt = format!("cancel-hangs {}", upstream.origin());
    let stopping = async {
        until("it is polled", async || asked(&upstream, "/poll") > 0).await;
        let (begun, other) = (Instant::now(), context());
        let ((), late) = tokio::join!(host.runtime.shutdown(), generate_in(&host, &other, "at-once"));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::NotReady, "nothing is begun meanwhile");
        (begun.elapsed(), asked(&upstream, "/cancel"))
    };
    let context = context();
    let (result, (took, cancels)) = tokio::join!(generate_in(&host, &context, &prompt), stopping);
    result.unwrap_err();
    assert!(took >= fast().question && took < crate::harness::PATIENCE, "{took:?}");
    assert_eq!(cancels, 1);
}

#[tokio::test]
async fn newer_generation_polls_on_and_the_old_one_where_there_is_none() {
    for is_replaced in [true, false] {
        let (host, upstream, is_done) = with_upstream(fast()).await;
        let backend = host.backend();
        let prompt = format!("until-told {}", upstream.origin());
        let changing = async {
            until("the first polls", async || asked(&upstream, "/poll") > 0).await;
            if is_replaced {
                let since = host.status("hostile-jobs").since;
                let settings = settings(&[upstream.origin()], &[("generation", "two")]);
                host.runtime.reconfigure([("hostile-jobs".to_owned(), settings)].into());
                host.until("the second serves", |runtime| super::status_of(runtime, "hostile-jobs").since != since)
                    .await;
            } else {
                std::fs::remove_dir_all(host.folder.path().join("hostile-jobs")).unwrap();
                host.until("it is gone", |runtime| runtime.backends().is_empty()).await;
            }
            // One poll may have begun before; the second from here on is of whoever polls now.
            let before = asked(&upstream, "/poll");
            until("it is polled on", async || asked(&upstream, "/poll") >= before + 2).await;
            is_done.store(true, Ordering::SeqCst);
        };
        let (output, ()) = tokio::join!(generate(&*backend, Draft::new(prompt)), changing);
        let answer = output.unwrap().images[0].revised_prompt.clone().unwrap();
        let expected = if is_replaced { "generation two poll " } else { "generation one poll " };
        assert!(answer.starts_with(expected), "{answer}");
    }
}
