//! Copies of the builds that serve and of those that can come back: after a restart the plugins folder holds only the newest,
//! and that one may be set aside (`set_aside.rs`). Nothing here is loaded unless it serves in the place of such a build.
//!
//! Each lies as the plugins folder takes it, `NAME/plugin.wasm` and `NAME/plugin.toml`, so an operator can copy it back. A
//! name holds the digests of both files: what was altered is not taken.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::read_file;
use crate::plugin::digest;

const COMPONENT: &str = "plugin.wasm";
const MANIFEST: &str = "plugin.toml";
/// What is still being written begins so.
const UNFINISHED: &str = ".unfinished-";

/// The name of a build: of its component, by its digest, with its manifest.
pub(crate) fn build_name(component: &str, manifest: &str) -> String {
    format!("{component}-{}", digest(manifest.as_bytes()))
}

/// The folder of the copies.
#[derive(Debug)]
pub(crate) struct Builds {
    folder: PathBuf,
    /// The longest component.
    most_bytes: u64,
}

impl Builds {
    pub(crate) fn new(folder: PathBuf, most_bytes: u64) -> Self {
        Self { folder, most_bytes }
    }

    /// Copies a build, unless it is there. The file that it was made from may be another one by now; then nothing is kept.
    pub(crate) fn keep(&self, name: &str, component: &Path, manifest: &str) -> io::Result<()> {
        let place = self.folder.join(name);
        if place.is_dir() {
            return Ok(());
        }
        let bytes = read_file(component, self.most_bytes).map_err(|refusal| io::Error::other(refusal.to_string()))?;
        if build_name(&digest(&bytes), manifest) != name {
            return Ok(());
        }
        let aside = self.folder.join(format!("{UNFINISHED}{name}"));
        fs::create_dir_all(&aside)?;
        fs::write(aside.join(COMPONENT), bytes)?;
        fs::write(aside.join(MANIFEST), manifest)?;
        fs::rename(aside, place)
    }

    /// The component and the manifest of a build; else why not.
    pub(crate) fn load(&self, name: &str) -> Result<(Vec<u8>, String), String> {
        let place = self.folder.join(name);
        let read = |file: &str| read_file(&place.join(file), self.most_bytes).map_err(|refusal| refusal.to_string());
        let (component, manifest) = (read(COMPONENT)?, read(MANIFEST)?);
        let altered = || format!("{} is not what was kept there", place.display());
        let manifest = String::from_utf8(manifest).map_err(|_| altered())?;
        match build_name(&digest(&component), &manifest) == name {
            true => Ok((component, manifest)),
            false => Err(altered()),
        }
    }

    /// Removes what nobody wants any more.
    pub(crate) fn prune(&self, is_wanted: impl Fn(&str) -> bool) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.filter_map(Result::ok) {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && !entry.file_name().to_str().is_some_and(&is_wanted) {
                // What cannot be removed now is in the way of nothing, and is tried again.
                let _left = fs::remove_dir_all(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[plugin]";

    fn folder(name: &str) -> (PathBuf, Builds) {
        let folder = std::env::temp_dir().join(format!("easel-builds-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("here.wasm"), b"component").unwrap();
        let builds = Builds::new(folder.join("builds"), 100);
        (folder, builds)
    }

    #[test]
    fn build_is_there_as_it_was_kept_and_goes_when_nobody_wants_it() {
        let (folder, builds) = folder("kept");
        let name = build_name(&digest(b"component"), TEXT);
        builds.keep(&name, &folder.join("here.wasm"), TEXT).unwrap();
        builds.keep(&name, &folder.join("gone.wasm"), TEXT).unwrap();
        builds.prune(|wanted| wanted == name);
        assert_eq!(builds.load(&name).unwrap(), (b"component".to_vec(), TEXT.to_owned()));
        builds.prune(|_| false);
        assert!(builds.load(&name).unwrap_err().contains("cannot be read"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn file_that_is_another_one_by_now_or_too_long_is_not_kept() {
        let (folder, builds) = folder("other");
        let name = build_name(&digest(b"another component"), TEXT);
        builds.keep(&name, &folder.join("here.wasm"), TEXT).unwrap();
        assert!(!folder.join("builds").join(&name).exists());
        fs::write(folder.join("here.wasm"), [7; 101]).unwrap();
        assert!(builds.keep(&build_name(&digest(&[7; 101]), TEXT), &folder.join("here.wasm"), TEXT).is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn build_that_was_altered_is_not_taken() {
        for file in [COMPONENT, MANIFEST] {
            let (folder, builds) = folder(&file.replace('.', "-"));
            let name = build_name(&digest(b"component"), TEXT);
            builds.keep(&name, &folder.join("here.wasm"), TEXT).unwrap();
            fs::write(folder.join("builds").join(&name).join(file), "altered").unwrap();
            assert!(builds.load(&name).unwrap_err().contains("is not what was kept there"), "{file}");
            fs::remove_dir_all(folder).unwrap();
        }
    }
}
