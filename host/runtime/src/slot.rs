//! One place in the plugins folder: the file that lies there, and the generation that serves from it. The two differ
//! while a new file is being compiled, for as long as it is refused, and when an earlier generation came back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::adapter::Adapter;
use crate::drain::Drain;
use crate::folder::Stamp;
use crate::life::{Event, Life, LifeRules, PluginState};
use crate::manifest::Manifest;
use crate::plugin::{Compiled, Plugin};
use crate::record::Record;
use crate::status::{BuildName, BuildStatus, Draining, Place, PluginStatus};
use crate::transformer::TransformerPlugin;
use crate::vitals::Vitals;
use crate::{MissingGrant, PluginKind, PluginPermissions, PluginSettings};

/// What serves.
#[derive(Clone)]
pub(crate) enum Serving {
    Adapter(Arc<Adapter>),
    Transformer(Arc<TransformerPlugin>),
}

impl Serving {
    pub(crate) fn new(plugin: Arc<Plugin>) -> Self {
        match plugin.kind() {
            PluginKind::Adapter => Self::Adapter(Arc::new(Adapter(plugin))),
            PluginKind::Transformer => Self::Transformer(Arc::new(TransformerPlugin(plugin))),
        }
    }

    pub(crate) fn plugin(&self) -> &Arc<Plugin> {
        match self {
            Self::Adapter(adapter) => &adapter.0,
            Self::Transformer(transformer) => &transformer.0,
        }
    }
}

/// A place.
pub(crate) struct Slot {
    /// The file's or folder's name.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The files as they were when they were last dealt with, well or badly.
    pub(crate) seen: Option<Stamp>,
    /// What the manifest says, once it could be read.
    pub(crate) manifest: Option<Manifest>,
    /// The newest component that compiled, and the manifest it was compiled with.
    pub(crate) compiled: Option<(Arc<Compiled>, String)>,
    /// What the newest generation was tried with, well or badly.
    pub(crate) tried: Option<(Arc<Compiled>, PluginSettings)>,
    pub(crate) serving: Option<Serving>,
    /// What served before and can come back, the most recent last.
    pub(crate) earlier: Vec<Earlier>,
    /// What was replaced and may still have calls.
    pub(crate) draining: Vec<Drain>,
    /// Why the file that lies there is not even tried.
    pub(crate) unreadable: Option<String>,
    /// How the newest that could be read stands.
    pub(crate) life: Life,
    /// Whether the operator took an earlier generation.
    pub(crate) is_set_back: bool,
    /// What the newest waits for.
    pub(crate) missing_grant: Option<MissingGrant>,
    /// The version that served before, where that was a higher one.
    pub(crate) downgraded_from: Option<String>,
    /// The settings that it would have, where it is switched off.
    pub(crate) off_with: Option<PluginSettings>,
    /// Whether a generation came to serve of which the log does not tell yet.
    is_news: bool,
}

/// A generation that served: its code stays compiled. It comes back with the operator's grants and credentials of then,
/// and with the values for its config that it served with.
pub(crate) struct Earlier {
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) settings: PluginSettings,
    vitals: Arc<Vitals>,
}

impl Slot {
    pub(crate) fn new(name: String, path: PathBuf) -> Self {
        Self {
            name,
            path,
            seen: None,
            manifest: None,
            off_with: None,
            is_news: false,
            compiled: None,
            tried: None,
            serving: None,
            earlier: Vec::new(),
            draining: Vec::new(),
            unreadable: None,
            life: Life::new(),
            is_set_back: false,
            missing_grant: None,
            downgraded_from: None,
        }
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.manifest.as_ref().map(|manifest| manifest.id.as_str())
    }

    /// Its id; the name of its file while that is not known.
    pub(crate) fn known_as(&self) -> &str {
        self.id().unwrap_or(&self.name)
    }

    /// Whether its file is gone and only its last calls go on.
    pub(crate) fn is_gone(&self) -> bool {
        self.life.state() == PluginState::Draining
    }

    /// Takes note of how reading went. What serves goes on.
    pub(crate) fn set_unreadable(&mut self, reason: Option<String>) {
        if self.unreadable != reason {
            self.warn(reason.as_deref());
            self.unreadable = reason;
            self.life.since = std::time::SystemTime::now();
        }
    }

