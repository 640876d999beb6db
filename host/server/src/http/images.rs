//! Serves kept images. A name says what is in the file, so an answer may be kept by the caller for ever.
//!
//! Names are checked by the store's own type before anything is looked up; no path from outside reaches the disk.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::routing::get;
use easel_core::{Error, ErrorKind};
use easel_store::{ImageName, StoredImage};

use super::{Front, ImageAccess, header_text};
use crate::error::Failure;

/// The addresses. The name takes the rest of the path, so that a path that tries to climb is refused here and not
/// interpreted on the way.
pub(super) fn routes() -> Router<Arc<Front>> {
    Router::new().route("/ui/images/{*name}", get(image))
}

/// `GET` and `HEAD /ui/images/{name}`.
async fn image(
    State(front): State<Arc<Front>>,
    method: Method,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Failure> {
    let unknown = || Failure(Error::new(ErrorKind::NotFound, "there is no image of this name"));
    let Path(name) = path.map_err(|_| unknown())?;
    let name: ImageName = name.parse().map_err(|_| unknown())?;
    let Some(stored) = front.store.find(&name).await? else { return Err(unknown()) };

    let etag = format!("\"{}\"", stored.sha256);
    let mut response = Response::new(Body::empty());
    describe(response.headers_mut(), &stored, &etag, front.settings().image_access);
    if headers.get_all(IF_NONE_MATCH).iter().any(|value| names_etag(value, &etag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(CONTENT_TYPE);
        return Ok(response);
    }
    if method == Method::HEAD {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(stored.bytes));
        return Ok(response);
    }
    let is_current = headers.get(IF_RANGE).is_none_or(|value| value.as_bytes() == etag.as_bytes());
    let range = headers.get(RANGE).filter(|_| is_current).and_then(|value| value.to_str().ok());
    match range.map_or(Part::Whole, |range| part(range, stored.bytes)) {
        Part::Whole => *response.body_mut() = Body::from(front.store.read(&stored, None).await?),
        Part::Bytes { first, last } => {
            let bytes = front.store.read(&stored, Some(first..last + 1)).await?;
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {first}-{last}/{}", stored.bytes);
            response.headers_mut().insert(CONTENT_RANGE, header_text(&range));
            *response.body_mut() = Body::from(bytes);
        }
        Part::Outside => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            response.headers_mut().remove(CONTENT_TYPE);
            response.headers_mut().insert(CONTENT_RANGE, header_text(&format!("bytes */{}", stored.bytes)));
        }
    }
    Ok(response)
}

fn describe(headers: &mut HeaderMap, stored: &StoredImage, etag: &str, access: ImageAccess) {
    let cache_control = match access {
        ImageAccess::Public => "public, max-age=31536000, immutable",
        ImageAccess::Keyed => "private, max-age=31536000, immutable",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(stored.format.media_type()));
    headers.insert(ETAG, header_text(etag));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // The bytes may come from a provider: a browser must take them for a picture, and for nothing that can act.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
}

/// Whether an `If-None-Match` names the image: by its tag, weak or strong, or by `*`.
fn names_etag(value: &HeaderValue, etag: &str) -> bool {
    let tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.into_iter().any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// What of an image is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// All of it; also what several ranges, or an unknown unit, come to.
    Whole,
    /// From one byte to another, both included.
    Bytes { first: u64, last: u64 },
    /// Nothing that is there.
    Outside,
}

/// Reads a `Range` header; what it does not understand is as if it were not there (RFC 9110, section 14.2).
fn part(range: &str, length: u64) -> Part {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|spec| spec.trim().split_once('-')) else {
        return Part::Whole;
    };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let end = length.saturating_sub(1);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Part::Whole,
        (Some(first), _) if first >= length && (last.is_empty() || number(last).is_some()) => Part::Outside,
        (Some(first), Some(last)) => Part::Bytes { first, last: last.min(end) },
        (Some(first), None) if last.is_empty() => Part::Bytes { first, last: end },
        (None, Some(0)) if first.is_empty() => Part::Outside,
        (None, Some(suffix)) if first.is_empty() && length > 0 => {
            Part::Bytes { first: length.saturating_sub(suffix), last: end }
        }
        (Some(_) | None, _) => Part::Whole,
    }
}
