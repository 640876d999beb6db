//! Plugins built for another version of the contract. `archive/` holds components as they were built then, without their
//! names and debug information: no later compiler makes them again.

use easel_runtime::PluginState;
use tempfile::TempDir;

use super::{Host, install, limits};

/// The hostile transformer as it was built for each contract before this one.
const ARCHIVED: [(&str, &str); 2] = [
    ("0.1", concat!(env!("CARGO_MANIFEST_DIR"), "/hostile/archive/transformer-0.1.wasm")),
    ("0.2", concat!(env!("CARGO_MANIFEST_DIR"), "/hostile/archive/transformer-0.2.wasm")),
];

/// What becomes of an archived component beside a manifest that names this contract.
async fn refusal(component: &str, contract: &str) -> String {
    let manifest =
        format!("[plugin]\nid = \"old\"\nversion = \"1.0.0\"\nkind = \"transformer\"\ncontract = \"{contract}\"\n");
    let folder = TempDir::new().unwrap();
    install(folder.path(), "old", component, &manifest);
    let host = Host::start(folder, [].into(), limits()).await;
    // While the manifest could not be read, the folder's name stands for the id; here they are the same.
    let status = host.status("old");
    assert_eq!(status.state, PluginState::Failed);
    assert!(host.runtime.transformers().is_empty());
    status.reason.expect("a refusal has a reason")
}

#[tokio::test]
async fn component_of_an_older_contract_is_refused_with_both_versions_and_the_fix() {
    for (version, component) in ARCHIVED {
        // By its manifest, and by what it imports where the manifest says otherwise.
        for contract in [version, "0.3"] {
            let reason = refusal(component, contract).await;
            for part in [
                format!("it is built for contract {version:?}, this host speaks \"0.3\""),
                "rebuild it with the easel-sdk of contract 0.3".to_owned(),
                format!("run an easel that speaks {version:?}"),
            ] {
                assert!(reason.contains(&part), "{contract}: {reason}");
            }
        }
    }
}

#[tokio::test]
async fn manifest_for_a_later_contract_is_refused_with_both_versions_and_the_fix() {
    let reason = refusal(ARCHIVED[1].1, "0.4").await;
    assert!(reason.contains("it is built for contract \"0.4\", this host speaks \"0.3\""), "{reason}");
    assert!(reason.contains("run an easel that speaks \"0.4\""), "{reason}");
}
