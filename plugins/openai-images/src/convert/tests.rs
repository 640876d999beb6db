//! What is said to the upstream, and what is made of its answers, row by row.

use serde_json::json;

use super::*;

fn config() -> Config {
    Config {
        base_url: "http://127.0.0.1:9000/v1".to_owned(),
        model: String::new(),
        models: vec!["openai-images".to_owned()],
        sizes: Vec::new(),
        max_count: 10,
        timeout_s: 300,
        extensions: true,
    }
}

fn request() -> Request {
    Request { model: Some("openai-images".to_owned()), ..Request::new("a fox") }
}

#[test]
fn defaults_of_the_manifest_are_a_config() {
    let manifest = include_str!("../../plugin.toml");
    let (_, keys) = manifest.split_once("[config]").unwrap();
    let lines = keys.lines().filter_map(|line| line.split_once(" = ")).map(|(key, value)| format!("{key:?}: {value}"));
    let json = format!("{{{}}}", lines.collect::<Vec<_>>().join(", "));
    let defaults: Config = serde_json::from_str(&json).unwrap();
    let ours = Config { base_url: String::new(), ..config() };
    assert_eq!(format!("{defaults:?}"), format!("{ours:?}"));
}

#[test]
fn request_becomes_the_upstreams_body() {
    let check = |config: &Config, request: &Request, expected: Value| {
        assert_eq!(serde_json::to_value(body(config, request).unwrap()).unwrap(), expected);
    };
    // Acceptance 42 and 43: without a model name there is no key; base64 is always asked for.
    check(&config(), &request(), json!({"prompt": "a fox", "n": 1, "response_format": "b64_json"}));
    let named = Config { model: "sdxl".to_owned(), ..config() };
    check(&named, &request(), json!({"model": "sdxl", "prompt": "a fox", "n": 1, "response_format": "b64_json"}));
    let two = Config { models: vec!["fast = turbo".to_owned(), "openai-images=".to_owned()], ..named };
    check(&two, &request(), json!({"prompt": "a fox", "n": 1, "response_format": "b64_json"}));
    let fast = Request { model: Some("fast".to_owned()), ..request() };
    check(&two, &fast, json!({"model": "turbo", "prompt": "a fox", "n": 1, "response_format": "b64_json"}));
    let full = Request {
        negative_prompt: Some("dogs".to_owned()),
        count: 2,
        size: Some(Size::new(640, 480)),
        seed: Some(7),
        steps: Some(20),
        guidance: Some(4.5),
        sampler: Some("euler".to_owned()),
        format: Some(Format::Webp),
        compression: Some(80),
        options: [("quality".to_owned(), "\"high\"".to_owned())].into(),
        ..request()
    };
    check(
        &config(),
        &full,
        json!({"prompt": "a fox", "negative_prompt": "dogs", "n": 2, "size": "640x480", "seed": 7, "steps": 20,
               "cfg_scale": 4.5, "scheduler": "euler", "output_format": "webp", "output_compression": 80,
               "quality": "high", "response_format": "b64_json"}),
    );
    let png = Request { format: Some(Format::Png), compression: Some(80), ..request() };
    check(&config(), &png, json!({"prompt": "a fox", "n": 1, "response_format": "b64_json"}));
}

#[test]
fn models_say_what_the_upstream_takes() {
    let models = |config: &Config| serde_json::to_value(config.models().unwrap()).unwrap();
    let open = models(&config());
    assert_eq!(open[0]["id"], "openai-images");
    assert!(open[0]["sizes"]["range"].get("default").is_none(), "the upstream has its own default");
    assert_eq!(open[0]["steps"], json!({"least": 1, "most": 1000}));
    assert_eq!(open[0]["samplers"], json!([]));
    assert_eq!((&open[0]["seed"], &open[0]["determinism"]), (&json!("honoured"), &json!("best_effort")));

    let strict = Config {
        extensions: false,
        models: vec!["a".to_owned(), "b=c".to_owned()],
        sizes: vec![Size::new(512, 512)],
        ..config()
    };
    let strict = models(&strict);
    assert_eq!((&strict[0]["id"], &strict[1]["id"]), (&json!("a"), &json!("b")));
    assert_eq!(strict[1]["sizes"], json!({"listed": ["512x512"]}));
    for control in ["seed", "steps", "guidance", "samplers", "negative_prompt"] {
        assert_eq!(strict[0][control], "ignored", "{control}");
    }
}

