//! Reads the body of a request: the right type, no larger than the limit, before the deadline.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use bytes::{Bytes, BytesMut};
use easel_core::{Error, ErrorKind};
use futures_util::StreamExt;

use super::Call;

/// What a buffer for a body of unknown length starts with.
const FIRST_BYTES: usize = 16 * 1024;

/// Reads a JSON body whole.
///
/// # Errors
/// `UnsupportedMediaType` unless the request says that it is JSON, `TooLarge` over the limit, `Timeout` past the
/// deadline, `InvalidRequest` when the connection breaks off.
pub async fn read_json(call: &Call, request: Request) -> Result<Bytes, Error> {
    check_type(request.headers())?;
    let limit = call.settings.max_body_bytes;
    match tokio::time::timeout_at(call.deadline, read(request.into_body(), limit)).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the body did not arrive within the deadline of the request")),
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Error> {
    let mut stream = body.into_data_stream();
    let mut whole = BytesMut::with_capacity(FIRST_BYTES.min(limit));
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| {
            Error::new(ErrorKind::InvalidRequest, "the body broke off before its end").with_source(error)
        })?;
        if whole.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// The error for a body over the limit.
pub(super) fn too_large(limit: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("the body is larger than the limit of {limit} bytes"))
}

/// A type must be named: a page can send a body without one to any server without asking first.
fn check_type(headers: &HeaderMap) -> Result<(), Error> {
    let refuse = |message: String| {
        let hint = "send the body as it is, with the header Content-Type: application/json";
        Err(Error::new(ErrorKind::UnsupportedMediaType, message).with_hint(hint))
    };
    if let Some(encoding) = text(headers, &CONTENT_ENCODING)
        && !encoding.eq_ignore_ascii_case("identity")
    {
        return refuse(format!("bodies encoded as {:?} are not taken", clip(encoding)));
    }
    let Some(given) = text(headers, &CONTENT_TYPE) else {
        return refuse("the request has no Content-Type; this address takes application/json".to_owned());
    };
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if is_json {
        return Ok(());
    }
    refuse(format!("this address takes application/json, not {:?}", clip(given)))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}