    /// Takes note of what happened to the newest build. What serves goes on.
    pub(crate) fn on(&mut self, event: Event) {
        let is_refusal = matches!(event, Event::Refused(_) | Event::Ungranted(_) | Event::Unconfigured(_));
        let is_untold = matches!(event, Event::Unconfigured(_)) && self.serving.is_none();
        if !self.life.on(event) {
            return;
        }
        if is_untold {
            tracing::info!(plugin = self.id(), "plugin is not ready: {}", self.life.reason().unwrap_or_default());
        } else if let Some(missing) = self.missing_grant.as_ref().filter(|_| is_refusal) {
            self.ask_for(missing);
        } else if is_refusal {
            self.warn(self.life.reason());
        }
    }

    fn warn(&self, reason: Option<&str>) {
        if let Some(reason) = reason {
            let (plugin, goes_on) = (self.known_as(), self.serving.is_some());
            tracing::warn!(plugin, path = %self.path.display(), older_serves = goes_on, "plugin refused: {reason}");
        }
    }

    fn ask_for(&self, missing: &MissingGrant) {
        let (plugin, goes_on) = (self.known_as(), self.serving.is_some());
        let MissingGrant { command, toml, .. } = missing;
        tracing::warn!(plugin, path = %self.path.display(), older_serves = goes_on, command, toml, "plugin awaits a grant: {missing}");
    }

    /// Puts a generation in the place of the one that serves, which can come back unless it is the same with other grants.
    pub(crate) fn serve(&mut self, plugin: Arc<Plugin>, rules: &LifeRules) {
        if let Some(before) = self.serving.as_ref().map(Serving::plugin)
            && !before.is_like(&plugin)
        {
            let (old, new) = (&before.compiled.manifest.version, &plugin.compiled.manifest.version);
            self.downgraded_from = is_lower(new, old).then(|| old.clone());
            self.earlier.push(Earlier {
                compiled: Arc::clone(&before.compiled),
                settings: before.settings.clone(),
                vitals: Arc::clone(&before.vitals),
            });
            let over = self.earlier.len().saturating_sub(rules.earlier);
            self.earlier.drain(..over);
        }
        self.retire(rules);
        self.serving = Some(Serving::new(plugin));
        self.is_news = true;
    }

    /// Tells the log of a generation that came to serve. For when everybody sees it: who reads that it is loaded can ask it.
    pub(crate) fn tell(&mut self) {
        let Some(plugin) = self.serving.as_ref().map(Serving::plugin).filter(|_| self.is_news) else { return };
        let (id, models) = (&*plugin.id, plugin.models().len());
        let (version, digest) = (&plugin.compiled.manifest.version, &plugin.compiled.digest);
        match &self.downgraded_from {
            Some(before) => {
                tracing::info!(
                    plugin = id,
                    version,
                    before,
                    digest,
                    models,
                    "plugin loaded, a lower version than before"
                );
            }
            None => tracing::info!(plugin = id, version, digest, models, "plugin loaded"),
        }
        self.is_news = false;
    }

    /// Takes out of service what serves; its calls go on for a while.
    pub(crate) fn retire(&mut self, rules: &LifeRules) {
        if let Some(before) = self.serving.take() {
            self.draining.push(Drain::of(before.plugin(), rules));
        }
    }

    /// The generation that comes back next: the last one that has answered a call, or else the last one.
    pub(crate) fn take_earlier(&mut self) -> Option<Earlier> {
        let good = self.earlier.iter().rposition(|earlier| earlier.vitals.has_answered());
        let place = good.or(self.earlier.len().checked_sub(1))?;
        Some(self.earlier.remove(place))
    }

    /// Whether a generation is that of the newest build and settings.
    pub(crate) fn is_newest(&self, plugin: &Plugin) -> bool {
        let is_tried = |(compiled, settings): &(Arc<Compiled>, PluginSettings)| {
            Arc::ptr_eq(compiled, &plugin.compiled)
                && settings.config == plugin.settings.config
                && settings.environment == plugin.settings.environment
        };
        self.tried.as_ref().is_some_and(is_tried)
    }

    /// Ends calls whose time is over, and forgets what nobody can call any more.
    pub(crate) fn drain(&mut self, now: Instant) {
        self.draining.retain(|drain| drain.goes_on(now));
    }

    /// What others can see of it.
    pub(crate) fn face(&self) -> impl PartialEq + use<> {
        let serving = self.serving.as_ref().map(|serving| Arc::as_ptr(serving.plugin()).addr());
        let life = (self.life.state(), self.life.reason().map(str::to_owned), self.life.since);
        let draining = self.draining.iter().map(|drain| Arc::as_ptr(&drain.vitals).addr()).collect::<Vec<_>>();
        let files = (self.path.clone(), self.unreadable.clone());
        (files, life, serving, self.earlier.len(), draining, self.off_with.clone())
    }

