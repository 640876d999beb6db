//! An adapter that does whatever a plugin must not do. The first word of the prompt says what; the answer, where there
//! is one, comes back as the rewritten prompt of a tiny picture. Tests in `tests/hostile/` say what must become of it.
//!
//! Elsewhere than in a component there is nothing to build: a linker of the machine's own takes no such export names.
#![cfg(target_arch = "wasm32")]

mod http;
mod memory;
mod pictures;
mod resources;

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "adapter", generate_all });
}

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bindings::easel::plugin::blobs::{Blob, BlobWriter};
use bindings::easel::plugin::host;
use bindings::easel::plugin::images::{ImageRequest, ImageResult, Job, PictureInfo, Progress};
use bindings::easel::plugin::types::{CallContext, ErrorKind, Money, PluginError};
use bindings::exports::easel::plugin::backend::Guest;

/// A picture of one grey pixel.
const PNG: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0x00,
    0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3a, 0x7e, 0x9b, 0x55, 0x00, 0x00, 0x00, 0x0a, 0x49,
    0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x68, 0x00, 0x00, 0x00, 0x82, 0x00, 0x81, 0x77, 0xcd, 0x72, 0xb6, 0x00, 0x00,
    0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

const MODELS: &str = r#"{"models":[{"id":"hostile","name":"Hostile","family":"test","tasks":["text-to-image"],
    "sizes":{"range":{"least_side":1,"most_side":4096,"multiple":1,"max_pixels":16777216,"default":"1x1"}},
    "max_count":10,"formats":["png","jpeg","webp"],"negative_prompt":"ignored","seed":"ignored","steps":"ignored",
    "guidance":"ignored","samplers":"ignored","options":[],"determinism":"none","price":null}]}"#;

struct Hostile;

impl Guest for Hostile {
    fn models() -> Result<String, PluginError> {
        let config = host::config();
        let told = config.split("\"models\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        match told {
            "" => Ok(MODELS.to_owned()),
            "nonsense" => Ok("{\"models\":[{\"id\":\"x\"}]}".to_owned()),
            "error" => Err(error(ErrorKind::InvalidRequest, "there are no models today")),
            "fetch" => http::fetch(&["GET", "http://127.0.0.1:1/"]).map(|_| MODELS.to_owned()),
            other => {
                misbehave(other);
                Ok(MODELS.to_owned())
            }
        }
    }

    fn generate(ctx: CallContext, req: &ImageRequest, progress: &Progress) -> Result<ImageResult, PluginError> {
        let prompt = req.prompt();
        let words: Vec<&str> = prompt.split_whitespace().collect();
        let (first, rest) = words.split_first().ok_or_else(|| error(ErrorKind::InvalidRequest, "no word"))?;
        let answer = match *first {
            "picture" => return pictures(req.count(), rest),
            "fetch-picture" => return picture_of(http::fetch_blob(rest)?),
            "error" => return Err(told_error(rest)),
            "wrong-cost" => return wrong_cost(),
            "many-notes" => return many_notes(),
            "pending" => return pending(),
            "context" => format!("{} {} {:?}", ctx.request_id, ctx.deadline, ctx.trace_parent),
            "request" => format!("{:?} {:?} {:?}", req.model(), req.size(), req.format()),
            "config" => host::config(),
            "credential" => host::has_credential(rest.first().unwrap_or(&"")).to_string(),
            "fetch" => http::fetch(rest)?,
            "fetch-json" => http::fetch_json(rest)?,
            "fetch-form" => http::fetch_form(rest)?,
            "fetch-document" => http::fetch_document(rest)?,
            "fetch-chunks" => http::fetch_chunks(rest)?,
            "fetch-events" => http::fetch_events(rest)?,
            "fetch-event-pictures" => http::fetch_event_pictures(rest, progress)?,
            "partials" => partials(progress, rest),
            "wasi-http" => http::wasi_http(rest),
            "search" => search(rest)?,
            "dump" => dump(rest)?,
            "wander" => wander(progress, rest),
            "say" => return Err(said(rest)),
            "until-unwanted" => {
                // With so many MiB in its hands.
                let mib = rest.first().and_then(|mib| mib.parse().ok()).unwrap_or(0_usize);
                let held = std::hint::black_box(vec![1_u8; mib << 20]);
                let answer = until_unwanted(progress);
                drop(held);
                answer
            }
            "spin" => {
                progress.stage("spinning");
                misbehave("loop")
            }
            "std" => standard_library(rest.first().copied().unwrap_or("")),
            "count" => count().to_string(),
            "pixels" => pictures::pixels(rest)?,
            other => resources::exhaust(other, rest).unwrap_or_else(|| Ok(misbehave(&prompt)))?,
        };
        picture_with(&answer)
    }
}

