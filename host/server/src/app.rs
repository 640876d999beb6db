//! The composition root: the only file that names the engine, the runtime and the store together.
//!
//! A [`House`] is everything behind the walk: native backend, plugins, limits, and the snapshot made of them. An [`App`]
//! is a house with a store and a listener. The listener is bound before anything is loaded, so a server can be asked
//! how it is from the start; `/readyz` says when it can be used.
//!
//! What a changed config file does is [`reload`](crate::reload)'s business, what happens to a request
//! `easel_core::pipeline`'s.

mod error;
mod stand_ins;
mod stop;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use easel_core::{
    Admission, Backend, Context, Error, ErrorKind, Keeper, Pipeline, Principal, Progress, RequestId, Snapshot, Stage,
    UnknownModel, Values, World,
};
use easel_engine::{DeviceChoice, Engine, EngineOptions, StubBackend};
use easel_runtime::{LifeRules, PluginStatus, Runtime, RuntimeConfig};
use easel_store::{Store, StoreConfig};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use error::StartError;

use crate::config::{Config, ConfigError, Demo, Device, Images, Mode, Models, Safety, Sources, TransformerSettings};
use crate::http::{self, Front, Settings};
use crate::plugins::Plugins;
use crate::reload::{self, Watched};
use stand_ins::Absent;
pub(crate) use stand_ins::NoKeeper;
use stop::Serving;

/// A command's own request ends when it is done; somebody sits before it and can end it earlier.
const COMMAND_TIME_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Everything behind the walk.
pub struct House {
    config: ArcSwap<Config>,
    pipeline: Arc<Pipeline>,
    world: Arc<World>,
    /// Where plugins keep values of their own; nowhere for commands that make one thing and end.
    values: Option<Arc<dyn Values>>,
    native: OnceLock<Arc<dyn Backend>>,
    plugins: Arc<Plugins>,
    /// Whether plugins can still come; a command that makes one thing and ends makes no folder for them.
    is_lasting: bool,
    /// Held while a snapshot is made, so that an older one never takes the place of a newer one. Holds the transformers
    /// that were said to be idle.
    composing: Mutex<BTreeSet<String>>,
}

impl House {
    /// Builds an empty house; [`House::furnish`] brings in what takes time.
    pub fn new(config: Config, keeper: Arc<dyn Keeper>, values: Arc<dyn Values>) -> Arc<Self> {
        Arc::new(Self { is_lasting: true, values: Some(values), ..Self::build(config, keeper) })
    }

    /// Builds one that keeps no pictures and makes no folders, for commands that make one thing and end.
    pub fn without_store(config: Config) -> Arc<Self> {
        Arc::new(Self::build(config, Arc::new(NoKeeper)))
    }

    fn build(config: Config, keeper: Arc<dyn Keeper>) -> Self {
        let world = Arc::new(World::new(Snapshot::empty()));
        let limits = &config.admission;
        let admission = Admission::new(limits.default, limits.backends.clone());
        let pipeline = Arc::new(Pipeline::new(Arc::clone(&world), admission, keeper));
        Self {
            config: ArcSwap::from_pointee(config),
            pipeline,
            world,
            values: None,
            native: OnceLock::new(),
            plugins: Arc::default(),
            is_lasting: false,
            composing: Mutex::default(),
        }
    }

    /// Starts the native backend, then the plugins; what is ready serves at once.
    ///
    /// # Errors
    /// A part that cannot start at all, or a default model that cannot be there. Single models or plugins that cannot be
    /// used are none: the log and their status tell why.
    pub async fn furnish(self: &Arc<Self>) -> Result<(), StartError> {
        let config = self.config.load_full();
        let native = {
            let config = Arc::clone(&config);
            tokio::task::spawn_blocking(move || native_backend(&config)).await??
        };
        if self.is_lasting {
            check_default_model(native.as_ref(), &config)?;
        }
        self.native.get_or_init(|| native);
        self.compose();
        if self.is_lasting || config.plugins_folder.is_dir() {
            self.start_plugins(&config).await?;
        }
        self.tell_missing_default();
        Ok(())
    }

