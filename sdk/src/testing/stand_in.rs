//! The host's functions as [`raw`](crate::raw) needs them, on top of the script. Their shapes follow the generated
//! bindings exactly, so the helpers above compile against either.

pub(crate) use super::{pixels, store};

pub(crate) mod host {
    use super::super::SCRIPT;

    #[derive(Clone, Copy)]
    pub(crate) enum Level {
        Trace,
        Debug,
        Info,
        Warn,
        Error,
    }

    pub(crate) fn log(level: Level, message: &str) {
        let level = match level {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        eprintln!("{level}: {message}");
    }

    pub(crate) fn config() -> String {
        SCRIPT.with_borrow(|script| if script.config.is_empty() { "{}".to_owned() } else { script.config.clone() })
    }

    pub(crate) fn has_credential(name: &str) -> bool {
        SCRIPT.with_borrow(|script| script.credentials.contains(name))
    }
}

pub(crate) mod progress {
    use super::super::SCRIPT;
    use super::blobs::Blob;

    pub(crate) fn wants_partial_images() -> bool {
        SCRIPT.with_borrow(|script| script.is_watched)
    }

    pub(crate) fn partial_image(image: u32, picture: &Blob) {
        SCRIPT.with_borrow_mut(|script| {
            if script.is_watched {
                script.partials.push((image, picture.bytes.to_vec()));
            }
        });
    }
}

pub(crate) mod blobs {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::PluginError;

    #[derive(Debug)]
    pub(crate) struct Blob {
        pub(crate) media_type: String,
        pub(crate) bytes: Rc<[u8]>,
        /// What the host would have made of a picture.
        pub(crate) made: Option<crate::testing::pixels::PictureHead>,
    }

    impl Blob {
        pub(crate) fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        pub(crate) fn media_type(&self) -> String {
            self.media_type.clone()
        }

        pub(crate) fn read(&self, offset: u64, max: u32) -> Vec<u8> {
            let max = max.min(64 * 1024) as usize;
            let rest = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)).unwrap_or_default();
            rest.iter().take(max).copied().collect()
        }

        pub(crate) fn share(&self) -> Self {
            Self { media_type: self.media_type.clone(), bytes: Rc::clone(&self.bytes), made: self.made.clone() }
        }
    }

    pub(crate) struct BlobWriter {
        media_type: String,
        bytes: RefCell<Vec<u8>>,
    }

    impl BlobWriter {
        pub(crate) fn new(media_type: &str) -> Self {
            Self { media_type: media_type.to_owned(), bytes: RefCell::default() }
        }

        #[expect(clippy::unnecessary_wraps, reason = "the host's blobs have a limit")]
        pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), PluginError> {
            self.bytes.borrow_mut().extend_from_slice(bytes);
            Ok(())
        }

        pub(crate) fn finish(this: Self) -> Blob {
            Blob { media_type: this.media_type, bytes: this.bytes.into_inner().into(), made: None }
        }
    }
}

pub(crate) mod fetch {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use serde_json::Value;

    use super::super::{Reply, SCRIPT, Seen};
    use super::blobs::Blob;
    use super::{PluginError, decode_base64, failure};
    use crate::ErrorKind;

    #[derive(Debug)]
    pub(crate) enum Part {
        Text((String, String)),
        File((String, String, Blob)),
    }

    #[derive(Debug)]
    pub(crate) enum Body {
        None,
        Bytes(Vec<u8>),
        Json((String, Vec<Blob>)),
        Multipart(Vec<Part>),
    }

    impl Body {
        fn describe(&self) -> String {
            let size = |blob: &Blob| format!("<{} bytes>", blob.size());
            match self {
                Self::None => String::new(),
                Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Self::Json((json, blobs)) => blobs.iter().fold(json.clone(), |json, blob| json + &size(blob)),
                Self::Multipart(parts) => parts.iter().fold(String::new(), |form, part| match part {
                    Part::Text((name, text)) => format!("{form}{name}={text}\n"),
                    Part::File((name, file, blob)) => format!("{form}{name}={file} {}\n", size(blob)),
                }),
            }
        }
    }

    #[derive(Debug)]
    pub(crate) struct Request {
        pub(crate) method: String,
        pub(crate) url: String,
        pub(crate) headers: Vec<(String, String)>,
        pub(crate) body: Body,
        pub(crate) credential: Option<String>,
        pub(crate) first_byte_timeout: Option<u32>,
        pub(crate) total_timeout: Option<u32>,
    }

    pub(crate) fn send(request: Request) -> Result<Response, PluginError> {
        let seen = Seen {
            body: request.body.describe(),
            method: request.method,
            url: request.url,
            headers: request.headers,
            credential: request.credential,
            total_timeout: request.total_timeout.min(request.first_byte_timeout.or(request.total_timeout)),
        };
        let url = seen.url.clone();
        SCRIPT.with_borrow_mut(|script| {
            script.seen.push(seen);
            let reply = script.replies.pop_front();
            reply.map(Response::new).ok_or_else(|| failure(ErrorKind::Upstream, format!("nobody answers at {url}")))
        })
    }

    #[derive(Debug)]
    pub(crate) struct Event {
        pub(crate) name: String,
        pub(crate) data: String,
        pub(crate) id: Option<String>,
    }

    #[derive(Debug)]
    pub(crate) enum EventData {
        Document(Document),
        Text(String),
    }

