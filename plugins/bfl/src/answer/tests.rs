//! What is made of the provider's words, row by row.

use easel_sdk::ErrorKind as Kind;
use serde_json::json;

use super::*;
use crate::catalogue::Catalogue;
use crate::config::tests::config;

/// The operator's changes, none.
static NONE: std::sync::LazyLock<serde_json::Map<String, Value>> = std::sync::LazyLock::new(serde_json::Map::new);

fn catalogue() -> Catalogue<'static> {
    Catalogue::read(&NONE).unwrap()
}

fn standing(json: Value) -> Standing {
    json.into()
}

#[test]
fn every_status_has_its_meaning() {
    let going = |status: &str, stage: &str| match stand(standing(json!({"status": status, "result": null}))) {
        Ok(Stand::Going(known)) => assert_eq!(known, stage, "{status}"),
        other => unreachable!("{status}: {other:?}"),
    };
    going("Pending", "pending");
    going("Reasoning", "reasoning");
    going("Generating", "generating");
    going("Something New", "pending");

    let over = |json: Value, kind: Kind, message: &str| match stand(standing(json)) {
        Ok(Stand::Over(error)) => {
            assert_eq!((error.kind, error.message.as_str()), (kind, message));
            error
        }
        other => unreachable!("{other:?}"),
    };
    let reasons = json!({"Moderation Reasons": ["Violence", "Gore"]});
    let error = over(
        json!({"status": "Request Moderated", "details": reasons}),
        Kind::ContentPolicy,
        "the provider blocked the request: Violence, Gore",
    );
    assert_eq!((error.param.as_deref(), error.provider_code.as_deref()), (Some("prompt"), Some("Request Moderated")));
    let error = over(
        json!({"status": "Content Moderated", "details": null}),
        Kind::ContentPolicy,
        "the provider blocked the picture that it made; asked again, another one may pass",
    );
    assert_eq!((error.param, error.provider_code.as_deref()), (None, Some("Content Moderated")));
    over(json!({"status": "Sketch Moderated"}), Kind::ContentPolicy, "the provider's moderation blocked it");
    over(
        json!({"status": "Error", "details": "out of\u{7} order"}),
        Kind::Upstream,
        "the provider failed at the task: out of order",
    );
    over(json!({"status": "Failed"}), Kind::Upstream, "the provider failed at the task");
    for result in
        [json!(null), json!({}), json!({"sample": ""}), json!({"sample": null}), json!("x"), json!({"sample": 7})]
    {
        over(
            json!({"status": "Ready", "result": result}),
            Kind::Upstream,
            "the provider finished the task without a picture",
        );
    }

    assert!(matches!(stand(standing(json!({"status": "Task not found"}))), Ok(Stand::Missing)));
    let ready =
        json!({"status": "Ready", "result": {"sample": "https://x.test/1", "seed": 4, "prompt": "p", "duration": 1.5}});
    assert!(matches!(stand(standing(ready)), Ok(Stand::Ready(Finished { seed, .. })) if seed == Some(4)));
    for nothing in [json!({}), json!({"status": null}), json!({"status": ""}), json!([]), json!("x"), json!(null)] {
        assert_eq!(stand(standing(nothing)).unwrap_err().message, "the provider's answer has no status");
    }
}

#[test]
fn reasons_are_cut() {
    let long = standing(json!({"status": "Failed", "details": {"why": "x".repeat(5_000)}}));
    assert!(matches!(stand(long), Ok(Stand::Over(error)) if error.message.len() < 400));
}

#[test]
fn result_is_asked_for_at_hosts_of_the_provider_only() {
    let asked_at = |base_url: &str, polling_url: Option<&str>| {
        let answer = Submitted::from(json!({"id": "a-1", "polling_url": polling_url}));
        taken(&answer, &config(json!({ "base_url": base_url })), &Provider::known().unwrap())
            .map(|(_, url)| url)
            .map_err(|error| error.message)
    };
    let own = "https://api.bfl.ai";
    for url in ["https://api.eu1.bfl.ai/v1/get_result?id=a-1", "https://gateway.bfl.ai/v1/get_result?id=a-1"] {
        assert_eq!(asked_at(own, Some(url)), Ok(url.to_owned()));
    }
    // Without an address, as in the answer to a request with a webhook, the result is where the request was sent.
    for none in [None, Some("")] {
        assert_eq!(
            asked_at("https://api.us.bfl.ai/v1", none),
            Ok("https://api.us.bfl.ai/v1/get_result?id=a-1".to_owned())
        );
    }
    for url in [
        "http://api.bfl.ai/1",
        "https://evil.test/1",
        "https://bfl.ai.evil.test/",
        "/v1/get_result?id=a-1",
        "https://x@api.bfl.ai/",
    ] {
        assert!(asked_at(own, Some(url)).unwrap_err().contains("which is no host of its own"), "{url}");
    }
    assert!(
        asked_at(own, Some(&format!("https://api.bfl.ai/{}", "x".repeat(1_000)))).is_err(),
        "it would not fit into a job"
    );
    assert_eq!(asked_at("http://lan:9000", Some("http://LAN:9000/poll/1")), Ok("http://LAN:9000/poll/1".to_owned()));
    assert!(asked_at("http://lan:9000", Some("http://other:9000/poll/1")).is_err());
}

