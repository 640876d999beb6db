//! What the provider says instead of giving pictures: its error object (`google.rpc.Status` in JSON, at times in a list of
//! one), and the error that it becomes. Pure.

use std::time::Duration;

use easel_sdk::{Error, ErrorKind, Problem};
use serde_json::Value;

/// The API's words for a part of a request, without their underscores and capitals, and the contract's. The first that
/// stands in the path of a field counts.
const FIELDS: [(&str, &str); 22] = [
    ("aspectratio", "size"),
    ("sampleimagesize", "size"),
    ("imagesize", "size"),
    ("compressionquality", "compression"),
    ("outputoptions", "format"),
    ("persongeneration", "option.person_generation"),
    ("thinking", "option.thinking_level"),
    ("safetysettings", "option.safety_settings"),
    ("safetysetting", "option.safety_setting"),
    ("googlesearch", "option.google_search"),
    ("tools", "option.google_search"),
    ("enhanceprompt", "option.enhance_prompt"),
    ("addwatermark", "option.add_watermark"),
    ("language", "option.language"),
    ("negativeprompt", "negative-prompt"),
    ("guidancescale", "guidance"),
    ("samplecount", "count"),
    ("seed", "seed"),
    ("inlinedata", "image"),
    ("mimetype", "image"),
    ("contents", "prompt"),
    ("instances", "prompt"),
];

/// The longest wait that is believed.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// What an answer of 300 and above becomes. `after` is its header `retry-after`.
pub fn error(status: u16, after: Option<&str>, body: &[u8]) -> Error {
    let after = after.and_then(|text| wait(text.trim()));
    let said: Option<Value> = serde_json::from_slice(body).ok();
    match said.as_ref().and_then(object) {
        Some(object) => of_object(status, after, object),
        None => Problem::read(status, after, body).into(),
    }
}

/// The error that stands in an answer of 200, if one does.
pub fn in_answer(answer: &Value) -> Option<Error> {
    let object = object(answer)?;
    let code = object.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    Some(of_object(code.unwrap_or(200), None, object))
}

/// The error object of a body, taken out of the list that it may stand in.
fn object(said: &Value) -> Option<&Value> {
    let said = said.as_array().map_or(Some(said), |list| list.first())?;
    said.get("error").filter(|error| error.is_object())
}

fn of_object(status: u16, after: Option<Duration>, object: &Value) -> Error {
    let message = object["message"].as_str().unwrap_or_default();
    // A text in JSON is read as the words, cut and in one line.
    let words = serde_json::to_string(&object["message"]).unwrap_or_default();
    let mut problem = Problem::read(status, after, words.as_bytes());
    problem.code = reason(object).or(object["status"].as_str()).map(str::to_owned);
    problem.retry_after = retry_delay(object).or(problem.retry_after).or_else(|| spoken_wait(message));
    let kind = kind(status, object, message);
    if kind == ErrorKind::InvalidRequest {
        let field = violations(object).next().unwrap_or(message);
        problem.param = param(field).or_else(|| param(message)).map(str::to_owned);
    }
    if kind == ErrorKind::ModelNotFound {
        problem.param = Some("model".to_owned());
    }
    problem.into_error(kind)
}

/// The kind of failure: by the HTTP status, which says more than the status in words, but for a few cases.
fn kind(status: u16, said: &Value, message: &str) -> ErrorKind {
    let lower = message.to_ascii_lowercase();
    let by_status = Problem { status, ..Problem::default() }.kind();
    match said["status"].as_str().unwrap_or_default() {
        // A key that is not valid is a bad argument to this API.
        _ if reason(said).is_some_and(|reason| reason.starts_with("API_KEY")) => ErrorKind::Auth,
        _ if status == 400 && lower.contains("api key") => ErrorKind::Auth,
        // Of the region or the account, which no client can mend.
        "FAILED_PRECONDITION" if status == 400 => ErrorKind::Upstream,
        _ if by_status == ErrorKind::InvalidRequest && is_policy(&lower) => ErrorKind::ContentPolicy,
        "NOT_FOUND" if lower.contains("model") => ErrorKind::ModelNotFound,
        "CANCELLED" | "DEADLINE_EXCEEDED" => ErrorKind::Timeout,
        "RESOURCE_EXHAUSTED" if status == 200 => ErrorKind::RateLimited,
        _ if status == 499 => ErrorKind::Timeout,
        _ => by_status,
    }
}

