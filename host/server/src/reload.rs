//! Follows the config file, that of the plugins' grants, and the files of secrets that they name. A good edit counts from the next request on; a bad
//! one changes nothing, and the log says why. A secret that is gone stays as it was: it may be about to be replaced.
//! Variables of the environment are read once, at start.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Config, ConfigError, Loaded, Sources, secret_text};
use crate::metrics::{Metrics, Outcome};

/// How long a file must be left alone before it is read: editors write in several steps.
const QUIET: Duration = Duration::from_millis(100);

/// A config file that is watched; whoever follows it misses no change since this was made.
pub(crate) struct Watched {
    sources: Sources,
    path: PathBuf,
    /// The file of the grants. It stays where it was at the start, as the data folder does.
    grants: PathBuf,
    seen: Seen,
    events: mpsc::Receiver<()>,
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
}

/// What was read.
#[derive(Clone, Default, PartialEq, Eq)]
struct Seen {
    text: Option<String>,
    /// The grants; the file may not be there.
    grants: Option<String>,
    /// The files of secrets, each with what is remembered of what stood in it.
    secrets: Vec<(PathBuf, Option<u64>)>,
}

impl Watched {
    /// Begins to watch; nothing, and a line in the log, where the system does not let us.
    pub(crate) fn start(sources: Sources, grants: PathBuf) -> Option<Self> {
        let path = sources.path();
        // One waiting event is enough: whoever takes it looks at the files as they are then.
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                // Full means that somebody will look anyway.
                let _full = sender.try_send(());
            }
        });
        let started = watcher.and_then(|watcher| {
            let (seen, folders) = (Seen::default(), BTreeSet::new());
            let mut watched = Self { sources, path: path.clone(), grants, seen, events, watcher, folders };
            watched.watch(&path)?;
            let grants = watched.grants.clone();
            watched.watch(&grants)?;
            Ok(watched)
        });
        match started {
            Ok(mut watched) => {
                let text = std::fs::read_to_string(&path).ok();
                let loaded = watched.sources.read_with(&path, text.as_deref(), &watched.grants).ok();
                watched.seen.text = text;
                watched.seen.grants = std::fs::read_to_string(&watched.grants).ok();
                watched.follow_secrets(loaded.map(|loaded| loaded.secret_files).unwrap_or_default());
                Some(watched)
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), error = %error, "changes of the config file are not followed");
                None
            }
        }
    }

    /// Follows it until the handle is dropped.
    pub(crate) fn follow(
        self,
        metrics: Arc<Metrics>,
        apply: impl Fn(Config) -> Result<(), ConfigError> + Send + 'static,
    ) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(follow(self, metrics, apply)))
    }

    /// The folder is watched, not the file: a file that is replaced has lost its watch.
    fn watch(&mut self, file: &Path) -> notify::Result<()> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if self.folders.insert(folder.to_owned()) {
            self.watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(())
    }

    /// Watches these files of secrets, as they are now.
    fn follow_secrets(&mut self, files: Vec<PathBuf>) {
        for file in &files {
            if let Err(error) = self.watch(file) {
                tracing::warn!(file = %file.display(), error = %error, "changes of this secret file are not followed");
            }
        }
        self.seen.secrets = files.into_iter().map(|file| (file.clone(), remembered(&file))).collect();
    }
}

async fn follow(mut watched: Watched, metrics: Arc<Metrics>, apply: impl Fn(Config) -> Result<(), ConfigError>) {
    while watched.events.recv().await.is_some() {
        sleep(QUIET).await;
        let Watched { sources, path, grants, seen, .. } = &watched;
        let look = Look { sources: sources.clone(), path: path.clone(), grants: grants.clone(), seen: seen.clone() };
        // Files of secrets are read as well, from wherever they are.
        let Ok(Some((seen, loaded))) = tokio::task::spawn_blocking(|| look.again()).await else { continue };
        let is_edited = seen.text != watched.seen.text || seen.grants != watched.seen.grants;
        watched.seen = seen;
        let applied = loaded.and_then(|loaded| {
            for notice in &loaded.notices {
                tracing::warn!("{notice}");
            }
            if is_edited {
                watched.follow_secrets(loaded.secret_files);
            }
            apply(loaded.config)
        });
        let file = watched.path.display().to_string();
        metrics.reloaded(if applied.is_ok() { Outcome::Ok } else { Outcome::Failed });
        match applied {
            Ok(()) if is_edited => tracing::info!(file, "the config was reloaded"),
            Ok(()) => tracing::info!(file, "the secrets that the config names were read again"),
            Err(error) => tracing::error!(hint = error.hint(), "the config stays as it was: {error}"),
        }
    }
}

/// One look at the files.
struct Look {
    sources: Sources,
    path: PathBuf,
    grants: PathBuf,
    seen: Seen,
}

impl Look {
    /// What is there and what it says; nothing where all is as it was. A file that is being replaced is gone for a
    /// moment, and one that was removed leaves the config as it is.
    fn again(self) -> Option<(Seen, Result<Loaded, ConfigError>)> {
        let text = std::fs::read_to_string(&self.path).ok().or_else(|| self.seen.text.clone());
        let grants = std::fs::read_to_string(&self.grants).ok();
        let is_edited = self.seen.text != text || self.seen.grants != grants;
        let look = |(file, before): &(PathBuf, Option<u64>)| (file.clone(), remembered(file), before.is_some());
        let found: Vec<_> = self.seen.secrets.iter().map(look).collect();
        if let Some((file, ..)) = found.iter().find(|(_, now, was_there)| now.is_none() && *was_there)
            && !is_edited
        {
            tracing::warn!(file = %file.display(), "the secret file is gone or empty; what it held still counts");
            return None;
        }
        let secrets = found.into_iter().map(|(file, now, _)| (file, now)).collect();
        let seen = Seen { text, grants, secrets };
        if seen == self.seen {
            return None;
        }
        let loaded = self.sources.read_with(&self.path, seen.text.as_deref(), &self.grants);
        Some((seen, loaded))
    }
}

/// What is remembered of a secret, if there is one: enough to see that it changed.
fn remembered(file: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    secret_text(file)?.expose().hash(&mut hasher);
    Some(hasher.finish())
}

/// The keys that differ and count only after a restart.
pub(crate) fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("listen", old.listen != new.listen),
        ("data", old.data != new.data),
        ("plugins", old.plugins_folder != new.plugins_folder),
        ("plugin_limits", old.plugin_limits != new.plugin_limits),
        ("mode", old.mode != new.mode),
        ("images.dir", old.images.folder != new.images.folder),
        ("images.last", old.images.last != new.images.last),
        ("models.dir", old.models.folder != new.models.folder),
        ("models.device", old.models.device != new.models.device),
        ("models.keep_loaded", old.models.keep_loaded != new.models.keep_loaded),
        ("models.demo", old.models.demo != new.models.demo),
        ("models.safety", old.models.safety != new.models.safety),
        ("log", old.log != new.log),
        ("plugin_life", old.plugin_life != new.plugin_life),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}
