//! P6 for each adapter of this repository: one generation through it, beside a client that makes the same exchanges with the
//! same upstream, takes the picture out of the answer and reads it. The upstream answers at once, so the difference is all
//! that the adapter and its host add; what the real provider takes is on top of both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use easel_core::{Admission, Backend, Draft, Job, ParamNames, Values};
use easel_runtime::{HostLimits, PluginSettings};
use easel_store::{Store, StoreConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::house::{Host, Result, context, replace, show};
use crate::upstream::{PICTURE, serve};

/// The shortest wait before the first look at a task that its adapter allows; the native client waits as long. That of InvokeAI
/// looks at once.
const BFL_WAIT: Duration = Duration::from_millis(200);

/// An adapter in front of the upstream.
struct Subject {
    /// What the figure is called.
    name: &'static str,
    id: &'static str,
    component: &'static str,
    model: &'static str,
    config: Value,
    /// The origins that it wants and does not need here.
    withheld: &'static [&'static str],
    /// What its native client does.
    exchanges: Vec<Exchange>,
}

/// One request of a native client.
struct Exchange {
    method: &'static str,
    path: &'static str,
    body: Option<Value>,
    /// How long it waits before.
    wait: Duration,
    picture: Picture,
}

/// Where an answer has the picture.
#[derive(Clone, Copy)]
enum Picture {
    None,
    /// As base64 at this place of its JSON.
    At(&'static str),
    /// It is the answer.
    Whole,
}

/// The figures, an adapter a line pair.
pub(crate) async fn adapters() -> Result<()> {
    let origin = serve(axum::Router::new().fallback(answer))?;
    for subject in subjects(&origin) {
        let host = start(&subject, &origin).await?;
        let (backend, native) = (host.backend(), reqwest::Client::builder().no_proxy().build()?);
        let waits: Duration = subject.exchanges.iter().map(|exchange| exchange.wait).sum();
        let rounds = if waits.is_zero() { 600 } else { 60 };
        let (mut natives, mut plugins) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let begun = Instant::now();
            ask(&native, &origin, &subject.exchanges).await?;
            let first = begun.elapsed();
            generate(&*backend, subject.model).await?;
            if round >= rounds / 6 {
                natives.push(first);
                plugins.push(begun.elapsed() - first);
            }
        }
        let count = subject.exchanges.len();
        let of_them = if waits.is_zero() { String::new() } else { format!(", {} ms of waits", waits.as_millis()) };
        let native = show(&format!("baseline of {}: {count} exchanges{of_them}", subject.name), natives);
        let plugin = show(&format!("{}, one generation", subject.name), plugins);
        println!("  {}: {:.2} of the native time, {:.0} µs added", subject.name, plugin / native, plugin - native);
    }
    Ok(())
}

fn subjects(origin: &str) -> Vec<Subject> {
    let openai = |model: &str| json!({ "model": model, "prompt": "a fox", "n": 1 });
    let parts = json!([{ "role": "user", "parts": [{ "text": "a fox" }] }]);
    let v1 = format!("{origin}/v1");
    vec![
        Subject {
            name: "openai-images",
            id: "openai-images",
            component: env!("COMPONENT_OPENAI_IMAGES"),
            model: "openai-images",
            config: json!({ "base_url": v1 }),
            withheld: &[],
            exchanges: vec![post("/v1/images/generations", openai("m"), Picture::At("/data/0/b64_json"))],
        },
        Subject {
            name: "openai",
            id: "openai",
            component: env!("COMPONENT_OPENAI"),
            model: "gpt-image-2",
            config: json!({ "base_url": v1 }),
            withheld: &["https://api.openai.com"],
            exchanges: vec![post("/v1/images/generations", openai("gpt-image-2"), Picture::At("/data/0/b64_json"))],
        },
        Subject {
            name: "gemini",
            id: "gemini",
            component: env!("COMPONENT_GEMINI"),
            model: "gemini-nano-banana-2.1",
            config: json!({ "base_url": format!("{origin}/v1beta") }),
            withheld: &["https://generativelanguage.googleapis.com"],
            exchanges: vec![post(
                "/v1beta/models/gemini-nano-banana-2.1:generateContent",
                json!({ "contents": parts, "generationConfig": { "responseModalities": ["IMAGE"] } }),
                Picture::At("/candidates/0/content/parts/0/inlineData/data"),
            )],
        },
        Subject {
            name: "gemini with Imagen",
            id: "gemini",
            component: env!("COMPONENT_GEMINI"),
            model: "imagen-4.0-generate-001",
            config: json!({ "base_url": format!("{origin}/v1beta") }),
            withheld: &["https://generativelanguage.googleapis.com"],
            exchanges: vec![post(
                "/v1beta/models/imagen-4.0-generate-001:predict",
                json!({ "instances": [{ "prompt": "a fox" }], "parameters": { "sampleCount": 1 } }),
                Picture::At("/predictions/0/bytesBase64Encoded"),
            )],
        },
        Subject {
            name: "bfl",
            id: "bfl",
            component: env!("COMPONENT_BFL"),
            model: "flux-2-pro",
            config: json!({ "base_url": v1, "poll_ms": 200 }),
            withheld: &["https://*.bfl.ai"],
            exchanges: vec![
                post("/v1/flux-2-pro", json!({ "prompt": "a fox" }), Picture::None),
                Exchange { wait: BFL_WAIT, ..get("/v1/get_result?id=t", Picture::None) },
                get("/s.png", Picture::Whole),
            ],
        },
        Subject {
            name: "invokeai",
            id: "invokeai",
            component: env!("COMPONENT_INVOKEAI"),
            model: "invokeai",
            config: json!({ "base_url": origin, "live": false, "poll_interval_s": 0.05 }),
            withheld: &[],
            exchanges: vec![
                get("/api/v1/app/version", Picture::None),
                get("/api/v1/queue/default/status", Picture::None),
                get("/api/v2/models/", Picture::None),
                get("/api/v2/models/missing", Picture::None),
                post("/api/v1/queue/default/enqueue_batch", json!({ "batch": {} }), Picture::None),
                post("/api/v1/queue/default/item_summaries_by_ids", json!({ "item_ids": [1] }), Picture::None),
                get("/api/v1/queue/default/i/1", Picture::None),
                get("/api/v1/images/i/a.png/full", Picture::Whole),
                Exchange { method: "DELETE", ..get("/api/v1/images/i/a.png", Picture::None) },
            ],
        },
    ]
}

