//! The config: `easel.toml`, the environment and the command line, checked once and held as types.
//!
//! Flags stand above the environment, the environment above the file, the file above the defaults. Every key has one
//! sentence in `default.toml`. A key that does not exist is refused, with the nearest one that does; a secret is never
//! written in the file, only where it is found ([`secret`]).
//!
//! [`tree`] knows where each value was written, [`section`] which layer counts, [`read`] what it means; [`plugin`] and [`grants`] are the
//! plugins' part of it. To add a key: a field here, its default
//! below, a line in `read.rs`, and its sentence in `default.toml`; the tests tell what was forgotten. Each sample under
//! `samples/` is a test.

mod environment;
mod error;
mod grants;
mod grants_file;
mod plugin;
mod plugin_limits;
mod read;
mod secret;
mod section;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use easel_core::{Delivery, OnFailure, UnknownModel};
use easel_runtime::{HostLimits, LifeRules, PluginSettings};
use url::Url;

pub use environment::Environment;
pub use error::ConfigError;
pub use grants_file::{Edit, GrantsFile, Place};
pub(crate) use secret::text_of as secret_text;

use crate::http::{AllowedOrigin, ImageAccess, Key, MetricsAccess, Uploads};
use crate::jobs::JobRules;

/// The documented defaults, as a file to start from.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// The file that is read when none is named.
pub const FILE_NAME: &str = "easel.toml";

/// The checked config.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the server listens.
    pub listen: SocketAddr,
    /// The folder of everything the server keeps.
    pub data: PathBuf,
    /// The folder that is watched for plugins.
    pub plugins_folder: PathBuf,
    /// What stands behind the server.
    pub mode: Mode,
    /// Whether other machines may use the server without a key.
    pub exposure: Exposure,
    /// What stands before the addresses of images in answers.
    pub public_base_url: Option<Url>,
    /// The other host names under which the server is reached.
    pub allowed_hosts: Vec<String>,
    /// The web origins whose pages may call the server.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// The most bytes of a request's body.
    pub max_body_bytes: usize,
    /// From a request's first byte to the end of its work.
    pub request_time_limit: Duration,
    /// What requests that bring pictures may be.
    pub uploads: Uploads,
    /// How much work there may be that nobody waits for.
    pub jobs: JobRules,
    /// How often an answer that comes in parts says that it is still there.
    pub heartbeat: Duration,
    /// What happens to finished pictures.
    pub images: Images,
    /// Which models there are.
    pub models: Models,
    /// How many requests run at a time.
    pub admission: Limits,
    /// Who may call; nobody needs a key where it is empty.
    pub keys: Vec<Key>,
    /// What is logged, and how.
    pub log: Log,
    /// Who may read the figures of the server.
    pub metrics: MetricsAccess,
    /// The transformers that run, in this order.
    pub transformers: Vec<TransformerSettings>,
    /// What the operator says about single plugins, by id.
    pub plugins: BTreeMap<String, PluginSettings>,
    /// What the host lets any plugin take at most.
    pub plugin_limits: HostLimits,
    /// How long replaced plugins may go on, and when one is quarantined.
    pub plugin_life: LifeRules,
    /// How long running requests may finish once the server stops.
    pub shutdown_grace: Duration,
}

/// What stands behind the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The engine, with its models.
    Engine,
    /// A backend that answers every request with a small picture, without any model.
    Stub,
}

/// Whether other machines may use the server without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Beyond loopback, callers need a key.
    Guarded,
    /// Whoever reaches the server may use it.
    Open,
}

/// What happens to finished pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Where they are kept; the store's own folder if not said.
    pub folder: Option<PathBuf>,
    /// A file that always holds the last one.
    pub last: Option<PathBuf>,
    /// How they are given to requests that do not say; each dialect's own rule if not said.
    pub default_delivery: Option<Delivery>,
    /// Who may fetch them.
    pub access: ImageAccess,
}

/// Which models there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Models {
    /// The folder where the engine looks for them; `models` in the data folder if not said.
    pub folder: Option<PathBuf>,
    /// The model for requests that name none.
    pub default: Option<String>,
    /// What happens to a model that nobody has.
    pub unknown: UnknownModel,
    /// Other names for models.
    pub aliases: BTreeMap<String, String>,
    /// What the engine computes on.
    pub device: Device,
    /// How many models the engine keeps loaded at most.
    pub keep_loaded: usize,
    /// Whether the demo model in the program is offered.
    pub demo: Demo,
    /// Whether the engine's pictures are looked at before they are given to anybody.
    pub safety: Safety,
}

/// Whether the engine's pictures are looked at before they are given to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// Always: a model without a safety checker is not served.
    Required,
    /// Where there is a safety checker; otherwise answers say that there was none.
    Available,
    /// Never.
    Off,
}

/// What the engine computes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The first CUDA device where there is one that this program can use, otherwise the processor.
    Auto,
    /// The processor.
    Cpu,
    /// A CUDA device, by number.
    Cuda(usize),
}

