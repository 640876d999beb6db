//! Writes the body of every error, in the dialect that the address speaks. Layers and handlers answer with a
//! [`Failure`] and know no body.

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::middleware::Next;
use axum::response::Response;

use crate::dialect;
use crate::error::Failure;

/// Gives failures their body; everything else passes.
pub(super) async fn layer(request: Request, next: Next) -> Response {
    let dialect = dialect::of(request.uri().path());
    let mut response = next.run(request).await;
    if let Some(Failure(error)) = response.extensions().get::<Failure>() {
        let body = (dialect.error_body)(error).to_string();
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *response.body_mut() = Body::from(body);
    }
    response
}
