//! What plugins keep: apart from each other, within their quota, over restarts.

use easel_core::{Fits, ValueQuota, Values};

use super::Studio;

const QUOTA: ValueQuota = ValueQuota { keys: 3, bytes: 30 };

#[tokio::test]
async fn values_are_read_as_they_were_written_until_they_are_deleted() {
    let Studio { store, .. } = &Studio::open().await;
    assert_eq!(store.get("one", "a").await.unwrap(), None);
    assert_eq!(store.set("one", "a", &[0, 255, 7], QUOTA).await.unwrap(), Fits::Yes);
    assert_eq!(store.get("one", "a").await.unwrap(), Some(vec![0, 255, 7]));
    store.set("one", "a", b"", QUOTA).await.unwrap();
    assert_eq!(store.get("one", "a").await.unwrap(), Some(Vec::new()));
    store.delete("one", "a").await.unwrap();
    store.delete("one", "a").await.unwrap();
    assert_eq!(store.get("one", "a").await.unwrap(), None);
}

#[tokio::test]
async fn plugins_do_not_see_each_others_values() {
    let Studio { store, .. } = &Studio::open().await;
    store.set("one", "a", b"1", QUOTA).await.unwrap();
    store.set("two", "a", b"2", QUOTA).await.unwrap();
    store.delete("two", "a").await.unwrap();
    assert_eq!(store.get("one", "a").await.unwrap(), Some(b"1".to_vec()));
    assert_eq!(store.keys("two", "").await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn keys_are_listed_in_order_by_what_they_begin_with() {
    let Studio { store, .. } = &Studio::open().await;
    let quota = ValueQuota { keys: 10, bytes: 1000 };
    for key in ["b", "a%", "a_", "aé", "a", "A"] {
        store.set("one", key, b"", quota).await.unwrap();
    }
    assert_eq!(store.keys("one", "").await.unwrap(), ["A", "a", "a%", "a_", "aé", "b"]);
    assert_eq!(store.keys("one", "a").await.unwrap(), ["a", "a%", "a_", "aé"]);
    assert_eq!(store.keys("one", "aé").await.unwrap(), ["aé"]);
    assert_eq!(store.keys("one", "a%b").await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn quota_counts_keys_and_bytes_and_what_is_replaced_makes_room() {
    let Studio { store, .. } = &Studio::open().await;
    let set = async |key: &str, length: usize| store.set("one", key, &vec![1; length], QUOTA).await.unwrap();
    assert_eq!(set("a", 10).await, Fits::Yes);
    assert_eq!(set("b", 10).await, Fits::Yes);
    assert_eq!(set("c", 8).await, Fits::TooManyBytes);
    assert_eq!(store.get("one", "c").await.unwrap(), None);
    assert_eq!(set("c", 7).await, Fits::Yes);
    assert_eq!(set("d", 0).await, Fits::TooManyKeys);
    assert_eq!(set("a", 11).await, Fits::TooManyBytes);
    assert_eq!(store.get("one", "a").await.unwrap(), Some(vec![1; 10]), "what does not fit changes nothing");
    assert_eq!(set("a", 0).await, Fits::Yes);
    assert_eq!(set("b", 19).await, Fits::Yes);
    assert_eq!(store.set("two", "a", &[1; 29], QUOTA).await.unwrap(), Fits::Yes, "each plugin has its own");
}

#[tokio::test]
async fn values_survive_a_restart() {
    let studio = Studio::open().await;
    studio.store.set("one", "a", b"kept", QUOTA).await.unwrap();
    let studio = studio.reopen().await;
    assert_eq!(studio.store.get("one", "a").await.unwrap(), Some(b"kept".to_vec()));
}

#[tokio::test]
async fn closed_store_says_so() {
    let Studio { store, .. } = &Studio::open().await;
    store.close().await;
    let error = store.get("one", "a").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (easel_core::ErrorKind::Storage, "plugins' values cannot be read: the store is closed")
    );
}
