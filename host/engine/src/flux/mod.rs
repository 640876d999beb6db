//! The networks of FLUX.1 that no other family has: its transformer.

mod transformer;

pub(crate) use transformer::Transformer;
