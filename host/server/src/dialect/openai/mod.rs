//! The OpenAI Images API, which most clients speak: `/v1/images/…` and `/v1/models`.
//!
//! [`wire`] reads and writes the other side's words, [`convert`] maps them to ours, [`answer`] puts a finished
//! generation into bytes; [`images`] and [`models`] are the addresses.

mod answer;
mod convert;
mod images;
mod models;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use easel_core::ParamNames;

use super::Dialect;
use crate::http::Front;

/// The dialect's line in the table.
pub static DIALECT: Dialect = Dialect { name: "openai", prefix: "/v1/", routes, error_body: wire::error_body };

/// The caller's words for the parameters.
static NAMES: ParamNames = WORDS;
/// The same for callers who wrote `guidance`.
static NAMES_WITH_GUIDANCE: ParamNames = ParamNames { guidance: "guidance", ..WORDS };
const WORDS: ParamNames = ParamNames {
    count: "n",
    guidance: "cfg_scale",
    sampler: "scheduler",
    format: "output_format",
    compression: "output_compression",
    image: "image",
    mask: "mask",
    reference: "reference",
    ..ParamNames::OURS
};

fn routes() -> Router<Arc<Front>> {
    Router::new()
        .route("/v1/images/generations", post(images::generations))
        .route("/v1/images/edits", post(images::edits))
        .route("/v1/images/variations", post(images::variations))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
}
