//! `plugin.toml`: what a plugin is and what it wants. Raw (serde) and checked are two steps; unknown keys are refused.
//!
//! A want is not a grant: what the operator gives is in [`PluginSettings`](crate::PluginSettings), and what counts is
//! both together (`door/grant.rs`).

use std::time::Duration;

use http::{HeaderName, Method};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::door::{Origin, is_connection_header};
use crate::refusal::{Refusal, nearest};
use crate::{HostLimits, PluginKind};

/// The contract that this host speaks: the version of `wit/` without the patch level, which is compatible.
pub(crate) const CONTRACT: &str = "0.1";

/// The custom section that holds the manifest of a plugin that comes as one file.
pub(crate) const SECTION: &str = "easel:manifest";

/// A checked manifest.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) kind: PluginKind,
    pub(crate) wants: Vec<Want>,
    pub(crate) methods: Vec<Method>,
    pub(crate) credentials: Vec<CredentialWant>,
    pub(crate) limits: Wishes,
    pub(crate) config: Map<String, Value>,
}

/// One line of `[network] origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// This origin.
    Origin(Origin),
    /// Whatever origin the operator names: `operator`.
    OperatorNamed,
}

/// One `[[credential]]`.
#[derive(Clone, Debug)]
pub(crate) struct CredentialWant {
    pub(crate) name: String,
    pub(crate) header: HeaderName,
    pub(crate) prefix: String,
    pub(crate) is_required: bool,
}

/// The `[limits]` that a plugin asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    memory_bytes: Option<usize>,
    cpu: Option<Duration>,
    wall: Option<Duration>,
}

impl Wishes {
    /// The host's limits with the wishes that stay below them.
    pub(crate) fn within(&self, host: &HostLimits) -> HostLimits {
        HostLimits {
            memory_bytes: self.memory_bytes.map_or(host.memory_bytes, |wish| wish.min(host.memory_bytes)),
            cpu: self.cpu.map_or(host.cpu, |wish| wish.min(host.cpu)),
            wall: self.wall.map_or(host.wall, |wish| wish.min(host.wall)),
            ..host.clone()
        }
    }
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
    limits: RawLimits,
    #[serde(default)]
    config: toml::Table,
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

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNetwork {
    #[serde(default)]
    origins: Vec<String>,
    methods: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCredential {
    name: String,
    header: String,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    required: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    memory_mib: Option<u32>,
    cpu_ms: Option<u32>,
    wall_s: Option<u32>,
}

impl Manifest {
    /// Reads and checks a manifest.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let raw: RawManifest = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            Refusal::new(format!("plugin.toml line {line}: {}", error.message()))
        })?;
        check_contract(&raw.plugin.contract)?;
        check_name("plugin.id", &raw.plugin.id, "abcdefghijklmnopqrstuvwxyz0123456789-")?;
        let version = semver::Version::parse(&raw.plugin.version)
            .map_err(|_| invalid("plugin.version", &raw.plugin.version, "three numbers as in 0.1.0"))?;
        Ok(Self {
            id: raw.plugin.id,
            version: version.to_string(),
            kind: check_kind(&raw.plugin.kind)?,
            wants: raw.network.origins.iter().map(|origin| check_want(origin)).collect::<Result<_, _>>()?,
            methods: check_methods(raw.network.methods)?,
            credentials: check_credentials(raw.credential)?,
            limits: check_limits(&raw.limits)?,
            config: check_config(raw.config)?,
        })
    }

    /// The plugin's configuration: the manifest's defaults with the operator's values in their places.
    pub(crate) fn configured(&self, operator: &Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
        let mut config = self.config.clone();
        for (key, value) in operator {
            let Some(slot) = config.get_mut(key) else {
                let known = nearest(key, self.config.keys().map(String::as_str));
                return Err(Refusal::new(format!("[plugin.{}.config] has an unknown key {key:?}; {known}", self.id)));
            };
            *slot = same_type(slot, value).ok_or_else(|| {
                let (id, kind) = (&self.id, type_name(slot));
                Refusal::new(format!(
                    "[plugin.{id}.config] {key} must be {kind}, as its default {slot} is, not {value}"
                ))
            })?;
        }
        Ok(config)
    }
}

fn check_contract(contract: &str) -> Result<(), Refusal> {
    if contract == CONTRACT {
        return Ok(());
    }
    Err(Refusal::new(format!("it is built for contract {contract:?}, this host speaks {CONTRACT:?}"))
        .with_fix(format!("rebuild it with easel-sdk {CONTRACT}, or run an easel that speaks {contract:?}")))
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

fn check_want(origin: &str) -> Result<Want, Refusal> {
    if origin == "operator" {
        return Ok(Want::OperatorNamed);
    }
    Origin::parse(origin).map(Want::Origin).map_err(|error| Refusal::new(format!("network.origins: {error}")))
}

fn check_methods(methods: Option<Vec<String>>) -> Result<Vec<Method>, Refusal> {
    const KNOWN: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let Some(methods) = methods else { return Ok(vec![Method::GET, Method::POST]) };
    let known = |name: &String| {
        let known = KNOWN.iter().find(|method| method.as_str() == name).cloned();
        known.ok_or_else(|| invalid("network.methods", name, "GET, HEAD, POST, PUT, PATCH or DELETE"))
    };
    methods.iter().map(known).collect()
}

fn check_credentials(raw: Vec<RawCredential>) -> Result<Vec<CredentialWant>, Refusal> {
    let mut credentials: Vec<CredentialWant> = Vec::new();
    for RawCredential { name, header, prefix, required } in raw {
        check_name("credential.name", &name, "abcdefghijklmnopqrstuvwxyz0123456789-_")?;
        if credentials.iter().any(|known| known.name == name) {
            return Err(Refusal::new(format!("credential {name:?} is there twice; names must differ")));
        }
        let header = match HeaderName::from_bytes(header.as_bytes()) {
            Ok(header) if !is_connection_header(&header) => header,
            _ => return Err(invalid("credential.header", &header, "the name of a header such as \"authorization\"")),
        };
        if !prefix.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(invalid("credential.prefix", &prefix, "plain text such as \"Bearer \""));
        }
        credentials.push(CredentialWant { name, header, prefix, is_required: required });
    }
    Ok(credentials)
}

