//! The probes: whether the process serves, and whether it can make images now. They need no key, and anybody may ask
//! them as often as they like, so they cost next to nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use easel_core::{Backend, Readiness};
use easel_runtime::{PluginKind, PluginState, PluginStatus, Runtime};
use serde::Serialize;

use super::Front;

/// The addresses.
pub(super) fn routes() -> Router<Arc<Front>> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

/// `GET /healthz`: the process serves, whatever the backends do.
async fn healthz() -> &'static str {
    "ok"
}

/// `GET /readyz`: at least one backend is ready, images can be kept, and the server is not stopping.
async fn readyz(State(front): State<Arc<Front>>) -> Response {
    let snapshot = front.pipeline.world().snapshot();
    let mut backends: BTreeMap<_, _> =
        snapshot.backends.iter().map(|backend| (backend.id().to_owned(), Standing::of(backend.as_ref()))).collect();
    // The store answers from memory when it was asked a moment ago.
    let store = match front.store.check_writable().await {
        Ok(()) => Standing { ready: true, status: "ready", reason: None },
        Err(error) => Standing { ready: false, status: "not_ready", reason: Some(error.message().to_owned()) },
    };
    let admitting = front.pipeline.admission().is_open();
    let ready = admitting && store.ready && backends.values().any(|backend| backend.ready);
    let reason = match (admitting, backends.is_empty()) {
        (false, _) => Some("the server is stopping"),
        (true, true) => Some("there is no backend yet"),
        (true, false) => None,
    };
    let default_model = snapshot.missing_default().map(|default| {
        let reason = format!("models.default names {default:?}, which is not here now");
        Standing { ready: false, status: "not_ready", reason: Some(reason) }
    });
    if !ready {
        backends.extend(adapters_that_do_not_serve(&front));
    }
    let body = Json(Readyz { ready, reason, backends, store, default_model });
    if ready {
        return body.into_response();
    }
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// The adapters that are there and are no backends yet, each with the reason; looked at only while nothing is ready.
fn adapters_that_do_not_serve(front: &Front) -> impl Iterator<Item = (String, Standing)> {
    let plugins = front.plugins.get().map(Runtime::status).unwrap_or_default();
    let is_out = |plugin: &PluginStatus| {
        plugin.kind == Some(PluginKind::Adapter) && plugin.digest.is_none() && plugin.state != PluginState::Disabled
    };
    plugins.into_iter().filter(is_out).map(|plugin| {
        let standing = Standing { ready: false, status: plugin.state.name(), reason: plugin.reason };
        (plugin.id, standing)
    })
}

#[derive(Serialize)]
struct Readyz {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    backends: BTreeMap<String, Standing>,
    store: Standing,
    /// Told while it is not there; models that are named can be used all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    default_model: Option<Standing>,
}

/// How one part stands.
#[derive(Serialize)]
pub(super) struct Standing {
    pub(super) ready: bool,
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

impl Standing {
    pub(super) fn of(backend: &dyn Backend) -> Self {
        match backend.readiness() {
            Readiness::Ready => Self { ready: true, status: "ready", reason: None },
            Readiness::Loading => Self { ready: false, status: "loading", reason: None },
            Readiness::NotReady(reason) => Self { ready: false, status: "not_ready", reason: Some(reason) },
        }
    }
}
