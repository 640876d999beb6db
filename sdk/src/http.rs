//! HTTP through the host's door: requests that name a credential instead of holding it, answers whose pictures never
//! enter the plugin's memory.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::problem::retry_after;
use crate::raw::fetch;
use crate::request::millis;
use crate::{Blob, Error, Problem, Result, json};

/// The longest error body that is read.
const MAX_PROBLEM_BYTES: u32 = 64 * 1024;

/// The longest string that [`Document::get`] gives whole, in characters.
pub const MAX_TEXT: u32 = 64 * 1024;

/// An outbound request.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request(fetch::Request);

impl Request {
    /// Starts a request.
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        Self(fetch::Request {
            method: method.to_owned(),
            url: url.into(),
            headers: Vec::new(),
            body: fetch::Body::None,
            credential: None,
            first_byte_timeout: None,
            total_timeout: None,
        })
    }

    /// Starts a GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// Starts a POST of JSON.
    ///
    /// # Errors
    /// `Internal` when the body cannot be written as JSON.
    pub fn post_json(url: impl Into<String>, body: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(|error| Error::internal(error.to_string()))?;
        let mut request = Self::new("POST", url).header("content-type", "application/json");
        request.0.body = fetch::Body::Bytes(body);
        Ok(request)
    }

    /// Starts a POST of JSON into which the host writes blobs: every [`blob_base64`] or [`blob_data_url`] in the body
    /// becomes a string made of the blob of that number.
    ///
    /// # Errors
    /// `Internal` when the body cannot be written as JSON.
    pub fn post_json_with_blobs(url: impl Into<String>, body: &impl Serialize, blobs: Vec<Blob>) -> Result<Self> {
        let body = serde_json::to_string(body).map_err(|error| Error::internal(error.to_string()))?;
        let mut request = Self::new("POST", url);
        request.0.body = fetch::Body::Json((body, blobs.into_iter().map(Blob::into_raw).collect()));
        Ok(request)
    }

    /// Starts a POST of a multipart form.
    pub fn post_multipart(url: impl Into<String>, parts: Vec<Part>) -> Self {
        let part = |part| match part {
            Part::Text(name, text) => fetch::Part::Text((name, text)),
            Part::File(name, file, blob) => fetch::Part::File((name, file, blob.into_raw())),
        };
        let mut request = Self::new("POST", url);
        request.0.body = fetch::Body::Multipart(parts.into_iter().map(part).collect());
        request
    }

    /// Gives it a body of bytes, whatever its method.
    pub fn body(mut self, media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.body = fetch::Body::Bytes(bytes.into());
        self.header("content-type", media_type)
    }

    /// Adds a header. Credential and connection headers are refused by the host.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Has the host add a credential, by its name in the manifest. One that the operator has not supplied is left out
    /// where the manifest says that it is not required.
    pub fn credential(mut self, name: &str) -> Self {
        self.0.credential = crate::host::has_credential(name).then(|| name.to_owned());
        self
    }

    /// Limits the wait for the head of the answer.
    pub fn first_byte_timeout(mut self, limit: Duration) -> Self {
        self.0.first_byte_timeout = Some(millis(limit));
        self
    }

    /// Limits the wait for the whole answer.
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.0.total_timeout = Some(millis(limit));
        self
    }

    /// Sends it and waits for the head of the answer. A status of 400 and above is an answer: see
    /// [`Response::success`].
    ///
    /// # Errors
    /// `NetworkDenied` when the door refuses the address, `Timeout`, or `Upstream` when there is no answer.
    pub fn send(self) -> Result<Response> {
        Ok(Response(fetch::send(self.0)?))
    }
}

/// One part of a multipart form.
#[derive(Debug)]
pub enum Part {
    /// A text field: name and value.
    Text(String, String),
    /// A file: name, file name and contents.
    File(String, String, Blob),
}

/// A place in a body of [`Request::post_json_with_blobs`] where the host writes a blob as base64.
pub fn blob_base64(number: usize) -> Value {
    serde_json::json!({"$blob": number, "as": "base64"})
}

/// A place in a body of [`Request::post_json_with_blobs`] where the host writes a blob as a data URL.
pub fn blob_data_url(number: usize) -> Value {
    serde_json::json!({"$blob": number, "as": "data-url"})
}

/// An answer, its body not yet read. [`events`](crate::events) has what is read of it bit by bit.
#[derive(Debug)]
pub struct Response(fetch::Response);

