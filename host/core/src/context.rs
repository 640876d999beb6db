//! What surrounds one request: who asks, until when, whether they are still there, and who listens. The first
//! parameter of everything on the walk.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Error, ErrorKind, Principal, Progress, Result, TraceParent};

/// The surroundings of one request. Cloning shares the cancellation and the progress channel.
#[derive(Clone, Debug)]
pub struct Context {
    /// Names the request in logs, answers and upstream calls.
    pub id: RequestId,
    /// Who asks.
    pub principal: Principal,
    /// When the request ends, finished or not.
    pub deadline: Instant,
    /// Trips when the caller has gone or the deadline has passed; long work looks at it at every step.
    pub cancellation: CancellationToken,
    /// Where steps and previews are told; nobody has to listen.
    pub progress: Progress,
    /// The seed to use where the caller named none, drawn when the request came in.
    pub fallback_seed: u64,
    /// The caller's place in a distributed trace, where it named one; passed on to upstreams.
    pub trace_parent: Option<TraceParent>,
}

impl Context {
    /// Tells whether going on is worth it.
    ///
    /// # Errors
    /// `Cancelled` once the caller has gone, `Timeout` once the deadline has passed.
    pub fn check(&self) -> Result<()> {
        if Instant::now() >= self.deadline {
            return Err(Error::new(ErrorKind::Timeout, "the deadline of the request passed"));
        }
        if self.cancellation.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "the caller has gone"));
        }
        Ok(())
    }
}

/// The name of a request: printable ASCII without spaces, at most 128 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Takes a name that came from outside; `None` when it is empty, too long or not plain.
    pub fn new(text: &str) -> Option<Self> {
        let plain = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        plain.then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
