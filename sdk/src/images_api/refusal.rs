//! What an upstream says instead of giving pictures, and the error it becomes: one table.

use std::time::Duration;

use crate::problem::times;
use crate::{Error, ErrorKind, Problem};

/// Codes that say more than the status they come with.
const CODES: &[(&str, ErrorKind)] = &[
    ("moderation_blocked", ErrorKind::ContentPolicy),
    ("content_policy_violation", ErrorKind::ContentPolicy),
    ("content_filter", ErrorKind::ContentPolicy),
    ("contentFilter", ErrorKind::ContentPolicy),
    ("ResponsibleAIPolicyViolation", ErrorKind::ContentPolicy),
    // A 429 without end: trying again is useless until somebody pays.
    ("insufficient_quota", ErrorKind::Quota),
    ("billing_hard_limit_reached", ErrorKind::Quota),
    ("insufficient_credits", ErrorKind::Quota),
    ("rate_limit_exceeded", ErrorKind::RateLimited),
    ("model_not_found", ErrorKind::ModelNotFound),
    ("DeploymentNotFound", ErrorKind::ModelNotFound),
];

/// Codes and types that count where the status says nothing: in a stream, or in an answer of 200.
const UNDER_200: &[(&str, ErrorKind)] = &[
    ("invalid_api_key", ErrorKind::Auth),
    ("invalid_request_error", ErrorKind::InvalidRequest),
    ("invalid_value", ErrorKind::InvalidRequest),
    ("unknown_parameter", ErrorKind::InvalidRequest),
    ("image_generation_user_error", ErrorKind::InvalidRequest),
    ("requests", ErrorKind::RateLimited),
    ("tokens", ErrorKind::RateLimited),
    ("overloaded", ErrorKind::Overloaded),
    ("timeout", ErrorKind::Timeout),
];

/// The contract's words for fields of the API; the others keep their name.
const WORDS: &[(&str, &str)] = &[
    ("n", "count"),
    ("negative_prompt", "negative-prompt"),
    ("cfg_scale", "guidance"),
    ("guidance_scale", "guidance"),
    ("num_inference_steps", "steps"),
    ("scheduler", "sampler"),
    ("output_format", "format"),
    ("output_compression", "compression"),
    ("image[]", "image"),
    ("images", "image"),
];

/// The error that a refusal becomes.
pub fn refusal(mut problem: Problem) -> Error {
    let said = |table: &[(&str, ErrorKind)]| {
        let code = problem.code.as_deref()?;
        table.iter().find(|(known, _)| *known == code).map(|(_, kind)| *kind)
    };
    let kind =
        said(CODES).or_else(|| said(UNDER_200).filter(|_| problem.status < 300)).unwrap_or_else(|| problem.kind());
    if kind == ErrorKind::RateLimited && problem.retry_after.is_none() {
        problem.retry_after = spoken_wait(&problem.message);
    }
    problem.param = problem.param.as_deref().map(our_word);
    if kind == ErrorKind::ModelNotFound {
        problem.param.get_or_insert_with(|| "model".to_owned());
    }
    problem.into_error(kind)
}

fn our_word(field: &str) -> String {
    WORDS.iter().find(|(theirs, _)| *theirs == field).map_or(field, |(_, ours)| ours).to_owned()
}

/// The wait in "Please try again in 12s": it is said in words where no header says it.
fn spoken_wait(message: &str) -> Option<Duration> {
    let (_, rest) = message.split_once("try again in ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, unit) = rest.split_at(digits);
    let unit = if unit.starts_with("ms") {
        Duration::from_millis(1)
    } else if unit.starts_with('s') {
        Duration::from_secs(1)
    } else {
        return None;
    };
    times(number.trim_end_matches('.'), unit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_become_typed_errors() {
        use ErrorKind as Kind;
        let check = |status: u16, code: &str, param: Option<&str>, kind: Kind, our_param: Option<&str>| {
            let body = json!({"error": {"message": "why", "type": "t", "code": code, "param": param}}).to_string();
            let error = refusal(Problem::read(status, None, body.as_bytes()));
            assert_eq!(error.kind, kind, "{status} {code}");
            assert_eq!(error.param.as_deref(), our_param, "{status} {code}");
            assert_eq!((error.provider_status, error.provider_code.as_deref()), (Some(status), Some(code)));
            assert!(error.message.contains("why"));
        };
        check(400, "moderation_blocked", None, Kind::ContentPolicy, None);
        check(400, "content_policy_violation", None, Kind::ContentPolicy, None);
        check(400, "contentFilter", None, Kind::ContentPolicy, None);
        check(400, "invalid_value", Some("size"), Kind::InvalidRequest, Some("size"));
        check(400, "invalid_value", Some("n"), Kind::InvalidRequest, Some("count"));
        check(400, "invalid_value", Some("image[]"), Kind::InvalidRequest, Some("image"));
        check(400, "unknown_parameter", Some("negative_prompt"), Kind::InvalidRequest, Some("negative-prompt"));
        check(400, "billing_hard_limit_reached", None, Kind::Quota, None);
        check(401, "invalid_api_key", None, Kind::Auth, None);
        check(402, "insufficient_credits", None, Kind::Quota, None);
        check(403, "unsupported_country", None, Kind::Auth, None);
        check(404, "model_not_found", Some("model"), Kind::ModelNotFound, Some("model"));
        check(404, "model_not_found", None, Kind::ModelNotFound, Some("model"));
        check(404, "DeploymentNotFound", None, Kind::ModelNotFound, Some("model"));
        check(200, "model_not_found", None, Kind::ModelNotFound, Some("model"));
        check(404, "not_found", None, Kind::Upstream, None);
        check(429, "insufficient_quota", None, Kind::Quota, None);
        check(429, "rate_limit_exceeded", None, Kind::RateLimited, None);
        check(500, "server_error", None, Kind::Upstream, None);
        check(502, "server_error", None, Kind::Upstream, None);
        check(503, "overloaded", None, Kind::Overloaded, None);
        check(504, "timeout", None, Kind::Timeout, None);
        // Where the status is that of success, the code alone says it; elsewhere the status does.
        check(200, "moderation_blocked", None, Kind::ContentPolicy, None);
        check(200, "invalid_value", Some("prompt"), Kind::InvalidRequest, Some("prompt"));
        check(200, "server_error", None, Kind::Upstream, None);
        check(401, "invalid_request_error", None, Kind::Auth, None);
    }

    #[test]
    fn a_wait_is_taken_from_the_header_else_from_the_words() {
        let check = |header: Option<u64>, words: &str, expected: Option<u64>| {
            let body = json!({"error": {"message": words}}).to_string();
            let error = refusal(Problem::read(429, header.map(Duration::from_millis), body.as_bytes()));
            assert_eq!(error.retry_after, expected.map(Duration::from_millis), "{words}");
        };
        check(Some(5_000), "Please try again in 12s.", Some(5_000));
        check(None, "Limit 5, Used 5. Please try again in 12s.", Some(12_000));
        check(None, "Please try again in 1.5s. Visit", Some(1_500));
        check(None, "Please try again in 350ms.", Some(350));
        check(None, "Please try again in a while", None);
        check(None, "Please try again in 5 days", None);
    }
}