    async fn start_plugins(self: &Arc<Self>, config: &Config) -> Result<(), StartError> {
        let house = Arc::downgrade(self);
        let on_change = move || {
            if let Some(house) = house.upgrade() {
                house.compose();
            }
        };
        let life = config.plugin_life;
        let plugins = RuntimeConfig {
            folder: config.plugins_folder.clone(),
            cache: Some(config.data.join("compiled")).filter(|cache| self.is_lasting || cache.is_dir()),
            limits: config.plugin_limits.clone(),
            values: self.values.clone(),
            plugins: config.plugins.clone(),
            // What a command leaves behind serves nobody.
            life: LifeRules { earlier: if self.is_lasting { life.earlier } else { 0 }, ..life },
            switches: Some(config.data.join("disabled-plugins.toml")),
            builds: Some(config.data.join("plugin-builds")),
        };
        let plugins = Runtime::start(plugins, on_change).await?;
        self.plugins.put(plugins);
        self.compose();
        Ok(())
    }

    /// The walk.
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// The current snapshot's cell.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// How every plugin stands.
    pub fn plugins(&self) -> Vec<PluginStatus> {
        self.plugins.get().map(Runtime::status).unwrap_or_default()
    }

    /// The surroundings of a request that comes from this process itself.
    pub fn local_context(&self) -> Context {
        Context {
            id: RequestId::new("command").expect("a plain word makes a request id"),
            principal: Principal::local(),
            deadline: Instant::now() + COMMAND_TIME_LIMIT,
            cancellation: CancellationToken::new(),
            progress: Progress::new(),
            fallback_seed: http::fallback_seed(),
            trace_parent: None,
        }
    }

    /// Stops the plugins and everything that runs in them.
    pub async fn shut_down(&self) {
        self.pipeline.admission().close();
        if let Some(plugins) = self.plugins.get() {
            plugins.shutdown().await;
        }
    }

    /// Takes another config: limits, plugins, models' names and transformers count from the next request on.
    fn reconfigure(&self, config: Config) {
        self.pipeline.admission().set_limits(config.admission.default, config.admission.backends.clone());
        if let Some(plugins) = self.plugins.get() {
            plugins.reconfigure(config.plugins.clone());
        }
        self.config.store(Arc::new(config));
        self.compose();
        self.tell_missing_default();
    }

    /// Makes the snapshot that the config and the parts of the moment amount to, and swaps it in.
    fn compose(&self) {
        let mut told = self.composing.lock().unwrap_or_else(PoisonError::into_inner);
        let config = self.config.load();
        let mut backends: Vec<_> = self.native.get().cloned().into_iter().collect();
        let mut transformers = Vec::new();
        if let Some(plugins) = self.plugins.get() {
            backends.extend(plugins.backends());
            transformers = plugins.transformers();
        }
        for idle in
            transformers.iter().filter(|found| !config.transformers.iter().any(|listed| listed.id == found.id()))
        {
            if told.insert(idle.id().to_owned()) {
                tracing::info!(plugin = idle.id(), "transformer does not run: transformers.order does not name it");
            }
        }
        let stage = |settings: &TransformerSettings| {
            let found = transformers.iter().find(|found| found.id() == settings.id).cloned();
            let transformer = found.unwrap_or_else(|| Arc::new(Absent(settings.id.clone())));
            Stage { transformer, time_limit: settings.time_limit, on_failure: settings.on_failure }
        };
        self.world.swap(Snapshot {
            backends,
            stages: config.transformers.iter().map(stage).collect(),
            aliases: config.models.aliases.clone(),
            default_model: config.models.default.clone(),
            unknown_model: config.models.unknown,
        });
    }

    /// A plugin may still bring it; until then requests and `/readyz` tell of it, and here the operator is told.
    fn tell_missing_default(&self) {
        let config = self.config.load();
        if let Some(default) = self.world.snapshot().missing_default() {
            let strict = config.models.unknown == UnknownModel::Refuse;
            tracing::warn!(model = default, strict, "models.default is not here");
        }
    }
}

