//! Who may run now, seen from outside: the third of three is refused at once, and a place is given back however its
//! request ends. The backend that can be held up is the adapter `openai-images` in front of a scripted upstream.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::harness::{Answer, Client, Reply, Server, Upstream, openai, until};

/// A server whose adapter waits for an upstream that answers only as the gate lets it.
struct Held {
    server: Server,
    upstream: Upstream,
    gate: Arc<Semaphore>,
}

impl Held {
    async fn new(config: &str) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let behind = Arc::clone(&gate);
        let upstream = Upstream::start(move |_| openai::pictures(1).behind(&behind)).await;
        let server = openai::server_with(&upstream.origin(), config).await;
        Self { server, upstream, gate }
    }

    fn start(&self) -> JoinHandle<Answer> {
        let client = self.server.client();
        tokio::spawn(async move { ask(&client).await })
    }

    /// Waits until so many requests have reached the upstream.
    async fn reached(&self, count: usize) {
        until("the requests reach the upstream", async || self.upstream.received().len() == count).await;
    }
}

async fn ask(client: &Client) -> Answer {
    client.generate(&json!({ "prompt": "a cat", "backend": "openai-images", "response_format": "b64_json" })).await
}

async fn counts(client: &Client) -> Value {
    let status = client.get("/v1/gateway/status").await.expect(200).json();
    status["admission_control"]["openai-images.images"].clone()
}

async fn all_free(client: &Client) {
    let free = json!({ "limit": 2, "available": 2, "inflight": 0 });
    until("every place is free", async || counts(client).await == free).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn item_32_third_simultaneous_request_is_refused_at_once() {
    let held = Held::new("").await;
    let client = held.server.client();
    let running = [held.start(), held.start()];
    held.reached(2).await;
    assert_eq!(counts(&client).await, json!({ "limit": 2, "available": 0, "inflight": 2 }));

    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let third = ask(&client).await.expect(429);
        assert_eq!((third.header("retry-after"), third.header("x-should-retry")), ("5", ""));
        assert_eq!((third.code().as_str(), third.header("x-backend-used")), ("backend_overloaded", "openai-images"));
        assert_eq!(third.json()["error"]["type"], "rate_limit_error");
        fastest = fastest.min(third.took);
    }
    assert!(fastest < Duration::from_millis(100), "it took {fastest:?} to refuse");
    assert_eq!(held.upstream.received().len(), 2, "what is refused never reaches the upstream");

    held.gate.add_permits(2);
    for request in running {
        request.await.expect("the request runs to its end").expect(200);
    }
    all_free(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn item_34_refused_request_does_not_run_later_by_itself() {
    let held = Held::new("").await;
    let client = held.server.client();
    let running = [held.start(), held.start()];
    held.reached(2).await;
    ask(&client).await.expect(429);

    held.gate.add_permits(3);
    for request in running {
        request.await.expect("the request runs to its end").expect(200);
    }
    all_free(&client).await;
    assert_eq!(held.upstream.received().len(), 2);
    ask(&client).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn item_31_backends_are_counted_each_for_itself() {
    let held = Held::new("").await;
    let running = [held.start(), held.start()];
    held.reached(2).await;

    let other = held.server.client().generate(&json!({ "prompt": "a cat", "backend": "stub" })).await;

    assert_eq!(other.expect(200).header("x-backend-used"), "stub");
    held.gate.add_permits(2);
    for request in running {
        request.await.expect("the request runs to its end").expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_33_place_is_given_back_after_an_error_of_the_upstream() {
    let upstream = Upstream::start(|_| Reply::json(500, &json!({ "error": { "message": "it broke" } }))).await;
    let server = openai::server(&upstream.origin()).await;
    for _ in 0..4 {
        ask(&server.client()).await.expect(502);
    }
    all_free(&server.client()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn item_33_place_is_given_back_after_a_timeout_which_is_told_as_one() {
    let held = Held::new("request_time_limit_s = 1").await;
    let client = held.server.client();

    let answer = ask(&client).await.expect(504);

    assert_eq!((answer.code().as_str(), answer.header("x-backend-used")), ("timeout", "openai-images"));
    all_free(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn item_33_place_is_given_back_when_the_caller_goes_away() {
    let held = Held::new("").await;
    let client = held.server.client();
    let request = held.start();
    held.reached(1).await;

    request.abort();

    assert!(request.await.is_err_and(|error| error.is_cancelled()));
    all_free(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn item_36_limit_changes_without_restart_and_is_never_exceeded_by_admission() {
    let held = Held::new("").await;
    let client = held.server.client();
    let running = [held.start(), held.start()];
    held.reached(2).await;

    held.server.reconfigure(&openai::config(&held.upstream.origin(), "admission.limit = 1"));
    until("the lower limit holds", async || counts(&client).await["limit"] == 1).await;
    assert_eq!(counts(&client).await, json!({ "limit": 1, "available": 0, "inflight": 2 }));
    held.gate.add_permits(1);
    until("one has ended", async || counts(&client).await["inflight"] == 1).await;
    ask(&client).await.expect(429);

    held.server.reconfigure(&openai::config(&held.upstream.origin(), "admission.limit = 2"));
    until("the higher limit holds", async || counts(&client).await["limit"] == 2).await;
    let third = held.start();
    held.reached(3).await;
    held.gate.add_permits(2);
    for request in running.into_iter().chain([third]) {
        request.await.expect("the request runs to its end").expect(200);
    }
    all_free(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn item_84_stopping_server_is_not_ready_and_finishes_what_runs() {
    let held = Held::new("").await;
    let client = held.server.client();
    let running = held.start();
    held.reached(1).await;

    let stopping = held.server.stop();
    until("it is not ready any more", async || client.try_status("/readyz").await.is_none_or(|status| status == 503))
        .await;
    held.gate.add_permits(1);

    running.await.expect("the request runs to its end").expect(200);
    stopping.await.expect("the server stops");
}
