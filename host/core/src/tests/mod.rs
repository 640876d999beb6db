//! The walk and its parts, tested with fakes in paused time: every branch, in milliseconds.
//!
//! What a real backend, plugin or store does is tested where it stands; what HTTP makes of it, in `tests/`. Start with
//! [`walk`]; [`fakes`] holds the other sides of the seams.

mod admission;
mod deadline;
mod draft;
mod errors;
mod fakes;
mod fit;
mod inputs;
mod policy;
mod progress;
mod routing;
mod transformers;
mod values;
mod walk;
