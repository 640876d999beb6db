//! Server-sent events of an answer, parsed by the host. Pictures in their data stay there.

use crate::Result;
use crate::http::{Document, Response};
use crate::raw::fetch;

/// One server-sent event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its type; `message` where the stream names none.
    pub name: String,
    /// Its data, several lines joined.
    pub data: String,
    /// The last id that the stream has named so far.
    pub id: Option<String>,
}

/// One server-sent event whose data stays in the host where it is JSON.
#[derive(Debug)]
pub struct EventDocument {
    /// Its type; `message` where the stream names none.
    pub name: String,
    /// Its data.
    pub data: EventData,
    /// The last id that the stream has named so far.
    pub id: Option<String>,
}

/// The data of an [`EventDocument`].
#[derive(Debug)]
pub enum EventData {
    /// A JSON object or array.
    Document(Document),
    /// Anything else, such as `[DONE]`.
    Text(String),
}

impl Response {
    /// The next part of the body as it comes, at most `max` bytes; `None` at its end.
    ///
    /// # Errors
    /// `Upstream` when the upstream breaks off, `Timeout` when it goes silent.
    pub fn next_chunk(&self, max: u32) -> Result<Option<Vec<u8>>> {
        Ok(self.raw().next_chunk(max)?)
    }

    /// The next server-sent event; `None` at the end of the stream.
    ///
    /// # Errors
    /// `LimitExceeded` for data of more than 1 MiB (the next call gives the next event); `Upstream` when the upstream
    /// breaks off, `Timeout` when it goes silent.
    pub fn next_event(&self) -> Result<Option<Event>> {
        let event = self.raw().next_event()?;
        Ok(event.map(|fetch::Event { name, data, id }| Event { name, data, id }))
    }

    /// The next server-sent event, its data kept in the host where it is JSON; `None` at the end of the stream.
    ///
    /// # Errors
    /// `LimitExceeded` for an event beyond the host's limit; `Upstream` when the upstream breaks off, `Timeout` when it
    /// goes silent.
    pub fn next_event_document(&self) -> Result<Option<EventDocument>> {
        let Some(fetch::EventDocument { name, data, id }) = self.raw().next_event_document()? else { return Ok(None) };
        let data = match data {
            fetch::EventData::Document(document) => EventData::Document(Document::from_raw(document)),
            fetch::EventData::Text(text) => EventData::Text(text),
        };
        Ok(Some(EventDocument { name, data, id }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Request;
    use crate::testing::{Reply, Upstream};

    const STREAM: &str = ": hello\n\nevent: partial\r\nid: 1\r\ndata: {\"b64_json\":\r\ndata: \"aGk=\"}\r\n\r\ndata: [DONE]\n\ndata: lost";

    fn answer() -> Response {
        Request::get("http://up.test/").send().unwrap()
    }

    #[test]
    fn events_come_one_by_one() {
        let _upstream = Upstream::script([Reply::events(STREAM)]);
        let answer = answer();
        assert_eq!(answer.header("content-type").as_deref(), Some("text/event-stream"));
        let first = answer.next_event().unwrap().unwrap();
        let event = |name: &str, data: &str| Event { name: name.into(), data: data.into(), id: Some("1".into()) };
        assert_eq!(first, event("partial", "{\"b64_json\":\n\"aGk=\"}"));
        assert_eq!(answer.next_event().unwrap(), Some(event("message", "[DONE]")));
        assert_eq!(answer.next_event().unwrap(), None);
    }

    #[test]
    fn picture_in_an_event_is_taken_by_handle() {
        let _upstream = Upstream::script([Reply::events(STREAM)]);
        let answer = answer();
        let first = answer.next_event_document().unwrap().unwrap();
        let EventData::Document(document) = first.data else { panic!("{first:?}") };
        assert_eq!(document.take_base64("/b64_json").unwrap().bytes(10).unwrap(), b"hi");
        let second = answer.next_event_document().unwrap().unwrap();
        assert!(matches!(&second.data, EventData::Text(text) if text == "[DONE]"), "{second:?}");
        assert!(answer.next_event_document().unwrap().is_none());
    }

    #[test]
    fn body_comes_in_chunks_and_what_is_left_as_bytes() {
        let _upstream = Upstream::script([Reply::new(200, "text/plain", "0123456789")]);
        let answer = answer();
        assert_eq!(answer.next_chunk(4).unwrap().as_deref(), Some(&b"0123"[..]));
        assert_eq!(answer.next_chunk(2).unwrap().as_deref(), Some(&b"45"[..]));
        assert_eq!(answer.bytes(100).unwrap(), b"6789");
    }
}
