//! Plugins: WebAssembly components loaded, granted, run and replaced. The only crate that names wasmtime.
//!
//! [`Runtime::start`] watches a folder. Of every component in it, the loader (`loader.rs`, one thread) makes a generation
//! (`plugin.rs`) and swaps it into the registry; a file that cannot be loaded changes nothing that serves. What compiling
//! (`compile.rs`) made is kept in a private folder (`cache.rs`). The server
//! asks for the [`backends`](Runtime::backends) and [`transformers`](Runtime::transformers) of the moment, which are
//! core's seams (`adapter.rs`, `transformer.rs`).
//!
//! A call (`call.rs`) gets a fresh instance with its own store (`state.rs`), on threads that only guests use, within the
//! limits of `budget.rs` and [`HostLimits`]. What a guest can do is `host/`, interface by interface as in `wit/`; what
//! leaves the machine passes `door/`.
//!
//! This crate knows no HTTP dialect and no provider, reads neither environment nor config files, and opens no connection
//! but the door's.

mod runtime;

mod config;
mod generations;
mod grants;
mod operate;
mod permissions;
mod registry;
mod status;
mod wanted;

mod files;
mod folder;
mod loader;
mod watch;

mod abilities;
mod cache;
mod compile;
mod complexity;

mod builds;
mod drain;
mod kept;
mod life;
mod recollection;
mod record;
mod set_aside;
mod slot;
mod succession;
mod switches;
mod vitals;

mod component;
mod contract;
mod engine;
mod imports;
mod manifest;
mod models;
mod plugin;
mod priority;
mod refusal;
mod wasi;

mod account;
mod adapter;
mod call;
mod checkup;
mod clock;
mod estimate;
mod health;
mod jobs;
mod transformer;
mod warm;

mod bindings;
mod budget;
mod fault;
mod lanes;
mod log;
mod state;

mod door;
mod events;
mod host;
mod json;
mod pixels;
mod splice;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(test)]
mod random;

pub mod workbench;

pub use checkup::Checkup;
pub use config::{HostLimits, PluginSettings, RuntimeConfig, Secret};
pub use grants::{MissingGrant, NetworkGrant};
pub use health::{Health, HealthDepth};
pub use life::{LifeRules, PluginState};
pub use manifest::CredentialNeed;
pub use operate::PluginAction;
pub use permissions::{PluginPermissions, WantStanding, WantedCredential, WantedNetwork};
pub use record::{PluginError, PluginFigures, PluginTimes};
pub use runtime::Runtime;
pub use status::{BuildName, BuildStatus, DrainStatus, PluginStatus, VariableStatus};
pub use wanted::{PluginWants, covers_origin, plugin_wants};

#[cfg(test)]
mod properties;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What a plugin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PluginKind {
    /// It is a backend.
    Adapter,
    /// It edits requests.
    Transformer,
}

impl PluginKind {
    /// The name in manifests and lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adapter => "adapter",
            Self::Transformer => "transformer",
        }
    }
}
