//! The stand-in for `store`: values in memory, as long as the script, without a quota.

use super::SCRIPT;
use crate::bindings::adapter::easel::plugin::types::PluginError;

#[expect(clippy::unnecessary_wraps, reason = "the host's store has limits")]
pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, PluginError> {
    Ok(SCRIPT.with_borrow(|script| script.values.get(key).cloned()))
}

#[expect(clippy::unnecessary_wraps, reason = "the host's store has limits")]
pub(crate) fn set(key: &str, value: &[u8]) -> Result<(), PluginError> {
    SCRIPT.with_borrow_mut(|script| script.values.insert(key.to_owned(), value.to_vec()));
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the host's store has limits")]
pub(crate) fn delete(key: &str) -> Result<(), PluginError> {
    SCRIPT.with_borrow_mut(|script| script.values.remove(key));
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the host's store has limits")]
pub(crate) fn keys(prefix: &str) -> Result<Vec<String>, PluginError> {
    let keys = |script: &super::Script| script.values.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    Ok(SCRIPT.with_borrow(keys))
}
