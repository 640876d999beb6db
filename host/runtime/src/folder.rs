//! The plugins folder as it lies there: what could be a plugin, and whether it has changed. Nothing is read but names,
//! sizes and times.
//!
//! `NAME.wasm` is a plugin whose manifest is embedded; `NAME/` with `plugin.toml` and one `.wasm` is one as well. Sources
//! live in such folders too, so one without a component is nobody's business.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a file must stay as it is before it is read.
pub(crate) const QUIET: Duration = Duration::from_millis(60);

/// How long what is no whole component may still become one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The most entries that are looked at in one folder.
const MAX_ENTRIES: usize = 4096;

/// Something that could be a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) component: PathBuf,
    /// The manifest beside it, which wins over the embedded one.
    pub(crate) manifest: Option<PathBuf>,
    pub(crate) stamp: Stamp,
    /// Why it is not even read.
    pub(crate) refused: Option<String>,
}

/// Tells two states of a plugin's files apart without reading them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<FileStamp>);

type FileStamp = (u64, Option<std::time::SystemTime>, (u64, i64, i64));

impl Stamp {
    pub(crate) fn add(&mut self, metadata: &Metadata) {
        self.0.push((metadata.len(), metadata.modified().ok(), inode(metadata)));
    }

    /// Whether these are the same files, perhaps under other names: a rename changes nothing but a file's last time.
    pub(crate) fn is_of_the_same_files(&self, other: &Self) -> bool {
        let is_same =
            |(one, two): (&FileStamp, &FileStamp)| one.2.0 != 0 && (one.0, one.1, one.2.0) == (two.0, two.1, two.2.0);
        !self.0.is_empty() && self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(is_same)
    }
}

/// Which file it is and when it last changed in any way: a rename in place keeps neither.
#[cfg(unix)]
fn inode(metadata: &Metadata) -> (u64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> (u64, i64, i64) {
    (0, 0, 0)
}

/// What a folder holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    /// The candidates by their path within the folder.
    pub(crate) candidates: BTreeMap<String, Candidate>,
    /// The folders to watch beside the root itself.
    pub(crate) folders: Vec<PathBuf>,
}

/// Looks through the plugins folder.
pub(crate) fn scan(root: &Path) -> io::Result<Listing> {
    let inside = fs::canonicalize(root)?;
    let mut listing = Listing::default();
    for path in entries(root)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_file() && is_component(&path) {
            listing.candidates.insert(name, candidate(&inside, path, None));
        } else if metadata.is_dir() && name != "target" {
            // A folder that a link leads to elsewhere is not watched; its component is refused by name.
            if is_inside(&inside, &path) {
                listing.folders.push(path.clone());
            }
            listing.candidates.extend(folder_candidate(&inside, &path).map(|found| (name, found)));
        }
    }
    Ok(listing)
}

/// The most that a folder is looked through again because something was missing.
const MOST_AGAIN: usize = 3;

/// Looks until what is missing is missing twice: a file that is renamed while the folder is read may be seen under neither of
/// its names, and is not gone.
pub(crate) fn steady(
    mut look: impl FnMut() -> io::Result<Listing>,
    lacks: impl Fn(&Listing) -> bool,
) -> io::Result<Listing> {
    let mut listing = look()?;
    for _ in 0..MOST_AGAIN {
        if !lacks(&listing) {
            break;
        }
        let before = std::mem::replace(&mut listing, look()?);
        if before.candidates == listing.candidates {
            break;
        }
    }
    Ok(listing)
}

/// The paths in a folder, hidden ones left out, in order.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_visible = |path: &PathBuf| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
    let paths = fs::read_dir(folder)?.take(MAX_ENTRIES).filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut paths: Vec<_> = paths.filter(is_visible).collect();
    paths.sort();
    Ok(paths)
}

fn is_component(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wasm")
}

fn folder_candidate(inside: &Path, folder: &Path) -> Option<Candidate> {
    let components: Vec<_> =
        entries(folder).ok()?.into_iter().filter(|path| is_component(path) && path.is_file()).collect();
    let first = components.first()?.clone();
    let manifest = Some(folder.join("plugin.toml")).filter(|path| path.is_file());
    let mut found = candidate(inside, first, manifest);
    if components.len() > 1 {
        let names: Vec<_> =
            components.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy()).collect();
        found.refused = Some(format!("its folder has several components, keep one: {}", names.join(", ")));
    }
    Some(found)
}

fn candidate(inside: &Path, component: PathBuf, manifest: Option<PathBuf>) -> Candidate {
    let mut stamp = Stamp::default();
    let mut refused = None;
    for path in [Some(&component), manifest.as_ref()].into_iter().flatten() {
        match fs::metadata(path) {
            Ok(metadata) => stamp.add(&metadata),
            Err(error) => refused = Some(format!("{} cannot be read: {error}", path.display())),
        }
        if !is_inside(inside, path) {
            refused = Some(format!(
                "{} is a link that leads out of the plugins folder: copy the file instead",
                path.display()
            ));
        }
    }
    Candidate { component, manifest, stamp, refused }
}