    pub(crate) fn place(&self, record: Option<Arc<Record>>) -> Place {
        let draining = self.draining.iter().map(|drain| Draining {
            build: BuildName { version: drain.vitals.version.clone(), digest: drain.digest.clone() },
            since: drain.since,
            until: drain.until,
            vitals: Arc::clone(&drain.vitals),
        });
        Place { status: self.status(), record, draining: draining.collect() }
    }

    /// What the build that serves wants and has, or else the one that was tried or is switched off.
    fn permissions(&self) -> Option<PluginPermissions> {
        let serving = self.serving.as_ref().map(Serving::plugin).map(|plugin| (&plugin.compiled, &plugin.settings));
        let tried = self.tried.as_ref().map(|(compiled, settings)| (compiled, settings));
        let made = serving.or(tried).map(|(compiled, settings)| (&compiled.manifest, settings));
        made.or(self.manifest.as_ref().zip(self.off_with.as_ref()))
            .map(|(manifest, settings)| PluginPermissions::of(manifest, settings))
    }

    fn status(&self) -> PluginStatus {
        let plugin = self.serving.as_ref().map(Serving::plugin);
        let newest = match (&self.unreadable, self.life.state()) {
            (Some(reason), _) => Some((PluginState::Failed, Some(reason.clone()))),
            (None, PluginState::Ready) => None,
            // It serves, and says itself what it lacks.
            (None, PluginState::NotReady) if self.life.reason().is_none() => None,
            (None, state) => Some((state, self.life.reason().map(str::to_owned))),
        };
        let (state, reason) = match (plugin, &newest) {
            (Some(plugin), newest) => {
                let state = if plugin.not_ready().is_some() { PluginState::NotReady } else { PluginState::Ready };
                let newer = newest.as_ref().and_then(|(state, reason)| Some(older_serves(*state, reason.as_deref()?)));
                (state, newer.or_else(|| plugin.not_ready().map(str::to_owned)))
            }
            (None, Some((state, reason))) => (*state, reason.clone()),
            (None, None) => (PluginState::Loading, None),
        };
        let manifest = plugin.map(|plugin| &plugin.compiled.manifest);
        let read = self.manifest.as_ref();
        let build = |earlier: &Earlier| BuildName {
            version: earlier.compiled.manifest.version.clone(),
            digest: earlier.compiled.digest.clone(),
        };
        PluginStatus {
            id: plugin.map_or_else(|| self.known_as().to_owned(), |plugin| plugin.id.to_string()),
            path: self.path.clone(),
            kind: manifest.map(|manifest| manifest.kind).or(read.map(|read| read.kind)),
            version: manifest.map(|manifest| &manifest.version).or(read.map(|read| &read.version)).cloned(),
            digest: plugin.map(|plugin| plugin.compiled.digest.clone()),
            state,
            reason,
            downgraded_from: self.downgraded_from.clone().filter(|_| plugin.is_some()),
            newest: newest.filter(|_| plugin.is_some()).map(|(state, reason)| BuildStatus {
                version: read.map(|read| read.version.clone()),
                state,
                reason,
            }),
            earlier: self.earlier.iter().rev().map(build).collect(),
            draining: Vec::new(),
            models: plugin
                .map_or_else(Vec::new, |plugin| plugin.models().iter().map(|model| model.id.clone()).collect()),
            missing_grant: self.missing_grant.clone(),
            permissions: self.permissions(),
            ungranted: plugin.map_or_else(Vec::new, |plugin| plugin.ungranted.clone()),
            credentials: plugin.map_or_else(Vec::new, |plugin| plugin.credentials.to_vec()),
            environment: plugin.map_or_else(Vec::new, |plugin| plugin.compiled.manifest.variables(&plugin.settings)),
            limits: plugin.map(|plugin| plugin.limits.as_ref().clone()),
            errors: Vec::new(),
            figures: Vec::new(),
            loads: (0, 0),
            since: self.life.since,
        }
    }
}

fn older_serves(state: PluginState, reason: &str) -> String {
    let why = match state {
        PluginState::Quarantined => "was quarantined",
        PluginState::Disabled => "does not",
        PluginState::AwaitingGrant => "awaits a grant",
        PluginState::NotReady => "is not ready",
        PluginState::Loading | PluginState::Ready | PluginState::Draining | PluginState::Failed => "was refused",
    };
    format!("the older build serves, the newer one {why}: {reason}")
}

/// Whether a version stands below another. Both were checked when their manifests were read.
fn is_lower(version: &str, than: &str) -> bool {
    match (semver::Version::parse(version), semver::Version::parse(than)) {
        (Ok(version), Ok(than)) => version < than,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}
