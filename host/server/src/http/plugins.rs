//! The plugins, for their operator: how each stands. Needs a key that may administer (`auth.rs`).
//!
//! The words of the answers are this file's own; the runtime's types are not serialized.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use easel_core::{Error, ErrorKind};
use easel_runtime::{PluginKind, PluginStatus, Runtime};
use serde::Serialize;

use super::Front;
use crate::dialect::fields::quote;
use crate::error::Failure;

/// The addresses.
pub(super) fn routes() -> Router<Arc<Front>> {
    Router::new().route("/v1/plugins", get(list)).route("/v1/plugins/{id}", get(one))
}

/// `GET /v1/plugins`: every plugin, by path.
async fn list(State(front): State<Arc<Front>>) -> Json<List> {
    let status = front.plugins.get().map(Runtime::status).unwrap_or_default();
    Json(List { object: "list", data: status.iter().map(Entry::of).collect() })
}

/// `GET /v1/plugins/{id}`: one of them.
async fn one(State(front): State<Arc<Front>>, Path(id): Path<String>) -> Result<Json<Entry>, Failure> {
    let status = front.plugins.get().map(Runtime::status).unwrap_or_default();
    let found = status.iter().find(|status| status.id == id).ok_or_else(|| unknown(&id, &status))?;
    Ok(Json(Entry::of(found)))
}

fn unknown(id: &str, status: &[PluginStatus]) -> Failure {
    let ids: Vec<_> = status.iter().map(|status| status.id.as_str()).collect();
    let there = if ids.is_empty() { "there are none".to_owned() } else { format!("there are: {}", ids.join(", ")) };
    let error = Error::new(ErrorKind::NotFound, format!("there is no plugin {}; {there}", quote(id)));
    Failure(error.with_code("plugin_not_found"))
}

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Entry>,
}

/// One plugin.
#[derive(Serialize)]
struct Entry {
    id: String,
    object: &'static str,
    kind: Option<&'static str>,
    state: &'static str,
    reason: Option<String>,
    version: Option<String>,
    digest: Option<String>,
    /// The component's path in the plugins folder, or its name.
    file: String,
    /// When it came to stand so, in Unix seconds.
    since: u64,
    models: Vec<String>,
    /// Origins that it wants and does not have.
    ungranted: Vec<String>,
    /// What the build that lies there waits for.
    missing_grant: Option<Missing>,
}

/// What an operator has yet to decide, as lines and as a command to paste.
#[derive(Serialize)]
struct Missing {
    wants: Vec<String>,
    toml: String,
    command: String,
}

impl Entry {
    fn of(status: &PluginStatus) -> Self {
        Self {
            id: status.id.clone(),
            object: "plugin",
            kind: status.kind.map(PluginKind::name),
            state: status.state.name(),
            reason: status.reason.clone(),
            version: status.version.clone(),
            digest: status.digest.clone(),
            file: name_of(&status.path),
            since: unix(status.since),
            models: status.models.clone(),
            ungranted: status.ungranted.clone(),
            missing_grant: status.missing_grant.clone().map(|missing| Missing {
                wants: missing.wants,
                toml: missing.toml,
                command: missing.command,
            }),
        }
    }
}

fn name_of(path: &FilePath) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Unix seconds; a time before 1970 is 0.
fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