impl Response {
    pub(crate) fn raw(&self) -> &fetch::Response {
        &self.0
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.0.status()
    }

    /// A header's value, if there is one that the plugin may see.
    pub fn header(&self, name: &str) -> Option<String> {
        self.0.header(name)
    }

    /// The answer itself where its status is below 300, else what the upstream said.
    ///
    /// # Errors
    /// The [`Problem`], which `?` turns into an [`Error`] by its status.
    pub fn success(self) -> Result<Self, Problem> {
        if self.status() < 300 { Ok(self) } else { Err(self.problem()) }
    }

    /// Reads what the upstream said instead of giving pictures.
    pub fn problem(self) -> Problem {
        let status = self.status();
        let (millis, seconds) = (self.header("retry-after-ms"), self.header("retry-after"));
        let after = retry_after(millis.as_deref(), seconds.as_deref());
        // A body that cannot be read takes nothing from what the status says.
        let body = self.bytes(MAX_PROBLEM_BYTES).unwrap_or_default();
        Problem::read(status, after, &body)
    }

    /// The rest of the body.
    ///
    /// # Errors
    /// `LimitExceeded` when it is longer than `max`; `Upstream` when the upstream breaks off.
    pub fn bytes(self, max: u32) -> Result<Vec<u8>> {
        Ok(fetch::Response::bytes(self.0, max)?)
    }

    /// The rest of the body as a blob.
    ///
    /// # Errors
    /// `LimitExceeded` beyond the plugin's blob limit; `Upstream` when the upstream breaks off.
    pub fn into_blob(self) -> Result<Blob> {
        Ok(Blob::from_raw(fetch::Response::into_blob(self.0)?))
    }

    /// The rest of the body, parsed in the host.
    ///
    /// # Errors
    /// `Upstream` when it is not JSON or breaks off.
    pub fn into_document(self) -> Result<Document> {
        Ok(Document(fetch::Response::into_document(self.0)?))
    }
}

/// A JSON document in the host. Its base64 strings need not enter the plugin.
#[derive(Debug)]
pub struct Document(fetch::Document);

impl Document {
    pub(crate) fn from_raw(raw: fetch::Document) -> Self {
        Self(raw)
    }

