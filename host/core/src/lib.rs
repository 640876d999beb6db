//! Easel's words, its seams, and the walk of a request.
//!
//! A dialect turns what a client sent into a [`GenerationRequest`]; [`Pipeline::run`] takes it through policy,
//! transformers, routing, admission, a backend and the keeper; the dialect writes the [`Generation`] back. Read
//! [`pipeline`] first: everything else is reached from it.
//!
//! This crate knows no HTTP, JSON, WebAssembly, tensors or SQL. The crates that do implement its seams: [`Backend`]
//! (engine, plugins), [`Transformer`] (plugins), [`Keeper`] and [`Values`] (store).

pub mod pipeline;

mod admission;
mod backend;
mod context;
mod edit;
mod error;
mod fit;
mod generation;
mod image;
mod input;
mod keeper;
mod model;
mod policy;
mod progress;
mod record;
mod request;
mod route;
mod secret;
mod snapshot;
mod trace;
mod transformer;
mod values;

#[cfg(test)]
mod tests;

pub use admission::{Admission, Lane, Permit};
pub use backend::{Backend, Job, Readiness};
pub use context::{Context, RequestId};
pub use edit::Edit;
pub use error::{Error, ErrorKind, Result};
pub use fit::Fitted;
pub use generation::{Generation, Made, Money, Note, NoteKind, Output, Timings, Usage};
pub use image::{Image, ImageFormat, Size};
pub use input::{Input, InputRole, MAX_INPUT_BYTES, MAX_INPUTS};
pub use keeper::{Delivery, Keeper, Kept};
pub use model::{Control, Determinism, ModelInfo, ModelInputs, ModelOption, Numbers, RetiredModel, SizeRule, Task};
pub use pipeline::{Pipeline, Resumed};
pub use policy::{Allowance, Principal};
pub use progress::{Event, Progress, ProgressReader};
pub use record::{Begun, Record, Ticket};
pub use request::{
    Draft, GenerationRequest, MAX_COUNT, MAX_GUIDANCE, MAX_OPTIONS, MAX_PROMPT_CHARS, MAX_SEED, MAX_STEPS, OnUnknown,
    OptionValue, ParamNames,
};
pub use route::Route;
pub use secret::Secret;
pub use snapshot::{OnFailure, Snapshot, Stage, UnknownModel, World};
pub use trace::TraceParent;
pub use transformer::{Review, Transformer, Verdict};
pub use values::{Fits, ValueQuota, Values};
