//! The one test binary. Each module tests the running server from outside, as a client, an operator or a plugin author
//! meets it; what one crate can show alone is tested there, what the walk does with fakes in `host/core/src/tests/`.
//!
//! `harness/` starts servers and plays the other sides; `cases/` holds requests and what must come back, as data;
//! `golden/` holds numbers made elsewhere; `hostile/` the plugins that misbehave. Test names begin with the number of
//! the item that they show, where there is one.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what a test cannot go on without ends the test, also in the functions that tests share"
)]

#[path = "../harness/mod.rs"]
mod harness;

#[path = "../golden/mod.rs"]
mod golden;

#[path = "../hostile/mod.rs"]
mod hostile;

mod adapters;
mod admission;
mod architecture;
mod cases;
mod command_line;
mod credentials;
mod dev;
mod documents;
mod grants;
mod invokeai;
mod jobs;
mod metrics;
mod openai_client;
mod picture;
mod plugin_authoring;
mod plugin_cases;
mod plugin_detail;
mod plugin_operations;
mod plugin_promises;
mod plugins;
mod reloads;
mod security;
mod start;
mod store;
mod streams;
mod transformers;