fn check_limits(raw: &RawLimits) -> Result<Wishes, Refusal> {
    let positive = |name: &str, value: Option<u32>| match value {
        Some(0) => Err(Refusal::new(format!("limits.{name} must be at least 1, not 0"))),
        value => Ok(value),
    };
    Ok(Wishes {
        memory_bytes: positive("memory_mib", raw.memory_mib)?.map(|mib| (mib as usize).saturating_mul(1 << 20)),
        cpu: positive("cpu_ms", raw.cpu_ms)?.map(|ms| Duration::from_millis(ms.into())),
        wall: positive("wall_s", raw.wall_s)?.map(|s| Duration::from_secs(s.into())),
    })
}

fn check_config(raw: toml::Table) -> Result<Map<String, Value>, Refusal> {
    let pair = |(key, value)| {
        let value = json(value).ok_or_else(|| {
            Refusal::new(format!("config.{key} must be text, a number, true or false, a list or a table, not a date"))
        })?;
        Ok((key, value))
    };
    raw.into_iter().map(pair).collect()
}

fn json(value: toml::Value) -> Option<Value> {
    Some(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)?.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Array(values) => Value::Array(values.into_iter().map(json).collect::<Option<_>>()?),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(key, value)| Some((key, json(value)?))).collect::<Option<_>>()?)
        }
        toml::Value::Datetime(_) => return None,
    })
}

/// The operator's value, if it is of the default's type; a whole number stands for a fraction as well.
fn same_type(default: &Value, value: &Value) -> Option<Value> {
    match (default, value) {
        (Value::Number(default), Value::Number(number)) if default.is_f64() => {
            number.as_f64().and_then(serde_json::Number::from_f64).map(Value::Number)
        }
        (Value::Number(_), Value::Number(number)) if number.is_f64() => None,
        (Value::Number(_), Value::Number(_))
        | (Value::String(_), Value::String(_))
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Array(_), Value::Array(_))
        | (Value::Object(_), Value::Object(_)) => Some(value.clone()),
        _ => None,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

fn invalid(what: &str, value: &str, right: &str) -> Refusal {
    Refusal::new(format!("{what} must be {right}, not {value:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HEAD: &str = "[plugin]\nid = \"a\"\nversion = \"0.1.0\"\nkind = \"adapter\"\ncontract = \"0.1\"\n";

    #[test]
    fn smallest_manifest_wants_nothing() {
        let manifest = Manifest::parse(HEAD).unwrap();
        assert_eq!((manifest.id.as_str(), manifest.kind), ("a", PluginKind::Adapter));
        assert!(manifest.wants.is_empty() && manifest.credentials.is_empty() && manifest.config.is_empty());
        assert_eq!(manifest.methods, [Method::GET, Method::POST]);
    }

    #[test]
    fn manifest_is_refused_with_what_would_be_right() {
        let tail = |tail: &str| format!("{HEAD}{tail}");
        let head = |from: &str, to: &str| HEAD.replace(from, to);
        let rows = [
            (head("id = \"a\"", "id = \"A\""), "plugin.id must be 1 to 64 lower-case letters"),
            (head("0.1.0", "1"), "plugin.version must be three numbers"),
            (head("adapter", "backend"), "plugin.kind must be \"adapter\" or \"transformer\", not \"backend\""),
            (head("contract = \"0.1\"", "contract = \"0.2\""), "rebuild it with easel-sdk 0.1, or run an easel that"),
            (head("kind", "sort"), "line 4: unknown field `sort`"),
            (tail("[net]\n"), "line 6: unknown field `net`"),
            (tail("[network]\norigins = [\"https://*.x.com\"]"), "network.origins: "),
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

    #[test]
    fn config_takes_known_keys_of_the_defaults_type() {
        let text = format!("{HEAD}[config]\nbase_url = \"\"\nretries = 2\nscale = 1.5\n");
        let manifest = Manifest::parse(&text).unwrap();
        let configured = |value: Value| manifest.configured(value.as_object().unwrap());
        let config = configured(json!({"base_url": "x", "scale": 2})).unwrap();
        assert_eq!(Value::Object(config), json!({"base_url": "x", "retries": 2, "scale": 2.0}));
        let error = configured(json!({"base_ur": "x"})).unwrap_err().to_string();
        assert_eq!(error, "[plugin.a.config] has an unknown key \"base_ur\"; did you mean \"base_url\"?");
        let error = configured(json!({"retries": "2"})).unwrap_err().to_string();
        assert_eq!(error, "[plugin.a.config] retries must be a whole number, as its default 2 is, not \"2\"");
    }

    #[test]
    fn wishes_never_exceed_the_hosts_limits() {
        let manifest = Manifest::parse(&format!("{HEAD}[limits]\nmemory_mib = 9999\ncpu_ms = 20")).unwrap();
        let host = HostLimits::default();
        let limits = manifest.limits.within(&host);
        assert_eq!(
            (limits.memory_bytes, limits.cpu, limits.wall),
            (host.memory_bytes, Duration::from_millis(20), host.wall)
        );
    }
}