fn get(path: &'static str, picture: Picture) -> Exchange {
    Exchange { method: "GET", path, body: None, wait: Duration::ZERO, picture }
}

fn post(path: &'static str, body: Value, picture: Picture) -> Exchange {
    Exchange { method: "POST", body: Some(body), ..get(path, picture) }
}

async fn start(subject: &Subject, origin: &str) -> Result<Host> {
    let folders = TempDir::new()?;
    let plugins = folders.path().join("plugins");
    std::fs::create_dir_all(&plugins)?;
    replace(&plugins.join("adapter.wasm"), &std::fs::read(subject.component)?)?;
    let settings = PluginSettings {
        origins: vec![origin.to_owned()],
        withheld: subject.withheld.iter().map(|&origin| origin.to_owned()).collect(),
        config: subject.config.as_object().cloned().unwrap_or_default(),
        ..PluginSettings::default()
    };
    let config = StoreConfig { data: folders.path().join("data"), images: None, last_image: None };
    let values: Arc<dyn Values> = Arc::new(Store::open(config).await?);
    let limits = HostLimits { poll_least: Duration::from_millis(1), ..HostLimits::default() };
    Host::with(folders, limits, BTreeMap::from([(subject.id.to_owned(), settings)]), Some(values)).await
}

/// One picture of a model, as the walk asks for it.
async fn generate(backend: &dyn Backend, model: &str) -> Result<()> {
    let admission = Admission::new(1000, BTreeMap::new());
    let permit = admission.admit("bench")?;
    let known = backend.models().into_iter().find(|known| known.id == model).ok_or("the model is not there")?;
    let mut draft = Draft::new("a fox");
    draft.model = Some(model.to_owned());
    let request = known.fit(&draft.check(&ParamNames::OURS)?, 1)?.request;
    let output = backend.generate(&context(), Job { request, model: known, permit }).await?;
    if output.images.len() == 1 { Ok(()) } else { Err("one picture was asked for".into()) }
}

/// The same by a native client.
async fn ask(client: &reqwest::Client, origin: &str, exchanges: &[Exchange]) -> Result<()> {
    for Exchange { method, path, body, wait, picture } in exchanges {
        if !wait.is_zero() {
            tokio::time::sleep(*wait).await;
        }
        let mut request = client.request(method.parse()?, format!("{origin}{path}"));
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = request.send().await?.error_for_status()?.bytes().await?;
        let file = match picture {
            Picture::None => continue,
            Picture::Whole => answer,
            Picture::At(place) => {
                let said: Value = serde_json::from_slice(&answer)?;
                let text = said.pointer(place).and_then(Value::as_str).ok_or("the answer has a picture")?;
                Bytes::from(STANDARD.decode(text)?)
            }
        };
        std::hint::black_box(image::load_from_memory(&file)?);
    }
    Ok(())
}

/// All upstreams at once: their addresses do not overlap.
async fn answer(request: Request) -> Response {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = format!("http://{host}");
    let path = request.uri().path();
    let picture = || STANDARD.encode(PICTURE);
    let image = json!({ "type": "image_output", "image": { "image_name": "a.png" }, "width": 8, "height": 8 });
    let model = json!({
        "key": "k", "hash": "blake3:k", "name": "m", "base": "sd-1", "type": "main", "format": "diffusers",
        "variant": "normal",
    });
    let body = match path.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default() {
        "generations" => json!({ "created": 1, "data": [{ "b64_json": picture() }] }),
        "flux-2-pro" => json!({ "id": "t", "polling_url": format!("{origin}/v1/get_result?id=t") }),
        "get_result" => json!({ "status": "Ready", "result": { "sample": format!("{origin}/s.png") } }),
        "s.png" | "full" => return ([(CONTENT_TYPE, "image/png")], PICTURE).into_response(),
        "version" => json!({ "version": "6.14.2" }),
        "status" => json!({
            "queue": { "queue_id": "default", "pending": 0, "in_progress": 0, "total": 0 },
            "processor": { "is_started": true, "is_processing": false },
        }),
        "models" => json!({ "models": [model] }),
        "missing" => json!({ "models": [] }),
        "enqueue_batch" => json!({ "enqueued": 1, "requested": 1, "batch": { "batch_id": "b" }, "item_ids": [1] }),
        "item_summaries_by_ids" => json!([{ "item_id": 1, "status": "completed" }]),
        "1" => json!({
            "item_id": 1, "status": "completed",
            "session": { "source_prepared_mapping": { "out": ["p"] }, "results": { "p": image } },
        }),
        verb if verb.ends_with(":generateContent") => {
            let parts = json!([{ "inlineData": { "mimeType": "image/png", "data": picture() } }]);
            json!({ "candidates": [{ "finishReason": "STOP", "content": { "parts": parts } }] })
        }
        verb if verb.ends_with(":predict") => json!({ "predictions": [{ "bytesBase64Encoded": picture() }] }),
        _ => Value::Null,
    };
    ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
