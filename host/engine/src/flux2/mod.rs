//! The networks of FLUX.2 that no other family has: its transformer and the norm of its latents.

mod latents;
mod transformer;

pub(crate) use latents::LatentNorm;
pub(crate) use transformer::{Grid, Transformer};
