//! One loaded generation of a plugin: the compiled component with its manifest, and what the operator's settings make of
//! it. It never changes; a new file or new settings make the next one, and this one serves until its last request ends.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};

use easel_core::{ModelInfo, RetiredModel, Values};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, ForbiddenHeaderFilter};

use crate::budget::Pool;
use crate::builds::build_name;
use crate::cache::Cache;
use crate::checkup::Checkups;
use crate::clock::Clock;
use crate::component::{Linked, Linkers};
use crate::door::{Accounts, Credentials, Door, Grant, Missing, Network, Vault, Vaults, hidden_headers};
use crate::engine::Ticker;
use crate::fault::is_auth;
use crate::generations::Generations;
use crate::imports::Imports;
use crate::lanes::{Lanes, Pace};
use crate::life::LifeRules;
use crate::manifest::Manifest;
use crate::models::Models;
use crate::record::Records;
use crate::refusal::Refusal;
use crate::vitals::Vitals;
use crate::warm::Warm;
use crate::workbench::Stage;
use crate::{HealthDepth, HostLimits, PluginKind, PluginSettings};

/// What all plugins of a runtime share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    /// Compiled code of earlier starts, if there is a place for it.
    pub(crate) cache: Option<Cache>,
    pub(crate) linkers: Linkers,
    pub(crate) ticker: Ticker,
    pub(crate) limits: HostLimits,
    /// Who serves now, by plugin.
    pub(crate) generations: Generations,
    pub(crate) network: Network,
    /// The values of credentials, by plugin.
    pub(crate) vaults: Vaults,
    /// Where guests run, and their pictures are read.
    pub(crate) guests: Handle,
    pub(crate) lanes: Lanes,
    /// The memory of all instances.
    pub(crate) memory: Arc<Pool>,
    /// The blobs of all calls.
    pub(crate) blobs: Arc<Pool>,
    /// Where their connections live.
    pub(crate) io: Handle,
    /// One permit for each call that runs; closed when the runtime has stopped.
    pub(crate) calls: Arc<Semaphore>,
    /// Tripped when the runtime begins to stop: no request begins any more, none is polled on.
    pub(crate) stopping: CancellationToken,
    /// What polls providers' jobs, and what cancels them.
    pub(crate) open_jobs: TaskTracker,
    /// Where plugins keep their own values, if anywhere.
    pub(crate) values: Option<Arc<dyn Values>>,
    /// One permit for each picture that is worked on for a plugin.
    pub(crate) pixel_workers: Arc<Semaphore>,
    pub(crate) rules: LifeRules,
    pub(crate) records: Records,
    /// Makes the loader look.
    pub(crate) wake: SyncSender<()>,
    /// What plays the world around calls: an author's workbench has one, a runtime that serves never.
    pub(crate) stage: Option<Arc<Stage>>,
}

impl Shared {
    /// The clock of the calls that are made now.
    pub(crate) fn clock(&self) -> Clock {
        self.stage.as_ref().map(|stage| stage.clock()).unwrap_or_default()
    }
}

/// A component that is compiled and linked. Settings can change around it.
pub(crate) struct Compiled {
    pub(crate) manifest: Manifest,
    /// The SHA-256 of the file, in hexadecimal.
    pub(crate) digest: String,
    /// The name of the component with this manifest.
    pub(crate) build: String,
    pub(crate) linked: Linked,
}

impl Compiled {
    /// Checks and links a component that was compiled from the file with this digest, with what the text of a manifest says.
    pub(crate) fn new(
        shared: &Shared,
        (manifest, text): (Manifest, &str),
        digest: String,
        component: &Component,
    ) -> Result<Self, Refusal> {
        let linked = shared.linkers.link(component, Imports::of(&manifest))?;
        Ok(Self { manifest, build: build_name(&digest, text), digest, linked })
    }
}

/// The name of a file's contents.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One generation.
pub(crate) struct Plugin {
    pub(crate) shared: Arc<Shared>,
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) id: Arc<str>,
    pub(crate) config: Arc<str>,
    pub(crate) limits: Arc<HostLimits>,
    pub(crate) door: Option<Arc<Door>>,
    /// Its secrets, to scrub them from what it says.
    pub(crate) vault: Arc<Vault>,
    pub(crate) hidden: ForbiddenHeaderFilter,
    pub(crate) credentials: Arc<[String]>,
    pub(crate) pace: Arc<Pace>,
    /// One permit for each call into this generation.
    pub(crate) calls: Arc<Semaphore>,
    pub(crate) warm: Warm,
    /// An adapter's models; set once, before anybody else has the generation.
    pub(crate) models: OnceLock<Models>,
    pub(crate) ungranted: Vec<String>,
    /// What it was made with.
    pub(crate) settings: PluginSettings,
    /// Why it cannot serve although it is loaded, by its manifest.
    pub(crate) not_ready: Option<String>,
    /// The same in its own words, where it says by itself that it has no key.
    has_no_key: OnceLock<String>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) checkups: Checkups,
}

