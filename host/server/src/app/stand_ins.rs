//! What stands in for a part that is not there.

use std::time::Duration;

use async_trait::async_trait;
use easel_core::{Context, Error, ErrorKind, Generation, GenerationRequest, Keeper, Kept, Transformer, Verdict};

/// Keeps nothing.
pub(crate) struct NoKeeper;

#[async_trait]
impl Keeper for NoKeeper {
    async fn keep(&self, _: &Context, _: &GenerationRequest, _: &Generation) -> Result<Vec<Kept>, Error> {
        Ok(Vec::new())
    }
}

/// Stands where a transformer should that is not loaded: a request must not slip past a filter because its file is
/// broken. Whether it fails or goes on is the stage's `on_failure`.
pub(super) struct Absent(pub(super) String);

#[async_trait]
impl Transformer for Absent {
    fn id(&self) -> &str {
        &self.0
    }

    async fn before(&self, _: &Context, _: &GenerationRequest) -> Result<Verdict, Error> {
        let message = format!("transformer {} is configured but not loaded", self.0);
        Err(Error::new(ErrorKind::NotReady, message).with_retry_after(Duration::from_secs(30)))
    }
}
