//! Easel's native diffusion engine: Stable Diffusion, FLUX and Z-Image on candle, with diffusers' numbers.
//!
//! The engine is an [`easel_core::Backend`]. A request becomes a plan (`plan.rs`: recipes, notes, metadata), goes to the one
//! thread that owns the device (`device.rs`), which loads the model on first use (`models.rs` finds it, [`family`] loads it)
//! and takes turns between jobs, one denoising step at a time. Inside a family: `tokenizer.rs` → `clip.rs` → noise from
//! [`rng`] → `unet/` and a [`sampler`] walking a [`schedule`] → `vae.rs` → [`pixels`].
//!
//! Everything that fixes a number is ours and is compared with diffusers 0.42.1 (`tests/golden/`); candle gives tensors and
//! matrix products. Only `checkpoint.rs` maps memory; every network reads its tensors through `weights/`, whatever the file is
//! (`single/` for models in one file). Nothing here opens a socket, reads the environment or knows HTTP.

pub mod examine;
pub mod family;
pub mod flow;
pub mod given;
pub mod inventory;
pub mod latent;
pub mod pixels;
pub mod rng;
pub mod sampler;
pub mod schedule;
pub mod trace;

mod backend;
mod checkpoint;
mod clip;
mod config;
mod device;
mod error;
mod flux;
mod flux2;
mod lora;
mod models;
mod nn;
mod plan;
mod prompt;
mod qwen3;
mod reader;
mod reference;
mod resample;
mod safety;
mod single;
mod stub;
mod t5;
mod tiles;
mod tokenizer;
mod unet;
mod vae;
mod variant;
mod weights;
mod z_image;

pub use backend::{DeviceChoice, Engine, EngineOptions};
pub use checkpoint::Files;
pub use error::{Error, Result};
pub use models::{BUILT_IN, Extras, Problem};
pub use safety::{Safety, SafetyChecker, Verdict};
pub use single::SingleFile;
pub use stub::StubBackend;
pub use tokenizer::Tokens;
pub use weights::{Asked, Examination, Parameters};