impl Plugin {
    /// Gives a component its settings, and asks an adapter for its models, a transformer whether it takes them.
    pub(crate) async fn new(
        shared: Arc<Shared>,
        compiled: Arc<Compiled>,
        settings: &PluginSettings,
    ) -> Result<Arc<Self>, Refusal> {
        let manifest = &compiled.manifest;
        let environment = manifest.with_environment(settings)?;
        let config = Value::Object(manifest.configured(&environment.settings.config)?).to_string();
        let limits = manifest.limits.within(&shared.limits);
        let grant = Grant::new(manifest, settings)?;
        let vault = shared.vaults.of(&manifest.id);
        vault.set_variables(environment.credentials);
        let is_played = shared.stage.as_ref().is_some_and(|stage| stage.is_played());
        let accounts = if is_played { Accounts::Tokens } else { Accounts::KeyFiles };
        let given = Credentials::new(manifest, &environment.settings, Arc::clone(&vault), accounts)?;
        let credentials: Vec<_> = given.names().cloned().collect();
        let not_ready = not_ready(manifest, given.missing());
        let ungranted = grant.ungranted();
        let door = match Imports::of(manifest).network {
            true => {
                let door = Door::new((grant, given), limits.clone(), &shared.network, shared.io.clone())?;
                Some(Arc::new(door.staged(shared.stage.clone())))
            }
            false => None,
        };
        let hidden: ForbiddenHeaderFilter = match &door {
            Some(door) => hidden_headers(Arc::clone(door)),
            None => Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name)),
        };
        let id = Arc::from(manifest.id.as_str());
        let record = shared.records.of(&manifest.id);
        let vitals = Vitals::new(record, &manifest.version, &shared.rules, shared.wake.clone());
        let plugin = Arc::new(Self {
            shared,
            id,
            config: config.into(),
            pace: Arc::default(),
            calls: Arc::new(Semaphore::new(limits.calls_per_plugin)),
            warm: Warm::new(limits.warm_instances),
            limits: Arc::new(limits),
            door,
            vault,
            hidden,
            credentials: credentials.into(),
            models: OnceLock::new(),
            ungranted,
            settings: settings.clone(),
            not_ready,
            has_no_key: OnceLock::new(),
            vitals,
            checkups: Checkups::default(),
            compiled,
        });
        match plugin.kind() {
            PluginKind::Adapter => {
                let models = plugin.ask_models().await?;
                plugin.models.get_or_init(|| models);
                // An author's tests show what a request without a key meets.
                if plugin.shared.stage.is_none() {
                    plugin.ask_for_its_key().await;
                }
            }
            PluginKind::Transformer => plugin.ask_whether_config_is_right().await?,
        }
        Ok(plugin)
    }

    /// Why it cannot serve, where something that it needs is not there.
    pub(crate) fn not_ready(&self) -> Option<&str> {
        self.has_no_key.get().or(self.not_ready.as_ref()).map(String::as_str)
    }

    /// Notes that an adapter has no key, where it says so itself: which one it needs may depend on its config. The question asks
    /// nobody else, and whatever else it answers is for the operator who asks. A credential that comes makes a new generation.
    async fn ask_for_its_key(self: &Arc<Self>) {
        if let Err(error) = self.health(HealthDepth::Shallow).await
            && is_auth(&error)
        {
            self.has_no_key.get_or_init(|| format!("missing credentials: {}", error.message()));
        }
    }

    /// Whether it is another generation of the same build and config, with other grants perhaps.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let (one, two) = (&self.compiled, &other.compiled);
        one.digest == two.digest && one.manifest.version == two.manifest.version && self.config == other.config
    }

    /// What it is.
    pub(crate) fn kind(&self) -> PluginKind {
        self.compiled.manifest.kind
    }

    /// An adapter's models, its default first.
    pub(crate) fn models(&self) -> &[Arc<ModelInfo>] {
        self.models.get().map_or(&[], |models| models.offered.as_slice())
    }

    /// The models that an adapter had once.
    pub(crate) fn retired(&self) -> &[RetiredModel] {
        self.models.get().map_or(&[], |models| models.retired.as_slice())
    }
}

/// Why a plugin cannot serve, with what would let it: the file, or one of the variables that its manifest names.
fn not_ready(manifest: &Manifest, missing: &Missing) -> Option<String> {
    let id = &manifest.id;
    let mut lacking = missing.all.clone();
    lacking.extend((!missing.one_of.is_empty()).then(|| format!("one of {}", missing.one_of.join(", "))));
    if lacking.is_empty() {
        return None;
    }
    let mut reason = format!(
        "missing credentials: {}; say where they come from under [plugin.{id}.credentials] in easel.toml",
        lacking.join(", and ")
    );
    let names = [missing.all.as_slice(), &missing.one_of].concat();
    let variables = manifest.variables_of_credentials(&names);
    if !variables.is_empty() {
        let variables = variables.join("\", \"");
        reason
            .push_str(&format!(", or set a variable that environment = [\"{variables}\"] under [plugin.{id}] grants"));
    }
    Some(reason)
}
