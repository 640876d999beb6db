//! Reading ahead: at the start, the files of all plugins are read and looked up in the compiled cache by several threads at
//! once, in the order in which the loader wants them. What is decided about a plugin stays with the loader (`loader.rs`);
//! nothing is compiled here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use wasmtime::component::Component;

use crate::files::{Files, files};
use crate::folder::{Candidate, Listing, Stamp};
use crate::plugin::{Shared, digest};
use crate::refusal::Refusal;

/// The files of one place.
pub(crate) struct Reading {
    pub(crate) files: Result<Files, Refusal>,
    /// The digest of the component, where there is a whole one.
    pub(crate) digest: String,
    /// The component, where it was compiled before.
    pub(crate) compiled: Option<Component>,
}

impl Reading {
    /// Reads the files of a candidate. Nothing is taken from the cache.
    pub(crate) fn of(candidate: &Candidate, most_bytes: u64) -> Self {
        let files = files(candidate, most_bytes);
        let digest = match &files {
            Ok(Files::Whole { component, .. }) => digest(component),
            _ => String::new(),
        };
        Self { files, digest, compiled: None }
    }
}

/// What is being read, by its place in the plugins folder.
#[derive(Default)]
pub(crate) struct Ahead {
    by_key: BTreeMap<String, (Stamp, Receiver<Reading>)>,
}

/// A place, and where its reading goes.
type Errand = Mutex<Option<(Candidate, SyncSender<Reading>)>>;

impl Ahead {
    /// Begins to read everything that may be read, on one thread for each processor. Nothing waits for it: what no thread
    /// came to is read when it is wanted.
    pub(crate) fn start(shared: &Arc<Shared>, listing: &Listing) -> Self {
        let mut errands: Vec<Errand> = Vec::new();
        let mut by_key = BTreeMap::new();
        let readable = listing.candidates.iter().filter(|(_, candidate)| candidate.refused.is_none());
        for (key, candidate) in readable.take(shared.limits.plugins) {
            let (sender, receiver) = sync_channel(1);
            errands.push(Mutex::new(Some((candidate.clone(), sender))));
            by_key.insert(key.clone(), (candidate.stamp.clone(), receiver));
        }
        let threads = thread::available_parallelism().map_or(1, usize::from).min(errands.len());
        // A single plugin is not worth a thread.
        if errands.len() < 2 {
            return Self::default();
        }
        let (errands, next) = (Arc::new(errands), Arc::new(AtomicUsize::new(0)));
        for _ in 0..threads {
            let (shared, errands, next) = (Arc::clone(shared), Arc::clone(&errands), Arc::clone(&next));
            let work = move || {
                let mut sealed = Vec::new();
                while let Some(errand) = errands.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let errand = errand.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let Some((candidate, sender)) = errand else { continue };
                    let mut reading = Reading::of(&candidate, shared.limits.component_bytes);
                    if let (Some(cache), Ok(Files::Whole { .. })) = (&shared.cache, &reading.files) {
                        reading.compiled = cache.load_through(&shared.engine, &reading.digest, &mut sealed);
                    }
                    if sender.send(reading).is_err() {
                        // The loader has stopped, and wants none of the others either.
                        return;
                    }
                }
            };
            if thread::Builder::new().name("easel-plugin-read".into()).spawn(work).is_err() {
                break;
            }
        }
        Self { by_key }
    }

    /// What was read of a place, if its files are still the same; waits for it where it is being read.
    pub(crate) fn take(&mut self, key: &str, stamp: &Stamp) -> Option<Reading> {
        let (read, reading) = self.by_key.remove(key)?;
        if read != *stamp {
            return None;
        }
        reading.recv().ok()
    }
}
