//! What the compiled cache gives back, and what it throws away.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use wasmtime::{Config, OptLevel};

use super::*;
use crate::plugin::digest;

/// Components with nothing in them but a section of another name.
const ONE: &[u8] = b"\0asm\x0d\0\x01\0\0\x02\x01a";
const OTHER: &[u8] = b"\0asm\x0d\0\x01\0\0\x02\x01b";
const THIRD: &[u8] = b"\0asm\x0d\0\x01\0\0\x02\x01c";

/// A cache in a folder of its own.
struct Kept {
    root: PathBuf,
    engine: Engine,
    cache: Cache,
}

impl Kept {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("easel-cache-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&root));
        let (engine, cache) = (Engine::default(), open(&root, 1 << 20).unwrap());
        Self { root, engine, cache }
    }

    fn store(&self, bytes: &[u8]) -> PathBuf {
        let component = Component::from_binary(&self.engine, bytes).unwrap();
        self.cache.store(&digest(bytes), &component).unwrap();
        self.path(bytes)
    }

    fn path(&self, bytes: &[u8]) -> PathBuf {
        self.cache.folder.join(file_name(&self.engine, &digest(bytes)))
    }

    fn has(&self, bytes: &[u8]) -> bool {
        self.cache.load(&self.engine, &digest(bytes)).is_some()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.root));
    }
}

fn open(root: &Path, most: u64) -> Result<Cache, Unusable> {
    Cache::open(&root.join("data/compiled"), &root.join("plugins"), most)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_was_stored_is_found_again_by_the_next_process() {
    let kept = Kept::new("hit");
    assert!(!kept.has(ONE));
    let path = kept.store(ONE);
    assert!(kept.has(ONE) && !kept.has(OTHER));
    assert_eq!((mode(&kept.cache.folder), mode(&path), mode(&kept.cache.folder.join(KEY_FILE))), (0o700, 0o600, 0o600));
    let next = open(&kept.root, 1 << 20).unwrap();
    assert!(next.load(&Engine::default(), &digest(ONE)).is_some());
}

#[test]
fn altered_file_is_thrown_away() {
    let kept = Kept::new("altered");
    let whole = fs::read(kept.store(ONE)).unwrap();
    let spoilt = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let middle = whole.len() / 2;
    let cut = [0, NONCE_LEN - 1, NONCE_LEN, NONCE_LEN + 16, middle, whole.len() - 1].map(|end| whole[..end].to_vec());
    let altered = [0, NONCE_LEN, middle, whole.len() - 1].map(spoilt);
    let longer = [whole.as_slice(), b"x"].concat();
    for (number, bytes) in cut.into_iter().chain(altered).chain([longer]).enumerate() {
        let path = kept.store(ONE);
        fs::write(&path, bytes).unwrap();
        assert!(!kept.has(ONE) && !path.exists(), "{number}");
    }
    kept.store(ONE);
    assert!(kept.has(ONE));
}

#[test]
fn files_cannot_change_names() {
    let kept = Kept::new("swapped");
    let (one, other) = (kept.store(ONE), kept.store(OTHER));
    fs::copy(&one, &other).unwrap();
    assert!(kept.has(ONE) && !kept.has(OTHER));
}

#[test]
fn code_of_another_compiler_is_not_even_looked_at() {
    let kept = Kept::new("foreign");
    let path = kept.store(ONE);
    let engine = Engine::new(Config::new().cranelift_opt_level(OptLevel::None)).unwrap();
    let digest = digest(ONE);
    assert!(kept.cache.load(&engine, &digest).is_none() && path.exists());
    // Under the other one's name it is refused by its seal.
    let foreign = kept.cache.folder.join(file_name(&engine, &digest));
    fs::copy(&path, &foreign).unwrap();
    assert!(kept.cache.load(&engine, &digest).is_none() && !foreign.exists());
}

#[test]
fn code_sealed_with_another_key_is_thrown_away() {
    let (kept, stranger) = (Kept::new("own"), Kept::new("stranger"));
    let path = kept.path(ONE);
    fs::copy(stranger.store(ONE), &path).unwrap();
    assert!(!kept.has(ONE) && !path.exists());
    // A key that others may read is no key any more.
    kept.store(ONE);
    set_mode(&kept.cache.folder.join(KEY_FILE), 0o644);
    let next = open(&kept.root, 1 << 20).unwrap();
    assert!(next.load(&kept.engine, &digest(ONE)).is_none());
    assert_eq!(mode(&next.folder.join(KEY_FILE)), 0o600);
}

#[test]
fn links_and_files_of_others_are_not_followed() {
    let kept = Kept::new("links");
    let path = kept.store(ONE);
    let aside = kept.root.join("aside");
    fs::rename(&path, &aside).unwrap();
    symlink(&aside, &path).unwrap();
    assert!(!kept.has(ONE) && !path.exists() && aside.exists());
    let path = kept.store(ONE);
    set_mode(&path, 0o620);
    assert!(!kept.has(ONE) && !path.exists());
    // The key as a link: another one is made, and the link's target stays as it is.
    let key = kept.cache.folder.join(KEY_FILE);
    fs::remove_file(&key).unwrap();
    fs::write(&aside, [7; KEY_BYTES]).unwrap();
    symlink(&aside, &key).unwrap();
    let _next = open(&kept.root, 1 << 20).unwrap();
    assert!(!fs::symlink_metadata(&key).unwrap().is_symlink() && fs::read(&key).unwrap() != [7; KEY_BYTES]);
    assert_eq!(fs::read(&aside).unwrap(), [7; KEY_BYTES]);
}

#[test]
fn folder_that_others_may_enter_is_not_used() {
    let kept = Kept::new("folder");
    set_mode(&kept.cache.folder, 0o750);
    let error = open(&kept.root, 1 << 20).err().unwrap().to_string();
    assert!(error.contains("chmod go= "), "{error}");
    let plugins = kept.root.join("plugins");
    fs::create_dir_all(&plugins).unwrap();
    let error = Cache::open(&plugins.join("compiled"), &plugins, 1 << 20).err().unwrap().to_string();
    assert!(error.ends_with("is in the plugins folder"), "{error}");
    symlink(&plugins, kept.root.join("link")).unwrap();
    fs::write(kept.root.join("file"), "x").unwrap();
    for name in ["link", "file"] {
        let error = Cache::open(&kept.root.join(name), &plugins, 1 << 20).err().unwrap().to_string();
        assert!(error.ends_with("is no folder"), "{error}");
    }
}

#[test]
fn file_that_is_none_or_too_long_or_somebody_elses_is_not_read() {
    let kept = Kept::new("private");
    let path = kept.store(ONE);
    let length = fs::metadata(&path).unwrap().len();
    let mut bytes = vec![7; 3];
    read_private(&path, length, &mut bytes).unwrap();
    assert_eq!(bytes, fs::read(&path).unwrap(), "what was in the buffer before is gone");
    let refused = |path: &Path, most| read_private(path, most, &mut Vec::new()).unwrap_err().to_string();
    assert!(refused(&path, length - 1).ends_with(&format!("more than {}", length - 1)));
    assert_eq!(refused(&kept.cache.folder, length), "it is no file");
    let metadata = fs::metadata(&path).unwrap();
    check_private(&path, &metadata).unwrap();
    // Who may do anything gives a file away; anybody else finds one that is not his.
    let foreign = if geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        path
    } else {
        PathBuf::from("/")
    };
    let error = check_private(&foreign, &fs::metadata(&foreign).unwrap()).unwrap_err().to_string();
    assert!(error.contains("belongs to user"), "{error}");
}

