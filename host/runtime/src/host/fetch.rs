//! `fetch`: a request made of blobs, sent through the door, and its answer.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use url::Url;
use wasmtime::component::Resource;

use super::blobs::{Blob, Held};
use super::document::Document;
use super::stream::{self, Stream};
use crate::bindings::easel::plugin::fetch;
use crate::bindings::easel::plugin::types::ErrorKind;
use crate::door::{self, Door, DoorError, Incoming, Outgoing, Pieces};
use crate::fault::Failure;
use crate::splice::{Insert, splice};
use crate::state::State;

/// The longest address.
const MAX_URL: usize = 16 << 10;
/// The most headers.
const MAX_HEADERS: usize = 100;
/// The most parts of a form.
const MAX_PARTS: usize = 1000;

/// An answer, its body not yet read, or in part.
pub struct Response {
    pub(super) door: Arc<Door>,
    pub(super) incoming: Incoming,
    pub(super) stream: Stream,
}

impl fetch::Host for State {
    async fn send(&mut self, request: fetch::Request) -> Result<Resource<Response>, Failure> {
        self.trail.step("fetch.send");
        let outgoing = self.outgoing(request)?;
        let Some(door) = self.call.door.clone() else {
            return Err(Failure::new(
                ErrorKind::NetworkDenied,
                "there is no network while a plugin is asked for its models or for a shallow health check",
            ));
        };
        let incoming = door.send(&self.call.visits, outgoing).await?;
        Ok(self.table.push(Response {
            door,
            incoming,
            stream: Stream::new(self.call.limits.event_bytes, &self.call.blobs),
        })?)
    }
}

impl State {
    fn outgoing(&mut self, request: fetch::Request) -> Result<Outgoing, Failure> {
        let fetch::Request { method, url, headers, body, credential, first_byte_timeout, total_timeout } = request;
        let wrong = |message: String| Failure::new(ErrorKind::Internal, message);
        // The body first: its blobs have left the plugin, whatever comes.
        let (body, content_type) = self.body(body)?;
        if url.len() > MAX_URL {
            return Err(wrong(format!("the address is longer than {MAX_URL} bytes")));
        }
        let method =
            Method::from_bytes(method.as_bytes()).map_err(|_| wrong(format!("{method:?} is no HTTP method")))?;
        let mut url =
            Url::parse(&url).map_err(|error| wrong(format!("the address is not absolute or not valid: {error}")))?;
        url.set_fragment(None);
        let mut headers = header_map(headers).map_err(wrong)?;
        if let Some(content_type) = content_type
            && !headers.contains_key(header::CONTENT_TYPE)
        {
            let content_type = HeaderValue::from_str(&content_type);
            headers.insert(
                header::CONTENT_TYPE,
                content_type.map_err(|_| wrong("the media type is not plain".to_owned()))?,
            );
        }
        let millis = |millis: u32| Duration::from_millis(u64::from(millis).max(1));
        let (first_byte, total) = (first_byte_timeout.map(millis), total_timeout.map(millis));
        Ok(Outgoing { method, url, headers, body: door::Body::Pieces(body), credential, first_byte, total })
    }

    /// The body in pieces, and the media type to declare.
    fn body(&mut self, body: fetch::Body) -> Result<(Pieces, Option<String>), Failure> {
        let mut pieces = Pieces::default();
        let content_type = match body {
            fetch::Body::None => None,
            fetch::Body::Bytes(bytes) => {
                pieces.plain(bytes);
                None
            }
            fetch::Body::Blob(blob) => {
                let blob = self.table.delete(blob)?;
                pieces.plain(blob.bytes.clone());
                Some(blob.media_type.to_string())
            }
            fetch::Body::Json((text, blobs)) => {
                let blobs = blobs.into_iter().map(|blob| self.table.delete(blob)).collect::<Result<Vec<_>, _>>()?;
                let insert =
                    |blob: &Blob| Insert { bytes: blob.bytes.clone(), media_type: blob.media_type.to_string() };
                let inserts: Vec<_> = blobs.iter().map(insert).collect();
                pieces = splice(text, &inserts).map_err(|error| Failure::new(ErrorKind::Internal, error))?;
                Some("application/json".to_owned())
            }
            fetch::Body::Multipart(parts) => {
                let boundary = boundary();
                self.multipart(&mut pieces, parts, &boundary)?;
                Some(format!("multipart/form-data; boundary={boundary}"))
            }
        };
        Ok((pieces, content_type))
    }

