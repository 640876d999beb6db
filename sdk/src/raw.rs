//! What the helpers are built on: the host inside a component, its stand-in everywhere else. Both have the same
//! functions, so the helpers are written once.

#[cfg(target_arch = "wasm32")]
pub(crate) use crate::bindings::adapter::easel::plugin::{blobs, fetch, host, pixels};
#[cfg(target_arch = "wasm32")]
pub(crate) use crate::bindings::store::easel::plugin::store;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::stand_in::{blobs, fetch, host, pixels, store};
