//! The seam to whatever turns a request into images: the engine, or a plugin.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Context, Error, ErrorKind, GenerationRequest, ModelInfo, Money, Output, Permit, Record, Result, RetiredModel,
    Ticket,
};

/// Turns a request into images.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The id by which requests and the config name it.
    fn id(&self) -> &str;

    /// The models it has now, its default first.
    fn models(&self) -> Vec<Arc<ModelInfo>>;

    /// The models that it had once: asked only about a name that is none of its models.
    fn retired(&self) -> Vec<RetiredModel> {
        Vec::new()
    }

    /// Whether it can take a request now.
    fn readiness(&self) -> Readiness;

    /// Makes the images of a job.
    ///
    /// Dropping the future abandons the work: the backend stops at the next point where it can, and keeps the job's
    /// permit until it has.
    ///
    /// # Errors
    /// Any kind; the message is for the caller.
    async fn generate(&self, context: &Context, job: Job) -> Result<Output>;

    /// The same for a request that outlives this process. Where a provider goes on with the work by itself, the backend
    /// writes down what another process needs to go on with it.
    ///
    /// # Errors
    /// As [`Backend::generate`], and what the record says.
    async fn generate_recorded(&self, context: &Context, job: Job, record: Arc<dyn Record>) -> Result<Output> {
        drop(record);
        self.generate(context, job).await
    }

    /// Goes on with work that was written down, by an earlier process or by this one.
    ///
    /// # Errors
    /// As [`Backend::generate`]; `Unsupported` where the backend leaves no work to providers.
    async fn resume(&self, context: &Context, job: Job, ticket: Ticket, record: Arc<dyn Record>) -> Result<Output> {
        let _ = (context, job, ticket, record);
        Err(Error::new(ErrorKind::Unsupported, format!("backend {} has no work to go on with", self.id())))
    }

    /// Says what a request that fits the model would cost at most, before it runs; `None` means not knowing, which is
    /// not zero. Unless a backend knows better, it is the model's price.
    ///
    /// # Errors
    /// Any kind; the message is for the caller.
    async fn estimate(
        &self,
        context: &Context,
        request: &GenerationRequest,
        model: &Arc<ModelInfo>,
    ) -> Result<Option<Money>> {
        let _ = context;
        Ok(model.price_of(request.count))
    }
}

/// One admitted piece of work. The request fits the model: every choice that is the model's to make is filled in.
#[derive(Clone, Debug)]
pub struct Job {
    /// What to make.
    pub request: GenerationRequest,
    /// The model to make it with.
    pub model: Arc<ModelInfo>,
    /// The right to run; held until the work has really stopped.
    pub permit: Permit,
}

/// Whether a backend can take a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It is getting there; a request waits for it.
    Loading,
    /// It cannot, for this reason.
    NotReady(String),
}
