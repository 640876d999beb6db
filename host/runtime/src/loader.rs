//! The loader: one thread that watches the plugins folder and makes the next generation of whatever changed. Neither it nor
//! a request ever waits for a compiler (`compile.rs`). File and settings take the same path, and whatever fails leaves what serves.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use easel_core::Result;
use tokio::sync::oneshot::Sender;

use crate::PluginSettings;
use crate::ahead::{Ahead, Reading};
use crate::compile::Compilations;
use crate::drain::Drain;
use crate::files::Files;
use crate::folder::{Candidate, Listing, PATIENCE, QUIET, Settling, scan, steady};
use crate::life::Event;
use crate::manifest::Manifest;
use crate::operate::Orders;
use crate::plugin::{Compiled, Shared};
use crate::refusal::Refusal;
use crate::registry::{Registry, View};
use crate::set_aside::SetAside;
use crate::slot::{Serving, Slot};
use crate::switches::Switches;
use crate::watch::Watch;

/// How often the folder is looked at although nothing was heard: some file systems tell nothing.
pub(crate) const RESCAN: Duration = Duration::from_secs(2);

/// How soon it is looked at again while something is settling.
const SOON: Duration = Duration::from_millis(15);

/// What others tell the loader.
pub(crate) struct Control {
    pub(crate) settings: Mutex<BTreeMap<String, PluginSettings>>,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) orders: Orders,
}

/// The loader's own things.
pub(crate) struct Loader {
    pub(crate) folder: PathBuf,
    pub(crate) shared: Arc<Shared>,
    pub(crate) control: Arc<Control>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) on_change: Box<dyn Fn() + Send>,
    pub(crate) slots: BTreeMap<String, Slot>,
    pub(crate) switches: Switches,
    pub(crate) set_aside: SetAside,
    /// Of orders that were carried out; told once the plugins stand as they should.
    pub(crate) replies: Vec<Sender<Result<()>>>,
    /// What nobody's place holds any more, and a request perhaps does.
    drains: Vec<Drain>,
    settling: Settling,
    /// What lay there at the start, being read.
    ahead: Ahead,
    watch: Watch,
    pub(crate) compilations: Compilations,
    /// Told once every plugin that lay there at the start has been dealt with.
    started: Option<Sender<()>>,
}

impl Loader {
    pub(crate) fn new(
        folder: PathBuf,
        shared: Arc<Shared>,
        control: Arc<Control>,
        registry: Arc<Registry>,
        (switches, set_aside): (Switches, SetAside),
        (on_change, started): (Box<dyn Fn() + Send>, Sender<()>),
    ) -> Self {
        Self {
            compilations: Compilations::new(Arc::clone(&shared), shared.wake.clone()),
            folder,
            shared,
            control,
            registry,
            on_change,
            slots: BTreeMap::new(),
            switches,
            set_aside,
            replies: Vec::new(),
            drains: Vec::new(),
            settling: Settling::default(),
            ahead: Ahead::default(),
            watch: Watch::default(),
            started: Some(started),
        }
    }