/// Refuses a default that names a model of the native backend, which it does not have: no plugin can bring that.
fn check_default_model(native: &dyn Backend, config: &Config) -> Result<(), ConfigError> {
    let Models { default: Some(default), aliases, .. } = &config.models else { return Ok(()) };
    let meant = aliases.get(default).unwrap_or(default);
    let named = meant.strip_prefix(native.id()).and_then(|rest| rest.strip_prefix('/'));
    let models = native.models();
    if named.is_none_or(|named| models.iter().any(|model| model.id == named)) {
        return Ok(());
    }
    let error = ConfigError::general(format!("models.default names {meant:?}, which is not here"));
    Err(error.with_hint(match models.as_slice() {
        [] => format!("there is no model in {}", config.models_folder().display()),
        models => {
            let known: Vec<_> = models.iter().map(|model| format!("{}/{}", native.id(), model.id)).collect();
            format!("it can be {}", known.join(", "))
        }
    }))
}

fn native_backend(config: &Config) -> Result<Arc<dyn Backend>, Error> {
    if config.mode == Mode::Stub {
        return Ok(Arc::new(StubBackend::new()));
    }
    let folder = config.models_folder();
    let options = EngineOptions {
        // The folder of our own choice need not be there; one that was named must be.
        models: (config.models.folder.is_some() || folder.is_dir()).then_some(folder),
        default_model: None,
        built_in: config.models.demo == Demo::Offered,
        keep_loaded: config.models.keep_loaded,
        device: DeviceChoice::Cpu,
        safety: match config.models.safety {
            Safety::Required => easel_engine::Safety::Required,
            Safety::Available => easel_engine::Safety::Available,
            Safety::Off => easel_engine::Safety::Off,
        },
    };
    let on = |device| Engine::start(EngineOptions { device, ..options.clone() });
    let engine = match config.models.device {
        Device::Cpu => on(DeviceChoice::Cpu)?,
        Device::Cuda(index) => on(DeviceChoice::Cuda(index))?,
        Device::Auto => match on(DeviceChoice::Cuda(0)) {
            Err(error) if error.kind() == ErrorKind::Unsupported => on(DeviceChoice::Cpu)?,
            started => started?,
        },
    };
    Ok(Arc::new(engine))
}

/// A server: a house with a store, on a listener.
pub struct App {
    house: Arc<House>,
    front: Arc<Front>,
    store: Arc<Store>,
    listener: TcpListener,
    address: SocketAddr,
    furnishing: Option<AbortOnDropHandle<Result<(), StartError>>>,
    watched: Option<Watched>,
}

