//! Refuses calls that a foreign web page makes through somebody's browser, and lets the configured pages read answers
//! (CORS). Programs send no `Origin`; a page of this server sends its own.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderName, ORIGIN,
    VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use easel_core::{Error, ErrorKind};
use url::Url;

use super::{Front, Settings, is_probe};
use crate::error::Failure;

/// The headers of ours that pages may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, x-backend-used, x-model-used, x-router-reason, x-should-retry, x-cost-usd, retry-after",
);
/// What pages may send: the credentials' headers, ours, and those of the official client libraries.
const ALLOWED_HEADERS: &[&str] = &["authorization", "content-type", "x-api-key", "x-backend", "x-request-id"];
const REQUESTED_HEADERS: HeaderName = HeaderName::from_static("access-control-request-headers");
/// How long a browser may remember a preflight's answer, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Who the page is that makes the call.
enum Caller {
    /// No page: a program.
    Program,
    /// A page of this very server.
    Own,
    /// A page from elsewhere that may call.
    Friend(HeaderValue),
    /// A page from elsewhere that may not.
    Stranger,
}

/// Lets through programs, our own pages and the configured ones.
pub(super) async fn layer(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    if is_probe(request.uri().path()) {
        return next.run(request).await;
    }
    match caller(&front.settings(), &request) {
        Caller::Program | Caller::Own => next.run(request).await,
        Caller::Stranger => {
            let message = "pages from another origin may not call this server";
            let hint = r#"name the page's origin in easel.toml: allowed_origins = ["https://page.example"]"#;
            let error = Error::new(ErrorKind::Forbidden, message).with_code("origin_not_allowed").with_hint(hint);
            Failure(error).into_response()
        }
        Caller::Friend(origin) if is_preflight(&request) => preflight(request.headers(), origin),
        Caller::Friend(origin) => {
            let mut response = next.run(request).await;
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
            headers.append(VARY, HeaderValue::from_static("origin"));
            response
        }
    }
}

fn caller(settings: &Settings, request: &Request) -> Caller {
    let Some(value) = request.headers().get(ORIGIN) else { return Caller::Program };
    // `Origin: null` is a page that hides where it comes from, such as one in a sandboxed frame.
    let Some(origin) = value.to_str().ok().and_then(|text| Url::parse(text).ok()).map(|url| url.origin()) else {
        return Caller::Stranger;
    };
    if !origin.is_tuple() {
        return Caller::Stranger;
    }
    // Behind a proxy that ends TLS we cannot see our own scheme, so only host and port are compared.
    let host = request.uri().authority().map(|authority| authority.as_str());
    let host = host.or_else(|| request.headers().get(HOST).and_then(|value| value.to_str().ok()));
    let is_own = host.is_some_and(|host| {
        ["http", "https"].iter().any(|scheme| {
            let ours = Url::parse(&format!("{scheme}://{host}")).map(|url| url.origin());
            ours.is_ok_and(|ours| ours == origin)
        })
    });
    if is_own {
        Caller::Own
    } else if settings.allowed_origins.iter().any(|allowed| allowed.covers(&origin)) {
        Caller::Friend(value.clone())
    } else {
        Caller::Stranger
    }
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// A preflight carries no key, so it is answered before keys are asked for. It lets the browser ask, nothing more.
fn preflight(asked: &HeaderMap, origin: HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, PATCH, DELETE"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(asked));
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.append(VARY, HeaderValue::from_static("origin, access-control-request-headers"));
    response
}

/// Of the headers that the page wants to send, those it may.
fn allowed_headers(asked: &HeaderMap) -> HeaderValue {
    let asked = asked.get(REQUESTED_HEADERS).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let names = asked.split(',').map(|name| name.trim().to_ascii_lowercase());
    let names: Vec<_> = names.filter(|name| may_send(name)).collect();
    super::header_text(&names.join(", "))
}

/// Client libraries describe themselves in `x-stainless-…` headers, whose list grows with every version.
fn may_send(name: &str) -> bool {
    ALLOWED_HEADERS.contains(&name) || name.starts_with("x-stainless-")
}
