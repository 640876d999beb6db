//! The frozen set of backends, models and transformers that one request sees from start to end, and the cell that the
//! next one is swapped into.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::{Backend, ModelInfo, Transformer};

/// One view of the world. Cloning is cheap enough for a reload, not for a request: requests share an `Arc` of it.
#[derive(Clone)]
pub struct Snapshot {
    /// The backends, the one preferred for unnamed models first.
    pub backends: Vec<Arc<dyn Backend>>,
    /// The transformers, in their configured order.
    pub stages: Vec<Stage>,
    /// Other names for models: alias to model id, or to `backend/id`.
    pub aliases: BTreeMap<String, String>,
    /// The model for requests that name none; without it, the first model of the first backend.
    pub default_model: Option<String>,
    /// What happens to a model that nobody has.
    pub unknown_model: UnknownModel,
}

impl Snapshot {
    /// A world without anything in it.
    pub fn empty() -> Self {
        Self {
            backends: Vec::new(),
            stages: Vec::new(),
            aliases: BTreeMap::new(),
            default_model: None,
            unknown_model: UnknownModel::UseDefault,
        }
    }

    /// Every model with its backend, in routing order.
    pub fn models(&self) -> Vec<(Arc<dyn Backend>, Arc<ModelInfo>)> {
        let of = |backend: &Arc<dyn Backend>| {
            let backend = Arc::clone(backend);
            backend.models().into_iter().map(move |model| (Arc::clone(&backend), model))
        };
        self.backends.iter().flat_map(of).collect()
    }
}

/// One transformer in its place.
#[derive(Clone)]
pub struct Stage {
    /// The transformer.
    pub transformer: Arc<dyn Transformer>,
    /// How long it may take.
    pub time_limit: Duration,
    /// What happens when it fails.
    pub on_failure: OnFailure,
}

/// What happens when a transformer fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The request goes on without it, with a note.
    Open,
    /// The request fails.
    Closed,
}

/// What happens to a model that nobody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownModel {
    /// The default model takes its place, with a note.
    UseDefault,
    /// The request is refused with the list of models.
    Refuse,
}

/// The current snapshot. Swapping never waits for requests; they keep the one they took.
pub struct World(ArcSwap<Snapshot>);

impl World {
    /// Starts with a snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(snapshot))
    }

    /// Takes the current snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Swaps in the next one.
    pub fn swap(&self, next: Snapshot) {
        self.0.store(Arc::new(next));
    }
}