    fn multipart(&mut self, pieces: &mut Pieces, parts: Vec<fetch::Part>, boundary: &str) -> Result<(), Failure> {
        check_parts(parts.len())?;
        for part in parts {
            match part {
                fetch::Part::Text((name, value)) => {
                    let name = form_name(&name);
                    pieces.plain(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n"));
                    pieces.plain(value);
                }
                fetch::Part::File((name, file, blob)) => {
                    let blob = self.table.delete(blob)?;
                    let (name, file, media_type) = (form_name(&name), form_name(&file), &blob.media_type);
                    if HeaderValue::from_str(media_type).is_err() {
                        return Err(Failure::new(
                            ErrorKind::Internal,
                            format!("media type {media_type:?} is not plain"),
                        ));
                    }
                    pieces.plain(format!(
                        "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
                         Content-Type: {media_type}\r\n\r\n"
                    ));
                    pieces.plain(blob.bytes.clone());
                }
            }
            pieces.plain("\r\n");
        }
        pieces.plain(format!("--{boundary}--\r\n"));
        Ok(())
    }
}

fn check_parts(parts: usize) -> Result<(), Failure> {
    if parts <= MAX_PARTS {
        return Ok(());
    }
    Err(Failure::new(ErrorKind::LimitExceeded, format!("a form may have at most {MAX_PARTS} parts, not {parts}")))
}

/// A name in a form, as the HTML standard writes it.
fn form_name(name: &str) -> String {
    name.replace('\r', "%0D").replace('\n', "%0A").replace('"', "%22")
}

/// A line that no part contains: 128 bits that nobody can foresee.
fn boundary() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("easel-{:016x}{:016x}", random(), random())
}

fn header_map(headers: Vec<(String, String)>) -> Result<HeaderMap, String> {
    if headers.len() > MAX_HEADERS {
        return Err(format!("a request may have at most {MAX_HEADERS} headers, not {}", headers.len()));
    }
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no name of a header"))?;
        let value =
            HeaderValue::from_str(&value).map_err(|_| format!("the value of header {name:?} is not plain text"))?;
        map.append(key, value);
    }
    Ok(map)
}

impl Response {
    /// The rest of the body, accounted for.
    async fn read(mut self, mut held: Held, most: usize) -> Result<(Vec<u8>, Held), Failure> {
        let mut body = Vec::new();
        while let Some(part) = self.next_part().await? {
            if body.len() + part.len() > most {
                let message = format!("the answer is longer than the {most} bytes that were asked for");
                return Err(Failure::new(ErrorKind::LimitExceeded, message));
            }
            held.grow(part.len())?;
            body.extend_from_slice(&part);
        }
        Ok((body, held))
    }

    fn media_type(&self) -> String {
        let declared = self.incoming.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence =
            declared.and_then(|value| value.split(';').next()).map(str::trim).filter(|value| !value.is_empty());
        essence.unwrap_or("application/octet-stream").to_ascii_lowercase()
    }
}

impl fetch::HostResponse for State {
    async fn status(&mut self, response: Resource<Response>) -> wasmtime::Result<u16> {
        self.trail.step("response.status");
        Ok(self.table.get(&response)?.incoming.status().as_u16())
    }

