//! What an upstream said instead of giving pictures, and the error it becomes. Pure: read with
//! [`Response::problem`](crate::http::Response::problem), made by hand in tests.

use std::time::Duration;

use serde_json::Value;

use crate::{Error, ErrorKind};

/// The longest part of an upstream's own words that is passed on, in characters.
const MAX_WORDS: usize = 500;

/// An answer with a status of 400 and above, or one that is no answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// When trying again is worth it, by the answer's headers.
    pub retry_after: Option<Duration>,
    /// What was wrong, in the upstream's words; empty when it said nothing readable.
    pub message: String,
    /// The upstream's error code, or its error type where it has no code.
    pub code: Option<String>,
    /// The parameter at fault, in the upstream's words.
    pub param: Option<String>,
}

impl Problem {
    /// Reads the error bodies that image APIs write: `{"error": {"message", "code", "param"}}`, `{"error": "…"}`,
    /// `{"detail": …}`, also as a list of `{"loc", "msg", "type"}`, and `{"message": "…"}`; of anything else that is text,
    /// the words.
    pub fn read(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let mut problem = Self { status, retry_after, ..Self::default() };
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => {
                let inner = match fields.get("error") {
                    Some(Value::Object(inner)) => inner,
                    Some(Value::String(message)) => {
                        problem.message = words(message);
                        &fields
                    }
                    _ => &fields,
                };
                let text = |name: &str| inner.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
                if let Some(message) = text("message").or_else(|| text("detail")) {
                    problem.message = words(message);
                }
                problem.code = text("code").or_else(|| text("type")).map(words);
                problem.param = text("param").map(words);
                if let Some(Value::Array(faults)) = inner.get("detail").filter(|_| problem.message.is_empty()) {
                    problem.read_faults(faults);
                }
            }
            Ok(Value::String(message)) => problem.message = words(&message),
            Ok(_) => {}
            Err(_) => problem.message = words(&without_tags(&String::from_utf8_lossy(body))),
        }
        problem
    }

    /// A list of faults as FastAPI writes it: all are told, and the first names the parameter.
    fn read_faults(&mut self, faults: &[Value]) {
        let mut told = Vec::new();
        for fault in faults {
            let text = |name: &str| fault.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            // The place begins with `body` or `query`; what follows the name counts elements of it.
            let place = fault.get("loc").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let param = place.get(1).and_then(Value::as_str);
            self.param = self.param.take().or_else(|| param.map(words));
            self.code = self.code.take().or_else(|| text("type").map(words));
            told.extend(
                text("msg").map(|message| param.map_or(message.to_owned(), |param| format!("{param}: {message}"))),
            );
        }
        self.message = words(&told.join("; "));
    }

    /// The kind of failure that the status alone says.
    pub fn kind(&self) -> ErrorKind {
        match self.status {
            401 | 403 => ErrorKind::Auth,
            402 => ErrorKind::Quota,
            // The address is the operator's choice, not the client's. That it is the model that is not there, only words of the
            // upstream's own say.
            404 | 405 | 410 => ErrorKind::Upstream,
            408 | 504 => ErrorKind::Timeout,
            429 => ErrorKind::RateLimited,
            503 | 529 => ErrorKind::Overloaded,
            400..500 => ErrorKind::InvalidRequest,
            _ => ErrorKind::Upstream,
        }
    }

    /// Makes an error of a kind with everything that the upstream said.
    pub fn into_error(self, kind: ErrorKind) -> Error {
        let message = match (kind, self.message.as_str()) {
            (_, "") => format!("the upstream answered {} and no reason", self.status),
            // These the client can mend, so the upstream's own words stand alone.
            (ErrorKind::InvalidRequest | ErrorKind::ContentPolicy, message) => message.to_owned(),
            (_, message) => format!("the upstream answered {}: {message}", self.status),
        };
        let wait = matches!(kind, ErrorKind::RateLimited | ErrorKind::Overloaded);
        Error {
            kind,
            message,
            param: self.param,
            retry_after: self.retry_after.filter(|_| wait),
            provider_status: Some(self.status),
            provider_code: self.code,
            billed: None,
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let kind = problem.kind();
        problem.into_error(kind)
    }
}

/// Reads the headers `retry-after-ms` (milliseconds) and `retry-after` (seconds). A date is not read: a plugin and its
/// upstream need not agree on the time.
pub(crate) fn retry_after(millis: Option<&str>, seconds: Option<&str>) -> Option<Duration> {
    let number = |text: Option<&str>, unit: Duration| times(text?.trim(), unit);
    number(millis, Duration::from_millis(1)).or_else(|| number(seconds, Duration::from_secs(1)))
}

/// So many times a unit, to the nanosecond; `text` is a number such as `12` or `0.5`. By hand, because the reader of
/// fractions that comes with the language is large.
pub(crate) fn times(text: &str, unit: Duration) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let mut sum = unit.checked_mul(whole.parse().ok()?)?;
    let mut place = unit;
    for digit in fraction.bytes().take(9) {
        place /= 10;
        sum = sum.checked_add(place.checked_mul(u32::from(digit - b'0'))?)?;
    }
    Some(sum)
}

