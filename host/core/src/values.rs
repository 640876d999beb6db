//! The seam to the small store that plugins have of their own: bytes under keys, each plugin apart.

use async_trait::async_trait;

use crate::Result;

/// Keeps a plugin's values. Every method names the plugin, and touches nothing of another.
#[async_trait]
pub trait Values: Send + Sync {
    /// The value under a key.
    ///
    /// # Errors
    /// `Storage` when it cannot be read.
    async fn get(&self, plugin: &str, key: &str) -> Result<Option<Vec<u8>>>;

    /// Puts a value under a key, in place of an earlier one; it is durable once this has returned.
    ///
    /// # Errors
    /// `Storage` when it cannot be written. What does not fit the quota is not written, and no error.
    async fn set(&self, plugin: &str, key: &str, value: &[u8], quota: ValueQuota) -> Result<Fits>;

    /// Takes a key away, whether it is there or not.
    ///
    /// # Errors
    /// `Storage` when it cannot be written.
    async fn delete(&self, plugin: &str, key: &str) -> Result<()>;

    /// The keys that begin with this, in the order of their bytes.
    ///
    /// # Errors
    /// `Storage` when they cannot be read.
    async fn keys(&self, plugin: &str, prefix: &str) -> Result<Vec<String>>;
}

/// How much one plugin may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueQuota {
    /// The most keys.
    pub keys: u64,
    /// The most bytes of all keys and values together.
    pub bytes: u64,
}

/// Whether a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fits {
    /// It was.
    Yes,
    /// There are as many keys as there may be.
    TooManyKeys,
    /// All would be longer than they may be.
    TooManyBytes,
}
