//! Compiled code that is kept from one start to the next, in a folder that only this user may enter.
//!
//! A file is named by what it was compiled from and by all that the compiler and its settings were, and is sealed (AES-256-GCM,
//! the name included) with a random key that lies in the same folder: what was cut, altered, swapped or put there by
//! somebody else is thrown away and compiled again. Nothing is ever read from the plugins folder, and what is too much
//! goes, oldest first. Whoever can read the key is this user already, and needs no cache to do harm.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{Hash as _, Hasher};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::fs::OFlags;
use rustix::process::geteuid;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const KEY_FILE: &str = "key";
const KEY_BYTES: usize = 32;
/// What compiled components end in, and files that are still being written begin with.
const ENDING: &str = ".compiled";
const UNFINISHED: &str = "unfinished-";

/// The cache of one runtime.
pub(crate) struct Cache {
    folder: PathBuf,
    key: LessSafeKey,
    random: SystemRandom,
    most_bytes: u64,
}

/// Why the cache or a file in it is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Unsafe(String),
}

impl Cache {
    /// Opens the folder, or makes it. It must not be where plugins are dropped in.
    pub(crate) fn open(folder: &Path, plugins: &Path, most_bytes: u64) -> Result<Self, Unusable> {
        if let Some(above) = folder.parent() {
            fs::create_dir_all(above)?;
        }
        DirBuilder::new().mode(0o700).create(folder).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        })?;
        let metadata = fs::symlink_metadata(folder)?;
        if !metadata.is_dir() {
            return Err(Unusable::Unsafe(format!("{} is no folder", folder.display())));
        }
        check_private(folder, &metadata)?;
        let folder = fs::canonicalize(folder)?;
        if fs::canonicalize(plugins).is_ok_and(|plugins| folder.starts_with(plugins)) {
            return Err(Unusable::Unsafe(format!("{} is in the plugins folder", folder.display())));
        }
        let random = SystemRandom::new();
        let key = open_key(&folder, &random)?;
        let cache = Self { folder, key, random, most_bytes };
        cache.remove_unfinished();
        Ok(cache)
    }

    /// The compiled component, if it is there and is what this host once put there.
    pub(crate) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        self.load_through(engine, digest, &mut Vec::new())
    }

    /// [`Self::load`] through a buffer that serves again: fresh memory costs more than what is done in it.
    pub(crate) fn load_through(&self, engine: &Engine, digest: &str, sealed: &mut Vec<u8>) -> Option<Component> {
        let name = file_name(engine, digest);
        let path = self.folder.join(&name);
        match read_private(&path, self.most_bytes, sealed) {
            Ok(()) => {}
            Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return discard(&path, &error.to_string()),
        };
        match self.deserialize(engine, &name, sealed) {
            Ok(component) => {
                // So that the oldest is the one not used for longest. It is in the cache, whatever its time.
                drop(File::open(&path).and_then(|file| file.set_modified(SystemTime::now())));
                Some(component)
            }
            Err(reason) => discard(&path, &reason),
        }
    }

    /// Opens a sealed file and takes it for machine code. All that is unsafe in this crate stands here.
    #[expect(unsafe_code, reason = "wasmtime has no other way to take code that was compiled before")]
    fn deserialize(&self, engine: &Engine, name: &str, sealed: &mut [u8]) -> Result<Component, String> {
        let text = sealed.split_at_mut_checked(NONCE_LEN).and_then(|(nonce, text)| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            self.key.open_in_place(nonce, Aad::from(name.as_bytes()), text).ok()
        });
        let compiled = text.ok_or("it is not what was put there")?;
        // SAFETY: `deserialize` wants bytes that `Component::serialize` gave. These were sealed under this name with
        // `self.key`, which is random and never leaves this struct and its file, and the only use of the key to seal is
        // `store`, which takes a `Component` and seals what its `serialize` gives. They are in memory of our own, so
        // nobody alters them between the check and the use. The name holds a hash of the compiler's version and
        // settings, which wasmtime checks once more.
        let component = unsafe { Component::deserialize(engine, &*compiled) };
        component.map_err(|error| error.root_cause().to_string())
    }

    /// Keeps a component that was compiled from a file with this digest.
    pub(crate) fn store(&self, digest: &str, component: &Component) -> Result<(), Unusable> {
        let unkept = |what: &str| Unusable::Unsafe(what.to_owned());
        let mut text = component.serialize().map_err(|error| unkept(&error.to_string()))?;
        let name = file_name(component.engine(), digest);
        let nonce: [u8; NONCE_LEN] = self.random().ok_or_else(|| unkept("there are no random numbers"))?;
        let seal = Aad::from(name.as_bytes());
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), seal, &mut text)
            .map_err(|_| unkept("it is too long to be sealed"))?;
        let bytes = (nonce.len() + text.len()) as u64;
        if bytes > self.most_bytes {
            return Err(unkept(&format!("it has {bytes} bytes, and the cache keeps {}", self.most_bytes)));
        }
        self.make_room(bytes)?;
        let mark: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        let unfinished = self.folder.join(format!("{UNFINISHED}{mark}"));
        let written = create_private(&unfinished).and_then(|mut file| {
            file.write_all(&nonce)?;
            file.write_all(&text)?;
            fs::rename(&unfinished, self.folder.join(&name))
        });
        if written.is_err() {
            drop(fs::remove_file(&unfinished));
        }
        Ok(written?)
    }

    fn random<const N: usize>(&self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Removes the files that were not used for longest, until so many bytes more are not too many.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut kept: Vec<_> = files(&self.folder, |name| name.ends_with(ENDING))?
            .into_iter()
            .filter_map(|path| fs::symlink_metadata(&path).ok().map(|metadata| (metadata, path)))
            .map(|(metadata, path)| (metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), path))
            .collect();
        kept.sort();
        let mut total: u64 = kept.iter().map(|(_, length, _)| *length).sum();
        for (_, length, path) in kept {
            if total.saturating_add(bytes) <= self.most_bytes {
                break;
            }
            fs::remove_file(path)?;
            total = total.saturating_sub(length);
        }
        Ok(())
    }

    /// What was being written when a process ended.
    fn remove_unfinished(&self) {
        for path in files(&self.folder, |name| name.starts_with(UNFINISHED)).unwrap_or_default() {
            // Whoever writes it just now tells that it is gone.
            drop(fs::remove_file(path));
        }
    }
}

