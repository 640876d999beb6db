//! The addresses under `/v1/images/`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use easel_core::{Delivery, Error, ErrorKind};

use super::answer::{self, Answer};
use super::convert;
use super::wire::GenerationBody;
use crate::error::Failure;
use crate::http::{Call, Front, read_json, unix_seconds};

/// `POST /v1/images/generations`: pictures from a prompt.
pub(super) async fn generations(
    State(front): State<Arc<Front>>,
    call: Call,
    request: Request,
) -> Result<Response, Failure> {
    let headers = request.headers().clone();
    let body = read_json(&call, request).await?;
    let body = GenerationBody::read(&body)?;
    let asked = convert::request(body, &headers, call.settings.default_delivery)?;
    let delivery = asked.request.delivery;

    // Held over the walk and no longer: dropped early, it stops the work.
    let (context, guard) = call.context();
    let generation = front.pipeline.run(&context, asked.request.clone()).await?;
    drop(guard);

    answer::check_kept(&generation, delivery)?;
    let answer = Answer {
        created: unix_seconds(),
        items: convert::items(&generation, delivery, call.settings.public_base_url.as_ref()),
        inline: match delivery {
            Delivery::Address => Vec::new(),
            Delivery::Inline => generation.images.iter().map(|made| made.image.clone()).collect(),
        },
        particulars: convert::particulars(&asked, &generation),
    };
    Ok(answer::response(answer.write().await?, &generation))
}

/// `POST /v1/images/edits`: no task of ours takes a picture yet, so no backend can declare it.
pub(super) async fn edits() -> Failure {
    Failure(unsupported("no backend here edits images"))
}

/// `POST /v1/images/variations`: likewise.
pub(super) async fn variations() -> Failure {
    Failure(unsupported("no backend here makes variations of images"))
}

fn unsupported(message: &str) -> Error {
    Error::new(ErrorKind::Unsupported, message).with_hint("POST /v1/images/generations makes images from a prompt")
}
