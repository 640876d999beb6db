//! What serves now, and how every plugin stands. The loader writes it, one whole view at a time; whoever asks gets the
//! view of that moment.

use std::sync::{Arc, PoisonError, RwLock};

use easel_core::{Backend, Transformer};

use crate::status::Place;

/// One moment.
#[derive(Default)]
pub(crate) struct View {
    /// By id.
    pub(crate) backends: Vec<Arc<dyn Backend>>,
    /// By id.
    pub(crate) transformers: Vec<Arc<dyn Transformer>>,
    /// By path.
    pub(crate) places: Vec<Place>,
}

/// The cell with the current view.
#[derive(Default)]
pub(crate) struct Registry(RwLock<Arc<View>>);

impl Registry {
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn swap(&self, next: View) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}
