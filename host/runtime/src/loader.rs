//! The loader: one thread that watches the plugins folder and makes the next generation of whatever changed. Neither it nor
//! a request ever waits for a compiler (`compile.rs`). File and settings take the same path, and whatever fails leaves what serves.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot::Sender;

use crate::PluginSettings;
use crate::compile::Compilations;
use crate::files::{Files, files};
use crate::folder::{Candidate, PATIENCE, QUIET, Settling, scan};
use crate::grants;
use crate::manifest::Manifest;
use crate::plugin::{Compiled, Plugin, Shared, digest};
use crate::refusal::Refusal;
use crate::registry::{Registry, View};
use crate::slot::{Identity, Problem, Serving, Slot};
use crate::watch::Watch;

/// How often the folder is looked at although nothing was heard: some file systems tell nothing.
pub(crate) const RESCAN: Duration = Duration::from_secs(2);

/// How soon it is looked at again while something is settling.
const SOON: Duration = Duration::from_millis(15);

/// What others tell the loader.
pub(crate) struct Control {
    pub(crate) settings: Mutex<BTreeMap<String, PluginSettings>>,
    pub(crate) is_stopping: AtomicBool,
}

/// The loader's own things.
pub(crate) struct Loader {
    pub(crate) folder: PathBuf,
    pub(crate) shared: Arc<Shared>,
    pub(crate) control: Arc<Control>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) on_change: Box<dyn Fn() + Send>,
    slots: BTreeMap<String, Slot>,
    settling: Settling,
    watch: Watch,
    compilations: Compilations,
    /// Told once every plugin that lay there at the start has been dealt with.
    started: Option<Sender<()>>,
}

impl Loader {
    pub(crate) fn new(
        folder: PathBuf,
        shared: Arc<Shared>,
        control: Arc<Control>,
        registry: Arc<Registry>,
        (on_change, started, wake): (Box<dyn Fn() + Send>, Sender<()>, SyncSender<()>),
    ) -> Self {
        Self {
            compilations: Compilations::new(Arc::clone(&shared), wake),
            folder,
            shared,
            control,
            registry,
            on_change,
            slots: BTreeMap::new(),
            settling: Settling::default(),
            watch: Watch::default(),
            started: Some(started),
        }
    }

