//! The data folder: made, locked, refused with one clear line.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use easel_core::ErrorKind;
use tempfile::TempDir;

use super::{Studio, files, png};
use crate::{Store, StoreConfig};

async fn open(data: &Path) -> Result<Store, easel_core::Error> {
    Store::open(StoreConfig { data: data.to_owned(), images: None, last_image: None }).await
}

#[tokio::test]
async fn the_data_folder_is_created_for_its_owner_only() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("missing/data");
    let store = open(&data).await.unwrap();
    store.check_writable().await.unwrap();
    assert_eq!(files(&data), ["easel.sqlite3", "easel.sqlite3-shm", "easel.sqlite3-wal", "images", "lock"]);
    assert_eq!(files(&data.join("images")), Vec::<String>::new(), "a probe leaves nothing behind");
    #[cfg(unix)]
    for (path, expected) in [
        ("", 0o700),
        ("lock", 0o600),
        ("easel.sqlite3", 0o600),
        ("easel.sqlite3-wal", 0o600),
        ("easel.sqlite3-shm", 0o600),
    ] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(data.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, expected, "{path:?} has mode {mode:o}");
    }
    store.close().await;
    assert_eq!(files(&data), ["easel.sqlite3", "images", "lock"]);
}

#[tokio::test]
async fn a_folder_in_use_is_refused_until_it_is_given_free() {
    let folder = TempDir::new().unwrap();
    let data = folder.path();
    let first = open(data).await.unwrap();
    let error = open(data).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert_eq!(error.message(), format!("data folder {} is in use by another easel process", data.display()));
    assert!(error.hint().unwrap().contains("--data"));

    first.close().await;
    let second = open(data).await.unwrap();
    assert!(open(data).await.is_err());
    drop(second);
    open(data).await.unwrap();
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let studio = Studio::open().await;
    studio.store.close().await;
    let error = studio.keep(&[png("one")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert_eq!(error.message(), "the image database cannot be read: the store is closed");
    studio.store.close().await;
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_used_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for data in [file.clone(), file.join("data")] {
        let error = open(&data).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        let start = format!("data folder {} cannot be used: ", data.display());
        assert!(error.message().starts_with(&start), "{}", error.message());
        assert!(!error.message().contains('\n'));
    }
}

#[tokio::test]
async fn a_database_that_is_none_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("easel.sqlite3");
    let text = "this is a letter, not a database, and somebody may still want it".repeat(20);
    fs::write(&database, &text).unwrap();
    let error = open(folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    let message = format!("database {} cannot be opened: file is not a database", database.display());
    assert_eq!(error.message(), message);
    assert_eq!(fs::read_to_string(&database).unwrap(), text);
}

#[tokio::test]
async fn a_database_of_a_newer_easel_is_refused() {
    let studio = Studio::open().await;
    studio
        .execute("INSERT INTO _sqlx_migrations SELECT 9999, 'later', installed_on, 1, x'00', 0 FROM _sqlx_migrations LIMIT 1")
        .await;
    studio.store.close().await;
    let error = open(&studio.folder.path().join("data")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.message().ends_with("was written by a newer easel, with schema 9999"), "{}", error.message());
}

#[tokio::test]
async fn half_written_files_of_a_dead_process_are_removed() {
    let folder = TempDir::new().unwrap();
    let images = folder.path().join("images");
    fs::create_dir(&images).unwrap();
    let image = format!("{}.png", "0f".repeat(32));
    let old = SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    let litter = [format!("{image}#1"), format!("{image}#27"), "writable-probe#1".to_owned()];
    let stays = [image.clone(), format!("{image}#x"), "notes#1".to_owned(), "picture.png#1".to_owned()];
    for name in litter.iter().chain(&stays) {
        fs::File::create(images.join(name)).unwrap().set_modified(old).unwrap();
    }
    let young = format!("{image}#2");
    fs::write(images.join(&young), "").unwrap();

    let _store = open(folder.path()).await.unwrap();
    let mut expected = [stays.as_slice(), &[young]].concat();
    expected.sort();
    assert_eq!(files(&images), expected);
}