#[test]
fn config_that_makes_no_sense_is_refused_with_the_line_to_write() {
    let refused = |config: Config| config.models().unwrap_err().message;
    assert!(
        refused(Config { base_url: String::new(), ..config() })
            .contains("config = { base_url = \"http://127.0.0.1:9000/v1\" }")
    );
    assert!(refused(Config { base_url: "localhost:9000".to_owned(), ..config() }).contains("localhost:9000"));
    assert!(refused(Config { models: Vec::new(), ..config() }).contains("models"));
    assert!(refused(Config { models: vec!["=x".to_owned()], ..config() }).contains("models"));
}

#[test]
fn refusals_become_typed_errors() {
    use ErrorKind as Kind;
    let check = |status: u16, code: &str, param: Option<&str>, kind: Kind, our_param: Option<&str>| {
        let body = json!({"error": {"message": "why", "type": "t", "code": code, "param": param}}).to_string();
        let error = error(Problem::read(status, None, body.as_bytes()));
        assert_eq!(error.kind, kind, "{status} {code}");
        assert_eq!(error.param.as_deref(), our_param, "{status} {code}");
        assert_eq!((error.provider_status, error.provider_code.as_deref()), (Some(status), Some(code)));
        assert!(error.message.contains("why"));
    };
    check(400, "moderation_blocked", None, Kind::ContentPolicy, None);
    check(400, "content_policy_violation", None, Kind::ContentPolicy, None);
    check(400, "invalid_value", Some("size"), Kind::InvalidRequest, Some("size"));
    check(400, "invalid_value", Some("n"), Kind::InvalidRequest, Some("count"));
    check(400, "unknown_parameter", Some("negative_prompt"), Kind::InvalidRequest, Some("negative-prompt"));
    check(400, "billing_hard_limit_reached", None, Kind::Quota, None);
    check(401, "invalid_api_key", None, Kind::Auth, None);
    check(402, "insufficient_credits", None, Kind::Quota, None);
    check(403, "unsupported_country", None, Kind::Auth, None);
    check(404, "model_not_found", Some("model"), Kind::Upstream, Some("model"));
    check(429, "insufficient_quota", None, Kind::Quota, None);
    check(429, "rate_limit_exceeded", None, Kind::RateLimited, None);
    check(500, "server_error", None, Kind::Upstream, None);
    check(502, "server_error", None, Kind::Upstream, None);
    check(503, "overloaded", None, Kind::Overloaded, None);
    check(504, "timeout", None, Kind::Timeout, None);
}

#[test]
fn a_wait_is_taken_from_the_header_else_from_the_words() {
    let check = |header: Option<u64>, words: &str, expected: Option<u64>| {
        let body = json!({"error": {"message": words}}).to_string();
        let error = error(Problem::read(429, header.map(Duration::from_millis), body.as_bytes()));
        assert_eq!(error.retry_after, expected.map(Duration::from_millis), "{words}");
    };
    check(Some(5_000), "Please try again in 12s.", Some(5_000));
    check(None, "Limit 5, Used 5. Please try again in 12s.", Some(12_000));
    check(None, "Please try again in 1.5s. Visit", Some(1_500));
    check(None, "Please try again in 350ms.", Some(350));
    check(None, "Please try again in a while", None);
    check(None, "Please try again in 5 days", None);
}

#[test]
fn picture_addresses_are_completed_and_only_our_origin_is_ours() {
    let check = |url: &str, expected: Option<(&str, bool)>| {
        let address = picture_address("http://host:9000/v1", url).ok();
        assert_eq!(address.as_ref().map(|(url, is_own)| (url.as_str(), *is_own)), expected, "{url}");
    };
    check("/ui/images/1_a.png", Some(("http://host:9000/ui/images/1_a.png", true)));
    check("http://host:9000/ui/1.png", Some(("http://host:9000/ui/1.png", true)));
    check("HTTP://host:9000/1.png", None);
    check("http://host:9000?x", Some(("http://host:9000?x", true)));
    check("http://host:90001/1.png", Some(("http://host:90001/1.png", false)));
    check("http://host:9000@evil.test/1.png", Some(("http://host:9000@evil.test/1.png", false)));
    check("https://host:9000/1.png", Some(("https://host:9000/1.png", false)));
    check("https://cdn.test/1.png?sig=a", Some(("https://cdn.test/1.png?sig=a", false)));
    check("//evil.test/1.png", None);
    check("file:///etc/passwd", None);
    check("1.png", None);
    check(&format!("http://host/{}", "x".repeat(9_000)), None);
}

#[test]
fn usage_is_what_the_upstream_counted() {
    let counted = usage(Some(json!({"input_tokens": 21, "output_tokens": 4160, "other": 1, "total_tokens": "x"})));
    assert_eq!(counted, [("input_tokens".to_owned(), 21), ("output_tokens".to_owned(), 4160)]);
    assert_eq!(usage(None), []);
    assert_eq!(usage(Some(json!([]))), []);
}
