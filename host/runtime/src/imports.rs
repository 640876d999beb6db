//! What a plugin gets of the host, by its kind and its manifest: which interfaces it may import. What it has not asked for
//! is not linked, so there is nothing to call.

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::easel::plugin::{fetch, request_edit, store};
use crate::manifest::Manifest;
use crate::refusal::Refusal;
use crate::state::State;
use crate::{PluginKind, wasi};

/// Linked, but every function ends the call: the standard libraries of most languages import them unasked.
pub(crate) const STUBBED: [&str; 2] = ["wasi:filesystem/", "wasi:sockets/"];

/// What both kinds may import.
const SHARED: [&str; 23] = [
    "easel:plugin/types@",
    "easel:plugin/host@",
    "easel:plugin/blobs@",
    "easel:plugin/pixels@",
    "easel:plugin/images@",
    "wasi:io/error@",
    "wasi:io/poll@",
    "wasi:io/streams@",
    "wasi:clocks/monotonic-clock@",
    "wasi:clocks/wall-clock@",
    "wasi:random/insecure@",
    "wasi:random/insecure-seed@",
    "wasi:random/random@",
    "wasi:cli/environment@",
    "wasi:cli/exit@",
    "wasi:cli/stderr@",
    "wasi:cli/stdin@",
    "wasi:cli/stdout@",
    "wasi:cli/terminal-input@",
    "wasi:cli/terminal-output@",
    "wasi:cli/terminal-stderr@",
    "wasi:cli/terminal-stdin@",
    "wasi:cli/terminal-stdout@",
];

const NETWORK: [&str; 3] = ["easel:plugin/fetch@", "wasi:http/types@", "wasi:http/outgoing-handler@"];

const EDIT: &str = "easel:plugin/request-edit@";

const STORE: &str = "easel:plugin/store@";

/// What a plugin gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Imports {
    pub(crate) kind: PluginKind,
    /// Every adapter's, though the door opens only to what is granted; a transformer's only if it wants an origin.
    pub(crate) network: bool,
    pub(crate) store: bool,
}

impl Imports {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let network = match manifest.kind {
            PluginKind::Adapter => true,
            PluginKind::Transformer => !manifest.wants.is_empty(),
        };
        Self { kind: manifest.kind, network, store: manifest.needs.store }
    }

    /// Refuses an import that the plugin does not get, and says what would give it.
    pub(crate) fn check(self, import: &str) -> Result<(), Refusal> {
        let is_one_of = |known: &[&str]| known.iter().any(|known| import.starts_with(known));
        if is_one_of(&SHARED)
            || is_one_of(&STUBBED)
            || (self.network && is_one_of(&NETWORK))
            || (self.store && is_one_of(&[STORE]))
            || (self.kind == PluginKind::Transformer && is_one_of(&[EDIT]))
        {
            return Ok(());
        }
        Err(if is_one_of(&NETWORK) {
            Refusal::new(format!("it imports {import}, and its manifest wants no network"))
                .with_fix("name the origins that it wants under [network] in plugin.toml")
        } else if is_one_of(&[STORE]) {
            Refusal::new(format!("it imports {import}, and its manifest does not say that it needs a store"))
                .with_fix("write store = true under [needs] in plugin.toml")
        } else {
            let kind = self.kind.name();
            Refusal::new(format!("it imports {import}, which plugins of kind {kind:?} do not get"))
        })
    }

    /// Adds what it gets beside what all get.
    pub(crate) fn link(self, linker: &mut Linker<State>) -> wasmtime::Result<()> {
        if self.network {
            fetch::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
            wasi::link_http(linker)?;
        }
        if self.store {
            store::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
        }
        match self.kind {
            PluginKind::Adapter => Ok(()),
            PluginKind::Transformer => request_edit::add_to_linker::<State, HasSelf<State>>(linker, |state| state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_may_be_imported() {
        let transformer = Imports { kind: PluginKind::Transformer, network: false, store: false };
        let adapter = Imports { kind: PluginKind::Adapter, network: true, store: false };
        let rows = [
            (transformer, "easel:plugin/request-edit@0.3.0", None),
            (transformer, "wasi:io/poll@0.2.12", None),
            (transformer, "easel:plugin/fetch@0.3.0", Some("its manifest wants no network: name the origins")),
            (transformer, "wasi:http/types@0.2.12", Some("its manifest wants no network")),
            (Imports { network: true, ..transformer }, "easel:plugin/fetch@0.3.0", None),
            (adapter, "wasi:http/outgoing-handler@0.2.12", None),
            (adapter, "easel:plugin/request-edit@0.3.0", Some("which plugins of kind \"adapter\" do not get")),
            (adapter, "easel:plugin/store@0.3.0", Some("write store = true under [needs]")),
            (Imports { store: true, ..adapter }, "easel:plugin/store@0.3.0", None),
            (adapter, "wasi:keyvalue/store@0.2.0", Some("do not get")),
            (adapter, "wasi:cli/run@0.2.12", Some("do not get")),
        ];
        for (imports, import, expected) in rows {
            let refused = imports.check(import).err().map(|refusal| refusal.to_string());
            match (&refused, expected) {
                (None, None) => {}
                (Some(refused), Some(expected)) if refused.contains(expected) => {}
                _ => panic!("{import}: {refused:?} should be {expected:?}"),
            }
        }
    }
}
