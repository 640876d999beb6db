//! The files of a candidate, read: the component's bytes and the text of its manifest, of one moment. Nothing is compiled
//! here, and what is still being written is told from what is broken.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use crate::component::{Shape, shape};
use crate::folder::{Candidate, Stamp};
use crate::refusal::Refusal;

/// The longest manifest.
const MAX_MANIFEST: u64 = 256 << 10;

/// What was found.
pub(crate) enum Files {
    /// A component and its manifest.
    Whole {
        /// The bytes of the component.
        component: Vec<u8>,
        /// The text of the manifest: the one beside the component, or else the embedded one.
        manifest: String,
    },
    /// It is no whole component, and may become one.
    Unfinished(String),
    /// It was written to meanwhile.
    Changing,
}

/// Reads the files of a candidate. A component may have so many bytes.
pub(crate) fn files(candidate: &Candidate, most_bytes: u64) -> Result<Files, Refusal> {
    let component = read_file(&candidate.component, most_bytes)?;
    let embedded = match shape(&component)? {
        Shape::Component(embedded) => embedded,
        Shape::Broken(reason) => return Ok(Files::Unfinished(reason)),
    };
    let beside = candidate.manifest.as_deref().map(|path| read_file(path, MAX_MANIFEST)).transpose()?;
    let beside = beside.map(String::from_utf8).transpose().map_err(|_| Refusal::new("plugin.toml is not UTF-8"))?;
    let manifest = beside.or(embedded).ok_or_else(|| {
        Refusal::new("it has no manifest").with_fix("embed one with easel-sdk, or put plugin.toml beside it")
    })?;
    if !is_unchanged(candidate) {
        return Ok(Files::Changing);
    }
    Ok(Files::Whole { component, manifest })
}

/// Reads a file of at most so many bytes.
pub(crate) fn read_file(path: &Path, most: u64) -> Result<Vec<u8>, Refusal> {
    let broken = |error: std::io::Error| Refusal::new(format!("{} cannot be read: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).map_err(broken)?.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 > most {
        return Err(Refusal::new(format!("{} is longer than {most} bytes", path.display())));
    }
    Ok(bytes)
}

fn is_unchanged(candidate: &Candidate) -> bool {
    let mut stamp = Stamp::default();
    for path in [Some(&candidate.component), candidate.manifest.as_ref()].into_iter().flatten() {
        match fs::metadata(path) {
            Ok(metadata) => stamp.add(&metadata),
            Err(_) => return false,
        }
    }
    stamp == candidate.stamp
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::scan;

    #[test]
    fn what_changed_since_it_was_seen_is_not_taken_and_what_is_too_long_is_refused() {
        let root = std::env::temp_dir().join(format!("easel-files-{}", std::process::id()));
        drop(fs::remove_dir_all(&root));
        fs::create_dir_all(root.join("a")).unwrap();
        let manifest = root.join("a/plugin.toml");
        fs::write(root.join("a/built.wasm"), b"\0asm\x0d\0\x01\0").unwrap();
        fs::write(&manifest, "one").unwrap();
        let seen = || scan(&root).unwrap().candidates.remove("a").unwrap();
        let candidate = seen();
        assert!(matches!(files(&candidate, 8), Ok(Files::Whole { manifest, .. }) if manifest == "one"));
        let refusal = |candidate: &Candidate, most| files(candidate, most).err().unwrap().to_string();
        assert!(refusal(&candidate, 7).ends_with("built.wasm is longer than 7 bytes"));
        fs::write(&manifest, "other").unwrap();
        assert!(matches!(files(&candidate, 8), Ok(Files::Changing)));
        assert!(matches!(files(&seen(), 8), Ok(Files::Whole { manifest, .. }) if manifest == "other"));
        fs::write(&manifest, "x".repeat((256 << 10) + 1)).unwrap();
        assert!(refusal(&seen(), 8).ends_with("plugin.toml is longer than 262144 bytes"));
        fs::remove_dir_all(root).unwrap();
    }
}