/// Whether a message tells of a block by policy: `:predict` says so in words only.
fn is_policy(lower: &str) -> bool {
    ["responsible ai", "violate our policies", "violates our policies", "usage guidelines"]
        .iter()
        .any(|words| lower.contains(words))
}

/// The details of a type.
fn details<'a>(said: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let list = said["details"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter(move |detail| detail["@type"].as_str().is_some_and(|name| name.ends_with(kind)))
}

fn reason(said: &Value) -> Option<&str> {
    details(said, "google.rpc.ErrorInfo").find_map(|detail| detail["reason"].as_str())
}

fn violations(said: &Value) -> impl Iterator<Item = &str> {
    details(said, "google.rpc.BadRequest")
        .filter_map(|detail| detail["fieldViolations"].as_array())
        .flatten()
        .filter_map(|violation| violation["field"].as_str())
        .filter(|field| !field.is_empty())
}

fn retry_delay(said: &Value) -> Option<Duration> {
    details(said, "google.rpc.RetryInfo").find_map(|detail| wait(detail["retryDelay"].as_str()?.strip_suffix('s')?))
}

/// The wait in "Please retry in 34.07s".
fn spoken_wait(message: &str) -> Option<Duration> {
    let (_, rest) = message.split_once("retry in ")?;
    wait(rest.split_once('s')?.0)
}

/// A number of seconds such as `34.074824224`, to the millisecond.
fn wait(seconds: &str) -> Option<Duration> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis = fraction.bytes().chain([b'0'; 3]).take(3).fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'));
    let wait = Duration::from_millis(whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(millis)?);
    (wait <= LONGEST_WAIT).then_some(wait)
}