/// `search DISGUISED WAY METHOD URL ...`: sends a request, and then looks for a text in the memory.
fn search(words: &[&str]) -> Result<String, PluginError> {
    let (way, rest) = (words.get(1).copied().unwrap_or_default(), words.get(2..).unwrap_or_default());
    let answer = match way {
        "fetch" => http::fetch(rest),
        "fetch-document" => http::fetch_document(rest),
        _ => Ok(http::wasi_http(rest)),
    };
    let answer = answer.unwrap_or_else(|error| error.message);
    let found = memory::occurrences(words.first().copied().unwrap_or_default());
    Ok(format!("{found} in memory, {answer}"))
}

/// `dump TO WAY METHOD URL ...`: sends a request, and then the whole memory to another upstream.
fn dump(words: &[&str]) -> Result<String, PluginError> {
    let (to, way, rest) = match words {
        [to, way, rest @ ..] => (*to, *way, rest),
        _ => return Err(error(ErrorKind::InvalidRequest, "dump where")),
    };
    let answer = if way == "fetch" { http::fetch(rest) } else { Ok(http::wasi_http(rest)) };
    let answer = std::hint::black_box(answer);
    let writer = BlobWriter::new("application/octet-stream");
    memory::parts(|part| drop(writer.write(part)));
    http::post_blob(to, BlobWriter::finish(writer))?;
    answer
}

/// `wander TEXT [METHOD URL]`: calls a bit of everything with this text in what can hold one, the upstream or else what needs
/// none, and then ends the call.
fn wander(progress: &Progress, words: &[&str]) -> String {
    let (text, request) = words.split_first().map_or(("", &[][..]), |(text, rest)| (*text, rest));
    if !request.is_empty() {
        std::hint::black_box((http::fetch(request).is_err(), http::wasi_http(request)));
        std::process::abort();
    }
    host::log(bindings::easel::plugin::host::Level::Info, text);
    std::hint::black_box(host::has_credential(text));
    progress.stage(text);
    let blob = blob(text.repeat(3).as_bytes(), text);
    std::hint::black_box((blob.size(), blob.read(0, 9)));
    std::hint::black_box(bindings::wasi::random::random::get_random_bytes(8));
    std::hint::black_box(Instant::now());
    std::process::abort()
}

/// `say TEXT`: in the log, on both outputs and in an error.
fn said(words: &[&str]) -> PluginError {
    let text = words.join(" ");
    host::log(bindings::easel::plugin::host::Level::Error, &text);
    println!("{text}");
    eprintln!("{text}");
    PluginError { provider_code: Some(text.clone()), ..error(ErrorKind::Upstream, &text) }
}

/// What ends a call.
fn misbehave(what: &str) -> String {
    let mut words = what.split_whitespace();
    match words.next().unwrap_or_default() {
        "trap" => std::process::abort(),
        "panic" => panic!("the guest panicked on purpose"),
        "exit" => std::process::exit(3),
        "loop" => loop {
            std::hint::black_box(0);
        },
        "recursion" => recursion(1).to_string(),
        "sleep" => {
            let millis = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            std::thread::sleep(Duration::from_millis(millis));
            "slept".to_owned()
        }
        _ => "nothing was done".to_owned(),
    }
}

#[expect(unconditional_recursion, reason = "that is what is tested")]
fn recursion(depth: u64) -> u64 {
    let frame = [depth; 64];
    std::hint::black_box(&frame);
    recursion(depth + 1) + frame[0]
}

/// How often this instance was called: 1, if instances are not shared.
fn count() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static CALLS: AtomicU32 = AtomicU32::new(0);
    CALLS.fetch_add(1, Ordering::Relaxed) + 1
}

/// Works in steps, and stops when told.
fn until_unwanted(progress: &Progress) -> String {
    let begun = Instant::now();
    progress.stage("waiting");
    while progress.wanted() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    "stopped".to_owned()
}

/// `partials COUNT [text|far]`: intermediate states, and whether anybody wants them.
fn partials(progress: &Progress, words: &[&str]) -> String {
    let count = words.first().and_then(|word| word.parse::<u32>().ok()).unwrap_or(1);
    for _ in 0..count {
        let (image, bytes) = match words.get(1).copied() {
            Some("text") => (0, &b"this is no picture"[..]),
            Some("far") => (9, PNG),
            _ => (0, PNG),
        };
        progress.partial_image(image, blob(bytes, "image/png"));
    }
    progress.wants_partial_images().to_string()
}