/// One line of at most [`MAX_WORDS`] characters.
fn words(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(MAX_WORDS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// An error page without its tags, styles and scripts.
fn without_tags(page: &str) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        text.push(' ');
        let hidden = ["style", "script"]
            .into_iter()
            .find(|tag| after.get(..tag.len()).is_some_and(|name| name.eq_ignore_ascii_case(tag)));
        let body = match hidden {
            Some(tag) => after.split_once(&format!("</{tag}")).map_or("", |(_, after)| after),
            None => after,
        };
        rest = body.split_once('>').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_error_body_gives_its_message_code_and_param() {
        let check = |body: &str, message: &str, code: Option<&str>, param: Option<&str>| {
            let problem = Problem::read(400, None, body.as_bytes());
            assert_eq!(problem.message, message, "{body}");
            assert_eq!(problem.code.as_deref(), code, "{body}");
            assert_eq!(problem.param.as_deref(), param, "{body}");
        };
        let openai =
            r#"{"error":{"message":"bad size","type":"invalid_request_error","code":"invalid_value","param":"size"}}"#;
        check(openai, "bad size", Some("invalid_value"), Some("size"));
        check(r#"{"error":{"message":"m","type":"t","code":null,"param":null}}"#, "m", Some("t"), None);
        check(r#"{"error":"overloaded","detail":"two run"}"#, "two run", None, None);
        check(r#"{"error":"overloaded"}"#, "overloaded", None, None);
        check(r#"{"detail":"Not Found"}"#, "Not Found", None, None);
        check(r#"{"detail":[{"loc":["body"]}]}"#, "", None, None);
        let fault = r#"{"type":"extra_forbidden","loc":["body","width"],"msg":"Extra inputs are not permitted"}"#;
        check(
            &format!(r#"{{"detail":[{fault},{{"loc":["body","images",3],"msg":"too small"}},{{"msg":"odd"}},7]}}"#),
            "width: Extra inputs are not permitted; images: too small; odd",
            Some("extra_forbidden"),
            Some("width"),
        );
        check(
            r#"{"detail":[{"loc":["body"],"msg":"Field required","type":"missing"}]}"#,
            "Field required",
            Some("missing"),
            None,
        );
        check(r#"{"message":"no"}"#, "no", None, None);
        check(r#""no""#, "no", None, None);
        check("[]", "", None, None);
        check("", "", None, None);
        check("bad\n gateway\0", "bad gateway", None, None);
        let page =
            "<html><head><style>b { color: red }</style><title>502</title></head><body>Bad <b>Gateway</b></body>";
        check(page, "502 Bad Gateway", None, None);
        check("<html><body>cut off <b", "cut off", None, None);
        check(r#"{"error":{"message":"cut o"#, r#"{"error":{"message":"cut o"#, None, None);
    }

    #[test]
    fn words_of_an_upstream_are_cut() {
        let problem = Problem::read(500, None, "ä".repeat(2_000).as_bytes());
        assert_eq!(problem.message.chars().count(), MAX_WORDS + 1);
    }

    #[test]
    fn the_status_says_the_kind() {
        let check = |status: u16, kind: ErrorKind| {
            assert_eq!(Problem { status, ..Problem::default() }.kind(), kind, "{status}");
        };
        check(302, ErrorKind::Upstream);
        check(400, ErrorKind::InvalidRequest);
        check(401, ErrorKind::Auth);
        check(402, ErrorKind::Quota);
        check(403, ErrorKind::Auth);
        check(404, ErrorKind::Upstream);
        check(408, ErrorKind::Timeout);
        check(413, ErrorKind::InvalidRequest);
        check(422, ErrorKind::InvalidRequest);
        check(429, ErrorKind::RateLimited);
        check(500, ErrorKind::Upstream);
        check(503, ErrorKind::Overloaded);
        check(504, ErrorKind::Timeout);
    }

    #[test]
    fn only_errors_that_pass_carry_a_time_to_try_again() {
        let problem = Problem { status: 429, retry_after: Some(Duration::from_secs(3)), ..Problem::default() };
        assert_eq!(problem.clone().into_error(ErrorKind::RateLimited).retry_after, Some(Duration::from_secs(3)));
        assert_eq!(problem.into_error(ErrorKind::Quota).retry_after, None);
    }

    #[test]
    fn retry_after_is_read_from_both_headers() {
        let check = |millis: Option<&str>, seconds: Option<&str>, expected: Option<u64>| {
            assert_eq!(retry_after(millis, seconds), expected.map(Duration::from_millis), "{millis:?} {seconds:?}");
        };
        check(None, None, None);
        check(None, Some("5"), Some(5_000));
        check(None, Some(" 0.5 "), Some(500));
        check(Some("250"), Some("5"), Some(250));
        check(Some("x"), Some("5"), Some(5_000));
        check(None, Some("-1"), None);
        check(None, Some("1e99"), None);
        check(None, Some("99999999999999999999"), None);
        check(None, Some("."), None);
        check(None, Some("Fri, 20 Nov 2026 07:28:00 GMT"), None);
    }
}