#[test]
fn key_of_a_wrong_length_is_made_anew() {
    let kept = Kept::new("short");
    let (path, key) = (kept.store(ONE), kept.cache.folder.join(KEY_FILE));
    let before = fs::read(&key).unwrap();
    fs::write(&key, &before[..KEY_BYTES - 1]).unwrap();
    let next = open(&kept.root, 1 << 20).unwrap();
    let after = fs::read(&key).unwrap();
    assert!(after.len() == KEY_BYTES && after[..8] != before[..8]);
    assert!(next.load(&kept.engine, &digest(ONE)).is_none() && !path.exists());
}

#[test]
fn oldest_file_makes_room() {
    let kept = Kept::new("room");
    let (one, other) = (kept.store(ONE), kept.store(OTHER));
    let length = fs::metadata(&one).unwrap().len();
    let past = SystemTime::now() - std::time::Duration::from_secs(60);
    for path in [&one, &other] {
        File::open(path).unwrap().set_modified(past).unwrap();
    }
    // What is used stays.
    assert!(kept.has(ONE));
    let cache = open(&kept.root, length * 2 + length / 2).unwrap();
    let third = Component::from_binary(&kept.engine, THIRD).unwrap();
    cache.store(&digest(THIRD), &third).unwrap();
    assert!(kept.has(ONE) && !kept.has(OTHER));
    assert!(cache.load(&kept.engine, &digest(THIRD)).is_some());
    let small = open(&kept.root, 100).unwrap();
    let error = small.store(&digest(THIRD), &third).unwrap_err().to_string();
    assert!(error.contains("the cache keeps 100"), "{error}");
}

#[test]
fn what_a_process_left_half_written_is_removed() {
    let kept = Kept::new("unfinished");
    let left = kept.cache.folder.join(format!("{UNFINISHED}0123"));
    fs::write(&left, "half").unwrap();
    let _next = open(&kept.root, 1 << 20).unwrap();
    assert!(!left.exists());
}