/// Whether the demo model in the program is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demo {
    /// It is, first of all models.
    Offered,
    /// Only the models of the folder are.
    Hidden,
}

/// How many requests run at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// On each backend that is not named.
    pub default: usize,
    /// On single backends, by id.
    pub backends: BTreeMap<String, usize>,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// For whom the lines are written.
    pub format: LogFormat,
    /// What is logged: a level, or a filter by target as in `info,easel_runtime=debug`.
    pub level: String,
}

/// For whom log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// One transformer in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformerSettings {
    /// The plugin's id.
    pub id: String,
    /// How long each of its calls may take.
    pub time_limit: Duration,
    /// What happens when it fails, or is not there.
    pub on_failure: OnFailure,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7860)),
            data: "data".into(),
            plugins_folder: "plugins".into(),
            mode: Mode::Engine,
            exposure: Exposure::Guarded,
            public_base_url: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            max_body_bytes: 4 << 20,
            request_time_limit: Duration::from_secs(300),
            uploads: Uploads {
                max_body_bytes: 68 << 20,
                max_picture_bytes: 50 << 20,
                max_pixels: 32 << 20,
                at_once: 8,
            },
            jobs: JobRules {
                open: 100,
                open_per_key: 100,
                at_once: 4,
                picture_bytes: 256 << 20,
                time_limit: Duration::from_secs(3600),
                keep: Duration::from_secs(7 * 24 * 3600),
                kept: 10_000,
            },
            heartbeat: Duration::from_secs(15),
            images: Images { folder: None, last: None, default_delivery: None, access: ImageAccess::Public },
            models: Models {
                folder: None,
                default: None,
                unknown: UnknownModel::UseDefault,
                aliases: BTreeMap::new(),
                device: Device::Auto,
                keep_loaded: 2,
                demo: Demo::Offered,
                safety: Safety::Available,
            },
            admission: Limits { default: 2, backends: BTreeMap::new() },
            keys: Vec::new(),
            metrics: MetricsAccess::Operators,
            log: Log { format: LogFormat::Text, level: "info".to_owned() },
            transformers: Vec::new(),
            plugins: BTreeMap::new(),
            plugin_limits: HostLimits::default(),
            plugin_life: LifeRules::default(),
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// The folder where the engine looks for models.
    pub fn models_folder(&self) -> PathBuf {
        self.models.folder.clone().unwrap_or_else(|| self.data.join("models"))
    }

    /// The file of the plugins' grants, whether it is there or not.
    pub fn grants_file(&self) -> PathBuf {
        self.data.join(grants::FILE_NAME)
    }

    /// Refuses to serve other machines without keys, unless that was asked for.
    ///
    /// # Errors
    /// The address reaches beyond loopback and nobody would need a key.
    pub fn check_exposure(&self) -> Result<(), ConfigError> {
        if self.listen.ip().is_loopback() || !self.keys.is_empty() || self.exposure == Exposure::Open {
            return Ok(());
        }
        let message = format!("listen = {} can be reached by other machines, but no key is configured", self.listen);
        Err(ConfigError::general(message).with_hint(
            "set EASEL_API_KEY, or add [[keys]] to easel.toml; --insecure serves everybody who reaches the address",
        ))
    }
}

/// Where the config comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file; without it `easel.toml` in the working folder, where there is one.
    pub file: Option<PathBuf>,
    /// The variables.
    pub environment: Environment,
    /// The values of flags, by key: `log.format` for `--log`. `port` is no key; it changes the port of `listen`.
    pub flags: BTreeMap<&'static str, String>,
}

impl Sources {
    /// The file that is read, whether it is there or not; `None` where the config is a named file's.
    pub fn path(&self) -> PathBuf {
        match (&self.file, self.environment.get("EASEL_CONFIG")) {
            (Some(path), _) => path.clone(),
            (None, Some(path)) => path.into(),
            (None, None) => FILE_NAME.into(),
        }
    }

    /// Reads and checks the config.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let path = self.path();
        let is_named = self.file.is_some() || self.environment.get("EASEL_CONFIG").is_some();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_named => None,
            Err(error) => return Err(ConfigError::general(format!("{} cannot be read: {error}", path.display()))),
        };
        self.read(&path, text.as_deref())
    }

    /// Checks the config with the text of a file that was read already.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn read(&self, path: &Path, text: Option<&str>) -> Result<Loaded, ConfigError> {
        read::read(self, path, text, None).map(|(loaded, _)| loaded)
    }

    /// The same with the grants of another file than that of the data folder: a running server keeps to its own.
    pub(crate) fn read_with(&self, path: &Path, text: Option<&str>, grants: &Path) -> Result<Loaded, ConfigError> {
        read::read(self, path, text, Some(grants)).map(|(loaded, _)| loaded)
    }
}

/// A config that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// What the operator should know about it: a plugin's credential that is not there, a variable nobody reads.
    pub notices: Vec<String>,
    /// The files that it names as places of secrets.
    pub secret_files: Vec<PathBuf>,
}
