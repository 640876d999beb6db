//! Credentials: the operator's values in the forms that the manifest says. They are added at the door and nowhere else; what
//! may be sent where is [`grant`](super::grant)'s business.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use crate::manifest::Manifest;
use crate::refusal::{Refusal, nearest};
use crate::{PluginSettings, Secret};

/// A header that is added at the door.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) header: HeaderName,
    /// Marked sensitive, so that nobody prints it.
    pub(crate) value: HeaderValue,
}

/// The credentials of one plugin.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    by_name: BTreeMap<String, Credential>,
    /// Headers that the plugin must not set, and does not see.
    headers: Vec<HeaderName>,
    /// Those that the manifest requires and nobody supplied.
    missing: Vec<String>,
}

impl Credentials {
    /// Puts the manifest's wants and the operator's values together.
    pub(super) fn new(manifest: &Manifest, settings: &PluginSettings) -> Result<Self, Refusal> {
        let id = &manifest.id;
        for name in settings.credentials.keys() {
            if !manifest.credentials.iter().any(|want| want.name == *name) {
                let known = nearest(name, manifest.credentials.iter().map(|want| want.name.as_str()));
                let message = format!("[plugin.{id}.credentials] names an unknown credential {name:?}; {known}");
                return Err(Refusal::new(message));
            }
        }
        let headers = manifest.credentials.iter().map(|want| want.header.clone()).collect();
        let mut credentials = Self { by_name: BTreeMap::new(), headers, missing: Vec::new() };
        for want in &manifest.credentials {
            let value = settings.credentials.get(&want.name).map(Secret::expose).filter(|value| !value.is_empty());
            let Some(value) = value else {
                if want.is_required {
                    credentials.missing.push(want.name.clone());
                }
                continue;
            };
            let mut value = HeaderValue::from_str(&format!("{}{value}", want.prefix)).map_err(|_| {
                Refusal::new(format!("credential {:?} of plugin {id} has characters no header can hold", want.name))
            })?;
            value.set_sensitive(true);
            credentials.by_name.insert(want.name.clone(), Credential { header: want.header.clone(), value });
        }
        Ok(credentials)
    }

    /// The credential of a name, if the operator supplied it.
    pub(crate) fn get(&self, name: &str) -> Option<&Credential> {
        self.by_name.get(name)
    }

    /// Whether a header belongs to the door: the plugin neither sets nor sees it.
    pub(crate) fn has_header(&self, name: &HeaderName) -> bool {
        self.headers.contains(name)
    }

    /// The credentials that are required and not there.
    pub(crate) fn missing(&self) -> &[String] {
        &self.missing
    }
}
