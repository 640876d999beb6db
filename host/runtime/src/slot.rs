//! One place in the plugins folder: the file that lies there, and the generation that serves from it. The two differ
//! while a new file is being compiled, and for as long as it is refused.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::adapter::Adapter;
use crate::folder::Stamp;
use crate::plugin::{Compiled, Plugin};
use crate::registry::{PluginState, PluginStatus};
use crate::transformer::TransformerPlugin;
use crate::{MissingGrant, PluginKind, PluginSettings};

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
    pub(crate) identity: Option<Identity>,
    /// The newest component that compiled, and the manifest it was compiled with.
    pub(crate) compiled: Option<(Arc<Compiled>, String)>,
    /// What the newest generation was tried with, well or badly.
    pub(crate) tried: Option<(Arc<Compiled>, PluginSettings)>,
    pub(crate) serving: Option<Serving>,
    /// Why the file that lies there is not even tried.
    pub(crate) unreadable: Option<String>,
    /// Why what was read does not serve.
    pub(crate) problem: Option<Problem>,
    pub(crate) since: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) kind: PluginKind,
    pub(crate) version: String,
}

/// Why what was read does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It does not take its settings, or does not answer.
    Refused(String),
    /// It wants what the operator has not decided.
    AwaitingGrant(MissingGrant),
    /// The operator has told it nothing yet, and it says that it needs to know something.
    Unconfigured(String),
    /// Another file, first by path, has the same id.
    Taken(String),
    Disabled,
}

impl Problem {
    fn reason(&self) -> Option<String> {
        match self {
            Self::Refused(reason) | Self::Unconfigured(reason) | Self::Taken(reason) => Some(reason.clone()),
            Self::AwaitingGrant(missing) => Some(missing.to_string()),
            Self::Disabled => None,
        }
    }
}

impl Slot {
    pub(crate) fn new(name: String, path: PathBuf) -> Self {
        Self {
            name,
            path,
            seen: None,
            identity: None,
            compiled: None,
            tried: None,
            serving: None,
            unreadable: None,
            problem: None,
            since: SystemTime::now(),
        }
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| identity.id.as_str())
    }

    /// Takes note of how reading went. What serves goes on.
    pub(crate) fn set_unreadable(&mut self, reason: Option<String>) {
        if self.unreadable != reason {
            self.warn(reason.as_deref());
            self.unreadable = reason;
            self.since = SystemTime::now();
        }
    }

    /// Takes note of how making a generation went. What serves goes on.
    pub(crate) fn set_problem(&mut self, problem: Option<Problem>) {
        if self.problem != problem {
            match &problem {
                Some(Problem::AwaitingGrant(missing)) => self.ask_for(missing),
                Some(Problem::Unconfigured(reason)) if self.serving.is_none() => {
                    tracing::info!(plugin = self.id(), "plugin is not ready: {reason}");
                }
                problem => self.warn(problem.as_ref().and_then(Problem::reason).as_deref()),
            }
            self.problem = problem;
            self.since = SystemTime::now();
        }
    }

    fn warn(&self, reason: Option<&str>) {
        if let Some(reason) = reason {
            let (plugin, goes_on) = (self.id().unwrap_or(&self.name), self.serving.is_some());
            tracing::warn!(plugin, path = %self.path.display(), older_serves = goes_on, "plugin refused: {reason}");
        }
    }

    fn ask_for(&self, missing: &MissingGrant) {
        let (plugin, goes_on) = (self.id().unwrap_or(&self.name), self.serving.is_some());
        let MissingGrant { command, toml, .. } = missing;
        tracing::warn!(plugin, path = %self.path.display(), older_serves = goes_on, command, toml, "plugin awaits a grant: {missing}");
    }

    /// What others can see of it.
    pub(crate) fn face(&self) -> impl PartialEq + use<> {
        let serving = self.serving.as_ref().map(|serving| Arc::as_ptr(serving.plugin()).addr());
        (self.unreadable.clone(), self.problem.clone(), serving)
    }

    pub(crate) fn status(&self) -> PluginStatus {
        let plugin = self.serving.as_ref().map(Serving::plugin);
        let refusal = self.unreadable.clone().or_else(|| self.problem.as_ref().and_then(Problem::reason));
        let missing_grant = match &self.problem {
            Some(Problem::AwaitingGrant(missing)) => Some(missing.clone()),
            Some(Problem::Refused(_) | Problem::Unconfigured(_) | Problem::Taken(_) | Problem::Disabled) | None => None,
        };
        let (state, reason) = match (plugin, refusal) {
            (Some(plugin), refusal) => {
                let state = if plugin.not_ready.is_some() { PluginState::NotReady } else { PluginState::Ready };
                let fate = if missing_grant.is_some() { "awaits a grant" } else { "was refused" };
                let newer = refusal.map(|reason| format!("the older build serves, the newer one {fate}: {reason}"));
                (state, newer.or_else(|| plugin.not_ready.clone()))
            }
            (None, _) if self.problem == Some(Problem::Disabled) => (PluginState::Disabled, None),
            (None, Some(reason)) if self.unreadable.is_none() && missing_grant.is_some() => {
                (PluginState::AwaitingGrant, Some(reason))
            }
            (None, Some(reason)) => {
                let is_unconfigured = matches!(&self.problem, Some(Problem::Unconfigured(why)) if *why == reason);
                let state = if is_unconfigured { PluginState::NotReady } else { PluginState::Failed };
                (state, Some(reason))
            }
            (None, None) => (PluginState::Loading, None),
        };
        let manifest = plugin.map(|plugin| &plugin.compiled.manifest);
        let version = manifest.map(|manifest| &manifest.version);
        PluginStatus {
            id: plugin.map_or_else(|| self.id().unwrap_or(&self.name).to_owned(), |plugin| plugin.id.to_string()),
            path: self.path.clone(),
            kind: manifest.map(|manifest| manifest.kind).or(self.identity.as_ref().map(|identity| identity.kind)),
            version: version.or(self.identity.as_ref().map(|identity| &identity.version)).cloned(),
            digest: plugin.map(|plugin| plugin.compiled.digest.clone()),
            state,
            reason,
            models: plugin
                .map_or_else(Vec::new, |plugin| plugin.models().iter().map(|model| model.id.clone()).collect()),
            missing_grant,
            ungranted: plugin.map_or_else(Vec::new, |plugin| plugin.ungranted.clone()),
            since: self.since,
        }
    }
}
