//! What the layers found out about a request, as handlers take it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use easel_core::{Context, Principal, Progress, RequestId};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::request_id::{Arrival, random};
use super::{Front, Settings};

/// The seeds drawn for callers who name none stay below 2³¹ less the most images of a request: every upstream with
/// seeds takes these.
const FALLBACK_SEEDS: u64 = (1 << 31) - easel_core::MAX_COUNT as u64;

/// One call of an address: who, until when, under which settings.
#[derive(Clone, Debug)]
pub struct Call {
    /// The request's name.
    pub id: RequestId,
    /// Who calls.
    pub principal: Principal,
    /// When the call ends, finished or not.
    pub deadline: Instant,
    /// The settings it began under.
    pub settings: Arc<Settings>,
}

impl Call {
    /// Makes the walk's context. Dropping the guard, which happens with the handler when the caller's connection
    /// closes, trips the context's cancellation.
    pub fn context(&self) -> (Context, DropGuard) {
        let cancellation = CancellationToken::new();
        let guard = cancellation.clone().drop_guard();
        let context = Context {
            id: self.id.clone(),
            principal: self.principal.clone(),
            deadline: self.deadline,
            cancellation,
            progress: Progress::new(),
            fallback_seed: fallback_seed(),
        };
        (context, guard)
    }
}

/// Draws the seed for a request that names none.
pub fn fallback_seed() -> u64 {
    random() % FALLBACK_SEEDS
}

impl FromRequestParts<Arc<Front>> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, front: &Arc<Front>) -> Result<Self, Infallible> {
        let extensions = &parts.extensions;
        let settings = front.settings();
        let arrival = extensions.get::<Arrival>().map_or_else(Instant::now, |arrival| arrival.0);
        Ok(Self {
            id: extensions.get::<RequestId>().cloned().expect("the request id layer stands around every route"),
            principal: extensions.get::<Principal>().cloned().expect("the auth layer stands around every keyed route"),
            deadline: arrival + settings.request_time_limit,
            settings,
        })
    }
}
