//! What goes out: `METHOD URL [NAME:VALUE ...] [credential=NAME] [body=TEXT] [POINTER ...]`.

use crate::bindings::easel::plugin::blobs::Blob;
use crate::bindings::easel::plugin::fetch::{self, Body, EventData, Part, Request, Response};
use crate::bindings::easel::plugin::images::Progress;
use crate::bindings::easel::plugin::types::PluginError;
use crate::bindings::wasi::http::types::{Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme};
use crate::bindings::wasi::http::{outgoing_handler, types};
use crate::bindings::wasi::io::streams::StreamError;
use crate::{PNG, blob};

/// What the words say about a request.
struct Told<'a> {
    method: &'a str,
    url: &'a str,
    headers: Vec<(String, String)>,
    credential: Option<String>,
    body: Option<&'a str>,
    pointers: Vec<&'a str>,
}

fn told<'a>(words: &[&'a str]) -> Told<'a> {
    let mut told = Told {
        method: words.first().copied().unwrap_or("GET"),
        url: words.get(1).copied().unwrap_or_default(),
        headers: Vec::new(),
        credential: None,
        body: None,
        pointers: Vec::new(),
    };
    for word in words.iter().skip(2) {
        if let Some(name) = word.strip_prefix("credential=") {
            told.credential = Some(name.to_owned());
        } else if let Some(text) = word.strip_prefix("body=") {
            told.body = Some(text);
        } else if word.starts_with('/') || *word == "-" {
            told.pointers.push(word.trim_start_matches('-'));
        } else if let Some((name, value)) = word.split_once(':') {
            told.headers.push((name.to_owned(), value.to_owned()));
        }
    }
    told
}

fn send(words: &[&str], body: Body) -> Result<Response, PluginError> {
    let Told { method, url, headers, credential, .. } = told(words);
    fetch::send(Request {
        method: method.to_owned(),
        url: url.to_owned(),
        headers,
        body,
        credential,
        first_byte_timeout: None,
        total_timeout: None,
    })
}

/// Status, the header `x-seen` and the body.
pub fn fetch(words: &[&str]) -> Result<String, PluginError> {
    let body = told(words).body.map_or(Body::None, |text| Body::Bytes(text.as_bytes().to_vec()));
    let response = send(words, body)?;
    let seen: Vec<_> =
        ["x-seen", "set-cookie", "authorization", "x-secret"].iter().map(|name| response.header(name)).collect();
    let status = response.status();
    let bytes = Response::bytes(response, 1 << 20)?;
    Ok(format!("{status} {seen:?} {}", String::from_utf8_lossy(&bytes)))
}

/// Sends a blob without any credential.
pub fn post_blob(url: &str, blob: Blob) -> Result<(), PluginError> {
    send(&["POST", url], Body::Blob(blob)).map(drop)
}

pub fn fetch_blob(words: &[&str]) -> Result<Blob, PluginError> {
    Response::into_blob(send(words, Body::None)?)
}

