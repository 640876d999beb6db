//! Whole calls against a scripted provider.

use easel_sdk::testing::{Reply, Seen, Upstream};
use serde_json::{Value, json};

use super::*;
use crate::config::tests::config;

const SUBMIT: &str = "https://api.bfl.ai/v1/flux-2-pro";
const POLL: &str = "https://api.eu1.bfl.ai/v1/get_result?id=t";

fn context() -> Context {
    Context::new("req-1", Duration::from_secs(60))
}

fn request(count: u32) -> Request {
    Request { model: Some("flux-2-pro".to_owned()), count, seed: Some(7), ..Request::new("a fox") }
}

fn script(replies: Vec<Reply>) -> Upstream {
    Upstream::script(replies).with_credential("api_key").with_credential("server_key")
}

fn taken(id: &str) -> Reply {
    Reply::json(200, &json!({"id": id, "polling_url": format!("{POLL}{id}"), "cost": 4.5, "input_mp": 0.0}).to_string())
}

fn status(status: &str) -> Reply {
    Reply::json(200, &json!({"id": "t", "status": status, "result": null}).to_string())
}

fn ready(sample: &str, seed: u64) -> Reply {
    let result = json!({"sample": sample, "seed": seed, "prompt": "a fox", "duration": 1.0});
    Reply::json(200, &json!({"id": "t", "status": "Ready", "result": result}).to_string())
}

fn picture() -> Reply {
    Reply::new(200, "image/png", "picture")
}

fn generate(changes: Value, request: &Request) -> Result<Output> {
    Bfl::generate(&context(), &config(changes), request, &Progress::unheard())
}

fn poll(job: &Job) -> Result<Output> {
    Bfl::poll(&context(), &config(json!({})), job, &Progress::unheard())
}

/// Polls until there is an end.
fn finish(first: Output) -> Result<Output> {
    let mut output = first;
    while let Some(job) = output.pending.take() {
        output = poll(&job)?;
    }
    Ok(output)
}

fn line(seen: &Seen) -> (&str, &str, Option<&str>) {
    (&seen.method, &seen.url, seen.credential.as_deref())
}

fn leases() -> usize {
    easel_sdk::store::keys("").unwrap().len()
}

