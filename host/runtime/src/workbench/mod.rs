//! What plugin authors need of the runtime: one component looked at closely ([`Workbench::check`]), or set up and called
//! without a plugins folder, with the world around it played by a [`Scene`].
//!
//! A scene is given to a [`Workbench`] and to nothing else: the runtime that serves has none, and no config leads to
//! one. Everything else is the runtime that serves: the same checks, limits, grants and door.

mod check;
mod scene;
pub(crate) mod time;
mod values;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use easel_core::{Backend, Error, ErrorKind, Image, Result, Transformer, Values};

pub use check::{Checked, Finding, Weight};
pub(crate) use scene::Stage;
pub use scene::{FixedTime, Scene};

pub use crate::clock::Clock;
pub use crate::door::upstream::{Answer, Sent, Unanswered, Upstream, Whole, Wire};
pub use crate::fault::Answered;

use values::MemoryValues;

use crate::lanes::LaneThreads;
use crate::manifest::{Manifest, WantedOrigin};
use crate::plugin::{Compiled, Plugin, Shared};
use crate::refusal::Refusal;
use crate::runtime::Kept;
use crate::slot::Serving;
use crate::{HostLimits, PluginKind, PluginSettings};

/// Where one plugin at a time is looked at and called.
pub struct Workbench {
    shared: Arc<Shared>,
    stage: Arc<Stage>,
    values: Arc<MemoryValues>,
    guests: Option<LaneThreads>,
}

/// A component that is compiled, with its manifest. Making it takes long; settings can change around it.
#[derive(Clone)]
pub struct Prepared(Arc<Compiled>);

impl Prepared {
    /// The plugin's id.
    pub fn id(&self) -> &str {
        &self.0.manifest.id
    }

    /// What it is.
    pub fn kind(&self) -> PluginKind {
        self.0.manifest.kind
    }

    /// The origins that its manifest wants, patterns included.
    pub fn wanted_origins(&self) -> Vec<String> {
        let exact = self.0.manifest.wants.iter().filter_map(|want| match &want.origin {
            WantedOrigin::Named(origin) => Some(origin.to_string()),
            WantedOrigin::Operator => None,
        });
        exact.collect()
    }

    /// The credentials that its manifest names.
    pub fn wanted_credentials(&self) -> Vec<String> {
        self.0.manifest.credentials.iter().map(|want| want.name.clone()).collect()
    }
}

/// A plugin with its settings, ready to be called.
pub struct Subject {
    serving: Serving,
    clock: Clock,
}

impl Subject {
    /// The clock of its calls.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The adapter as a backend, if it is one.
    pub fn backend(&self) -> Option<Arc<dyn Backend>> {
        match &self.serving {
            Serving::Adapter(adapter) => Some(Arc::clone(adapter) as Arc<dyn Backend>),
            Serving::Transformer(_) => None,
        }
    }

    /// The transformer, if it is one.
    pub fn transformer(&self) -> Option<Arc<dyn Transformer>> {
        match &self.serving {
            Serving::Adapter(_) => None,
            Serving::Transformer(transformer) => Some(Arc::clone(transformer) as Arc<dyn Transformer>),
        }
    }
}

/// Reads what a picture says about itself.
///
/// # Errors
/// Why it is none.
pub fn picture(bytes: bytes::Bytes) -> std::result::Result<Image, String> {
    crate::pixels::inspect(bytes)
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    crate::plugin::digest(bytes)
}

/// What calls used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How many calls there were.
    pub calls: u32,
    /// The processor time of all of them.
    pub cpu: Duration,
    /// The most memory that one of them had.
    pub memory_bytes: usize,
}

impl Workbench {
    /// Sets up the machine that runs components. Connections live on the tokio runtime that this is called on. What is
    /// compiled is kept in the folder `compiled`, if there is one.
    ///
    /// # Errors
    /// `Internal` when the machine cannot run WebAssembly.
    pub fn new(limits: HostLimits, compiled: Option<&Path>) -> Result<Self> {
        let stage = Arc::new(Stage::default());
        let guests = LaneThreads::start().map_err(crate::runtime::cannot_start)?;
        let cache = compiled.and_then(|folder| crate::runtime::open_cache(folder, Path::new(""), limits.cache_bytes));
        let values = Arc::<MemoryValues>::default();
        let kept = Kept { cache, values: Some(Arc::clone(&values) as Arc<dyn Values>) };
        // No loader listens: what is on the workbench is neither replaced nor quarantined.
        let life = (crate::LifeRules::default(), std::sync::mpsc::sync_channel(1).0);
        let shared = crate::runtime::shared(limits, kept, guests.lanes(), life, Some(Arc::clone(&stage)))?;
        Ok(Self { shared, stage, values, guests: Some(guests) })
    }

    /// Checks and compiles a component. A manifest that is given counts instead of the embedded one.
    ///
    /// # Errors
    /// `InvalidRequest` with what the loader would say of it.
    pub async fn prepare(&self, component: &[u8], manifest: Option<&str>) -> Result<Prepared> {
        let (shared, component) = (Arc::clone(&self.shared), component.to_vec());
        let manifest = manifest.map(str::to_owned);
        let compile = move || -> std::result::Result<Compiled, Refusal> {
            let text = check::manifest_of(&component, manifest)?;
            let (manifest, digest) = (Manifest::parse(&text)?, digest(&component));
            let component = crate::compile::at_once(&shared, &digest, component)?;
            Compiled::new(&shared, (manifest, &text), digest, &component)
        };
        let compiled = tokio::task::spawn_blocking(compile)
            .await
            .map_err(|error| Error::new(ErrorKind::Internal, "the compiler failed").with_source(error))?;
        Ok(Prepared(Arc::new(compiled.map_err(|refusal| refused(&refusal))?)))
    }

    /// Gives a component its settings and asks an adapter for its models. `scene` plays the world around it from now on;
    /// without one, it is the real one.
    ///
    /// # Errors
    /// `InvalidRequest` with what the loader would say of the settings or the models; `NotReady` for a plugin that lacks
    /// credentials.
    pub async fn set_up(&self, plugin: &Prepared, settings: PluginSettings, scene: Option<Scene>) -> Result<Subject> {
        self.stage.set(scene);
        self.values.clear();
        let settings = self.shared.vaults.take([(plugin.id().to_owned(), settings)].into());
        let settings = settings.into_values().next().unwrap_or_default();
        let plugin = Plugin::new(Arc::clone(&self.shared), Arc::clone(&plugin.0), &settings).await;
        let plugin = plugin.map_err(|refusal| refused(&refusal))?;
        if let Some(reason) = &plugin.not_ready {
            return Err(Error::new(ErrorKind::NotReady, reason.clone()));
        }
        // What it was asked so far is no part of the scene.
        self.stage.begin();
        Ok(Subject { serving: Serving::new(plugin), clock: self.stage.clock() })
    }

    /// What was used up so far.
    pub fn spent(&self) -> Spent {
        self.stage.spent()
    }

    /// What was used up since this was last asked.
    pub fn take_spent(&self) -> Spent {
        self.stage.take_spent()
    }
}

impl Drop for Workbench {
    fn drop(&mut self) {
        self.shared.calls.close();
        if let Some(guests) = self.guests.take() {
            guests.stop();
        }
    }
}

fn refused(refusal: &Refusal) -> Error {
    Error::new(ErrorKind::InvalidRequest, refusal.to_string())
}

/// A mutex whose holder never fails half way.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
