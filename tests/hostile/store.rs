//! The store that plugins have of their own: who gets it, and how much.

use std::sync::Arc;

use easel_core::{Draft, Error, ErrorKind, Values, Verdict};
use easel_runtime::{HostLimits, PluginSettings, PluginState};
use easel_store::{Store, StoreConfig};
use tempfile::TempDir;

use super::transformers::{Twist, manifest};
use super::{context, limits, request};

/// The real store in a folder of its own.
struct Disk {
    store: Arc<Store>,
    _folder: TempDir,
}

impl Disk {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let config = StoreConfig { data: folder.path().join("data"), images: None, last_image: None };
        Self { store: Arc::new(Store::open(config).await.unwrap()), _folder: folder }
    }
}

async fn twist(manifest: &str, limits: HostLimits, disk: &Disk) -> Twist {
    Twist::start(manifest, PluginSettings::default(), limits, Some(Arc::clone(&disk.store) as Arc<dyn Values>)).await
}

async fn ask(twist: &Twist, what: &str) -> Result<String, Error> {
    let verdict = twist.transformer().before(&context(), &request(Draft::new(format!("store {what}")))).await?;
    match verdict {
        Verdict::Next { notes, .. } => Ok(notes.into_iter().map(|note| note.message).collect()),
        Verdict::Reject(error) => Err(error),
        Verdict::Answer(_) => panic!("nobody answers"),
    }
}

#[tokio::test]
async fn plugin_keeps_values_over_calls_and_reloads() {
    let disk = Disk::new().await;
    let first = twist(&manifest("store = true"), limits(), &disk).await;
    assert_eq!(ask(&first, "get a").await.unwrap(), "None");
    ask(&first, "set a/1 10").await.unwrap();
    ask(&first, "set a/2 0").await.unwrap();
    ask(&first, "set b 1").await.unwrap();
    assert_eq!(ask(&first, "keys a/").await.unwrap(), "a/1 a/2");
    ask(&first, "delete b").await.unwrap();
    drop(first);
    let second = twist(&manifest("store = true"), limits(), &disk).await;
    assert_eq!(ask(&second, "get a/1").await.unwrap(), "Some(10)");
    assert_eq!(ask(&second, "keys").await.unwrap(), "a/1 a/2");
}

#[tokio::test]
async fn plugin_that_does_not_say_that_it_needs_a_store_cannot_import_it() {
    let twist = twist(&manifest("store = false"), limits(), &Disk::new().await).await;
    let status = twist.host.status("twist");
    assert_eq!(status.state, PluginState::Failed);
    let reason = status.reason.unwrap();
    assert!(
        reason.contains("easel:plugin/store@0.3.0, and its manifest does not say that it needs a store"),
        "{reason}"
    );
    assert!(reason.contains("write store = true under [needs] in plugin.toml"), "{reason}");
}

#[tokio::test]
async fn plugins_do_not_see_each_others_values() {
    let disk = Disk::new().await;
    let one = twist(&manifest("store = true"), limits(), &disk).await;
    ask(&one, "set a 10").await.unwrap();
    let other = manifest("store = true").replace("id = \"twist\"", "id = \"twirl\"");
    let other = twist(&other, limits(), &disk).await;
    assert_eq!(ask(&other, "get a").await.unwrap(), "None");
    assert_eq!(ask(&other, "keys").await.unwrap(), "");
    ask(&other, "delete a").await.unwrap();
    assert_eq!(ask(&one, "get a").await.unwrap(), "Some(10)");
}

/// What is set smaller.
type Change = fn(&mut HostLimits);

#[tokio::test]
async fn every_limit_of_the_store_is_an_error_value() {
    let small = |change: Change| {
        let mut limits = limits();
        change(&mut limits);
        limits
    };
    let rows: [(&str, Change, &str); 6] = [
        ("long-key 257", |_| (), "a key has at most 256 bytes, not 257"),
        ("set a 65537", |_| (), "a value has at most 65536 bytes, not 65537"),
        ("flood 1", |limits| limits.store_keys = 5, "a plugin keeps at most 5 keys"),
        ("flood 1000", |limits| limits.store_bytes = 5_000, "a plugin keeps at most 5000 bytes"),
        ("ask", |_| (), "a call may ask the store at most 100 times"),
        ("flood 10", |limits| limits.store_questions = 7, "a call may ask the store at most 7 times"),
    ];
    for (what, change, expected) in rows {
        let disk = Disk::new().await;
        let twist = twist(&manifest("store = true"), small(change), &disk).await;
        let error = ask(&twist, what).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::PluginFault, expected), "{what}");
    }
}

#[tokio::test]
async fn store_that_fails_fails_one_call() {
    let disk = Disk::new().await;
    let twist = twist(&manifest("store = true"), limits(), &disk).await;
    disk.store.close().await;
    let error = ask(&twist, "get a").await.unwrap_err();
    let expected = "plugins' values cannot be read: the store is closed";
    assert_eq!((error.kind(), error.message()), (ErrorKind::PluginFault, expected));
    assert!(twist.transformer().before(&context(), &request(Draft::new("a cat"))).await.is_ok());
}