/// The name of what a file with this digest becomes: another compiler, or other settings of it, make another name.
fn file_name(engine: &Engine, digest: &str) -> String {
    let mut settings = Settings(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut settings);
    let settings: String = settings.0.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{digest}-{settings}{ENDING}")
}

/// Hashes with more bits than `Hasher` asks for.
struct Settings(Sha256);

impl Hasher for Settings {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// Reads the key, or makes another one. All that was sealed with a lost key is thrown away when it is met.
fn open_key(folder: &Path, random: &SystemRandom) -> Result<LessSafeKey, Unusable> {
    let path = folder.join(KEY_FILE);
    let mut kept = Vec::new();
    let bytes = match read_private(&path, KEY_BYTES as u64, &mut kept) {
        Ok(()) if kept.len() == KEY_BYTES => kept,
        other => {
            match other {
                Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => warn_of(&path, &error.to_string()),
                Ok(()) => warn_of(&path, &format!("it has {} bytes, not {KEY_BYTES}", kept.len())),
            }
            // A link is removed itself, not what it leads to.
            drop(fs::remove_file(&path));
            let mut bytes = vec![0; KEY_BYTES];
            random.fill(&mut bytes).map_err(|_| Unusable::Unsafe("there are no random numbers".to_owned()))?;
            create_private(&path)?.write_all(&bytes)?;
            bytes
        }
    };
    let key = UnboundKey::new(&AES_256_GCM, &bytes);
    Ok(LessSafeKey::new(key.map_err(|_| Unusable::Unsafe("its key has a wrong length".to_owned()))?))
}

/// Reads a plain file that is this user's alone.
fn read_private(path: &Path, most: u64, bytes: &mut Vec<u8>) -> Result<(), Unusable> {
    bytes.clear();
    let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let mut file = OpenOptions::new().read(true).custom_flags(no_link).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Unusable::Unsafe("it is no file".to_owned()));
    }
    check_private(path, &metadata)?;
    if metadata.len() > most {
        return Err(Unusable::Unsafe(format!("it has {} bytes, more than {most}", metadata.len())));
    }
    bytes.reserve(usize::try_from(metadata.len()).unwrap_or_default());
    (&mut file).take(most).read_to_end(bytes)?;
    Ok(())
}

/// Makes a file that is not there yet.
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn check_private(path: &Path, metadata: &Metadata) -> Result<(), Unusable> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
    if owner != geteuid().as_raw() {
        return Err(Unusable::Unsafe(format!("{} belongs to user {owner}, not to this one", path.display())));
    }
    if mode & 0o077 != 0 {
        return Err(Unusable::Unsafe(format!("others may use it: chmod go= {}", path.display())));
    }
    Ok(())
}

fn files(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    Ok(paths.filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&is_wanted)).collect())
}

/// Throws a file away that cannot be trusted.
fn discard(path: &Path, reason: &str) -> Option<Component> {
    warn_of(path, reason);
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), error = %error, "it cannot be removed either");
    }
    None
}

fn warn_of(path: &Path, reason: &str) {
    tracing::warn!(path = %path.display(), "not used from the compiled cache: {reason}");
}

#[cfg(test)]
mod tests;
