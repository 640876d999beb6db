//! The functions that a plugin may call, interface by interface as in `wit/`. A new one is written in the WIT first,
//! then here; the compiler names what is missing.
//!
//! A function that cannot do what was asked gives an error value where the WIT has one, and else ends the call with a
//! [`Breach`](crate::fault::Breach). Nothing here waits except `fetch`, `pixels` and `store`.

mod blobs;
mod document;
mod edits;
mod fetch;
mod images;
mod pixels;
mod progress;
mod store;
mod stream;

pub(crate) use blobs::BlobQuota;
pub use blobs::{Blob, BlobWriter};
pub use document::Document;
pub use edits::Edits;
pub use fetch::Response;
pub use images::{ImageRequest, ImageResult};
pub(crate) use pixels::PixelWork;
pub use progress::CallProgress;
pub(crate) use progress::PartialQuota;
pub(crate) use store::StoreAccess;

use crate::bindings::easel::plugin::{host, types};
use crate::fault::Failure;
use crate::state::State;

impl types::Host for State {
    fn convert_plugin_error(&mut self, failure: Failure) -> wasmtime::Result<types::PluginError> {
        match failure {
            Failure::Value(error) => Ok(error),
            Failure::Trap(error) => Err(error),
        }
    }
}

impl host::Host for State {
    fn log(&mut self, level: host::Level, message: String) -> wasmtime::Result<()> {
        self.trail.step("host.log");
        self.call.log.line(level, &message);
        Ok(())
    }

    fn config(&mut self) -> wasmtime::Result<String> {
        self.trail.step("host.config");
        Ok(self.call.config.to_string())
    }

    fn has_credential(&mut self, name: String) -> wasmtime::Result<bool> {
        self.trail.step("host.has-credential");
        Ok(self.call.credentials.contains(&name))
    }
}
