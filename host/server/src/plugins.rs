//! The plugins as the composition root and the HTTP front share them: the front answers before they are started.

use std::sync::OnceLock;

use easel_runtime::Runtime;

/// The plugins, once they are started.
#[derive(Default)]
pub struct Plugins(OnceLock<Runtime>);

impl Plugins {
    /// The runtime; nothing while it has not started, and where the command has none.
    pub fn get(&self) -> Option<&Runtime> {
        self.0.get()
    }

    /// Puts in what was started. The first one stays.
    pub(crate) fn put(&self, runtime: Runtime) {
        self.0.get_or_init(|| runtime);
    }
}