/// Sends two blobs in JSON.
pub fn fetch_json(words: &[&str]) -> Result<String, PluginError> {
    let json = r#"{"a":{"$blob":0,"as":"base64"},"b":[{"as":"data-url","$blob":1}]}"#.to_owned();
    let blobs = vec![blob(b"hello", "text/plain"), blob(PNG, "x/y")];
    let response = send(words, Body::Json((json, blobs)))?;
    let bytes = Response::bytes(response, 1 << 20)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Sends a form with a file.
pub fn fetch_form(words: &[&str]) -> Result<String, PluginError> {
    let parts = vec![
        Part::Text(("prompt".to_owned(), "a fox".to_owned())),
        Part::File(("image\"\r\nx: y".to_owned(), "fox.png".to_owned(), blob(PNG, "x/y"))),
    ];
    let response = send(words, Body::Multipart(parts))?;
    let bytes = Response::bytes(response, 1 << 20)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The values at the pointers, then what is decoded from the first.
pub fn fetch_document(words: &[&str]) -> Result<String, PluginError> {
    let document = Response::into_document(send(words, Body::None)?)?;
    let pointers = told(words).pointers;
    let values: Vec<_> = pointers.iter().map(|pointer| (document.get(pointer, 16), document.len(pointer))).collect();
    let blob = document.take_base64(pointers.first().unwrap_or(&""))?;
    let left = document.get(pointers.first().unwrap_or(&""), 16);
    Ok(format!("{values:?} {} {} {left:?}", blob.size(), blob.media_type()))
}

/// The lengths of the body's chunks, and how many of its bytes are left afterwards: `... max=BYTES rest=BYTES`.
pub fn fetch_chunks(words: &[&str]) -> Result<String, PluginError> {
    let number = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.parse::<u32>().ok());
    let response = send(words, Body::None)?;
    let (mut lengths, mut read) = (Vec::new(), 0);
    while let Some(chunk) = response.next_chunk(number("max=").unwrap_or(u32::MAX))? {
        lengths.push(chunk.len());
        read += chunk.len();
        if number("until=").is_some_and(|until| read >= until as usize) {
            break;
        }
    }
    let longest = lengths.iter().max().copied().unwrap_or_default();
    let left = Response::bytes(response, number("rest=").unwrap_or(1 << 20))?;
    Ok(format!("{read} {longest} {}", left.len()))
}

/// Every event: name, data, id.
pub fn fetch_events(words: &[&str]) -> Result<String, PluginError> {
    let response = send(words, Body::None)?;
    let mut events = Vec::new();
    loop {
        match response.next_event() {
            Ok(Some(event)) => events.push(format!("{} {:?} {:?}", event.name, event.data, event.id)),
            Ok(None) => return Ok(events.join("|")),
            // The second one in a row is the end.
            Err(error) if events.last() == Some(&error.message) => return Err(error),
            Err(error) => events.push(error.message),
        }
    }
}

/// Every event with its picture, which is shown as an intermediate state.
pub fn fetch_event_pictures(words: &[&str], progress: &Progress) -> Result<String, PluginError> {
    let response = send(words, Body::None)?;
    let mut events = Vec::new();
    while let Some(event) = response.next_event_document()? {
        let name = event.name;
        match event.data {
            EventData::Document(document) => {
                let picture = document.take_base64("/b64_json")?;
                events.push(format!("{name} {} {:?}", picture.size(), document.get("", 8)));
                progress.partial_image(0, picture);
            }
            EventData::Text(text) => events.push(format!("{name} {text}")),
        }
    }
    Ok(events.join("|"))
}

/// The same with `wasi:http`, as ordinary client code would do it.
pub fn wasi_http(words: &[&str]) -> String {
    let told = told(words);
    match request(&told) {
        Ok(response) => answer(&response),
        Err(error) => format!("refused: {error}"),
    }
}

fn request(told: &Told) -> Result<IncomingResponse, String> {
    let (scheme, rest) = told.url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let headers = Fields::new();
    for (name, value) in &told.headers {
        headers.append(name, value.as_bytes()).map_err(|error| format!("header {name}: {error:?}"))?;
    }
    let request = OutgoingRequest::new(headers);
    let method = match told.method {
        "GET" => Method::Get,
        "POST" => Method::Post,
        other => Method::Other(other.to_owned()),
    };
    request.set_method(&method).map_err(|()| "method")?;
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).map_err(|()| "scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "authority")?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(|()| "path")?;
    let body = request.body().map_err(|()| "body")?;
    let answer = outgoing_handler::handle(request, None).map_err(|error| format!("{error:?}"))?;
    if let Some(text) = told.body {
        let stream = body.write().map_err(|()| "stream")?;
        // A refused request closes its stream; the reason comes with the answer.
        let _closed = stream.blocking_write_and_flush(text.as_bytes());
        drop(stream);
    }
    let _closed = OutgoingBody::finish(body, None);
    answer.subscribe().block();
    let answer = answer.get().ok_or("no answer")?.map_err(|()| "answered twice")?;
    answer.map_err(|error: types::ErrorCode| format!("{error:?}"))
}

fn answer(response: &IncomingResponse) -> String {
    let headers = response.headers();
    let seen: Vec<_> =
        ["x-seen", "set-cookie", "authorization", "x-secret"].iter().map(|name| headers.get(name).len()).collect();
    let mut text = Vec::new();
    if let Ok(body) = response.consume()
        && let Ok(stream) = body.stream()
    {
        loop {
            match stream.blocking_read(1 << 16) {
                Ok(part) => text.extend(part),
                Err(StreamError::Closed) => break,
                Err(error) => return format!("broken: {error:?}"),
            }
        }
    }
    format!("{} {seen:?} {}", response.status(), String::from_utf8_lossy(&text))
}
