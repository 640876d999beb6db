//! Bodies on their way out: pieces of bytes and blobs, encoded while they are sent, so that an image that goes out as
//! base64 is never held twice.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyDataStream;

use super::json_insert::{JsonInsert, NoPlace, Part};
use crate::json;

/// The most that is encoded at once; a multiple of 3, so that only the last part is padded.
const CHUNK: usize = 48 << 10;

/// A body in pieces, its length known. Cloning shares the bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces(VecDeque<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Plain(Bytes),
    Base64(Bytes),
}

impl Pieces {
    /// Adds bytes as they are.
    pub(crate) fn plain(&mut self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            self.0.push_back(Piece::Plain(bytes));
        }
    }

    /// Adds bytes that are sent in base64.
    pub(crate) fn base64(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.0.push_back(Piece::Base64(bytes));
        }
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The length on the wire.
    pub(crate) fn wire_bytes(&self) -> u64 {
        let of = |piece: &Piece| match piece {
            Piece::Plain(bytes) => bytes.len() as u64,
            Piece::Base64(bytes) => (bytes.len() as u64).div_ceil(3) * 4,
        };
        self.0.iter().map(of).sum()
    }

    /// The body to send.
    pub(crate) fn into_body(mut self) -> reqwest::Body {
        match (self.0.len(), self.0.pop_front()) {
            (1, Some(Piece::Plain(bytes))) => bytes.into(),
            (_, None) => Bytes::new().into(),
            (_, Some(first)) => {
                self.0.push_front(first);
                reqwest::Body::wrap(PiecesBody(self))
            }
        }
    }

    /// The same with a credential put in. Pictures are not looked through, nor copied.
    pub(super) fn with_insert(&self, mut insert: JsonInsert) -> Result<Self, NoPlace> {
        // What was spliced was checked then; what came as it is was not.
        if let [Piece::Plain(bytes)] = self.0.iter().collect::<Vec<_>>()[..] {
            json::check(bytes).map_err(|_| NoPlace::NotJson)?;
        }
        let mut pieces = Self::default();
        for piece in &self.0 {
            match piece {
                Piece::Plain(bytes) => {
                    for part in insert.push(bytes)? {
                        pieces.plain(taken(part, bytes));
                    }
                }
                Piece::Base64(bytes) => {
                    if insert.push_opaque()? {
                        pieces.base64(bytes.clone());
                    }
                }
            }
        }
        insert.finish()?;
        Ok(pieces)
    }

    fn next(&mut self) -> Option<Bytes> {
        Some(match self.0.pop_front()? {
            Piece::Plain(bytes) => bytes,
            Piece::Base64(mut bytes) => {
                let part = bytes.split_to(CHUNK.min(bytes.len()));
                if !bytes.is_empty() {
                    self.0.push_front(Piece::Base64(bytes));
                }
                STANDARD.encode(part).into()
            }
        })
    }
}

fn taken(part: Part, bytes: &Bytes) -> Bytes {
    match part {
        Part::Kept(range) => bytes.slice(range),
        Part::New(bytes) => bytes,
    }
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// A streamed body with a credential put in while it passes. Where there is no place for one, the stream ends with the
/// error, and so does the request.
pub(super) fn stream_with_insert(body: reqwest::Body, insert: JsonInsert) -> reqwest::Body {
    let parts = BodyDataStream::new(body).map(Some).chain(stream::iter([None]));
    let inserted = parts.scan(insert, |insert, part| {
        let sent: Result<Bytes, Problem> = match part {
            Some(Ok(bytes)) => insert
                .push(&bytes)
                .map(|parts| parts.into_iter().map(|part| taken(part, &bytes)).collect::<Vec<_>>().concat().into())
                .map_err(Into::into),
            Some(Err(error)) => Err(error.into()),
            None => insert.finish().map(|()| Bytes::new()).map_err(Into::into),
        };
        std::future::ready(Some(sent))
    });
    // Empty parts are left out: over HTTP/2 each would be kept.
    let is_something = |part: &Result<Bytes, Problem>| std::future::ready(!part.as_ref().is_ok_and(Bytes::is_empty));
    reqwest::Body::wrap_stream(inserted.filter(is_something))
}

struct PiecesBody(Pieces);

impl Body for PiecesBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.wire_bytes())
    }
}

/// What is sent for them.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn wire(mut pieces: Pieces) -> Vec<u8> {
    std::iter::from_fn(|| pieces.next()).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_parts_are_left_out() {
        let mut pieces = Pieces::default();
        pieces.plain("");
        pieces.base64(Bytes::new());
        assert!(pieces.is_empty());
        pieces.plain("a");
        assert_eq!(pieces.0.len(), 1);
    }

    #[test]
    fn body_of_other_bytes_than_text_gets_no_credential() {
        let insert = || JsonInsert::new(vec!["key".to_owned()], "sesame");
        let with = |bytes: &'static [u8]| {
            let mut pieces = Pieces::default();
            pieces.plain(bytes);
            pieces.with_insert(insert()).map(wire)
        };
        assert_eq!(with(b"{}").unwrap(), b"{\"key\":\"sesame\"}");
        assert_eq!(with(b"{\"a\":\"\xff\"}").unwrap_err(), NoPlace::NotJson);
    }

    #[tokio::test]
    async fn empty_parts_of_a_stream_are_left_out_beside_a_credential() {
        let parts = ["{\"a\":", "", "", "1}"].map(|part| Ok::<_, Infallible>(Bytes::from(part)));
        let insert = JsonInsert::new(vec!["key".to_owned()], "sesame");
        let mut sent = BodyDataStream::new(stream_with_insert(reqwest::Body::wrap_stream(stream::iter(parts)), insert));
        let mut text = Vec::new();
        while let Some(part) = sent.next().await {
            let part = part.unwrap();
            assert!(!part.is_empty(), "an empty part goes out");
            text.extend_from_slice(&part);
        }
        let sent: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(sent, serde_json::json!({"a": 1, "key": "sesame"}));
    }

    #[test]
    fn pieces_are_encoded_part_by_part_and_know_their_length() {
        for length in [0, 1, 2, 3, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 2] {
            let blob: Bytes = (0..length).map(|byte| byte as u8).collect();
            let mut pieces = Pieces::default();
            pieces.plain("a");
            pieces.base64(blob.clone());
            pieces.plain("z");
            let expected = format!("a{}z", STANDARD.encode(&blob));
            assert_eq!(pieces.wire_bytes(), expected.len() as u64);
            assert!(wire(pieces) == expected.as_bytes(), "{length}");
        }
    }
}