    async fn header(&mut self, response: Resource<Response>, name: String) -> wasmtime::Result<Option<String>> {
        self.trail.step("response.header");
        let response = self.table.get(&response)?;
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return Ok(None) };
        if response.door.is_hidden(&name) {
            return Ok(None);
        }
        Ok(response.incoming.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned))
    }

    async fn next_chunk(&mut self, response: Resource<Response>, max: u32) -> Result<Option<Vec<u8>>, Failure> {
        self.trail.step("response.next-chunk");
        self.table.get_mut(&response)?.next_chunk(max).await
    }

    async fn next_event(&mut self, response: Resource<Response>) -> Result<Option<fetch::Event>, Failure> {
        self.trail.step("response.next-event");
        self.table.get_mut(&response)?.next_short_event().await
    }

    async fn next_event_document(
        &mut self,
        response: Resource<Response>,
    ) -> Result<Option<fetch::EventDocument>, Failure> {
        self.trail.step("response.next-event-document");
        let Some(event) = self.table.get_mut(&response)?.next_event().await? else { return Ok(None) };
        let (name, id) = (event.name, event.id);
        let data = match stream::document_of(event.data, self.call.blobs.open())? {
            Ok(document) => fetch::EventData::Document(self.table.push(document)?),
            Err(text) => fetch::EventData::Text(text),
        };
        Ok(Some(fetch::EventDocument { name, data, id }))
    }

    async fn bytes(&mut self, response: Resource<Response>, max: u32) -> Result<Vec<u8>, Failure> {
        self.trail.step("response.bytes");
        let (response, held) = (self.table.delete(response)?, self.call.blobs.open());
        Ok(response.read(held, max as usize).await?.0)
    }

    async fn into_blob(&mut self, response: Resource<Response>) -> Result<Resource<Blob>, Failure> {
        self.trail.step("response.into-blob");
        let (response, held) = (self.table.delete(response)?, self.call.blobs.open());
        let declared = response.media_type();
        let (bytes, held) = response.read(held, usize::MAX).await?;
        Ok(self.table.push(Blob::new(bytes, &declared, held))?)
    }

    async fn into_document(&mut self, response: Resource<Response>) -> Result<Resource<Document>, Failure> {
        self.trail.step("response.into-document");
        let (response, held) = (self.table.delete(response)?, self.call.blobs.open());
        let (bytes, held) = response.read(held, usize::MAX).await?;
        Ok(self.table.push(Document::parse(bytes, held)?)?)
    }

    async fn drop(&mut self, response: Resource<Response>) -> wasmtime::Result<()> {
        self.table.delete(response)?;
        Ok(())
    }
}

impl From<DoorError> for Failure {
    fn from(error: DoorError) -> Self {
        let kind = match error {
            DoorError::Denied(_) | DoorError::Address(_) => ErrorKind::NetworkDenied,
            DoorError::Header(_) | DoorError::Credential(_) | DoorError::Unfit(_) | DoorError::NoPlace(_) => {
                ErrorKind::Internal
            }
            DoorError::Token { .. } => ErrorKind::Auth,
            DoorError::Requests(_) | DoorError::Connections(_) | DoorError::Length { .. } => ErrorKind::LimitExceeded,
            DoorError::Timeout { .. } => ErrorKind::Timeout,
            DoorError::Redirects { .. }
            | DoorError::Leak { .. }
            | DoorError::Encoding { .. }
            | DoorError::Connect { .. }
            | DoorError::Broken { .. } => ErrorKind::Upstream,
        };
        Self::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_form_cannot_leave_their_quotes() {
        assert_eq!(form_name("a\"\r\nX: y"), "a%22%0D%0AX: y");
        assert_ne!(boundary(), boundary());
    }

    #[test]
    fn parts_of_a_form_are_counted() {
        assert!(check_parts(0).is_ok() && check_parts(MAX_PARTS).is_ok());
        let Err(Failure::Value(error)) = check_parts(MAX_PARTS + 1) else { panic!("it is refused") };
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::LimitExceeded, "a form may have at most 1000 parts, not 1001")
        );
    }

    #[test]
    fn headers_cannot_be_split() {
        let map = |name: &str, value: &str| header_map(vec![(name.to_owned(), value.to_owned())]);
        map("x-one", "two").unwrap();
        assert!(map("x-one", "two\r\nx-three: four").is_err());
        assert!(map("x one", "two").is_err());
        assert!(map("x-one:", "two").is_err());
        assert!(map("x-one", "z\0").is_err());
    }
}
