//! The network of Z-Image that no other family has: its transformer.

mod transformer;

pub(crate) use transformer::{Caption, Transformer};