    /// Runs until it is told to stop.
    pub(crate) fn run(mut self, wake: SyncSender<()>, woken: &Receiver<()>) {
        self.watch = Watch::start(wake);
        while !self.control.is_stopping.load(Ordering::Acquire) {
            let is_settled = self.look();
            if is_settled && let Some(started) = self.started.take() {
                self.warn_of_strangers();
                // Whoever started the runtime may have gone.
                let _gone = started.send(());
            }
            match woken.recv_timeout(if is_settled { RESCAN } else { SOON }) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Brings every slot up to the folder and the settings; tells whether nothing is left to wait for.
    fn look(&mut self) -> bool {
        let listing = match scan(&self.folder) {
            Ok(listing) => listing,
            Err(error) => {
                tracing::warn!(folder = %self.folder.display(), error = %error, "the plugins folder cannot be read");
                return true;
            }
        };
        self.watch.follow(&self.folder, &listing, self.shared.limits.plugins.saturating_mul(4));
        self.settling.keep(&listing);
        let gone: Vec<_> = self.slots.keys().filter(|key| !listing.candidates.contains_key(*key)).cloned().collect();
        for key in gone {
            if let Some(slot) = self.slots.remove(&key) {
                tracing::info!(plugin = slot.id().unwrap_or(&slot.name), "plugin removed");
            }
            self.publish();
        }
        let mut is_settled = true;
        for (number, (key, candidate)) in listing.candidates.into_iter().enumerate() {
            if self.control.is_stopping.load(Ordering::Acquire) {
                return true;
            }
            let known = self.slots.remove(&key);
            let before = known.as_ref().map(Slot::face);
            let mut slot = known.unwrap_or_else(|| Slot::new(key.clone(), candidate.component.clone()));
            is_settled &= self.bring_up(number, &key, &mut slot, candidate);
            let is_changed = before.is_none_or(|before| before != slot.face());
            self.slots.insert(key, slot);
            if is_changed {
                self.publish();
            }
        }
        is_settled
    }

    /// Brings one slot up; tells whether that is done.
    fn bring_up(&mut self, number: usize, key: &str, slot: &mut Slot, candidate: Candidate) -> bool {
        slot.path.clone_from(&candidate.component);
        if slot.seen.as_ref() != Some(&candidate.stamp) {
            if self.compilations.is_busy_with(key, &candidate.stamp) {
                // What serves meanwhile follows its settings.
                self.apply(key, slot);
                return false;
            }
            let quiet = self.settling.observe(key, &candidate.stamp, Instant::now());
            // What lies there at the start is not being written, or its parts will be refused for a second.
            if quiet < QUIET && self.started.is_none() {
                return false;
            }
            let unreadable = match self.read(number, key, slot, &candidate) {
                Ok(Read::Changing | Read::Compiling) => return false,
                Ok(Read::Unfinished(_)) if quiet < PATIENCE => return false,
                Ok(Read::Unfinished(reason)) => Some(reason),
                Err(refusal) => Some(refusal.to_string()),
                Ok(Read::Done) => None,
            };
            slot.set_unreadable(unreadable);
            slot.seen = Some(candidate.stamp);
        }
        self.apply(key, slot);
        slot.seen.is_some()
    }

    /// Reads the files of a candidate, and has compiled what is new.
    fn read(&mut self, number: usize, key: &str, slot: &mut Slot, candidate: &Candidate) -> Result<Read, Refusal> {
        if let Some(refused) = &candidate.refused {
            return Err(Refusal::new(refused));
        }
        let limits = &self.shared.limits;
        if number >= limits.plugins {
            return Err(Refusal::new(format!("there are more than {} plugins", limits.plugins)));
        }
        let (bytes, text) = match files(candidate, limits.component_bytes)? {
            Files::Whole { component, manifest } => (component, manifest),
            Files::Unfinished(reason) => return Ok(Read::Unfinished(reason)),
            Files::Changing => return Ok(Read::Changing),
        };
        let manifest = Manifest::parse(&text)?;
        let Manifest { id, kind, version, .. } = manifest.clone();
        slot.identity = Some(Identity { id: id.clone(), kind, version });
        // Something else lies there now; what served went with its file.
        if slot.serving.as_ref().is_some_and(|serving| *serving.plugin().id != *id) {
            slot.serving = None;
        }
        let is_enabled = self.settings(&id).is_enabled;
        if self.owner(&id, key).is_some() || !is_enabled {
            slot.compiled = None;
            return Ok(Read::Done);
        }
        let digest = digest(&bytes);
        let is_known = |(compiled, known): &(Arc<Compiled>, String)| *known == text && compiled.digest == digest;
        if !slot.compiled.as_ref().is_some_and(is_known) {
            let Some(component) = self.compilations.component(key, &candidate.stamp, &digest, bytes) else {
                return Ok(Read::Compiling);
            };
            let compiled = Compiled::new(&self.shared, manifest, digest, &component?)?;
            slot.compiled = Some((Arc::new(compiled), text));
        }
        Ok(Read::Done)
    }

    /// Makes the generation that the component and the settings ask for, if that is not there.
    fn apply(&self, key: &str, slot: &mut Slot) {
        let Some(id) = slot.id().map(str::to_owned) else { return };
        if let Some(owner) = self.owner(&id, key) {
            slot.serving = None;
            slot.tried = None;
            slot.set_problem(Some(Problem::Taken(format!("its id {id:?} is taken by {}", owner.path.display()))));
            return;
        }
        let settings = self.settings(&id);
        if !settings.is_enabled {
            slot.serving = None;
            slot.tried = None;
            slot.set_problem(Some(Problem::Disabled));
            return;
        }
        let Some((compiled, _)) = &slot.compiled else {
            // Switched on, or free to have its id: the file is read once more.
            if matches!(slot.problem, Some(Problem::Disabled | Problem::Taken(_))) {
                slot.seen = None;
                slot.set_problem(None);
            }
            return;
        };
        let compiled = Arc::clone(compiled);
        if slot.tried.as_ref().is_some_and(|(tried, with)| Arc::ptr_eq(tried, &compiled) && *with == settings) {
            return;
        }
        slot.tried = Some((Arc::clone(&compiled), settings.clone()));
        let older = slot.serving.as_ref().map(|serving| Arc::clone(serving.plugin()));
        let older = older.filter(|plugin| !Arc::ptr_eq(&plugin.compiled, &compiled));
        match self.make(&compiled, &settings, older.as_ref().map(|plugin| &plugin.compiled.manifest)) {
            Ok(plugin) => {
                let (version, models) = (&compiled.manifest.version, plugin.models().len());
                tracing::info!(plugin = id, version, digest = compiled.digest, models, "plugin loaded");
                slot.serving = Some(Serving::new(plugin));
                slot.set_problem(None);
                slot.since = SystemTime::now();
            }
            Err(problem) => {
                match older {
                    Some(older) => self.keep(slot, &older, &settings),
                    // What it was given was taken back.
                    None if matches!(problem, Problem::AwaitingGrant(_)) => slot.serving = None,
                    None => {}
                }
                slot.set_problem(Some(problem));
            }
        }
    }

    /// Makes a generation, if all that it wants is decided.
    fn make(
        &self,
        compiled: &Arc<Compiled>,
        settings: &PluginSettings,
        replaced: Option<&Manifest>,
    ) -> Result<Arc<Plugin>, Problem> {
        let refused = |refusal: Refusal| Problem::Refused(refusal.to_string());
        if let Some(missing) = grants::missing(&compiled.manifest, settings, replaced).map_err(refused)? {
            return Err(Problem::AwaitingGrant(missing));
        }
        let made = Plugin::new(Arc::clone(&self.shared), Arc::clone(compiled), settings);
        self.shared.guests.block_on(made).map_err(|refusal| {
            // What works and was told nothing yet may well need something that only the operator knows.
            let is_unconfigured = refusal.is_own_word() && settings.config.is_empty();
            if is_unconfigured { Problem::Unconfigured(refusal.to_string()) } else { refused(refusal) }
        })
    }

    /// Lets an older build serve on, with no more than the operator gives now.
    fn keep(&self, slot: &mut Slot, older: &Arc<Plugin>, settings: &PluginSettings) {
        let settings = settings.for_older(&older.compiled.manifest, &older.settings);
        if settings != older.settings {
            slot.serving = self.make(&older.compiled, &settings, None).ok().map(Serving::new);
        }
    }

    /// The slot that has an id before this one does.
    fn owner(&self, id: &str, key: &str) -> Option<&Slot> {
        self.slots
            .range::<str, _>((Bound::Unbounded, Bound::Excluded(key)))
            .map(|(_, slot)| slot)
            .find(|slot| slot.id() == Some(id))
    }

    fn settings(&self, id: &str) -> PluginSettings {
        let settings = self.control.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.get(id).cloned().unwrap_or_default()
    }

    /// Swaps in the view of this moment.
    fn publish(&self) {
        let mut serving: Vec<_> = self.slots.values().filter_map(|slot| slot.serving.clone()).collect();
        serving.sort_by(|one, other| one.plugin().id.cmp(&other.plugin().id));
        // For a moment, while the first by path comes, two have one id.
        serving.dedup_by(|later, first| later.plugin().id == first.plugin().id);
        self.shared.generations.set(serving.iter().map(Serving::plugin));
        let mut view = View { status: self.slots.values().map(Slot::status).collect(), ..View::default() };
        for plugin in serving {
            match plugin {
                Serving::Adapter(adapter) => view.backends.push(adapter),
                Serving::Transformer(transformer) => view.transformers.push(transformer),
            }
        }
        self.registry.swap(view);
        if self.started.as_ref().is_none_or(Sender::is_closed) {
            (self.on_change)();
        }
    }

    /// Settings for a plugin that is not there are likely a slip of the pen.
    fn warn_of_strangers(&self) {
        let settings = self.control.settings.lock().unwrap_or_else(PoisonError::into_inner);
        for id in settings.keys() {
            if !self.slots.values().any(|slot| slot.id() == Some(id)) {
                let folder = self.folder.display();
                tracing::warn!(plugin = id, "there are settings for this plugin, and it is not in {folder}");
            }
        }
    }
}

/// How reading went.
enum Read {
    Done,
    /// It is no whole component, and may become one.
    Unfinished(String),
    /// It was written to meanwhile.
    Changing,
    /// Its component is being compiled.
    Compiling,
}