/// The contract's word for what stands in a path such as `generation_config.image_config.aspect_ratio`.
fn param(field: &str) -> Option<&'static str> {
    let plain: String = field.chars().filter(char::is_ascii_alphanumeric).collect();
    let plain = plain.to_ascii_lowercase();
    FIELDS.iter().find(|(theirs, _)| plain.contains(theirs)).map(|(_, ours)| *ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> Error {
        error(status, None, body.as_bytes())
    }

    #[test]
    fn every_row_of_the_table_has_its_kind() {
        let body = |status: &str| format!(r#"{{"error": {{"code": 1, "message": "m", "status": "{status}"}}}}"#);
        let rows = [
            (400, "INVALID_ARGUMENT", ErrorKind::InvalidRequest),
            (400, "FAILED_PRECONDITION", ErrorKind::Upstream),
            (401, "UNAUTHENTICATED", ErrorKind::Auth),
            (402, "RESOURCE_EXHAUSTED", ErrorKind::Quota),
            (403, "PERMISSION_DENIED", ErrorKind::Auth),
            (404, "NOT_FOUND", ErrorKind::Upstream),
            (408, "", ErrorKind::Timeout),
            (413, "", ErrorKind::InvalidRequest),
            (429, "RESOURCE_EXHAUSTED", ErrorKind::RateLimited),
            (499, "CANCELLED", ErrorKind::Timeout),
            (500, "INTERNAL", ErrorKind::Upstream),
            (503, "UNAVAILABLE", ErrorKind::Overloaded),
            (504, "DEADLINE_EXCEEDED", ErrorKind::Timeout),
        ];
        for (status, name, kind) in rows {
            let error = said(status, &body(name));
            assert_eq!((error.kind, error.provider_status), (kind, Some(status)), "{status} {name}");
            let list = said(status, &format!("[{}]", body(name)));
            assert_eq!(list, error, "a list of one says the same");
        }
        let error = said(404, r#"{"error": {"message": "Publisher Model `x` was not found.", "status": "NOT_FOUND"}}"#);
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::ModelNotFound, Some("model")));
    }

    #[test]
    fn key_that_is_not_valid_is_a_fault_of_the_credentials_though_it_is_a_400() {
        let body = r#"{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT", "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]}}"#;
        let error = said(400, body);
        assert_eq!((error.kind, error.provider_code.as_deref()), (ErrorKind::Auth, Some("API_KEY_INVALID")));
        let error = said(400, r#"{"error": {"message": "API key expired. Please renew the API key."}}"#);
        assert_eq!(error.kind, ErrorKind::Auth);
    }

    #[test]
    fn wait_is_the_details_then_the_headers_then_the_words() {
        let body = |message: &str, delay: &str| {
            format!(
                r#"{{"error": {{"code": 429, "message": "{message}", "status": "RESOURCE_EXHAUSTED", "details": [
                {{"@type": "type.googleapis.com/google.rpc.QuotaFailure"}},
                {{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "{delay}"}}]}}}}"#
            )
        };
        let wait = |after: Option<&str>, message: &str, delay: &str| {
            error(429, after, body(message, delay).as_bytes()).retry_after.map(|wait| wait.as_millis())
        };
        assert_eq!(wait(Some("7"), "m", "34s"), Some(34_000));
        assert_eq!(wait(None, "m", "34.074824224s"), Some(34_074));
        assert_eq!(wait(Some("7"), "m", "soon"), Some(7_000));
        assert_eq!(wait(None, "Please retry in 12.5s.", ""), Some(12_500));
        assert_eq!(wait(None, "m", "-3s"), None);
        assert_eq!(wait(None, "m", "1e30s"), None);
        assert_eq!(wait(None, "m", "3.s"), Some(3_000));
        assert_eq!(wait(None, "m", "3.-5s"), None);
        assert_eq!(wait(None, "m", "18446744073709551615s"), None);
    }

    #[test]
    fn refused_field_is_named_in_our_words() {
        let check = |message: &str, field: &str, param: Option<&str>| {
            let body = format!(
                r#"{{"error": {{"message": "{message}", "status": "INVALID_ARGUMENT", "details": [
                {{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{{"field": "{field}"}}]}}]}}}}"#
            );
            let error = said(400, &body);
            assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::InvalidRequest, param), "{message} {field}");
        };
        check("no", "generation_config.image_config.aspect_ratio", Some("size"));
        check("no", "generationConfig.seed", Some("seed"));
        check("no", "contents[0].parts[1].inline_data", Some("image"));
        check("no", "contents", Some("prompt"));
        check("Invalid value at 'generation_config.image_config.image_size'", "", Some("size"));
        check("Unknown name imageConfig", "", None);
    }

    #[test]
    fn block_that_is_told_in_words_only_is_content_policy() {
        let message = "Image generation failed with the following error: The prompt could not be submitted. This prompt \
                       contains sensitive words that violate Google's Responsible AI practices.";
        let body = format!(r#"{{"error": {{"code": 400, "message": "{message}", "status": "INVALID_ARGUMENT"}}}}"#);
        assert_eq!(said(400, &body).kind, ErrorKind::ContentPolicy);
        let other = r#"{"error": {"message": "quota of responsible ai", "status": "RESOURCE_EXHAUSTED"}}"#;
        assert_eq!(said(429, other).kind, ErrorKind::RateLimited);
    }

    #[test]
    fn pages_and_wrong_bodies_are_read_as_far_as_they_go() {
        let page = said(502, "<html><title>Bad Gateway</title></html>");
        assert_eq!((page.kind, page.message.as_str()), (ErrorKind::Upstream, "the upstream answered 502: Bad Gateway"));
        assert_eq!(said(503, "").kind, ErrorKind::Overloaded);
        assert_eq!(said(500, "[]").kind, ErrorKind::Upstream);
        let error = said(400, r#"{"error": {"message": 3, "status": [], "details": {"a": 1}}}"#);
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::InvalidRequest, "the upstream answered 400 and no reason")
        );
    }

    #[test]
    fn words_are_cut_and_in_one_line() {
        let body = |message: &str| serde_json::json!({"error": {"message": message}}).to_string();
        assert_eq!(said(400, &body(" a\n b\t")).message, "a b");
        assert!(said(400, &body(&"ä".repeat(2_000))).message.chars().count() < 600);
        assert_eq!(said(400, &body("<b>")).message, "<b>");
    }

    #[test]
    fn error_in_an_answer_of_200_counts() {
        let answer = serde_json::json!({"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}});
        assert_eq!(in_answer(&answer).unwrap().kind, ErrorKind::RateLimited);
        assert_eq!(in_answer(&serde_json::json!({"candidates": []})), None);
        assert_eq!(in_answer(&serde_json::json!({"error": {}})).unwrap().kind, ErrorKind::Upstream);
    }
}
