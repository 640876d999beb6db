//! Being told of changes in the plugins folder, where the file system tells: the loader is woken and looks itself. What is
//! not told is found when it looks anyway.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::folder::Listing;
use crate::loader::RESCAN;

/// What is watched.
#[derive(Default)]
pub(crate) struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    /// Begins to wake the loader.
    pub(crate) fn start(wake: SyncSender<()>) -> Self {
        Self { watcher: watcher(wake), watched: BTreeSet::new() }
    }

    /// Watches the folder and those in it, at most so many, and nothing deeper: sources and their build outputs are not
    /// looked at.
    pub(crate) fn follow(&mut self, folder: &Path, listing: &Listing, most: usize) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> =
            [folder.to_owned()].into_iter().chain(listing.folders.iter().take(most).cloned()).collect();
        for gone in self.watched.difference(&wanted) {
            // Whatever was removed is not watched any more.
            let _gone = watcher.unwatch(gone);
        }
        for new in wanted.difference(&self.watched) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %new.display(), error = %error, "not watched; it is looked at every {RESCAN:?}");
            }
        }
        self.watched = wanted;
    }
}

fn watcher(wake: SyncSender<()>) -> Option<RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        let is_change = match event.map(|event| event.kind) {
            // Reading is what the loader itself does.
            Ok(EventKind::Access(access)) => access == AccessKind::Close(AccessMode::Write),
            Ok(_) | Err(_) => true,
        };
        if is_change {
            // Full means that it will look anyway.
            let _full = wake.try_send(());
        }
    };
    match notify::recommended_watcher(told) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(error = %error, "the plugins folder cannot be watched; it is looked at every {RESCAN:?}");
            None
        }
    }
}
