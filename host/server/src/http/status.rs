//! What operators and other services ask about the server: who runs, which backends there are and how they stand. All
//! of it needs a key where there are keys; the probes (`health.rs`) do not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use easel_core::{ImageFormat, MAX_COUNT, MAX_PROMPT_CHARS, MAX_STEPS, Readiness, Size};
use serde::Serialize;

use super::health::Standing;
use super::{Call, Front};

/// The addresses.
pub(super) fn routes() -> Router<Arc<Front>> {
    Router::new()
        .route("/v1/gateway/status", get(gateway_status))
        .route("/health", get(health))
        .route("/info", get(info))
        .route("/api/backends", get(backends))
}

/// `GET /v1/gateway/status`: counts and health, in the form that gateways' monitoring reads.
async fn gateway_status(State(front): State<Arc<Front>>) -> Json<GatewayStatus> {
    let snapshot = front.pipeline.world().snapshot();
    let admission = front.pipeline.admission();
    // Readiness is read as it is at this moment, so this moment is when it was checked last.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let mut status = GatewayStatus { admission_control: BTreeMap::new(), backend_health: BTreeMap::new() };
    for backend in &snapshot.backends {
        let lane = admission.lane(backend.id());
        let counts = Counts { limit: lane.limit, available: lane.available, inflight: lane.inflight };
        status.admission_control.insert(format!("{}.images", backend.id()), counts);
        let (healthy, ready, error) = match backend.readiness() {
            Readiness::Ready => (true, true, None),
            Readiness::Loading => (true, false, None),
            Readiness::NotReady(reason) => (false, false, Some(reason)),
        };
        status.backend_health.insert(backend.id().to_owned(), Health { healthy, ready, last_check: now, error });
    }
    Json(status)
}

#[derive(Serialize)]
struct GatewayStatus {
    admission_control: BTreeMap<String, Counts>,
    backend_health: BTreeMap<String, Health>,
}

#[derive(Serialize)]
struct Counts {
    limit: usize,
    available: usize,
    inflight: usize,
}

#[derive(Serialize)]
struct Health {
    healthy: bool,
    ready: bool,
    last_check: f64,
    error: Option<String>,
}

/// `GET /health`: all backends in one word. `healthy` when one is ready, `loading` while one is getting there,
/// `unhealthy` otherwise; only the first is a 200.
async fn health(State(front): State<Arc<Front>>) -> Response {
    let snapshot = front.pipeline.world().snapshot();
    let backends: BTreeMap<_, _> =
        snapshot.backends.iter().map(|backend| (backend.id().to_owned(), Standing::of(backend.as_ref()))).collect();
    let has = |status: &str| backends.values().any(|backend| backend.status == status);
    let (code, status) = match (has("ready"), has("loading")) {
        (true, _) => (StatusCode::OK, "healthy"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "loading"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
    };
    (code, Json(serde_json::json!({ "status": status, "backends": backends }))).into_response()
}

/// `GET /info`: what this server is and what it takes.
async fn info(State(front): State<Arc<Front>>, call: Call) -> Json<Info> {
    let snapshot = front.pipeline.world().snapshot();
    let models = snapshot.models();
    Json(Info {
        name: "easel",
        version: env!("CARGO_PKG_VERSION"),
        default_backend: snapshot.backends.first().map(|backend| backend.id().to_owned()),
        default_model: match snapshot.missing_default() {
            Some(_) => None,
            None => snapshot.default_model.clone().or_else(|| models.first().map(|(_, model)| model.id.clone())),
        },
        models: models.iter().map(|(_, model)| model.id.clone()).collect(),
        limits: Limits {
            max_n: MAX_COUNT,
            max_prompt_characters: MAX_PROMPT_CHARS,
            max_steps: MAX_STEPS,
            max_side: Size::MAX_SIDE,
            max_body_bytes: call.settings.max_body_bytes,
            request_seconds: call.settings.request_time_limit.as_secs(),
            output_formats: ImageFormat::ALL.map(ImageFormat::name),
        },
    })
}

#[derive(Serialize)]
struct Info {
    name: &'static str,
    version: &'static str,
    default_backend: Option<String>,
    /// Nothing while the configured one is not there.
    default_model: Option<String>,
    models: Vec<String>,
    limits: Limits,
}

#[derive(Serialize)]
struct Limits {
    max_n: u32,
    max_prompt_characters: usize,
    max_steps: u32,
    max_side: u32,
    max_body_bytes: usize,
    request_seconds: u64,
    output_formats: [&'static str; 3],
}

/// `GET /api/backends`: every backend, the one preferred for unnamed models first.
async fn backends(State(front): State<Arc<Front>>) -> Json<Vec<BackendEntry>> {
    let snapshot = front.pipeline.world().snapshot();
    let entries = snapshot.backends.iter().enumerate().map(|(index, backend)| {
        let models = backend.models();
        let standing = Standing::of(backend.as_ref());
        BackendEntry {
            id: backend.id().to_owned(),
            engine: models.first().map(|model| model.family.clone()),
            models: models.iter().map(|model| model.id.clone()).collect(),
            available: standing.status != "not_ready",
            ready: standing.ready,
            default: index == 0,
            reason: standing.reason,
        }
    });
    Json(entries.collect())
}

#[derive(Serialize)]
struct BackendEntry {
    id: String,
    /// The family of its default model.
    engine: Option<String>,
    models: Vec<String>,
    available: bool,
    ready: bool,
    default: bool,
    reason: Option<String>,
}
