//! `easel dev`: builds the plugins of a source checkout and rebuilds what changes. Serving them is not its business: the
//! server watches the same folder, and takes a component as soon as it lies there.
//!
//! Each plugin is built by a cargo of its own, in a target folder of its own, so that neither waits for the cargo that
//! runs this program. A build that fails leaves the component as it was.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Environment;

const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "plugin";

/// How long sources must be left alone before they are built: editors and version control write many files at once.
const QUIET: Duration = Duration::from_millis(150);
/// How many changes wait to be looked at; more are changes of everything.
const WAITING_CHANGES: usize = 256;

/// Why there is nothing to build.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevError {
    #[error("{0} is not inside a source checkout of Easel: no folder above it has plugins/ and sdk/")]
    NoCheckout(PathBuf),
    #[error("the working folder cannot be found")]
    NoFolder(#[source] std::io::Error),
}

impl DevError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoCheckout(_) => Some("go into the checkout, or use `easel serve`, which needs no sources"),
            Self::NoFolder(_) => None,
        }
    }
}

/// A source checkout.
#[derive(Clone, Debug)]
pub(crate) struct Checkout {
    root: PathBuf,
    /// The cargo that built this program, or the one in the path.
    cargo: String,
    /// Where components are built.
    target: PathBuf,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Plugin(String),
    /// What every plugin is built from.
    Everything,
}

impl Checkout {
    /// Finds the checkout around the working folder.
    pub(crate) fn find(environment: &Environment) -> Result<Self, DevError> {
        let here = std::env::current_dir().map_err(DevError::NoFolder)?;
        let is_root = |folder: &&Path| {
            folder.join("Cargo.toml").is_file()
                && folder.join("plugins").is_dir()
                && folder.join("sdk/Cargo.toml").is_file()
        };
        let root = here.ancestors().find(is_root).ok_or_else(|| DevError::NoCheckout(here.clone()))?.to_owned();
        let target =
            environment.get("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| here.join(folder));
        Ok(Self { cargo: environment.get("CARGO").unwrap_or("cargo").to_owned(), target: target.join("plugins"), root })
    }

    /// The folder of the plugins' sources, and of their components.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.root.join("plugins")
    }

    /// Builds every plugin, then what changes, until the handle is dropped.
    pub(crate) fn build_and_follow(self) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(Arc::new(self).run()))
    }

    async fn run(self: Arc<Self>) {
        // Watched before the first build, so that no change made meanwhile is lost.
        let (sender, mut changes) = mpsc::channel(WAITING_CHANGES);
        let watcher = self.watch(sender);
        if let Err(error) = &watcher {
            tell(&format!("changes of the sources are not followed: {error}"));
        }
        if !self.has_target().await {
            return;
        }
        let mut waiting = BTreeSet::from([Change::Everything]);
        loop {
            let names = if waiting.contains(&Change::Everything) { self.names() } else { plugins_of(&waiting) };
            for name in names {
                self.build(&name).await;
            }
            waiting.clear();
            let Some(change) = changes.recv().await else { return };
            waiting.insert(change);
            while let Ok(Some(change)) = tokio::time::timeout(QUIET, changes.recv()).await {
                waiting.insert(change);
            }
        }
    }

    /// The plugins that have sources, by folder.
    fn names(&self) -> Vec<String> {
        let Ok(folders) = std::fs::read_dir(self.plugins()) else { return Vec::new() };
        let has_sources = |folder: &std::fs::DirEntry| folder.path().join("Cargo.toml").is_file();
        let folders = folders.filter_map(Result::ok).filter(has_sources);
        let mut names: Vec<_> = folders.filter_map(|folder| folder.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Makes sure that the compiler can build components; says what to do where it cannot.
    async fn has_target(&self) -> bool {
        let script = self.root.join("sdk/wasm-target");
        let mut command = Command::new("bash");
        command.arg(&script).current_dir(&self.root).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        match command.status().await {
            Ok(status) if status.success() => true,
            Ok(_) | Err(_) => {
                tell(&format!(
                    "plugins are not built: the compiler lacks {TARGET}; install it with `rustup target add {TARGET}` and start again"
                ));
                false
            }
        }
    }

    async fn build(&self, name: &str) {
        let begun = Instant::now();
        let mut command = Command::new(&self.cargo);
        command
            .args(["build", "--quiet", "--target", TARGET, "--profile", PROFILE, "--target-dir"])
            .arg(&self.target)
            .arg("--manifest-path")
            .arg(self.plugins().join(name).join("Cargo.toml"))
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        tell(&format!("plugin {name}: building"));
        let built = match command.spawn() {
            Ok(mut child) => {
                if let Some(output) = child.stderr.take() {
                    let mut lines = BufReader::new(output).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        eprintln!("{line}");
                    }
                }
                child.wait().await.is_ok_and(|status| status.success())
            }
            Err(error) => {
                tell(&format!("{} cannot be run: {error}", self.cargo));
                false
            }
        };
        if !built {
            tell(&format!("plugin {name}: the build failed; the component that was there goes on"));
            return;
        }
        let seconds = begun.elapsed().as_secs_f64();
        match self.install(name) {
            Ok(Installed::New(bytes)) => {
                tell(&format!("plugin {name}: built in {seconds:.1} s, {} KiB", bytes.div_ceil(1024)));
            }
            Ok(Installed::Same) => tell(&format!("plugin {name}: nothing new")),
            Err(error) => tell(&format!("plugin {name}: the component cannot be put beside its sources: {error}")),
        }
    }

    /// Puts the component beside its sources, whole or not at all.
    fn install(&self, name: &str) -> std::io::Result<Installed> {
        let file = format!("plugin_{}.wasm", name.replace('-', "_"));
        let component = std::fs::read(self.target.join(TARGET).join(PROFILE).join(file))?;
        let folder = self.plugins().join(name);
        let place = folder.join(format!("{name}.wasm"));
        if std::fs::read(&place).is_ok_and(|there| there == component) {
            return Ok(Installed::Same);
        }
        // Hidden, so that the server does not take it for a plugin before it has its name.
        let part = folder.join(format!(".{name}.part"));
        std::fs::write(&part, &component)?;
        std::fs::rename(&part, &place)?;
        Ok(Installed::New(component.len()))
    }

    fn watch(&self, sender: mpsc::Sender<Change>) -> notify::Result<RecommendedWatcher> {
        let root = self.root.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if event.kind.is_access() {
                return;
            }
            for change in event.paths.iter().filter_map(|path| change_of(path.strip_prefix(&root).ok()?)) {
                // Full means that a build is due anyway.
                drop(sender.try_send(change));
            }
        })?;
        for folder in ["plugins", "sdk", "wit"] {
            watcher.watch(&self.root.join(folder), RecursiveMode::Recursive)?;
        }
        Ok(watcher)
    }
}