#[test]
fn task_is_polled_at_its_sister_host_and_its_picture_is_fetched_without_the_key() {
    let sample = "https://delivery.test/1.png?sig=x";
    let upstream = script(vec![taken("1"), status("Pending"), status("Generating"), ready(sample, 7), picture()]);
    let first = generate(json!({}), &request(1)).unwrap();
    assert_eq!(first.cost, Some(Money { micros: 45_000, currency: "USD".to_owned() }));
    let job = first.pending.clone().unwrap();
    assert_eq!((job.id.as_str(), job.poll_after), ("1", Duration::from_secs(1)));
    assert_eq!(leases(), 1);
    let output = finish(first).unwrap();
    assert_eq!((output.pictures[0].seed, &output.pictures[0].revised_prompt), (Some(7), &None));
    assert_eq!(output.pictures[0].blob.bytes(10).unwrap(), b"picture");
    assert_eq!(leases(), 0);

    let (seen, poll) = (upstream.seen(), format!("{POLL}1"));
    assert_eq!(line(&seen[0]), ("POST", SUBMIT, Some("api_key")));
    assert_eq!(seen[0].body, r#"{"height":1024,"output_format":"png","prompt":"a fox","seed":7,"width":1024}"#);
    for seen in &seen[1..4] {
        assert_eq!(line(seen), ("GET", poll.as_str(), Some("api_key")));
    }
    assert_eq!(line(&seen[4]), ("GET", sample, None));
    assert_eq!(seen.len(), 5);
}

#[test]
fn several_pictures_are_several_tasks_with_seeds_that_count_on() {
    let sample = |number: u32| format!("https://delivery.test/{number}.png");
    let upstream = script(vec![
        taken("1"),
        taken("2"),
        ready(&sample(1), 7),
        status("Pending"),
        // The first is not asked again before the second is ready.
        status("Pending"),
        ready(&sample(2), 8),
        ready(&sample(1), 7),
        picture(),
        picture(),
    ]);
    let first = generate(json!({}), &request(2)).unwrap();
    assert_eq!(first.cost.as_ref().map(|cost| cost.micros), Some(90_000));
    let output = finish(first).unwrap();
    let seeds: Vec<_> = output.pictures.iter().map(|picture| picture.seed).collect();
    assert_eq!(seeds, [Some(7), Some(8)]);
    let seen = upstream.seen();
    assert!(seen[0].body.contains("\"seed\":7") && seen[1].body.contains("\"seed\":8"));
    let asked: Vec<_> = seen[2..].iter().map(|seen| seen.url.rsplit(['=', '/']).next().unwrap()).collect();
    assert_eq!(asked, ["t1", "t2", "t2", "t2", "t1", "1.png", "2.png"]);
}

#[test]
fn provider_tells_the_prompt_and_the_seed_that_it_took() {
    let result = json!({"sample": "https://d.test/1", "seed": 9, "prompt": "a red fox, at dusk"});
    let ready = Reply::json(200, &json!({"status": "Ready", "result": result}).to_string());
    let _upstream = script(vec![taken("1"), ready, picture()]);
    let output = finish(generate(json!({}), &request(1)).unwrap()).unwrap();
    assert_eq!(output.pictures[0].seed, Some(9));
    assert_eq!(output.pictures[0].revised_prompt.as_deref(), Some("a red fox, at dusk"));
}

#[test]
fn cost_is_unknown_when_one_task_has_none() {
    let unsaid = Reply::json(200, &json!({"id": "2", "polling_url": format!("{POLL}2"), "cost": null}).to_string());
    let _upstream = script(vec![taken("1"), unsaid]);
    assert_eq!(generate(json!({}), &request(2)).unwrap().cost, None);
}

#[test]
fn tasks_that_were_taken_before_a_refusal_are_billed_and_count_on() {
    let refusal = || Reply::json(429, r#"{"detail": "too many active tasks"}"#);
    let _upstream = script(vec![taken("1"), refusal()]);
    let error = generate(json!({}), &request(2)).unwrap_err();
    assert_eq!((error.kind, error.billed.map(|cost| cost.micros)), (ErrorKind::RateLimited, Some(45_000)));
    assert_eq!(leases(), 1);
    let _upstream = script(vec![refusal()]);
    let error = generate(json!({}), &request(2)).unwrap_err();
    assert_eq!((error.kind, error.billed), (ErrorKind::RateLimited, None));
    assert_eq!(leases(), 0);
}

#[test]
fn tasks_beyond_the_accounts_limit_are_not_sent() {
    let upstream = script(vec![taken("1"), taken("2"), status("Pending")]);
    generate(json!({ "max_active": 3 }), &request(2)).unwrap();
    let error = generate(json!({ "max_active": 3 }), &request(2)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::RateLimited);
    let methods: Vec<_> = upstream.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["POST", "POST", "GET"], "it is only asked whether the first is over");
}

#[test]
fn polls_that_go_wrong_are_tried_again_and_then_given_up() {
    let html = || Reply::new(502, "text/html", "<html><h1>Bad Gateway</h1></html>");
    let mut replies = vec![taken("1")];
    replies.extend([
        html(),
        Reply::json(200, r#"{"status": "Pen"#),
        Reply::json(200, "{}"),
        Reply::json(429, "{}"),
        html(),
    ]);
    replies.push(status("Pending"));
    replies.extend((0..6).map(|_| html()));
    let upstream = script(replies);
    let mut output = generate(json!({}), &request(1)).unwrap();
    let mut waits = Vec::new();
    let error = loop {
        let job = output.pending.take().unwrap();
        waits.push(job.poll_after.as_secs());
        match poll(&job) {
            Ok(next) => output = next,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Upstream, "the upstream answered 502: Bad Gateway"));
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 1, 2, 4, 8, 16, 30]);
    assert_eq!((upstream.seen().len(), leases()), (13, 0));
}

