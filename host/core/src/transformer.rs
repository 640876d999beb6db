//! The seam to plugins that edit a request on its way in, or the images on their way out.

use async_trait::async_trait;

use crate::{Context, Edit, Error, GenerationRequest, Made, Note, Output, Result};

/// Edits requests or results.
#[async_trait]
pub trait Transformer: Send + Sync {
    /// The id by which the config orders it.
    fn id(&self) -> &str;

    /// Looks at a request before it is routed.
    ///
    /// # Errors
    /// A failure of the transformer itself; a refusal is [`Verdict::Reject`].
    async fn before(&self, context: &Context, request: &GenerationRequest) -> Result<Verdict>;

    /// Looks at the finished images; they pass unchanged unless a transformer says otherwise.
    ///
    /// # Errors
    /// A failure of the transformer itself; a refusal is [`Review::Reject`].
    async fn after(&self, context: &Context, request: &GenerationRequest, images: &[Made]) -> Result<Review> {
        let _ = (context, request, images);
        Ok(Review::Pass)
    }
}

/// What a transformer decides about finished images.
#[derive(Debug)]
pub enum Review {
    /// They go on as they are.
    Pass,
    /// These take their place, as many as there were; what they cost is added, their notes are told.
    Replace(Output),
    /// The request fails with this, also where it goes on without a transformer that fails.
    Reject(Error),
}

/// What a transformer decides about a request.
#[derive(Debug)]
pub enum Verdict {
    /// Go on, with these edits, applied all or none.
    Next {
        /// The edits; none passes the request unchanged.
        edits: Vec<Edit>,
        /// What the caller should know about them.
        notes: Vec<Note>,
    },
    /// Answer with this; no backend is asked.
    Answer(Output),
    /// Refuse the request.
    Reject(Error),
}
