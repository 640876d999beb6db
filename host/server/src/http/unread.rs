//! Reads and forgets what nobody read of a refused request's body. A connection that is closed while its caller still
//! sends is reset, and the answer that says why is lost with it; so the answer waits until the caller has finished, for
//! a bounded time and number of bytes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::oneshot;

/// How long the rest of a body is read.
const MAX_TIME: Duration = Duration::from_secs(2);
/// How much of it: more than the images that clients upload.
const MAX_BYTES: usize = 64 << 20;

/// Holds the answer back while its caller still sends.
pub(super) async fn layer(request: Request, next: Next) -> Response {
    // A caller who asks before sending is told the answer instead, and sends nothing.
    if request.body().is_end_stream() || request.headers().contains_key(EXPECT) {
        return next.run(request).await;
    }
    let (give_back, mut given_back) = oneshot::channel();
    let request = request
        .map(|body| Body::from_stream(Lent { stream: Some(body.into_data_stream()), give_back: Some(give_back) }));
    let response = next.run(request).await;
    if let Ok(rest) = given_back.try_recv() {
        // Whether it ended or not, the answer is the same.
        drop(tokio::time::timeout(MAX_TIME, forget(rest)).await);
    }
    response
}

async fn forget(mut rest: BodyDataStream) {
    let mut read = 0_usize;
    while let Some(Ok(chunk)) = rest.next().await {
        read = read.saturating_add(chunk.len());
        if read > MAX_BYTES {
            break;
        }
    }
}

/// A body that comes back when it is dropped before its end.
struct Lent {
    stream: Option<BodyDataStream>,
    give_back: Option<oneshot::Sender<BodyDataStream>>,
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let next = Pin::new(stream).poll_next(context);
        if matches!(next, Poll::Ready(None | Some(Err(_)))) {
            self.stream = None;
        }
        next
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(stream), Some(give_back)) = (self.stream.take(), self.give_back.take()) {
            // The error is that the layer is gone, and the connection with it.
            drop(give_back.send(stream));
        }
    }
}
