//! Follows the config file. A good edit counts from the next request on; a bad one changes nothing, and the log says why.

use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Config, ConfigError, Loaded, Sources};

/// How long a file must be left alone before it is read: editors write in several steps.
const QUIET: Duration = Duration::from_millis(100);

/// A config file that is watched; whoever follows it misses no change since this was made.
pub(crate) struct Watched {
    sources: Sources,
    path: PathBuf,
    seen: Option<String>,
    events: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl Watched {
    /// Begins to watch; nothing, and a line in the log, where the system does not let us.
    pub(crate) fn start(sources: Sources) -> Option<Self> {
        let path = sources.path();
        // One waiting event is enough: whoever takes it looks at the file as it is then.
        let (sender, events) = mpsc::channel(1);
        match watcher(&path, sender) {
            Ok(_watcher) => {
                let seen = std::fs::read_to_string(&path).ok();
                Some(Self { sources, path, seen, events, _watcher })
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
        apply: impl Fn(Config) -> Result<(), ConfigError> + Send + 'static,
    ) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(follow(self, apply)))
    }
}

async fn follow(watched: Watched, apply: impl Fn(Config) -> Result<(), ConfigError>) {
    let Watched { sources, path, mut seen, mut events, _watcher } = watched;
    while events.recv().await.is_some() {
        sleep(QUIET).await;
        let look = Look { sources: sources.clone(), path: path.clone(), seen: seen.clone() };
        // Files of secrets are read as well, from wherever they are.
        let Ok(Some((text, loaded))) = tokio::task::spawn_blocking(|| look.again()).await else { continue };
        let applied = loaded.and_then(|loaded| {
            for notice in &loaded.notices {
                tracing::warn!("{notice}");
            }
            apply(loaded.config)
        });
        match applied {
            Ok(()) => tracing::info!(file = %path.display(), "the config was reloaded"),
            Err(error) => tracing::error!(hint = error.hint(), "the config stays as it was: {error}"),
        }
        seen = Some(text);
    }
}

/// One look at the file.
struct Look {
    sources: Sources,
    path: PathBuf,
    seen: Option<String>,
}

impl Look {
    /// The text and what it says; nothing where it is as it was. A file that is being replaced is gone for a moment, and
    /// one that was removed leaves the config as it is.
    fn again(self) -> Option<(String, Result<Loaded, ConfigError>)> {
        let text = std::fs::read_to_string(&self.path).ok().filter(|text| Some(text) != self.seen.as_ref())?;
        let loaded = self.sources.read(&self.path, Some(&text));
        Some((text, loaded))
    }
}

/// The folder is watched, not the file: a file that is replaced has lost its watch.
fn watcher(path: &Path, sender: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // Full means that somebody will look anyway.
            let _full = sender.try_send(());
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// The keys that differ and count only after a restart.
pub(crate) fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("listen", old.listen != new.listen),
        ("data", old.data != new.data),
        ("plugins", old.plugins_folder != new.plugins_folder),
        ("mode", old.mode != new.mode),
        ("images.dir", old.images.folder != new.images.folder),
        ("models.dir", old.models.folder != new.models.folder),
        ("models.device", old.models.device != new.models.device),
        ("models.keep_loaded", old.models.keep_loaded != new.models.keep_loaded),
        ("models.demo", old.models.demo != new.models.demo),
        ("log", old.log != new.log),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}
