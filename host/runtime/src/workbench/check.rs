//! `easel plugin check`: everything that the loader would ask of a component, told all at once and not up to the first
//! thing that is wrong; and what no rule forbids but an author should know.

use wasmparser::{Parser, Payload};

use super::{Prepared, Workbench};
use crate::component::{Shape, shape};
use crate::contract;
use crate::imports::Imports;
use crate::manifest::Manifest;
use crate::refusal::Refusal;
use crate::{PluginKind, PluginSettings};

/// From here on a component is worth making smaller: it compiles for seconds.
const LARGE_BYTES: usize = 4 << 20;

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What the component is, as pairs of a word and its value.
    pub facts: Vec<(&'static str, String)>,
    /// What is wrong, or worth knowing.
    pub findings: Vec<Finding>,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// What was looked at: `manifest`, `imports`, `exports`, `size`, …
    pub about: &'static str,
    /// What is wrong, and what to do about it.
    pub message: String,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The loader refuses the plugin.
    Refused,
    /// It loads; better know.
    Advice,
}

impl Checked {
    /// Whether the loader would take it.
    pub fn is_accepted(&self) -> bool {
        self.findings.iter().all(|finding| finding.weight == Weight::Advice)
    }

    fn refuse(&mut self, about: &'static str, refusal: &Refusal) {
        let message = refusal.to_string();
        // Compiling finds again what was found by looking.
        if !self.findings.iter().any(|known| known.message == message) {
            self.findings.push(Finding { weight: Weight::Refused, about, message });
        }
    }

    fn advise(&mut self, about: &'static str, message: impl Into<String>) {
        self.findings.push(Finding { weight: Weight::Advice, about, message: message.into() });
    }

    fn know(&mut self, fact: &'static str, value: impl Into<String>) {
        self.facts.push((fact, value.into()));
    }
}

impl Workbench {
    /// Looks at a component closely. A manifest that is given counts instead of the embedded one.
    pub async fn check(&self, component: &[u8], manifest: Option<&str>) -> Checked {
        let mut checked = Checked::default();
        self.check_size(component, &mut checked);
        let manifest = match manifest_of(component, manifest.map(str::to_owned)) {
            Ok(text) => match Manifest::parse(&text) {
                Ok(manifest) => Some((text, manifest)),
                Err(refusal) => {
                    checked.refuse("manifest", &refusal);
                    None
                }
            },
            Err(refusal) => {
                checked.refuse("manifest", &refusal);
                None
            }
        };
        let Some((text, manifest)) = manifest else {
            return checked;
        };
        checked.know("plugin", format!("{} {}", manifest.id, manifest.version));
        checked.know("kind", manifest.kind.name());
        check_borders(component, Imports::of(&manifest), &mut checked);
        match self.prepare(component, Some(&text)).await {
            Ok(prepared) => self.check_models(&prepared, &mut checked).await,
            Err(error) => checked.refuse("component", &Refusal::new(error.message())),
        }
        checked
    }

    fn check_size(&self, component: &[u8], checked: &mut Checked) {
        let most = self.shared.limits.component_bytes;
        checked.know("size", format!("{} KiB", component.len().div_ceil(1024)));
        if component.len() as u64 > most {
            let fix = "leave out debug information, or what it carries as data";
            checked.refuse("size", &Refusal::new(format!("it is longer than {most} bytes")).with_fix(fix));
        } else if component.len() > LARGE_BYTES {
            checked.advise("size", "it compiles for some seconds when it is loaded for the first time");
        }
    }

    /// An adapter names its models when it is loaded, with the config that it brings.
    async fn check_models(&self, plugin: &Prepared, checked: &mut Checked) {
        let wanted = plugin.wanted_origins();
        if !wanted.is_empty() {
            checked.know("wants origins", wanted.join(", "));
        }
        let credentials = plugin.wanted_credentials();
        if !credentials.is_empty() {
            checked.know("wants credentials", credentials.join(", "));
        }
        if plugin.kind() == PluginKind::Transformer {
            return;
        }
        // Without the credentials that it requires it is set up all the same; it would only not be ready.
        let settings = PluginSettings::default();
        let made = crate::plugin::Plugin::new(
            std::sync::Arc::clone(&self.shared),
            std::sync::Arc::clone(&plugin.0),
            &settings,
        );
        match made.await {
            Ok(plugin) if plugin.models().is_empty() => {
                checked.advise("models", "with the config that it brings it has no models");
            }
            Ok(plugin) => {
                let models: Vec<_> = plugin.models().iter().map(|model| model.id.clone()).collect();
                checked.know("models", models.join(", "));
            }
            // It may need what only the operator knows.
            Err(refusal) => checked.advise("models", format!("with the config that it brings {refusal}")),
        }
    }
}

/// What a component takes and gives at its outermost border.
fn check_borders(component: &[u8], given: Imports, checked: &mut Checked) {
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0_u32);
    for payload in Parser::new(0).parse_all(component) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentImportSection(section)) if depth == 0 => {
                imports.extend(section.into_iter().filter_map(Result::ok).map(|import| import.name.name.to_owned()));
            }
            Ok(Payload::ComponentExportSection(section)) if depth == 0 => {
                exports.extend(section.into_iter().filter_map(Result::ok).map(|export| export.name.name.to_owned()));
            }
            Ok(_) | Err(_) => {}
        }
    }
    let versions = imports.iter().chain(&exports).filter_map(|name| contract::version_of(name));
    if let Some(refusal) = versions.filter_map(|version| contract::check(version).err()).next() {
        checked.refuse("contract", &refusal);
    }
    for refusal in imports.iter().filter_map(|name| given.check(name).err()) {
        checked.refuse("imports", &refusal);
    }
    let of_ours = |names: &[String]| {
        let ours = names.iter().filter(|name| name.starts_with("easel:plugin/")).cloned();
        ours.collect::<Vec<_>>().join(", ")
    };
    checked.know("exports", of_ours(&exports));
    checked.know("imports", of_ours(&imports));
}

/// The manifest that counts: the one beside the component, or the embedded one.
pub(super) fn manifest_of(component: &[u8], beside: Option<String>) -> Result<String, Refusal> {
    let embedded = match shape(component)? {
        Shape::Component(embedded) => embedded,
        Shape::Broken(reason) => return Err(Refusal::new(reason)),
    };
    beside.or(embedded).ok_or_else(|| {
        Refusal::new("it has no manifest").with_fix("build it with `easel plugin build`, or put plugin.toml beside it")
    })
}