    #[derive(Debug)]
    pub(crate) struct EventDocument {
        pub(crate) name: String,
        pub(crate) data: EventData,
        pub(crate) id: Option<String>,
    }

    #[derive(Debug)]
    pub(crate) struct Response {
        status: u16,
        headers: Vec<(String, String)>,
        /// What was not read yet.
        body: RefCell<Vec<u8>>,
        /// The events of the body, once the first was asked for.
        events: RefCell<VecDeque<Event>>,
    }

    impl Response {
        fn new(Reply { status, headers, body }: Reply) -> Self {
            Self { status, headers, body: body.into(), events: RefCell::default() }
        }

        pub(crate) fn status(&self) -> u16 {
            self.status
        }

        pub(crate) fn header(&self, name: &str) -> Option<String> {
            self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        }

        #[expect(clippy::unnecessary_wraps, reason = "the host's bodies can break off")]
        pub(crate) fn next_chunk(&self, max: u32) -> Result<Option<Vec<u8>>, PluginError> {
            let mut body = self.body.borrow_mut();
            let length = body.len().min(max as usize).min(64 * 1024);
            Ok((!body.is_empty()).then(|| body.drain(..length).collect()))
        }

        #[expect(clippy::unnecessary_wraps, reason = "the host's events are bounded")]
        pub(crate) fn next_event(&self) -> Result<Option<Event>, PluginError> {
            let mut events = self.events.borrow_mut();
            events.extend(super::super::events::events(&self.body.take()));
            Ok(events.pop_front())
        }

        pub(crate) fn next_event_document(&self) -> Result<Option<EventDocument>, PluginError> {
            let Some(Event { name, data, id }) = self.next_event()? else { return Ok(None) };
            let data = match serde_json::from_str(&data) {
                Ok(value @ (Value::Object(_) | Value::Array(_))) => EventData::Document(Document(RefCell::new(value))),
                Ok(_) | Err(_) => EventData::Text(data),
            };
            Ok(Some(EventDocument { name, data, id }))
        }

        pub(crate) fn bytes(this: Self, max: u32) -> Result<Vec<u8>, PluginError> {
            let body = this.body.into_inner();
            if body.len() > max as usize {
                return Err(failure(ErrorKind::LimitExceeded, format!("a body of more than {max} bytes")));
            }
            Ok(body)
        }

        #[expect(clippy::unnecessary_wraps, reason = "the host's bodies can break off")]
        pub(crate) fn into_blob(this: Self) -> Result<Blob, PluginError> {
            let media_type = this.header("content-type").unwrap_or_default();
            Ok(Blob { media_type, bytes: this.body.into_inner().into(), made: None })
        }

        #[expect(clippy::needless_pass_by_value, reason = "the binding consumes the answer")]
        pub(crate) fn into_document(this: Self) -> Result<Document, PluginError> {
            let value = serde_json::from_slice(&this.body.take())
                .map_err(|error| failure(ErrorKind::Upstream, format!("the answer is not JSON: {error}")))?;
            Ok(Document(RefCell::new(value)))
        }
    }

    #[derive(Debug)]
    pub(crate) struct Document(RefCell<Value>);

    impl Document {
        pub(crate) fn get(&self, pointer: &str, max: u32) -> Option<String> {
            let mut value = self.0.borrow().pointer(pointer)?.clone();
            cut(&mut value, max as usize);
            Some(value.to_string())
        }

        pub(crate) fn len(&self, pointer: &str) -> Option<u32> {
            let len = match self.0.borrow().pointer(pointer)? {
                Value::Array(items) => items.len(),
                Value::Object(fields) => fields.len(),
                _ => return None,
            };
            u32::try_from(len).ok()
        }

        pub(crate) fn take_base64(&self, pointer: &str) -> Result<Blob, PluginError> {
            let mut document = self.0.borrow_mut();
            let Some(Value::String(text)) = document.pointer_mut(pointer).map(Value::take) else {
                return Err(failure(ErrorKind::Upstream, format!("no text at {pointer}")));
            };
            let text = text.rsplit_once(";base64,").map_or(text.as_str(), |(_, data)| data);
            let bytes = decode_base64(text)
                .ok_or_else(|| failure(ErrorKind::Upstream, format!("the text at {pointer} is not base64")))?;
            Ok(Blob { media_type: String::new(), bytes: bytes.into(), made: None })
        }
    }

    fn cut(value: &mut Value, max: usize) {
        match value {
            Value::String(text) => {
                if let Some((end, _)) = text.char_indices().nth(max) {
                    text.truncate(end);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| cut(item, max)),
            Value::Object(fields) => fields.values_mut().for_each(|field| cut(field, max)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

use crate::ErrorKind;
use crate::bindings::adapter::easel::plugin::types::PluginError;

pub(crate) fn failure(kind: ErrorKind, message: String) -> PluginError {
    crate::Error::new(kind, message).into()
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let whole = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=whole]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::decode_base64;

    #[test]
    fn base64_is_decoded() {
        let check = |text: &str, bytes: Option<&[u8]>| assert_eq!(decode_base64(text).as_deref(), bytes, "{text}");
        check("", Some(b""));
        check("Zg==", Some(b"f"));
        check("Zm8=", Some(b"fo"));
        check("Zm9v", Some(b"foo"));
        check("Zm9vYg", Some(b"foob"));
        check("/+8_", Some(&[0xff, 0xef, 0x3f]));
        check("Z", None);
        check("Z*==", None);
    }
}
