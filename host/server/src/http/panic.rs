//! The last net: a panic in a handler becomes an answer instead of a broken connection. What the panic said goes to the
//! log only.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use easel_core::{Error, ErrorKind};
use futures_util::FutureExt;

use crate::error::Failure;

/// Catches what the routes and the layers below let fall.
pub(super) async fn layer(request: Request, next: Next) -> Response {
    // Unwind safety: what the future held is dropped with it, and what it shares is behind locks that are valid at
    // every point.
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let error = Error::new(ErrorKind::Internal, "a fault of the server stopped this request");
            Failure(error.with_source(Panicked(said(panic.as_ref())))).into_response()
        }
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "something unprintable".to_owned())
}

#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
struct Panicked(String);
