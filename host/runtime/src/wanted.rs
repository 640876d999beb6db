//! What the plugins of a folder want, read from their manifests for whoever is about to grant it. Nothing is compiled or
//! run.

use std::path::{Path, PathBuf};

use easel_core::{Error, ErrorKind, Result};

use crate::door::OriginPattern;
use crate::files::{Files, files};
use crate::folder::scan;
use crate::grants::{self, is_granted_by_name};
use crate::manifest::{CredentialNeed, Manifest, WantedOrigin};
use crate::refusal::Refusal;
use crate::{HostLimits, MissingGrant, NetworkGrant, PluginSettings};

/// What one plugin wants.
#[derive(Clone, Debug)]
pub struct PluginWants {
    manifest: Manifest,
    path: PathBuf,
}

/// Reads the manifests of the plugins in a folder, by path. One that cannot be read is left out: the server says why.
///
/// # Errors
/// The folder cannot be read.
pub fn plugin_wants(folder: &Path, limits: &HostLimits) -> Result<Vec<PluginWants>> {
    let listing = scan(folder).map_err(|error| {
        let message = format!("the plugins folder {} cannot be read: {error}", folder.display());
        Error::new(ErrorKind::NotFound, message).with_source(error)
    })?;
    let candidates = listing.candidates.into_values().take(limits.plugins);
    let read = candidates.filter(|candidate| candidate.refused.is_none()).filter_map(|candidate| {
        let Ok(Files::Whole { manifest, .. }) = files(&candidate, limits.component_bytes) else { return None };
        Some(PluginWants { manifest: Manifest::parse(&manifest).ok()?, path: candidate.component })
    });
    Ok(read.collect())
}

impl PluginWants {
    /// The plugin's id.
    pub fn id(&self) -> &str {
        &self.manifest.id
    }

    /// Its component.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The requests that it wants to send, as grants that give no more than that; those to whatever origin the operator
    /// names are not among them.
    pub fn network(&self) -> Vec<NetworkGrant> {
        let named = self.manifest.wants.iter().filter(|want| want.origin != WantedOrigin::Operator);
        named.map(NetworkGrant::from).collect()
    }

    /// Whether it wants to reach an origin that the operator names.
    pub fn takes_any_origin(&self) -> bool {
        self.manifest.wants.iter().any(|want| want.origin == WantedOrigin::Operator)
    }

    /// Whether an origin is only granted when the operator names it: it is an address and no public name.
    pub fn is_granted_by_name(origin: &str) -> bool {
        is_granted_by_name(origin)
    }

    /// The names of its credentials, each with whether it works without.
    pub fn credentials(&self) -> impl Iterator<Item = (&str, CredentialNeed)> {
        self.manifest.credentials.iter().map(|want| (want.name.as_str(), want.need))
    }

    /// The environment variables that it can be set by too, each with what it sets, as in `config.base_url`; none counts
    /// before the operator grants its name.
    pub fn variables(&self) -> Vec<(String, String)> {
        let variables = self.manifest.variables(&PluginSettings::default());
        variables.into_iter().map(|variable| (variable.name, variable.sets)).collect()
    }

    /// What of it these settings leave undecided.
    ///
    /// # Errors
    /// A grant in them is wrong, or is for what the plugin does not have.
    pub fn missing(&self, settings: &PluginSettings) -> Result<Option<MissingGrant>> {
        let wrong = |refusal: Refusal| Error::new(ErrorKind::InvalidRequest, refusal.to_string());
        grants::missing(&self.manifest, settings, None).map_err(wrong)
    }
}

/// Whether every origin that the second stands for is one that the first does; both are origins or patterns of them.
pub fn covers_origin(wider: &str, narrower: &str) -> bool {
    match (OriginPattern::parse(wider), OriginPattern::parse(narrower)) {
        (Ok(wider), Ok(narrower)) => wider.covers(&narrower),
        _ => false,
    }
}