enum Installed {
    New(usize),
    Same,
}

fn plugins_of(changes: &BTreeSet<Change>) -> Vec<String> {
    let plugin = |change: &Change| match change {
        Change::Plugin(name) => Some(name.clone()),
        Change::Everything => None,
    };
    changes.iter().filter_map(plugin).collect()
}

/// What a change of a file means; nothing for what is no source.
fn change_of(path: &Path) -> Option<Change> {
    let is_source = path
        .extension()
        .is_some_and(|ending| ["rs", "toml", "wit", "json", "txt"].iter().any(|known| ending == *known));
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    let (first, second) = (parts.next()?, parts.next()?);
    let is_hidden = path.iter().any(|part| part.as_encoded_bytes().starts_with(b".") || part == "target");
    if !is_source || is_hidden {
        return None;
    }
    match first.as_ref() {
        "plugins" => Some(Change::Plugin(second.into_owned())),
        "sdk" | "wit" => Some(Change::Everything),
        _ => None,
    }
}

fn tell(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sources_are_built_again() {
        let change = |path: &str| change_of(Path::new(path));
        let plugin = |name: &str| Some(Change::Plugin(name.to_owned()));
        assert_eq!(change("plugins/prompt-styles/src/lib.rs"), plugin("prompt-styles"));
        assert_eq!(change("plugins/prompt-styles/plugin.toml"), plugin("prompt-styles"));
        assert_eq!(change("sdk/src/lib.rs"), Some(Change::Everything));
        assert_eq!(change("wit/types.wit"), Some(Change::Everything));
        for path in [
            "plugins/a/a.wasm",
            "plugins/a/.a.part",
            "plugins/a/target/x.rs",
            "plugins/a/src/.lib.rs.swp",
            "host/core/src/lib.rs",
            "sdk",
        ] {
            assert_eq!(change(path), None, "{path}");
        }
    }

    #[test]
    fn component_is_put_beside_its_sources_once() {
        let root = std::env::temp_dir().join(format!("easel-dev-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&root));
        let built = root.join("target/plugins").join(TARGET).join(PROFILE);
        std::fs::create_dir_all(&built).unwrap();
        std::fs::create_dir_all(root.join("plugins/prompt-styles/src")).unwrap();
        std::fs::write(root.join("plugins/prompt-styles/Cargo.toml"), "").unwrap();
        std::fs::create_dir_all(root.join("plugins/only-a-component")).unwrap();
        std::fs::write(built.join("plugin_prompt_styles.wasm"), "component").unwrap();
        let checkout = Checkout { root: root.clone(), cargo: "cargo".to_owned(), target: root.join("target/plugins") };

        assert_eq!(checkout.names(), ["prompt-styles"]);
        assert!(matches!(checkout.install("prompt-styles").unwrap(), Installed::New(9)));
        assert!(matches!(checkout.install("prompt-styles").unwrap(), Installed::Same));
        let folder = root.join("plugins/prompt-styles");
        assert_eq!(std::fs::read(folder.join("prompt-styles.wasm")).unwrap(), b"component");
        assert!(!folder.join(".prompt-styles.part").exists());
        std::fs::remove_dir_all(&root).unwrap();
    }
}
