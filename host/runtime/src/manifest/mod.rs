//! `plugin.toml`: what a plugin is and what it wants. Raw (serde) and checked are two steps; unknown keys are refused.
//!
//! A want is not a grant: what the operator gives is in [`PluginSettings`](crate::PluginSettings), and what counts is
//! both together (`door/grant.rs`).

mod config;
mod credential;
mod environment;
mod limits;
mod needs;
mod network;
mod schema;

use serde::Deserialize;
use serde_json::{Map, Value};

pub use credential::CredentialNeed;
pub(crate) use credential::{CredentialWant, Injection};
pub(crate) use limits::Wishes;
pub(crate) use needs::Needs;
pub(crate) use network::{MAX_WANTS, Redirects, Want, WantedOrigin, check_paths, read_methods};

use crate::PluginKind;
use crate::contract;
use crate::refusal::Refusal;
use credential::RawCredential;
use environment::{RawVariable, VariableWant};
use limits::RawLimits;
use needs::RawNeeds;
use network::RawNetwork;
use schema::Schema;

/// The custom section that holds the manifest of a plugin that comes as one file.
pub(crate) const SECTION: &str = "easel:manifest";

/// A checked manifest.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) kind: PluginKind,
    pub(crate) wants: Vec<Want>,
    pub(crate) credentials: Vec<CredentialWant>,
    pub(crate) needs: Needs,
    pub(crate) limits: Wishes,
    pub(crate) config: Map<String, Value>,
    pub(crate) schema: Schema,
    pub(crate) environment: Vec<VariableWant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    plugin: RawPlugin,
    #[serde(default)]
    network: RawNetwork,
    #[serde(default)]
    credential: Vec<RawCredential>,
    #[serde(default)]
    needs: RawNeeds,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    config: toml::Table,
    #[serde(default)]
    schema: toml::Table,
    #[serde(default)]
    environment: Vec<RawVariable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlugin {
    id: String,
    version: String,
    kind: String,
    contract: String,
    /// For people; the host does not read it.
    #[serde(default, rename = "description")]
    _description: String,
}

impl Manifest {
    /// Reads and checks a manifest.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let raw: RawManifest = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            Refusal::new(format!("plugin.toml line {line}: {}", error.message()))
        })?;
        contract::check(&raw.plugin.contract)?;
        check_name("plugin.id", &raw.plugin.id, "abcdefghijklmnopqrstuvwxyz0123456789-")?;
        let version = semver::Version::parse(&raw.plugin.version)
            .map_err(|_| invalid("plugin.version", &raw.plugin.version, "three numbers as in 0.1.0"))?;
        let names = credential::names(&raw.credential);
        let wants = network::check(raw.network, &names)?;
        let (config, schema) = config::check(raw.config, raw.schema)?;
        let is_key = |key: &str| config.contains_key(key) || schema.properties.contains_key(key);
        let environment = environment::check(raw.environment, is_key, &names)?;
        let kind = check_kind(&raw.plugin.kind)?;
        Ok(Self {
            id: raw.plugin.id,
            version: version.to_string(),
            kind,
            credentials: credential::check(raw.credential)?,
            wants,
            needs: needs::check(&raw.needs, kind)?,
            limits: limits::check(&raw.limits)?,
            config,
            schema,
            environment,
        })
    }
}

fn check_name(what: &str, name: &str, alphabet: &str) -> Result<(), Refusal> {
    if (1..=64).contains(&name.len()) && name.chars().all(|letter| alphabet.contains(letter)) {
        return Ok(());
    }
    Err(invalid(what, name, "1 to 64 lower-case letters, digits and hyphens"))
}

fn check_kind(kind: &str) -> Result<PluginKind, Refusal> {
    match kind {
        "adapter" => Ok(PluginKind::Adapter),
        "transformer" => Ok(PluginKind::Transformer),
        _ => Err(invalid("plugin.kind", kind, "\"adapter\" or \"transformer\"")),
    }
}

fn invalid(what: &str, value: &str, right: &str) -> Refusal {
    Refusal::new(format!("{what} must be {right}, not {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const HEAD: &str = "[plugin]\nid = \"a\"\nversion = \"0.1.0\"\nkind = \"adapter\"\ncontract = \"0.3\"\n";

    #[test]
    fn smallest_manifest_wants_nothing() {
        let manifest = Manifest::parse(HEAD).unwrap();
        assert_eq!((manifest.id.as_str(), manifest.kind), ("a", PluginKind::Adapter));
        assert!(manifest.wants.is_empty() && manifest.credentials.is_empty() && manifest.config.is_empty());
    }

    #[test]
    fn manifest_is_refused_with_what_would_be_right() {
        let tail = |tail: &str| format!("{HEAD}{tail}");
        let head = |from: &str, to: &str| HEAD.replace(from, to);
        let rows = [
            (head("id = \"a\"", "id = \"A\""), "plugin.id must be 1 to 64 lower-case letters"),
            (head("0.1.0", "1"), "plugin.version must be three numbers"),
            (head("adapter", "backend"), "plugin.kind must be \"adapter\" or \"transformer\", not \"backend\""),
            (
                head("contract = \"0.3\"", "contract = \"0.1\""),
                "rebuild it with the easel-sdk of contract 0.3, or run an",
            ),
            (head("kind", "sort"), "line 4: unknown field `sort`"),
            (tail("[net]\n"), "line 6: unknown field `net`"),
            (
                tail("[network]\norigins = [\"https://*.com\"]"),
                "network.origins: \"https://*.com\" stands for names of anybody",
            ),
            (tail("[network]\norigins = [\"https://x.com/v1\"]"), "network.origins: "),
            (tail("[network]\norigins = [\"ftp://x.com\"]"), "network.origins: "),
            (tail("[network]\nmethods = [\"TRACE\"]"), "network.methods must be GET, HEAD"),
            (tail("[[credential]]\nname = \"k\"\nheader = \"host\""), "credential.header must be the name of a header"),
            (tail("[[credential]]\nname = \"k\"\nheader = \"a b\""), "credential.header must be the name of a header"),
            (
                tail("[[credential]]\nname = \"k\"\nheader = \"x\"\nprefix = \"a\\nb\""),
                "credential.prefix must be plain",
            ),
            (
                tail("[[credential]]\nname = \"k\"\nheader = \"x\"\n[[credential]]\nname = \"k\"\nheader = \"y\""),
                "twice",
            ),
            (tail("[limits]\ncpu_ms = 0"), "limits.cpu_ms must be at least 1"),
            (tail("[config]\nsince = 2024-01-01"), "config.since must be text"),
        ];
        for (text, expected) in rows {
            let error = Manifest::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }
}