#[test]
fn answer_without_a_task_says_what_it_said() {
    let answered = |answer: Value| taken(&answer.into(), &config(json!({})), &Provider::known().unwrap()).unwrap_err();
    assert_eq!(answered(json!({"detail": "no worker"})).message, "the provider named no task: no worker");
    for id in [json!(null), json!(""), json!("a b"), json!("x/../y"), json!("x".repeat(129))] {
        let error = answered(json!({ "id": id }));
        assert_eq!((error.kind, error.message.as_str()), (Kind::Upstream, "the provider named no task"));
    }
    // A block can hide in an answer of 200.
    let error =
        answered(json!({"id": "a", "status": "Request Moderated", "details": {"Moderation Reasons": ["Violence"]}}));
    assert_eq!(
        (error.kind, error.message.as_str()),
        (Kind::ContentPolicy, "the provider blocked the request: Violence")
    );
}

#[test]
fn pictures_are_fetched_by_https_only() {
    let config = config(json!({ "base_url": "http://lan:9000" }));
    for url in ["https://delivery.test/1.png?sig=x", "http://lan:9000/1.png"] {
        assert_eq!(sample(url, &config), Ok(url));
    }
    for url in ["http://delivery.test/1.png", "data:image/png;base64,aGk=", "ftp://x/1", "", "https://"] {
        assert_eq!(sample(url, &config).unwrap_err().kind, Kind::Upstream, "{url}");
    }
}

#[test]
fn refusals_become_typed_errors() {
    let record = catalogue().record("flux-2-flex").unwrap();
    let check = |status: u16, body: Value, kind: Kind, message: &str, param: Option<&str>| {
        let error = refusal(Problem::read(status, None, body.to_string().as_bytes()), &record);
        assert_eq!((error.kind, error.param.as_deref()), (kind, param), "{status}: {error}");
        assert!(error.message.contains(message), "{:?} should contain {message:?}", error.message);
        assert_eq!(error.provider_status, Some(status));
    };
    let fault = |field: &str| json!({"detail": [{"type": "extra_forbidden", "loc": ["body", field], "msg": "not so"}]});
    check(400, json!({"detail": "image too large"}), Kind::InvalidRequest, "image too large", None);
    check(401, json!({"detail": "x"}), Kind::Auth, "is the key under [plugin.bfl.credentials] right?", None);
    check(403, json!({"detail": "Not authenticated"}), Kind::Auth, "403: Not authenticated", None);
    check(402, json!({"detail": "Insufficient credits"}), Kind::Quota, "402: Insufficient credits", None);
    check(404, json!({"detail": "Not Found"}), Kind::ModelNotFound, "is /v1/flux-2-flex offered there?", Some("model"));
    check(422, fault("width"), Kind::InvalidRequest, "width: not so", Some("size"));
    check(422, fault("prompt"), Kind::InvalidRequest, "prompt: not so", Some("prompt"));
    check(422, fault("input_image"), Kind::InvalidRequest, "not so", Some("image"));
    check(422, fault("input_image_3"), Kind::InvalidRequest, "not so", Some("image"));
    check(422, fault("output_format"), Kind::InvalidRequest, "not so", Some("format"));
    check(422, fault("steps"), Kind::InvalidRequest, "not so", Some("steps"));
    check(422, fault("prompt_upsampling"), Kind::InvalidRequest, "not so", Some("option.prompt_upsampling"));
    check(422, fault("else"), Kind::InvalidRequest, "not so", Some("else"));
    check(429, json!({"detail": "too many active tasks"}), Kind::RateLimited, "429: too many", None);
    check(500, json!({}), Kind::Upstream, "500 and no reason", None);
    check(503, json!({"detail": "busy"}), Kind::Overloaded, "503: busy", None);
    check(504, json!({}), Kind::Timeout, "504", None);
    let wait =
        |seconds: Option<u64>| refusal(Problem::read(429, seconds.map(Duration::from_secs), b""), &record).retry_after;
    assert_eq!((wait(Some(3)), wait(None)), (Some(Duration::from_secs(3)), Some(Duration::from_secs(10))));
}

#[test]
fn refused_poll_is_never_the_clients_fault() {
    let kind = |status: u16| poll_refusal(Problem::read(status, None, b"{}")).kind;
    assert_eq!(
        [kind(400), kind(422), kind(403), kind(429), kind(503)],
        [Kind::Upstream, Kind::Upstream, Kind::Auth, Kind::RateLimited, Kind::Overloaded]
    );
}
