//! The optional interfaces: what a plugin can do beyond what its kind demands, seen from what its component exports.

use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre};

use crate::bindings::exports::easel::plugin::{catalogue, health, jobs};
use crate::contract::CONTRACT;
use crate::refusal::Refusal;
use crate::state::State;

/// How the calls into the optional interfaces are found; none where the plugin does not export one.
pub(crate) struct Abilities {
    pub(crate) jobs: Option<jobs::GuestIndices>,
    pub(crate) catalogue: Option<catalogue::GuestIndices>,
    pub(crate) health: Option<health::GuestIndices>,
}

impl Abilities {
    pub(crate) fn jobs(&self) -> wasmtime::Result<&jobs::GuestIndices> {
        self.jobs.as_ref().ok_or_else(|| missing("jobs"))
    }

    pub(crate) fn catalogue(&self) -> wasmtime::Result<&catalogue::GuestIndices> {
        self.catalogue.as_ref().ok_or_else(|| missing("catalogue"))
    }

    pub(crate) fn health(&self) -> wasmtime::Result<&health::GuestIndices> {
        self.health.as_ref().ok_or_else(|| missing("health"))
    }

    /// Looks at what a component exports. An interface that is there must be there whole.
    pub(crate) fn of(engine: &Engine, component: &Component, pre: &InstancePre<State>) -> Result<Self, Refusal> {
        let names: Vec<_> = component.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect();
        let find = |interface: &'static str| names.iter().any(|name| is_of(name, interface)).then_some(interface);
        Ok(Self {
            jobs: find("jobs").map(|name| jobs::GuestIndices::new(pre).map_err(|_| broken(name))).transpose()?,
            catalogue: find("catalogue")
                .map(|name| catalogue::GuestIndices::new(pre).map_err(|_| broken(name)))
                .transpose()?,
            health: find("health").map(|name| health::GuestIndices::new(pre).map_err(|_| broken(name))).transpose()?,
        })
    }
}

/// A call into what the plugin does not export is a fault of the host's, not the plugin's.
fn missing(interface: &str) -> wasmtime::Error {
    wasmtime::format_err!("easel:plugin/{interface} was called where it is not exported")
}

fn is_of(export: &str, interface: &str) -> bool {
    let rest = export.strip_prefix("easel:plugin/").and_then(|rest| rest.strip_prefix(interface));
    rest.is_some_and(|rest| rest.starts_with('@'))
}

fn broken(interface: &str) -> Refusal {
    Refusal::new(format!("it does not export all of easel:plugin/{interface}@{CONTRACT}"))
        .with_fix(format!("rebuild it with the easel-sdk of contract {CONTRACT}"))
}

#[cfg(test)]
mod tests {
    use super::is_of;

    #[test]
    fn interface_is_known_by_its_whole_name() {
        assert!(is_of("easel:plugin/jobs@0.3.0", "jobs"));
        for other in ["easel:plugin/jobs-of-another-kind@0.3.0", "other:plugin/jobs@0.2.0", "jobs"] {
            assert!(!is_of(other, "jobs"), "{other}");
        }
    }
}
