//! The seam to the store: where finished pictures go.

use async_trait::async_trait;

use crate::{Context, Error, Generation, GenerationRequest};

/// How the caller gets the pictures, which decides whether failing to keep them fails the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// By address: a picture that was not kept cannot be answered.
    Address,
    /// In the answer itself: a picture that was not kept is a note.
    Inline,
}

/// Where one picture was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The file's public name, `{unix seconds}_{first 12 digits of the SHA-256}.{extension}`.
    pub name: String,
    /// The SHA-256 of the bytes, in lower-case hexadecimal.
    pub sha256: String,
}

/// Keeps finished pictures and what is known about them.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// Keeps every picture of a generation and returns their places, in order. Once it has returned, the pictures
    /// survive a crash of the machine.
    ///
    /// # Errors
    /// `Storage`, with nothing named that is not safely kept; `Upstream` for bytes that are no picture.
    async fn keep(
        &self,
        context: &Context,
        request: &GenerationRequest,
        generation: &Generation,
    ) -> Result<Vec<Kept>, Error>;
}
