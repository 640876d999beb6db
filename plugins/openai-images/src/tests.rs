//! Whole calls against a scripted upstream.

use easel_sdk::ErrorKind;
use easel_sdk::testing::{Reply, Upstream};

use super::*;

/// The letters `hi` as base64.
const HI: &str = "aGk=";

fn config(extra: &str) -> Config {
    let defaults = r#""base_url": "http://up.test/v1/", "model": "m", "models": ["openai-images"], "sizes": [],
        "max_count": 10, "extensions": true"#;
    serde_json::from_str(&format!("{{{defaults}, {extra}}}")).unwrap()
}

fn generate(count: u32) -> Result<Output> {
    let context = Context::new("r", Duration::from_secs(20));
    let request = Request { count, model: Some("openai-images".to_owned()), ..Request::new("a fox") };
    OpenAiImages::generate(&context, &config(r#""timeout_s": 300"#), &request, &Progress::unheard())
}

fn refusal(reply: Reply) -> Error {
    let _upstream = Upstream::script([reply]);
    generate(1).unwrap_err()
}

#[test]
fn base64_answer_becomes_pictures_with_what_the_upstream_told() {
    let answer = format!(
        r#"{{"created": 1, "data": [{{"b64_json": "{HI}", "seed": 9, "revised_prompt": "a red fox"}}, {{"b64_json": "{HI}"}}],
            "usage": {{"input_tokens": 3}}}}"#
    );
    let upstream = Upstream::script([Reply::json(200, &answer)]).with_credential("api_key");
    let output = generate(2).unwrap();
    assert_eq!(output.pictures.len(), 2);
    assert_eq!(output.pictures[0].blob.bytes(10).unwrap(), b"hi");
    assert_eq!(output.pictures[0].seed, Some(9));
    assert_eq!(output.pictures[0].revised_prompt.as_deref(), Some("a red fox"));
    assert_eq!(output.pictures[1].seed, None);
    assert_eq!(output.usage, [("input_tokens".to_owned(), 3)]);

    let seen = upstream.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].url.as_str()), ("POST", "http://up.test/v1/images/generations"));
    assert_eq!(seen[0].credential.as_deref(), Some("api_key"));
    assert_eq!(seen[0].total_timeout, Some(20_000));
    assert_eq!(seen[0].body, r#"{"model":"m","prompt":"a fox","n":2,"response_format":"b64_json"}"#);
}

#[test]
fn without_a_key_no_credential_is_named() {
    let upstream = Upstream::script([Reply::json(200, r#"{"data": [{"b64_json": "aGk="}]}"#)]);
    generate(1).unwrap();
    assert_eq!(upstream.seen()[0].credential, None);
}

#[test]
fn addresses_are_fetched_and_only_the_upstreams_own_get_the_key() {
    let answer = r#"{"data": [{"url": "/ui/images/1.png"}, {"url": "https://cdn.test/2.png", "b64_json": null},
                              {"url": "data:image/png;base64,aGk="}]}"#;
    let picture = |bytes: &str| Reply::new(200, "image/png", bytes);
    let upstream =
        Upstream::script([Reply::json(200, answer), picture("one"), picture("two")]).with_credential("api_key");
    let output = generate(3).unwrap();
    let bytes: Vec<_> = output.pictures.iter().map(|picture| picture.blob.bytes(10).unwrap()).collect();
    assert_eq!(bytes, [&b"one"[..], b"two", b"hi"]);
    let seen = upstream.seen();
    assert_eq!(
        (seen[1].url.as_str(), seen[1].credential.as_deref()),
        ("http://up.test/ui/images/1.png", Some("api_key"))
    );
    assert_eq!((seen[2].url.as_str(), seen[2].credential.as_deref()), ("https://cdn.test/2.png", None));
}

#[test]
fn answers_that_are_none_are_errors_of_the_upstream() {
    let check = |reply: Reply, message: &str| {
        let error = refusal(reply);
        assert_eq!(error.kind, ErrorKind::Upstream, "{}", error.message);
        assert!(error.message.contains(message), "{:?} should contain {message:?}", error.message);
    };
    check(Reply::json(200, r#"{"data": [{"b64_json": "aG"#), "not JSON");
    check(Reply::new(200, "text/html", "<html>hello</html>"), "not JSON");
    check(Reply::json(200, r#"{"data": []}"#), "made 0 pictures where 1 were asked for");
    check(Reply::json(200, r#"{"data": [{}, {}]}"#), "made 2 pictures");
    check(Reply::json(200, r#"{"data": [{}]}"#), "no b64_json and no url");
    check(Reply::json(200, r#"{"data": ["x"]}"#), "wrong value at /data/0");
    check(Reply::json(200, r#"{"data": [{"b64_json": "*"}]}"#), "not base64");
    check(Reply::json(200, r#"{"data": [{"url": "ftp://x/1.png"}]}"#), "ftp://x/1.png");
    check(Reply::json(200, r#"{"created": 1}"#), "no data");
    check(Reply::json(200, "[]"), "no data");
    check(Reply::json(200, r#"{"error": {"message": "no worker"}}"#), "no worker");
    check(Reply::new(502, "text/html", "<html><h1>Bad Gateway</h1></html>"), "answered 502: Bad Gateway");
    check(Reply::new(302, "text/html", ""), "answered 302 and no reason");
    check(Reply::json(404, r#"{"detail": "Not Found"}"#), "answered 404: Not Found");
}

#[test]
fn refusals_keep_kind_param_and_wait() {
    let body =
        r#"{"error": {"message": "too many", "type": "requests", "code": "rate_limit_exceeded", "param": null}}"#;
    let error = refusal(Reply::json(429, body).header("Retry-After", "7"));
    assert_eq!((error.kind, error.retry_after), (ErrorKind::RateLimited, Some(Duration::from_secs(7))));
    let body =
        r#"{"error": {"message": "no such size", "type": "invalid_request_error", "code": null, "param": "size"}}"#;
    let error = refusal(Reply::json(400, body));
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::InvalidRequest, Some("size")));
    assert_eq!(error.message, "no such size");
}

#[test]
fn picture_that_cannot_be_fetched_fails_the_call() {
    let answer = r#"{"data": [{"url": "https://cdn.test/1.png"}]}"#;
    let _upstream = Upstream::script([Reply::json(200, answer), Reply::new(403, "text/plain", "expired")]);
    let error = generate(1).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Upstream);
    assert_eq!(error.message, "the picture's address answered 403");
}
