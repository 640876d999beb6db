//! `[plugin.bfl.config]`, and whose server it names.

use easel_sdk::models::Model;
use easel_sdk::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::catalogue::{Catalogue, Provider};
use crate::fields::{Faults, Fields};

/// The plugin's config; `README.md` says what each key means.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub struct Config {
    pub base_url: String,
    pub offer: Vec<String>,
    pub models: Map<String, Value>,
    pub max_count: u32,
    pub max_active: u32,
    pub timeout_s: u64,
    pub poll_ms: u64,
    pub unsupported: Unsupported,
}

impl TryFrom<Value> for Config {
    type Error = Error;

    fn try_from(value: Value) -> Result<Self> {
        let faults = Faults::default();
        let keys = Fields::new("config", vec![&value], &faults);
        // The manifest has a default for each of them.
        let count = |name: &str| keys.count(name).unwrap_or_default();
        let config = Self {
            base_url: keys.text("base_url").unwrap_or_default().to_owned(),
            offer: keys.texts("offer"),
            models: keys.get("models").and_then(Value::as_object).cloned().unwrap_or_default(),
            max_count: count("max_count"),
            max_active: count("max_active"),
            timeout_s: count("timeout_s").into(),
            poll_ms: count("poll_ms").into(),
            unsupported: match keys.text("unsupported") {
                Some("refuse") => Unsupported::Refuse,
                Some(_) | None => Unsupported::Ignore,
            },
        };
        keys.needs(&["base_url", "offer", "models", "max_count", "max_active", "timeout_s", "poll_ms", "unsupported"]);
        faults.none(config)
    }
}

/// What becomes of a request that sets something which the model does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// It is done without, and the answer says so.
    Ignore,
    /// It is refused.
    Refuse,
}

/// Whose server it is that is asked, so which key goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The provider.
    Provider,
    /// Somebody else, who serves the same API.
    Other,
}

impl Owner {
    /// The credential that goes along.
    pub fn credential(self) -> &'static str {
        match self {
            Self::Provider => "api_key",
            Self::Other => "server_key",
        }
    }
}

impl Config {
    /// The models that are offered, the default first.
    ///
    /// # Errors
    /// `Internal` naming the key that makes no sense.
    pub fn models(&self) -> Result<Vec<Model>> {
        let (provider, catalogue) = (Provider::known()?, Catalogue::read(&self.models)?);
        let owner = self.owner(&provider)?;
        let mut records = Vec::new();
        // One that is not offered must make sense as well, so that its mistake is told at once.
        for id in catalogue.ids() {
            records.push(catalogue.record(id)?);
        }
        let mut models = Vec::new();
        for id in &self.offer {
            let Some(record) = records.iter().find(|record| record.id == *id) else {
                let known: Vec<_> = catalogue.ids().collect();
                return Err(Error::config(format!("offer: there is no model {id:?}; there are: {}", known.join(", "))));
            };
            models.push(record.model(self, &provider, owner));
        }
        if self.offer.is_empty() {
            models.extend(records.iter().map(|record| record.model(self, &provider, owner)));
        }
        if models.is_empty() {
            return Err(Error::config("there is no model to offer"));
        }
        Ok(models)
    }

    /// The server's address without a path.
    pub fn base(&self) -> &str {
        let base = self.base_url.trim_end_matches('/');
        base.strip_suffix("/v1").unwrap_or(base).trim_end_matches('/')
    }

    /// Whose server `base_url` names.
    ///
    /// # Errors
    /// `Internal` when it is no address.
    pub fn owner(&self, provider: &Provider) -> Result<Owner> {
        match origin(self.base()) {
            Some(origin) if is_under(origin, &provider.domain) => Ok(Owner::Provider),
            Some(_) => Ok(Owner::Other),
            None => Err(Error::config(format!(
                "base_url must be the address of a server, https://api.bfl.ai for example, not {:?}",
                self.base_url
            ))),
        }
    }
}

/// Scheme, host and port of an absolute address as they are written; none with a user in them.
pub fn origin(url: &str) -> Option<&str> {
    let scheme = ["https://", "http://"].into_iter().find(|scheme| url.starts_with(scheme))?;
    let rest = &url[scheme.len()..];
    let authority = &rest[..rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len())];
    let is_plain = !authority.is_empty() && !authority.contains(['@', ' ']);
    is_plain.then(|| &url[..scheme.len() + authority.len()])
}