    /// Reads the value at a JSON Pointer (RFC 6901) as `T`; `None` when there is none, or it is null. Strings longer
    /// than [`MAX_TEXT`] characters are cut.
    ///
    /// # Errors
    /// `Upstream` when the value is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, pointer: &str) -> Result<Option<T>> {
        self.get_cut(pointer, MAX_TEXT)
    }

    /// Reads the value at a JSON Pointer as `T`, with every string longer than `max` characters cut to that length.
    ///
    /// # Errors
    /// `Upstream` when the value is not a `T`.
    pub fn get_cut<T: DeserializeOwned>(&self, pointer: &str, max: u32) -> Result<Option<T>> {
        let Some(json) = self.0.get(pointer, max) else { return Ok(None) };
        json::read(json.as_bytes())
            .map_err(|error| Error::upstream(format!("the upstream's answer has a wrong value at {pointer}: {error}")))
    }

    /// Whether there is a string that is not empty at a JSON Pointer, however long.
    pub fn has_text(&self, pointer: &str) -> bool {
        matches!(self.get_cut::<Value>(pointer, 1), Ok(Some(Value::String(start))) if !start.is_empty())
    }

    /// The length of the array or object at a JSON Pointer.
    pub fn len(&self, pointer: &str) -> Option<usize> {
        self.0.len(pointer).map(|len| len as usize)
    }

    /// Decodes the base64 string, or base64 data URL, at a JSON Pointer into a blob and frees it in the document. It may be
    /// of the standard alphabet or of the one for addresses, padded or not.
    ///
    /// # Errors
    /// `Upstream` when there is no such string or it is not base64.
    pub fn take_base64(&self, pointer: &str) -> Result<Blob> {
        Ok(Blob::from_raw(self.0.take_base64(pointer)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ErrorKind;
    use crate::testing::{Reply, Upstream};

    #[test]
    fn request_goes_out_as_it_was_built() {
        let replies = (0..4).map(|_| Reply::json(200, "{}"));
        let upstream = Upstream::script(replies).with_credential("api_key");
        let limit = Duration::from_millis(1500);
        Request::post_json("http://up.test/a", &json!({"prompt": "a fox"}))
            .unwrap()
            .header("x-team", "art")
            .credential("api_key")
            .total_timeout(limit)
            .send()
            .unwrap();
        let image = Blob::new("image/png", b"hello").unwrap();
        let body = json!({"image": blob_base64(0), "mask": blob_data_url(1)});
        Request::post_json_with_blobs("http://up.test/b", &body, vec![image.share(), image.share()])
            .unwrap()
            .credential("other")
            .send()
            .unwrap();
        let parts = vec![
            Part::Text("prompt".to_owned(), "a fox".to_owned()),
            Part::File("image".to_owned(), "a.png".to_owned(), image),
        ];
        Request::post_multipart("http://up.test/c", parts).send().unwrap();
        Request::new("PUT", "http://up.test/d").body("text/plain", "40").send().unwrap();

        let seen = upstream.seen();
        assert_eq!(seen[0].body, r#"{"prompt":"a fox"}"#);
        let headers = [("content-type", "application/json"), ("x-team", "art")];
        assert_eq!(seen[0].headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!((seen[0].credential.as_deref(), seen[0].total_timeout), (Some("api_key"), Some(1500)));
        assert_eq!(seen[1].credential, None, "a credential that the operator did not supply is left out");
        let body = r#"{"image":{"$blob":0,"as":"base64"},"mask":{"$blob":1,"as":"data-url"}}<5 bytes><5 bytes>"#;
        assert_eq!(seen[1].body, body);
        assert_eq!(seen[2].body, "prompt=a fox\nimage=a.png <5 bytes>\n");
        assert_eq!((seen[3].method.as_str(), seen[3].body.as_str()), ("PUT", "40"));
        assert_eq!(seen[3].headers, [("content-type".to_owned(), "text/plain".to_owned())]);
    }

    #[test]
    fn document_gives_values_by_type_and_pictures_by_handle() {
        let answer = json!({"n": 3, "none": null, "list": [1, 2], "long": "x".repeat(70_000), "image": "aGk="});
        let _upstream = Upstream::script([Reply::json(200, &answer.to_string())]);
        let document = Request::get("http://up.test/").send().unwrap().success().unwrap().into_document().unwrap();
        assert_eq!(document.get::<u64>("/n").unwrap(), Some(3));
        assert_eq!(document.get::<u64>("/none").unwrap(), None);
        assert_eq!(document.get::<u64>("/missing").unwrap(), None);
        assert_eq!(document.get::<String>("/n").unwrap_err().kind, ErrorKind::Upstream);
        assert_eq!(document.get::<String>("/long").unwrap().unwrap().len(), MAX_TEXT as usize);
        assert_eq!((document.len("/list"), document.len("/n")), (Some(2), None));
        assert!(document.has_text("/image") && !document.has_text("/n") && !document.has_text("/missing"));
        assert_eq!(document.take_base64("/image").unwrap().bytes(10).unwrap(), b"hi");
        assert_eq!(document.take_base64("/image").unwrap_err().kind, ErrorKind::Upstream);
    }

    #[test]
    fn refusal_becomes_a_problem_even_with_a_body_beyond_the_limit() {
        let reply = Reply::new(503, "text/plain", "x".repeat(70_000)).header("retry-after", "5");
        let _upstream = Upstream::script([reply]);
        let problem = Request::get("http://up.test/").send().unwrap().success().unwrap_err();
        assert_eq!((problem.status, problem.retry_after), (503, Some(Duration::from_secs(5))));
        let error = Error::from(problem);
        assert_eq!(error.kind, ErrorKind::Overloaded);
        assert_eq!(error.message, "the upstream answered 503 and no reason");
    }

    #[test]
    fn nobody_answers_beyond_the_script() {
        let error = Request::get("http://up.test/").send().unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Upstream, "nobody answers at http://up.test/"));
    }

    #[test]
    fn blobs_are_read_whole_or_refused() {
        let bytes = vec![7; 200_000];
        let blob = Blob::new("image/png", &bytes).unwrap();
        assert_eq!((blob.size(), blob.media_type().as_str()), (200_000, "image/png"));
        assert_eq!(blob.bytes(200_000).unwrap(), bytes);
        assert_eq!(blob.bytes(199_999).unwrap_err().kind, ErrorKind::LimitExceeded);
    }

    #[test]
    fn config_is_read_by_type() {
        let _upstream = Upstream::script([]).with_config(r#"{"word": "x"}"#);
        assert_eq!(crate::host::config::<Value>().unwrap(), json!({"word": "x"}));
        let error = crate::host::config::<crate::NoConfig>().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal);
        assert!(error.message.contains("word"), "{}", error.message);
    }
}
