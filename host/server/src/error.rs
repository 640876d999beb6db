//! From a kind of failure to an HTTP answer: the status and the headers. The body is the dialect's
//! (`dialect/mod.rs`), written in one place (`http/envelope.rs`).

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use easel_core::{Error, ErrorKind, Money};

use crate::http::header_text;

/// Tells client libraries whether sending the same request again is worth it; they obey it before the status.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The longest wait that is asked of a caller. Some client libraries do not retry at all, or at once, when asked to
/// wait longer.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The status of every kind of failure.
pub fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::Unsupported | ErrorKind::ContentPolicy => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::InsufficientFunds => StatusCode::PAYMENT_REQUIRED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::ModelNotFound | ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorKind::Overloaded | ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        // Nobody is left to read it; the number that proxies log for a caller who went away does not exist in the
        // registry, the nearest that does is this one.
        ErrorKind::Cancelled => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::Upstream | ErrorKind::PluginFault => StatusCode::BAD_GATEWAY,
        ErrorKind::NotReady | ErrorKind::OutOfMemory | ErrorKind::Storage => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// An error on its way out: status and headers are set, the body is still to be written by the caller's dialect.
///
/// It travels in the response's extensions, where the envelope finds it to write the body and the log to tell it.
#[derive(Clone, Debug)]
pub struct Failure(pub Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = &self.0;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status(error.kind());
        let headers = response.headers_mut();
        if error.kind().is_retryable() {
            if let Some(after) = error.retry_after() {
                headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
            }
        } else {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if error.kind() == ErrorKind::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"easel\""));
        }
        if let Some(backend) = error.backend() {
            headers.insert("x-backend-used", header_text(backend));
        }
        if let Some(model) = error.model() {
            headers.insert("x-model-used", header_text(model));
        }
        if let Some(dollars) = error.billed().and_then(dollars) {
            headers.insert("x-cost-usd", header_text(&dollars));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// An amount as `x-cost-usd` writes it; nothing for other currencies.
pub fn dollars(cost: &Money) -> Option<String> {
    (cost.currency == "USD").then(|| format!("{}.{:06}", cost.micros / 1_000_000, cost.micros % 1_000_000))
}

/// Whole seconds, rounded up so that a caller who waits as told is never early.
fn whole_seconds(after: Duration) -> u64 {
    let after = after.min(MAX_RETRY_AFTER);
    let rest = u64::from(after.subsec_nanos() > 0);
    (after.as_secs() + rest).max(1)
}
