//! Which generation of each plugin serves now. Work that outlives a swap, such as the polling of a provider's job, asks
//! here for whom to go on with; everything else keeps the generation that its snapshot holds.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use crate::plugin::Plugin;

/// The serving generations, by plugin. It keeps none of them alive.
#[derive(Default)]
pub(crate) struct Generations(RwLock<BTreeMap<Arc<str>, Weak<Plugin>>>);

impl Generations {
    /// Takes those that serve from now on, all of them.
    pub(crate) fn set<'a>(&self, serving: impl Iterator<Item = &'a Arc<Plugin>>) {
        let serving = serving.map(|plugin| (Arc::clone(&plugin.id), Arc::downgrade(plugin))).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = serving;
    }

    /// The generation of a plugin that serves now.
    pub(crate) fn current(&self, id: &str) -> Option<Arc<Plugin>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id)?.upgrade()
    }
}
