//! A small store of the plugin's own: bytes under keys, kept over calls, reloads and restarts. The manifest says
//! `store = true` under `[needs]`; without it the host refuses a plugin that calls anything here.

use crate::Result;
use crate::raw::store;

/// The value under a key, if there is one.
///
/// # Errors
/// `LimitExceeded` for a key that is too long, or when the call has asked too often; `Unsupported` while the plugin is
/// loaded.
pub fn get(key: &str) -> Result<Option<Vec<u8>>> {
    Ok(store::get(key)?)
}

/// Puts a value under a key, in place of an earlier one. It is on disk once this has returned; of two calls at a time, the
/// later write wins.
///
/// # Errors
/// As [`get`], and `LimitExceeded` for a value that is too long, or beyond what the plugin may keep.
pub fn set(key: &str, value: &[u8]) -> Result<()> {
    Ok(store::set(key, value)?)
}

/// Takes a key away; one that is not there is no error.
///
/// # Errors
/// As [`get`].
pub fn delete(key: &str) -> Result<()> {
    Ok(store::delete(key)?)
}

/// The keys that begin with this, in order.
///
/// # Errors
/// As [`get`].
pub fn keys(prefix: &str) -> Result<Vec<String>> {
    Ok(store::keys(prefix)?)
}

#[cfg(test)]
mod tests {
    use crate::testing::Upstream;

    #[test]
    fn stand_in_keeps_values_until_the_script_ends() {
        let upstream = Upstream::script([]);
        assert_eq!(super::get("a").unwrap(), None);
        super::set("a/2", b"two").unwrap();
        super::set("a/1", b"one").unwrap();
        super::set("b", b"").unwrap();
        super::delete("b").unwrap();
        assert_eq!(super::keys("a/").unwrap(), ["a/1", "a/2"]);
        assert_eq!(super::get("a/2").unwrap(), Some(b"two".to_vec()));
        drop(upstream);
        assert_eq!(super::keys("").unwrap(), Vec::<String>::new());
    }
}
