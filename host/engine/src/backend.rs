//! The engine as the rest of Easel sees it: a [`Backend`].

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use candle_core::Device;
use easel_core::{
    Backend, Context, Error, ErrorKind, GenerationRequest, Job, Made, ModelInfo, Output, Readiness, Result,
};
use tokio::sync::oneshot;

use crate::checkpoint::Files;
use crate::device::{Answer, DeviceThread, Guard, Work};
use crate::lora::Shelf;
use crate::models::{self, Entry, Problem};
use crate::plan::{named, plan};
use crate::safety::Safety;
use crate::variant::Variant;

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The folder in which models are found, each in a folder of its own.
    pub models: Option<PathBuf>,
    /// The model for requests that name none; otherwise the built-in one, otherwise the first found.
    pub default_model: Option<String>,
    /// Whether the model compiled into the program is offered.
    pub built_in: bool,
    /// How many models stay loaded at most.
    pub keep_loaded: usize,
    /// What to compute on.
    pub device: DeviceChoice,
    /// Whether finished pictures are looked at before they are given to anybody.
    pub safety: Safety,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            models: None,
            default_model: None,
            built_in: true,
            keep_loaded: 2,
            device: DeviceChoice::Cpu,
            safety: Safety::default(),
        }
    }
}

/// What to compute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor.
    Cpu,
    /// A CUDA device by number; only in a program built with the `cuda` feature.
    Cuda(usize),
}

/// The native diffusion engine.
pub struct Engine {
    options: EngineOptions,
    found: RwLock<Found>,
    device: DeviceThread,
}

#[derive(Default)]
struct Found {
    /// The default first.
    entries: Vec<Arc<Entry>>,
    shelf: Shelf,
    problems: Vec<Problem>,
}

impl Engine {
    /// The id by which requests and the config name the engine.
    pub const ID: &'static str = "engine";

    /// Finds the models and starts the device's thread. No weights are loaded yet.
    ///
    /// # Errors
    /// `NotReady` when the folder of models cannot be listed, `ModelNotFound` when the default model is not there,
    /// `Unsupported` when the device is not.
    pub fn start(options: EngineOptions) -> Result<Self> {
        // Rayon's pool, on which every CPU operator runs: one thread for each physical core.
        candle_core::utils::init_global_threadpool();
        let device = match options.device {
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Cuda(index) => Device::new_cuda(index).map_err(|error| {
                let message = format!("CUDA device {index} cannot be used; this program computes on the CPU");
                Error::new(ErrorKind::Unsupported, message).with_hint("device = \"cpu\"").with_source(error)
            })?,
        };
        let found = RwLock::new(find(&options)?);
        let guard = Guard { safety: options.safety, shared: options.models.clone().map(Files::Folder) };
        let device = DeviceThread::start(device, options.keep_loaded, guard)?;
        Ok(Self { options, found, device })
    }

    /// Looks through the folder of models again. Requests that run keep the models they began with.
    ///
    /// # Errors
    /// As [`Engine::start`]; then nothing has changed.
    pub fn rescan(&self) -> Result<()> {
        let mut found = find(&self.options)?;
        let mut current = self.found.write().unwrap_or_else(PoisonError::into_inner);
        for entry in &mut found.entries {
            // What did not change keeps its identity, and with it its loaded weights.
            if let Some(same) = current.entries.iter().find(|old| old.is_same(entry)) {
                *entry = Arc::clone(same);
            }
        }
        *current = found;
        Ok(())
    }

    /// Loads a model before the first request needs it, without waiting for it.
    pub fn preload(&self, model: &str) {
        if let Some(entry) = self.entry(model) {
            self.device.load(entry);
        }
    }

    /// Folders that look like models and cannot be used, with the reason.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.found.read().unwrap_or_else(PoisonError::into_inner).problems.clone()
    }

    /// The ids of the models whose weights are in memory, the latest used last.
    #[must_use]
    pub fn loaded(&self) -> Vec<String> {
        self.device.state().loaded
    }

    fn entry(&self, id: &str) -> Option<Arc<Entry>> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        found.entries.iter().find(|entry| entry.info.id == id).cloned()
    }
}

impl Engine {
    fn variant(&self, request: &GenerationRequest) -> Result<Variant> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        Variant::asked(request, &found.shelf, &found.entries).map_err(|error| named(error, request))
    }
}

#[async_trait]
impl Backend for Engine {
    fn id(&self) -> &str {
        Self::ID
    }

    fn models(&self) -> Vec<Arc<ModelInfo>> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        found.entries.iter().map(|entry| Arc::clone(&entry.info)).collect()
    }

    fn readiness(&self) -> Readiness {
        if self.found.read().unwrap_or_else(PoisonError::into_inner).entries.is_empty() {
            return Readiness::NotReady("no model is there".to_owned());
        }
        match self.device.state().loading {
            Some(_) => Readiness::Loading,
            None => Readiness::Ready,
        }
    }

    async fn generate(&self, context: &Context, job: Job) -> Result<Output> {
        let entry = self.entry(&job.model.id).ok_or_else(|| crate::Error::NoModel(job.model.id.clone()))?;
        let variant = self.variant(&job.request)?;
        let plan = if job.request.inputs.is_empty() {
            plan(&entry, &job.request, variant, context.fallback_seed)?
        } else {
            // Pictures are decoded meanwhile, which takes long enough to be done elsewhere.
            let (entry, request, seed) = (Arc::clone(&entry), job.request.clone(), context.fallback_seed);
            let planned = tokio::task::spawn_blocking(move || plan(&entry, &request, variant, seed));
            planned.await.map_err(|_| crate::Error::Stopped)??
        };
        let (answer, result) = oneshot::channel();
        self.device.send(Work {
            entry,
            plan,
            request: job.request,
            context: context.clone(),
            permit: Some(job.permit),
            answer,
        })?;
        let Answer { images, notes } = result.await.map_err(|_| crate::Error::Stopped)??;
        let images = images.into_iter().map(|(image, seed)| Made { image, seed: Some(seed), revised_prompt: None });
        Ok(Output { images: images.collect(), notes, cost: None, usage: Vec::new() })
    }
}

fn find(options: &EngineOptions) -> Result<Found> {
    let mut entries = Vec::new();
    if options.built_in {
        entries.push(models::built_in()?);
    }
    let (found, problems) = match &options.models {
        Some(folder) => models::in_folder(folder)?,
        None => (Vec::new(), Vec::new()),
    };
    // A folder may take the place of the built-in model, by its name.
    entries.retain(|entry| !found.iter().any(|other| other.info.id == entry.info.id));
    entries.extend(found);
    for problem in &problems {
        tracing::warn!(model = problem.id, reason = problem.reason, "model cannot be used");
    }
    if let Some(default) = &options.default_model {
        let Some(at) = entries.iter().position(|entry| entry.info.id == *default) else {
            let known: Vec<_> = entries.iter().map(|entry| entry.info.id.as_str()).collect();
            let message =
                format!("the engine's default model {default:?} is not here; it must be one of {}", known.join(", "));
            return Err(Error::new(ErrorKind::ModelNotFound, message));
        };
        entries[..=at].rotate_right(1);
    }
    let shelf = options.models.as_deref().map(Shelf::look).unwrap_or_default();
    Ok(Found { entries: entries.into_iter().map(Arc::new).collect(), shelf, problems })
}
