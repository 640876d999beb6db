//! The version of `wit/` that this host speaks, and the refusal of plugins built for another one.
//!
//! At 0.x host and plugins go in lock-step: the first two numbers must be the same. A plugin says its version twice, in
//! its manifest and in the names of the interfaces that its component imports and exports; both are looked at, so that
//! neither an old component beside a new manifest nor the reverse gets as far as the linker.

use crate::refusal::Refusal;

/// The contract that this host speaks: the version of `wit/` without the patch level, which is compatible.
pub(crate) const CONTRACT: &str = "0.3";

/// The package whose interfaces carry the version.
const PACKAGE: &str = "easel:plugin/";

/// Refuses a version, `0.1` or `0.1.3`, that is not the host's, with both versions and what to do.
pub(crate) fn check(version: &str) -> Result<(), Refusal> {
    let patch = version.strip_prefix(CONTRACT);
    if patch.is_some_and(|patch| patch.is_empty() || patch.starts_with('.')) {
        return Ok(());
    }
    let numbers: Vec<_> = version.splitn(3, '.').take(2).collect();
    let built_for = numbers.join(".");
    Err(Refusal::new(format!("it is built for contract {built_for:?}, this host speaks {CONTRACT:?}")).with_fix(
        format!("rebuild it with the easel-sdk of contract {CONTRACT}, or run an easel that speaks {built_for:?}"),
    ))
}

/// The version in an interface's name, if it is one of the contract's: `easel:plugin/blobs@0.1.0` → `0.1.0`.
pub(crate) fn version_of(interface: &str) -> Option<&str> {
    interface.strip_prefix(PACKAGE)?.split_once('@').map(|(_, version)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hosts_own_version_is_taken_and_its_patches() {
        for version in ["0.3", "0.3.0", "0.3.17"] {
            check(version).unwrap();
        }
        for (version, named) in [("0.1", "0.1"), ("0.2.0", "0.2"), ("0.30.0", "0.30"), ("1.0.0", "1.0"), ("", "")] {
            let refusal = check(version).unwrap_err().to_string();
            assert!(
                refusal.contains(&format!("it is built for contract {named:?}, this host speaks \"0.3\"")),
                "{refusal}"
            );
            assert!(refusal.contains("rebuild it with the easel-sdk of contract 0.3"), "{refusal}");
        }
    }

    #[test]
    fn version_stands_in_the_names_of_the_contracts_interfaces_only() {
        assert_eq!(version_of("easel:plugin/blobs@0.1.0"), Some("0.1.0"));
        for name in ["wasi:http/types@0.2.12", "easel:plugin/blobs", "blobs@0.1.0"] {
            assert_eq!(version_of(name), None, "{name}");
        }
    }
}