#[test]
fn refusals_of_polls_that_will_not_pass_end_the_request() {
    let check = |reply: Reply, kind: ErrorKind| {
        let _upstream = script(vec![taken("1"), reply]);
        assert_eq!(finish(generate(json!({}), &request(1)).unwrap()).unwrap_err().kind, kind);
        assert_eq!(leases(), 0);
    };
    check(Reply::json(403, r#"{"detail": "Not authenticated"}"#), ErrorKind::Auth);
    check(Reply::json(402, "{}"), ErrorKind::Quota);
    check(status("Request Moderated"), ErrorKind::ContentPolicy);
    // A task that failed may be told with a status of its own.
    check(Reply::json(503, r#"{"status": "Error", "details": {"error": "x"}}"#), ErrorKind::Upstream);
    check(Reply::json(503, r#"{"status": "Content Moderated"}"#), ErrorKind::ContentPolicy);
}

#[test]
fn task_that_is_not_known_yet_is_asked_for_some_times() {
    let missing = || [status("Task not found"), Reply::json(404, r#"{"detail": "Not Found"}"#)];
    let mut replies = vec![taken("1")];
    replies.extend(missing().into_iter().chain(missing()).chain([ready("https://d.test/1", 7), picture()]));
    let _upstream = script(replies);
    assert_eq!(finish(generate(json!({}), &request(1)).unwrap()).unwrap().pictures.len(), 1);

    let mut replies = vec![taken("1")];
    replies.extend(missing().into_iter().chain(missing()).chain(missing()));
    let _upstream = script(replies);
    let error = finish(generate(json!({}), &request(1)).unwrap()).unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::Upstream, "the provider does not know task 1 any more")
    );
}

#[test]
fn picture_that_does_not_come_is_asked_for_again_where_that_may_help() {
    let sample = "https://d.test/1";
    let busy = Reply::new(503, "text/plain", "busy");
    let _upstream = script(vec![taken("1"), ready(sample, 7), busy, ready("https://d.test/2", 7), picture()]);
    assert_eq!(finish(generate(json!({}), &request(1)).unwrap()).unwrap().pictures.len(), 1);
    let gone = Reply::new(403, "application/xml", "<Error>expired</Error>");
    let _upstream = script(vec![taken("1"), ready(sample, 7), gone]);
    let error = finish(generate(json!({}), &request(1)).unwrap()).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Upstream, "the picture's address answered 403"));
}

#[test]
fn task_that_takes_too_long_is_a_timeout() {
    let _upstream = script(vec![status("Pending")]);
    let state = State {
        started_ms: now_ms() - 300_000,
        tasks: vec![Task { url: format!("{POLL}1"), ..Task::default() }],
        ..State::default()
    };
    let error = poll(&job(&state, Duration::ZERO).unwrap()).unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::Timeout, "the provider has not made it within 300 s (see timeout_s)")
    );
}

#[test]
fn longest_job_fits_into_what_the_host_keeps() {
    let task = Task {
        id: "x".repeat(wire::MAX_ID),
        url: "x".repeat(wire::MAX_URL),
        seed: Some(u64::MAX >> 11),
        is_ready: true,
        missing: 5,
    };
    let state = State {
        started_ms: now_ms(),
        prompt: u64::MAX,
        lease: Some("x".repeat(256)),
        stumbles: 5,
        tasks: vec![task; 10],
    };
    let job = job(&state, Duration::ZERO).unwrap();
    assert!(job.id.len() <= 256 && job.state.len() <= 16 << 10, "{}", job.state.len());
}

#[test]
fn job_of_an_older_shape_is_refused_not_misread() {
    let job = Job { version: STATE_VERSION + 1, ..Job::new("1", Duration::ZERO) };
    assert_eq!(poll(&job).unwrap_err().kind, ErrorKind::Internal);
}

#[test]
fn cancelling_says_that_the_task_goes_on() {
    let error = Bfl::cancel(&context(), &config(json!({})), &Job::new("1", Duration::ZERO)).unwrap_err();
    assert!(error.message.contains("it goes on"));
}

#[test]
fn missing_key_names_provider_and_variable_before_anything_is_sent() {
    let upstream = Upstream::script([]);
    let error = generate(json!({}), &request(1)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    assert!(error.message.starts_with("API key not found for Black Forest Labs: set BFL_API_KEY"), "{error}");
    assert!(upstream.seen().is_empty());
    let shallow = Bfl::check(&context(), &config(json!({})), Depth::Shallow).unwrap_err();
    assert_eq!(shallow.message, error.message);
}

#[test]
fn model_that_its_provider_retired_is_offered_at_other_hosts_only() {
    let canny = Request { model: Some("flux-pro".to_owned()), ..request(1) };
    let retired = |changes: Value| {
        let models = config(changes).models().unwrap();
        models.into_iter().find(|model| model.id == "flux-pro").unwrap().retired
    };
    let successor = retired(json!({})).unwrap().successor;
    assert_eq!(successor.as_deref(), Some("flux-pro-1.1"));
    assert_eq!(retired(json!({ "base_url": "http://lan.test/v1" })), None);

    let answer = Reply::json(200, r#"{"id": "1", "polling_url": "http://lan.test/poll/1"}"#);
    let upstream = script(vec![answer]);
    generate(json!({ "base_url": "http://lan.test/v1" }), &canny).unwrap();
    assert_eq!(line(&upstream.seen()[0]), ("POST", "http://lan.test/v1/flux-pro", Some("server_key")));
}

#[test]
fn credits_tell_whether_the_key_is_valid() {
    let check = || Bfl::check(&context(), &config(json!({})), Depth::Deep);
    let upstream = script(vec![Reply::json(200, r#"{"credits": 120.5}"#)]);
    assert_eq!(check().unwrap().summary.as_deref(), Some("the key is valid; 120.5 credits are left"));
    assert_eq!(line(&upstream.seen()[0]), ("GET", "https://api.bfl.ai/v1/credits", Some("api_key")));
    let _upstream = script(vec![Reply::json(403, r#"{"detail": "Not authenticated"}"#)]);
    assert_eq!(check().unwrap_err().kind, ErrorKind::Auth);
    let _upstream = script(vec![]);
    assert_eq!(
        Bfl::check(&context(), &config(json!({})), Depth::Shallow).unwrap().summary.as_deref(),
        Some("the key is there")
    );
    let other = || Bfl::check(&context(), &config(json!({ "base_url": "http://lan.test" })), Depth::Deep);
    let upstream = script(vec![Reply::json(404, r#"{"detail": "Not Found"}"#), Reply::json(503, "{}")]);
    assert_eq!(other().unwrap().summary.as_deref(), Some("the server answers"));
    assert_eq!(other().unwrap_err().kind, ErrorKind::Overloaded);
    assert_eq!(line(&upstream.seen()[0]), ("GET", "http://lan.test/v1/credits", Some("server_key")));
}
