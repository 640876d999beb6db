//! Server-sent events, parsed as the HTML standard says (section "Parsing an event stream"): lines end in CR, LF or both,
//! fields repeat, comments and unknown fields are nothing, and an event that the stream breaks off in is none.
//!
//! Pure: bytes go in, however they were cut on their way, events come out. What one event may take up is bounded, so a
//! stream that never ends its event costs no more than that.

use bytes::{Buf as _, Bytes};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its type; `message` where the stream names none.
    pub(crate) name: String,
    pub(crate) data: String,
    /// The last id that the stream has named so far.
    pub(crate) id: Option<String>,
}

/// An event takes up more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// What was read of a stream since its last event.
#[derive(Debug, Default)]
pub(crate) struct EventParser {
    most: usize,
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// A byte order mark may stand in front of the first line only.
    has_begun: bool,
    /// The last line ended in CR; an LF that follows belongs to it.
    is_after_return: bool,
    name: String,
    data: String,
    id: String,
}

impl EventParser {
    /// Starts; one event may take up so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// The bytes that it holds.
    pub(crate) fn size(&self) -> usize {
        self.line.len() + self.name.len() + self.data.len() + self.id.len()
    }

    /// Takes bytes until an event is whole and leaves the rest; `None` when it needs more.
    pub(crate) fn next(&mut self, bytes: &mut Bytes) -> Result<Option<Event>, TooLong> {
        loop {
            if self.is_after_return && !bytes.is_empty() {
                self.is_after_return = false;
                if bytes.first() == Some(&b'\n') {
                    bytes.advance(1);
                }
            }
            let end = memchr::memchr2(b'\r', b'\n', bytes);
            if self.size() + end.unwrap_or(bytes.len()) > self.most {
                return Err(TooLong);
            }
            let Some(end) = end else {
                self.line.extend_from_slice(bytes);
                bytes.clear();
                return Ok(None);
            };
            let rest = bytes.split_to(end);
            self.is_after_return = bytes.first() == Some(&b'\r');
            bytes.advance(1);
            let event = if self.line.is_empty() {
                self.take_line(&rest)
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&rest);
                self.take_line(&line)
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    fn take_line(&mut self, line: &[u8]) -> Option<Event> {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let line = line.strip_prefix(b"\xef\xbb\xbf".as_slice()).filter(|_| is_first).unwrap_or(line);
        if line.is_empty() {
            return self.dispatch();
        }
        // Line ends are never part of a character, so a line decodes as it would within the stream.
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            // `retry` is about connecting again, which is the plugin's to do.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let mut data = std::mem::take(&mut self.data);
        data.pop()?;
        let name = if name.is_empty() { "message".to_owned() } else { name };
        Some(Event { name, data, id: Some(self.id.clone()).filter(|id| !id.is_empty()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str, id: Option<&str>) -> Event {
        Event { name: name.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) }
    }

    /// What comes out of a stream that arrives in these parts.
    fn parsed(parts: &[&[u8]]) -> Vec<Event> {
        let mut parser = EventParser::new(1_000);
        let mut events = Vec::new();
        for part in parts {
            let mut bytes = Bytes::copy_from_slice(part);
            while let Some(event) = parser.next(&mut bytes).unwrap() {
                events.push(event);
            }
            assert!(bytes.is_empty());
        }
        events
    }

    /// Streams and what they mean, the standard's own examples among them.
    fn rows() -> Vec<(&'static [u8], Vec<Event>)> {
        vec![
            (b"data: YHOO\ndata: +2\ndata: 10\n\n", vec![event("message", "YHOO\n+2\n10", None)]),
            (
                b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
                vec![
                    event("message", "first event", Some("1")),
                    event("message", "second event", None),
                    event("message", " third event", None),
                ],
            ),
            // The last is not ended by an empty line.
            (b"data\n\ndata\ndata\n\ndata:", vec![event("message", "", None), event("message", "\n", None)]),
            (b"data:test\n\ndata: test\n\n", vec![event("message", "test", None), event("message", "test", None)]),
            (
                b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n",
                vec![event("add", "73857293", None), event("remove", "2153", None)],
            ),
            // An event without data is none, and its name is not the next one's.
            (b"event: lost\n\ndata: x\n\n", vec![event("message", "x", None)]),
            // An id holds until another is named.
            (
                b"id: 7\ndata: a\n\ndata: b\n\n",
                vec![event("message", "a", Some("7")), event("message", "b", Some("7"))],
            ),
            (
                b"id: 7\ndata: a\n\nid: 8\0\ndata: b\n\n",
                vec![event("message", "a", Some("7")), event("message", "b", Some("7"))],
            ),
            (
                b"data: a\r\ndata: b\r\n\r\ndata: c\r\rdata: d\n\r\n",
                vec![event("message", "a\nb", None), event("message", "c", None), event("message", "d", None)],
            ),
            (b"\xef\xbb\xbfdata: bom\n\n\xef\xbb\xbfdata: none\n\n", vec![event("message", "bom", None)]),
            ("data: é😀\n\n".as_bytes(), vec![event("message", "é😀", None)]),
            (b"data: \xff\xc3\n\n", vec![event("message", "\u{fffd}\u{fffd}", None)]),
            (
                b"retry: 100\nunknown: x\nDATA: x\n data: x\ndata: {\"a\":\"b:c\"}\n\n",
                vec![event("message", "{\"a\":\"b:c\"}", None)],
            ),
            (b"data: [DONE]\n\n", vec![event("message", "[DONE]", None)]),
            (b"", vec![]),
            (b"\n\n\r\r\r\n", vec![]),
        ]
    }

    #[test]
    fn streams_mean_what_the_standard_says() {
        for (stream, expected) in rows() {
            assert_eq!(parsed(&[stream]), expected, "{}", stream.escape_ascii());
        }
    }

    #[test]
    fn stream_means_the_same_wherever_it_is_cut() {
        for (stream, expected) in rows() {
            let name = stream.escape_ascii();
            let bytes: Vec<_> = stream.chunks(1).collect();
            assert_eq!(parsed(&bytes), expected, "{name} byte by byte");
            for first in 0..=stream.len() {
                let (one, rest) = stream.split_at(first);
                assert_eq!(parsed(&[one, rest]), expected, "{name} cut at {first}");
                for second in 0..=rest.len() {
                    let (two, three) = rest.split_at(second);
                    assert_eq!(parsed(&[one, b"", two, three]), expected, "{name} cut at {first} and {second} on");
                }
            }
        }
    }

    /// What a plain reading of a whole text gives, made in another way: a text of whole lines, split at once.
    fn expected_of(text: &str) -> Vec<Event> {
        let mut events = Vec::new();
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let (mut name, mut data, mut id) = (String::new(), Vec::new(), String::new());
        for line in whole.split('\n') {
            let field = |field: &str| {
                let value = line.strip_prefix(field)?;
                if value.is_empty() {
                    Some("")
                } else {
                    value.strip_prefix(':').map(|value| value.strip_prefix(' ').unwrap_or(value))
                }
            };
            if line.is_empty() {
                if !data.is_empty() {
                    let name = if name.is_empty() { "message" } else { &name };
                    events.push(event(name, &data.join("\n"), Some(id.as_str()).filter(|id| !id.is_empty())));
                }
                (name, data) = (String::new(), Vec::new());
            } else if let Some(value) = field("data") {
                data.push(value);
            } else if let Some(value) = field("event") {
                value.clone_into(&mut name);
            } else if let Some(value) = field("id") {
                value.clone_into(&mut id);
            }
        }
        events
    }

    #[test]
    fn random_streams_in_random_parts_mean_what_a_plain_reading_gives() {
        const WORDS: [&str; 14] =
            ["data", "event", "id", ":", ": ", "\n", "\n", "\r", "\r\n", "\n\n", "x", " ", "é", ":c"];
        // A small generator of our own: the same streams in every run.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |most: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % most as u64).unwrap()
        };
        for _ in 0..2_000 {
            let text: String = (0..random(40)).map(|_| WORDS[random(WORDS.len())]).collect();
            let mut parts = Vec::new();
            let mut rest = text.as_bytes();
            while !rest.is_empty() {
                let (part, left) = rest.split_at(1 + random(rest.len()));
                parts.push(part);
                rest = left;
            }
            // A CR at the very end is a whole line end, as far as anybody can know.
            assert_eq!(parsed(&parts), expected_of(&text), "{text:?}");
        }
    }

    #[test]
    fn event_that_never_ends_is_given_up_and_holds_no_more_than_its_bound() {
        let endless: [&[u8]; 5] =
            [b"data: 0123456789\n", b"data", b"event: name\ndata: x\n", b": comment", b"id: 1\ndata: \n"];
        for part in endless {
            let mut parser = EventParser::new(100);
            let mut fed = 0;
            let refused = loop {
                let mut bytes = Bytes::copy_from_slice(part);
                match parser.next(&mut bytes) {
                    Ok(None) => fed += part.len(),
                    Ok(Some(event)) => panic!("{event:?}"),
                    Err(TooLong) => break parser.next(&mut bytes),
                }
                assert!(parser.size() <= 101 && fed < 10_000, "{}", part.escape_ascii());
            };
            assert_eq!(refused, Err(TooLong), "it stays refused");
        }
    }

    #[test]
    fn many_small_events_are_not_one_long_one() {
        let mut parser = EventParser::new(20);
        for number in 0..1_000 {
            let mut bytes = Bytes::from(format!(": c\ndata: {number}\n\n"));
            assert_eq!(parser.next(&mut bytes).unwrap(), Some(event("message", &number.to_string(), None)));
        }
    }
}