fn is_inside(inside: &Path, path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|path| path.starts_with(inside))
}

/// Which candidates have stayed as they are for long enough.
#[derive(Debug, Default)]
pub(crate) struct Settling(BTreeMap<String, (Stamp, Instant)>);

impl Settling {
    /// Notes how a candidate stands; how long it has been so.
    pub(crate) fn observe(&mut self, key: &str, stamp: &Stamp, now: Instant) -> Duration {
        match self.0.get(key) {
            Some((seen, since)) if seen == stamp => now.saturating_duration_since(*since),
            Some(_) | None => {
                self.0.insert(key.to_owned(), (stamp.clone(), now));
                Duration::ZERO
            }
        }
    }

    /// Forgets what is not there any more.
    pub(crate) fn keep(&mut self, listing: &Listing) {
        self.0.retain(|key, _| listing.candidates.contains_key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("easel-folder-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn write(path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn only_components_are_found() {
        let root = folder("found");
        let files = [
            "b.wasm",
            "a/plugin.toml",
            "a/built.wasm",
            "source/plugin.toml",
            "source/src/lib.rs",
            ".hidden.wasm",
            "notes.txt",
            "target/x.wasm",
            "two/one.wasm",
            "two/two.wasm",
            "deep/er/x.wasm",
        ];
        for file in files {
            write(root.join(file));
        }
        let listing = scan(&root).unwrap();
        assert_eq!(listing.candidates.keys().collect::<Vec<_>>(), ["a", "b.wasm", "two"]);
        assert!(listing.candidates["a"].manifest.is_some() && listing.candidates["b.wasm"].manifest.is_none());
        let refused = listing.candidates["two"].refused.as_deref().unwrap();
        assert!(refused.contains("keep one: one.wasm, two.wasm"), "{refused}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn only_so_many_entries_are_looked_at() {
        let root = folder("many");
        (0..MAX_ENTRIES + 10).for_each(|number| drop(fs::File::create(root.join(format!("{number}.wasm"))).unwrap()));
        assert_eq!(scan(&root).unwrap().candidates.len(), MAX_ENTRIES);
        fs::remove_dir_all(root).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn links_out_of_the_folder_are_refused_and_links_within_are_not() {
        let (root, outside) = (folder("links"), folder("outside"));
        write(outside.join("x.wasm"));
        write(root.join("real.wasm"));
        std::os::unix::fs::symlink(outside.join("x.wasm"), root.join("file.wasm")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("dir")).unwrap();
        std::os::unix::fs::symlink(root.join("real.wasm"), root.join("within.wasm")).unwrap();
        let listing = scan(&root).unwrap();
        let refused = |name: &str| listing.candidates[name].refused.is_some();
        assert!(refused("file.wasm") && refused("dir") && !refused("real.wasm") && !refused("within.wasm"));
        assert!(listing.folders.is_empty());
        fs::remove_dir_all(root).unwrap();
        fs::remove_dir_all(outside).unwrap();
    }

    #[test]
    fn change_starts_the_wait_anew() {
        let (mut settling, begin) = (Settling::default(), Instant::now());
        let stamp = |length| Stamp(vec![(length, None, (0, 0, 0))]);
        let after = |millis| begin + Duration::from_millis(millis);
        assert_eq!(settling.observe("a", &stamp(1), begin), Duration::ZERO);
        assert_eq!(settling.observe("a", &stamp(1), after(50)), Duration::from_millis(50));
        assert_eq!(settling.observe("a", &stamp(2), after(55)), Duration::ZERO);
        assert_eq!(settling.observe("a", &stamp(2), after(115)), QUIET);
        settling.keep(&Listing::default());
        assert_eq!(settling.observe("a", &stamp(2), after(200)), Duration::ZERO);
    }

    #[test]
    fn file_that_is_renamed_while_the_folder_is_read_is_not_gone() {
        let root = folder("steady");
        write(root.join("before.wasm"));
        let with_it = scan(&root).unwrap();
        let mut under_neither_name = vec![with_it.clone(), Listing::default()];
        let mut looks = 0;
        let look = || {
            looks += 1;
            Ok(under_neither_name.pop().unwrap_or_default())
        };
        let lacks = |listing: &Listing| listing.candidates.is_empty();
        assert_eq!(steady(look, lacks).unwrap().candidates, with_it.candidates);
        assert_eq!(looks, 2);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn file_that_is_missing_twice_is_gone_and_nobody_looks_for_ever() {
        let mut looks = 0;
        let nothing = || {
            looks += 1;
            Ok(Listing::default())
        };
        assert!(steady(nothing, |_| true).unwrap().candidates.is_empty());
        assert_eq!(looks, 2);
        let root = folder("restless");
        let mut looks = 0;
        let restless = || {
            looks += 1;
            write(root.join(format!("{looks}.wasm")));
            scan(&root)
        };
        assert_eq!(steady(restless, |_| true).unwrap().candidates.len(), 1 + MOST_AGAIN);
        fs::remove_dir_all(&root).unwrap();
    }
}