/// Whether an origin is an https host at or under a domain, at the usual port.
pub fn is_under(origin: &str, domain: &str) -> bool {
    let Some(host) = origin.strip_prefix("https://") else { return false };
    let host = host.strip_suffix(":443").unwrap_or(host).to_ascii_lowercase();
    host.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The defaults of the manifest with some keys changed.
    pub fn config(changes: Value) -> Config {
        let mut keys = serde_json::json!({
            "base_url": "https://api.bfl.ai", "offer": [], "models": {}, "max_count": 10, "max_active": 24,
            "timeout_s": 300, "poll_ms": 1000, "unsupported": "ignore",
        });
        let Value::Object(changes) = changes else { unreachable!("a table") };
        keys.as_object_mut().unwrap().extend(changes);
        serde_json::from_value(keys).unwrap()
    }

    #[test]
    fn defaults_of_the_manifest_are_a_config() {
        let manifest = include_str!("../plugin.toml");
        let (_, keys) = manifest.split_once("\n[config]\n").unwrap();
        let (keys, _) = keys.split_once("\n[schema").unwrap();
        let lines = keys.lines().filter_map(|line| line.split_once(" = "));
        let pairs: Vec<_> = lines.map(|(key, value)| format!("{key:?}: {value}")).collect();
        let defaults: Config = serde_json::from_str(&format!("{{{}, \"models\": {{}}}}", pairs.join(", "))).unwrap();
        assert_eq!(format!("{defaults:?}"), format!("{:?}", config(serde_json::json!({}))));
    }

    #[test]
    fn key_is_for_https_hosts_at_or_under_the_domain() {
        let check = |url: &str, expected: bool| {
            assert_eq!(origin(url).is_some_and(|origin| is_under(origin, "bfl.ai")), expected, "{url}");
        };
        check("https://api.bfl.ai/v1/get_result?id=1", true);
        check("https://API.eu1.BFL.ai/v1", true);
        check("https://gateway.bfl.ai:443", true);
        check("https://bfl.ai", true);
        check("https://api.bfl.ai:8443/", false);
        check("http://api.bfl.ai/", false);
        check("https://evilbfl.ai/", false);
        check("https://api.bfl.ai.evil.test/", false);
        check("https://evil.test/api.bfl.ai", false);
        check("https://evil.test\\.bfl.ai/", false);
        check("https://api.bfl.ai@evil.test/", false);
        check("https://evil.test?.bfl.ai", false);
        check("ftp://api.bfl.ai/", false);
        check("https://", false);
    }

    #[test]
    fn base_is_the_same_however_the_address_ends() {
        for base_url in ["https://api.bfl.ai", "https://api.bfl.ai/", "https://api.bfl.ai/v1", "https://api.bfl.ai/v1/"]
        {
            assert_eq!(config(serde_json::json!({ "base_url": base_url })).base(), "https://api.bfl.ai");
        }
        assert_eq!(config(serde_json::json!({ "base_url": "http://lan:9000/flux/v1" })).base(), "http://lan:9000/flux");
    }

    #[test]
    fn config_that_makes_no_sense_is_refused() {
        let refused = |changes: Value| config(changes).models().unwrap_err().message;
        assert!(refused(serde_json::json!({ "base_url": "api.bfl.ai" })).contains("not \"api.bfl.ai\""));
        assert!(
            refused(serde_json::json!({ "offer": ["flux-9"] }))
                .contains("there is no model \"flux-9\"; there are: flux-2-pro")
        );
        let odd = serde_json::json!({ "models": { "flux-2-pro": { "sed": true } } });
        assert!(refused(odd).contains("models.flux-2-pro: unknown field \"sed\""));
        let half = serde_json::json!({ "models": { "flux-9": { "kind": "flux-2" } } });
        assert!(refused(half).contains("models.flux-9: missing field \"endpoint\""));
        let kind = serde_json::json!({ "models": { "flux-9": { "kind": "flux-8" } } });
        assert!(refused(kind).contains("models.flux-9: there is no kind \"flux-8\"; there are: [\"fill\""));
    }

    #[test]
    fn models_are_offered_in_the_order_of_the_list_or_of_the_operator() {
        let ids = |changes: Value| -> Vec<String> {
            config(changes).models().unwrap().into_iter().map(|model| model.id).collect()
        };
        let all = ids(serde_json::json!({}));
        assert_eq!((all[0].as_str(), all.len()), ("flux-2-pro", 19));
        let some = serde_json::json!({ "offer": ["flux-dev", "flux-2-max"] });
        assert_eq!(ids(some), ["flux-dev", "flux-2-max"]);
        let new = serde_json::json!({ "models": { "flux-9": { "kind": "flux-2", "endpoint": "/v1/flux-9" } } });
        assert_eq!(ids(new).last().map(String::as_str), Some("flux-9"));
    }
}