fn standard_library(what: &str) -> String {
    match what {
        "env" => format!("{:?} {:?}", std::env::vars().collect::<Vec<_>>(), std::env::args().collect::<Vec<_>>()),
        "file" => format!("{:?}", std::fs::read("/etc/passwd").map_err(|error| error.to_string())),
        "socket" => {
            format!("{:?}", std::net::TcpStream::connect("127.0.0.1:1").map(drop).map_err(|error| error.to_string()))
        }
        "thread" => format!("{:?}", std::thread::Builder::new().spawn(|| 1).map(drop).map_err(|error| error.kind())),
        "time" => {
            let map: HashMap<u8, u8> = [(1, 2)].into();
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            format!(
                "{} {} {}",
                Instant::now().elapsed().as_secs(),
                now.is_ok_and(|now| now.as_secs() > 1_700_000_000),
                map[&1]
            )
        }
        "random" => bindings::wasi::random::random::get_random_bytes(8).len().to_string(),
        "random-flood" => bindings::wasi::random::random::get_random_bytes(1 << 30).len().to_string(),
        _ => String::new(),
    }
}

fn blob(bytes: &[u8], media_type: &str) -> Blob {
    let writer = BlobWriter::new(media_type);
    for part in bytes.chunks(64 << 10) {
        if writer.write(part).is_err() {
            break;
        }
    }
    BlobWriter::finish(writer)
}

fn picture_with(text: &str) -> Result<ImageResult, PluginError> {
    let result = ImageResult::new();
    let info = PictureInfo { seed: None, revised_prompt: Some(text.to_owned()) };
    result.add_image(blob(PNG, "image/png"), &info);
    Ok(result)
}

fn picture_of(blob: Blob) -> Result<ImageResult, PluginError> {
    let result = ImageResult::new();
    result.add_image(blob, &PictureInfo { seed: Some(7), revised_prompt: None });
    result.set_cost(&Money { micros: 40_000, currency: "USD".to_owned() });
    result.set_usage("output_tokens", 12);
    result.add_note(Some("size"), "a note about the size");
    Ok(result)
}

/// `picture [none|text|COUNT]`: other pictures than were asked for.
fn pictures(count: u32, words: &[&str]) -> Result<ImageResult, PluginError> {
    let result = ImageResult::new();
    let info = PictureInfo { seed: None, revised_prompt: None };
    let (count, bytes) = match words.first().copied() {
        Some("none") => (0, PNG),
        Some("text") => (count, &b"this is no picture"[..]),
        Some(number) => (number.parse().unwrap_or(count), PNG),
        None => (count, PNG),
    };
    for _ in 0..count {
        result.add_image(blob(bytes, "image/png"), &info);
    }
    Ok(result)
}

fn wrong_cost() -> Result<ImageResult, PluginError> {
    let result = ImageResult::new();
    result.set_cost(&Money { micros: 1, currency: "dollars".to_owned() });
    Ok(result)
}

/// Leaves the result pending, without being able to go on.
fn pending() -> Result<ImageResult, PluginError> {
    let result = ImageResult::new();
    result.set_pending(&Job { id: "job-1".to_owned(), state: Vec::new(), version: 0, poll_after: 0 });
    Ok(result)
}

fn many_notes() -> Result<ImageResult, PluginError> {
    let result = ImageResult::new();
    for number in 0..100_000 {
        result.add_note(None, &number.to_string());
    }
    Ok(result)
}

fn error(kind: ErrorKind, message: &str) -> PluginError {
    PluginError {
        kind,
        message: message.to_owned(),
        param: None,
        retry_after: None,
        provider_status: None,
        provider_code: None,
        billed: None,
    }
}

/// `error KIND`: each kind of error value.
fn told_error(words: &[&str]) -> PluginError {
    let kind = match words.first().copied().unwrap_or_default() {
        "invalid-request" => ErrorKind::InvalidRequest,
        "unsupported" => ErrorKind::Unsupported,
        "model-not-found" => ErrorKind::ModelNotFound,
        "content-policy" => ErrorKind::ContentPolicy,
        "auth" => ErrorKind::Auth,
        "quota" => ErrorKind::Quota,
        "rate-limited" => ErrorKind::RateLimited,
        "overloaded" => ErrorKind::Overloaded,
        "timeout" => ErrorKind::Timeout,
        "cancelled" => ErrorKind::Cancelled,
        "upstream" => ErrorKind::Upstream,
        "network-denied" => ErrorKind::NetworkDenied,
        "limit-exceeded" => ErrorKind::LimitExceeded,
        _ => ErrorKind::Internal,
    };
    let long = "x".repeat(100_000);
    let billed = |currency: &str| Some(Money { micros: 1_500, currency: currency.to_owned() });
    let message = if words.contains(&"long") { format!("line\r\nbreak {long}") } else { "told to fail".to_owned() };
    PluginError {
        param: Some("prompt".to_owned()),
        retry_after: Some(2500),
        provider_status: Some(418),
        billed: words.iter().find_map(|word| word.strip_prefix("billed=")).and_then(billed),
        ..error(kind, &message)
    }
}

bindings::export!(Hostile with_types_in bindings);