    /// Runs until it is told to stop.
    pub(crate) fn run(mut self, wake: SyncSender<()>, woken: &Receiver<()>) {
        self.watch = Watch::start(wake);
        while !self.control.is_stopping.load(Ordering::Acquire) {
            self.obey();
            let is_settled = self.look();
            if is_settled {
                for reply in self.replies.drain(..) {
                    // Whoever asked may have gone.
                    let _gone = reply.send(Ok(()));
                }
            }
            if is_settled && let Some(started) = self.started.take() {
                self.warn_of_strangers();
                // Whoever started the runtime may have gone.
                let _gone = started.send(());
            }
            match woken.recv_timeout(self.pause(is_settled)) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Brings every slot up to the folder and the settings; tells whether nothing is left to wait for.
    fn look(&mut self) -> bool {
        let lacks = |listing: &Listing| {
            self.slots.iter().any(|(key, slot)| !slot.is_gone() && !listing.candidates.contains_key(key))
        };
        let listing = match steady(|| scan(&self.folder), lacks) {
            Ok(listing) => listing,
            Err(error) => {
                tracing::warn!(folder = %self.folder.display(), error = %error, "the plugins folder cannot be read");
                return true;
            }
        };
        self.watch.follow(&self.folder, &listing, self.shared.limits.plugins.saturating_mul(4));
        self.settling.keep(&listing);
        self.let_go(&listing);
        if self.is_starting() && self.slots.is_empty() {
            self.ahead = Ahead::start(&self.shared, &listing);
        }
        let mut is_settled = true;
        for (number, (key, candidate)) in listing.candidates.into_iter().enumerate() {
            if self.control.is_stopping.load(Ordering::Acquire) {
                return true;
            }
            let mut known = self.slots.remove(&key);
            let before = known.as_ref().map(Slot::face);
            // What comes back where another file's last calls go on begins anew.
            let old = known.take_if(|slot| slot.is_gone()).map(|slot| slot.draining);
            let mut slot = known.unwrap_or_else(|| Slot::new(key.clone(), candidate.component.clone()));
            slot.draining.extend(old.into_iter().flatten());
            slot.drain(Instant::now());
            is_settled &= self.bring_up(number, &key, &mut slot, candidate);
            let is_changed = before.is_none_or(|before| before != slot.face());
            self.slots.insert(key.clone(), slot);
            if is_changed {
                self.publish();
                self.keep_copy(&key);
            }
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.tell();
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
                let _is_done = self.apply(key, slot);
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
        self.apply(key, slot) && slot.seen.is_some()
    }

    /// Reads the files of a candidate, and has compiled what is new.
    fn read(
        &mut self,
        number: usize,
        key: &str,
        slot: &mut Slot,
        candidate: &Candidate,
    ) -> std::result::Result<Read, Refusal> {
        if let Some(refused) = &candidate.refused {
            return Err(Refusal::new(refused));
        }
        let limits = &self.shared.limits;
        if number >= limits.plugins {
            return Err(Refusal::new(format!("there are more than {} plugins", limits.plugins)));
        }
        let ahead = self.ahead.take(key, &candidate.stamp);
        let Reading { files, digest, compiled } =
            ahead.unwrap_or_else(|| Reading::of(candidate, limits.component_bytes));
        let (bytes, text) = match files? {
            Files::Whole { component, manifest } => (component, manifest),
            Files::Unfinished(reason) => return Ok(Read::Unfinished(reason)),
            Files::Changing => return Ok(Read::Changing),
        };
        let manifest = Manifest::parse(&text)?;
        let id = manifest.id.clone();
        slot.manifest = Some(manifest.clone());
        // Something else lies there now; what served went with its file.
        if slot.serving.as_ref().is_some_and(|serving| *serving.plugin().id != *id) {
            slot.retire(&self.shared.rules);
            slot.earlier.clear();
        }
        // What serves until the first by path is ready follows its file until then.
        if self.owner(&id, key).is_some() && slot.serving.is_none() || self.is_switched_off(&id) {
            slot.compiled = None;
            return Ok(Read::Done);
        }
        let is_known = |(compiled, known): &(Arc<Compiled>, String)| *known == text && compiled.digest == digest;
        if !slot.compiled.as_ref().is_some_and(is_known) {
            let ready = compiled.map(Ok);
            let ready = ready.or_else(|| self.compilations.component(key, &candidate.stamp, &digest, bytes));
            let Some(component) = ready else {
                return Ok(Read::Compiling);
            };
            let compiled = Compiled::new(&self.shared, (manifest, &text), digest, &component?)?;
            slot.compiled = Some((Arc::new(compiled), text));
        }
        Ok(Read::Done)
    }

    /// Deals with the places whose files are gone: what moved goes on under its new name, the rest drains.
    fn let_go(&mut self, listing: &Listing) {
        let gone: Vec<_> = self.slots.keys().filter(|key| !listing.candidates.contains_key(*key)).cloned().collect();
        for key in gone {
            let Some(mut slot) = self.slots.remove(&key) else { continue };
            if let Some(new) = self.new_name(&slot, listing) {
                tracing::debug!(plugin = slot.known_as(), from = key, to = new, "plugin's file was renamed");
                slot.name.clone_from(&new);
                let replaced = self.slots.insert(new, slot);
                self.drains.extend(replaced.into_iter().flat_map(|slot| slot.draining));
                continue;
            }
            let is_new = !slot.is_gone();
            if is_new {
                tracing::info!(plugin = slot.known_as(), "plugin removed");
                if !self.slots.values().any(|other| other.id() == slot.id() && !other.is_gone()) {
                    self.set_aside.clear(slot.known_as());
                }
                slot.retire(&self.shared.rules);
                slot.on(Event::Removed);
                slot.earlier.clear();
                (slot.compiled, slot.tried, slot.unreadable) = (None, None, None);
            }
            slot.drain(Instant::now());
            let is_over = slot.draining.iter().all(|drain| drain.vitals.running() == 0);
            if is_over {
                self.drains.append(&mut slot.draining);
            } else {
                self.slots.insert(key, slot);
            }
            if is_new || is_over {
                self.publish();
            }
        }
        let now = Instant::now();
        self.drains.retain(|drain| drain.goes_on(now));
        let slots = &self.slots;
        self.shared.records.keep(|id| slots.values().any(|slot| slot.id() == Some(id)));
    }

    /// The place that has the files of another one now: a new one, or one whose own files did not serve and are gone.
    fn new_name(&self, slot: &Slot, listing: &Listing) -> Option<String> {
        let seen = slot.seen.as_ref().filter(|_| !slot.is_gone())?;
        let is_free = |key: &String| self.slots.get(key).is_none_or(|other| other.serving.is_none());
        let mut new = listing.candidates.iter().filter(|(key, _)| is_free(key));
        new.find(|(_, candidate)| candidate.stamp.is_of_the_same_files(seen)).map(|(key, _)| key.clone())
    }

    /// How long it may wait for a word: until something is settled, or somebody's time is over.
    fn pause(&self, is_settled: bool) -> Duration {
        let drains = self.slots.values().flat_map(|slot| &slot.draining).chain(&self.drains);
        let next = drains.map(|drain| drain.until.saturating_duration_since(Instant::now())).min();
        let longest = if is_settled { RESCAN } else { SOON };
        next.map_or(longest, |next| next.clamp(Duration::from_millis(1), longest))
    }

    /// The slot that has an id before this one does.
    pub(crate) fn owner(&self, id: &str, key: &str) -> Option<&Slot> {
        self.slots
            .range::<str, _>((Bound::Unbounded, Bound::Excluded(key)))
            .map(|(_, slot)| slot)
            .find(|slot| slot.id() == Some(id) && !slot.is_gone())
    }

    /// Whether what lay there at the start is still being dealt with.
    pub(crate) fn is_starting(&self) -> bool {
        self.started.is_some()
    }

    pub(crate) fn settings(&self, id: &str) -> PluginSettings {
        let settings = self.control.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.get(id).cloned().unwrap_or_default()
    }

    /// Swaps in the view of this moment.
    pub(crate) fn publish(&self) {
        let mut serving: Vec<_> = self.slots.values().filter_map(|slot| slot.serving.clone()).collect();
        serving.sort_by(|one, other| one.plugin().id.cmp(&other.plugin().id));
        // Once the first by path is ready, two have one id for a moment.
        serving.dedup_by(|later, first| later.plugin().id == first.plugin().id);
        self.shared.generations.set(serving.iter().map(Serving::plugin));
        let place = |slot: &Slot| slot.place(slot.id().map(|id| self.shared.records.of(id)));
        let mut view = View { places: self.slots.values().map(place).collect(), ..View::default() };
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