impl App {
    /// Listens, opens the store, and begins to load what takes time.
    ///
    /// # Errors
    /// The address reaches other machines without any key, is in use or cannot be listened on, or the data folder
    /// cannot be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.check_exposure()?;
        let listener = TcpListener::bind(config.listen).await.map_err(|source| match source.kind() {
            std::io::ErrorKind::AddrInUse => StartError::InUse(config.listen),
            _ => StartError::Listen { address: config.listen, source },
        })?;
        let address = listener.local_addr().map_err(|source| StartError::Listen { address: config.listen, source })?;
        let Images { folder: images, last: last_image, .. } = config.images.clone();
        let store = StoreConfig { data: config.data.clone(), images, last_image };
        let store = Arc::new(Store::open(store).await?);
        let settings = settings(&config, address);
        let house = House::new(config, Arc::clone(&store) as Arc<dyn Keeper>, Arc::clone(&store) as Arc<dyn Values>);
        let plugins = Arc::clone(&house.plugins);
        let front = Arc::new(Front::new(Arc::clone(house.pipeline()), Arc::clone(&store), plugins, settings));
        let furnishing = {
            let (house, jobs) = (Arc::clone(&house), Arc::clone(&front.jobs));
            let furnish = async move {
                house.furnish().await?;
                Ok(jobs.open().await?)
            };
            Some(AbortOnDropHandle::new(tokio::spawn(furnish)))
        };
        Ok(Self { house, front, store, listener, address, furnishing, watched: None })
    }

    /// Follows the config file and that of the grants: what changes in them counts without a restart.
    #[must_use]
    pub fn watching(self, sources: Sources) -> Self {
        let grants = self.house.config.load().grants_file();
        Self { watched: Watched::start(sources, grants), ..self }
    }

    /// Where it listens; the port is the real one, also where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Everything behind the walk.
    pub fn house(&self) -> &Arc<House> {
        &self.house
    }

    /// Changes the config while it runs.
    pub fn reloader(&self) -> Reloader {
        Reloader { house: Arc::clone(&self.house), front: Arc::clone(&self.front), address: self.address }
    }

    /// Waits until everything is loaded.
    ///
    /// # Errors
    /// As [`House::furnish`].
    pub async fn furnished(&mut self) -> Result<(), StartError> {
        match self.furnishing.take() {
            Some(furnishing) => furnishing.await?,
            None => Ok(()),
        }
    }

    /// Serves until `stop` is tripped; then what runs may finish within the configured time, and the rest is cancelled.
    ///
    /// # Errors
    /// What keeps the house from being furnished.
    pub async fn serve(mut self, stop: CancellationToken) -> Result<(), StartError> {
        let reloader = self.reloader();
        let furnishing = self.furnishing.take();
        let Self { house, front, store, listener, watched, .. } = self;
        let metrics = Arc::clone(&front.metrics);
        let jobs = Arc::clone(&front.jobs);
        let serving = Serving::start(listener, http::router(front));
        let _watching = watched.map(|watched| watched.follow(metrics, move |config| reloader.apply(config)));
        let failed = tokio::select! {
            () = stop.cancelled() => None,
            error = failure_of(furnishing) => Some(error),
        };
        let grace = if failed.is_none() { house.config.load().shutdown_grace } else { Duration::ZERO };
        jobs.leave();
        serving.stop(house.pipeline().admission(), grace).await;
        jobs.close().await;
        house.shut_down().await;
        store.close().await;
        failed.map_or(Ok(()), Err)
    }
}

/// Waits for the furnishing to fail; forever, when it does not.
async fn failure_of(furnishing: Option<AbortOnDropHandle<Result<(), StartError>>>) -> StartError {
    if let Some(furnishing) = furnishing {
        match furnishing.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(error) => return error.into(),
        }
    }
    std::future::pending().await
}

/// Brings another config to a running server.
#[derive(Clone)]
pub struct Reloader {
    house: Arc<House>,
    front: Arc<Front>,
    address: SocketAddr,
}

impl Reloader {
    /// Takes another config; what only a restart can change is told in the log and stays as it is.
    ///
    /// # Errors
    /// The config would serve other machines without any key, or names a default model that cannot be there; then
    /// nothing has changed.
    pub fn apply(&self, config: Config) -> Result<(), ConfigError> {
        // What counts is where the server really listens.
        Config { listen: self.address, ..config.clone() }.check_exposure()?;
        if let Some(native) = self.house.native.get() {
            check_default_model(native.as_ref(), &config)?;
        }
        let kept = reload::needs_restart(&self.house.config.load(), &config);
        if !kept.is_empty() {
            tracing::warn!(keys = kept.join(", "), "these changes of the config count after a restart");
        }
        self.front.reload(settings(&config, self.address));
        self.house.reconfigure(config);
        Ok(())
    }
}

fn settings(config: &Config, bind: SocketAddr) -> Settings {
    Settings {
        bind,
        allowed_hosts: config.allowed_hosts.clone(),
        allowed_origins: config.allowed_origins.clone(),
        keys: config.keys.clone(),
        image_access: config.images.access,
        metrics_access: config.metrics,
        max_body_bytes: config.max_body_bytes,
        uploads: config.uploads,
        jobs: config.jobs,
        heartbeat: config.heartbeat,
        request_time_limit: config.request_time_limit,
        public_base_url: config.public_base_url.clone(),
        default_delivery: config.images.default_delivery,
    }
}
