//! What each key means. Each function reads one table, in the order in which `default.toml` documents it; what is not
//! set keeps its default.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use easel_core::{Allowance, Delivery, OnFailure, Secret, UnknownModel};
use easel_runtime::LifeRules;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::environment::{ALIASES, KEY_VARIABLES};
use super::plugin_limits;
use super::secret::{self, Found};
use super::section::{Layers, PREFIX, Section, nearest, variable_of};
use super::tree::{self, Node, Value};
use super::{
    Config, ConfigError, Demo, Device, Exposure, Images, Limits, Loaded, Log, LogFormat, Mode, Models, Safety, Sources,
    TransformerSettings, grants, plugin,
};
use crate::http::{AllowedOrigin, ImageAccess, Key, MetricsAccess, Rank, Uploads};
use crate::jobs::JobRules;

type Result<T> = std::result::Result<T, ConfigError>;

/// The most requests at a time that a limit can allow.
const MAX_LIMIT: u64 = 10_000;
/// How long a transformer's call may take, where nothing is said.
const TRANSFORMER_TIME_LIMIT: Duration = Duration::from_secs(2);

/// Reads a whole config; also tells every key that it asked for.
///
/// The plugins' grants are read from a file of their own, in the data folder if it is not named.
pub(super) fn read(
    sources: &Sources,
    path: &Path,
    text: Option<&str>,
    grants: Option<&Path>,
) -> Result<(Loaded, Vec<String>)> {
    let file = text.map(|text| tree::parse(&path.display().to_string(), text)).transpose()?;
    let given_away = file.as_ref().map(plugin::given_away).unwrap_or_default();
    let layers = Layers::new(sources.flags.clone(), sources.environment.clone()).giving_away(given_away);
    let layers = Rc::new(layers);
    let mut root = Section::root(file, Rc::clone(&layers));
    let mut notices = Vec::new();
    let default = Config::default();
    let mut config = Config {
        listen: listen(&mut root, sources, default.listen)?,
        data: folder(&mut root, "data")?.unwrap_or(default.data),
        plugins_folder: folder(&mut root, "plugins")?.unwrap_or(default.plugins_folder),
        mode: root.choice("mode", &[("engine", Mode::Engine), ("stub", Mode::Stub)])?.unwrap_or(default.mode),
        exposure: match root.flag("insecure")? {
            Some(true) => Exposure::Open,
            Some(false) => Exposure::Guarded,
            None => default.exposure,
        },
        public_base_url: root.parsed("public_base_url", "an address like https://images.example.org", base_url)?,
        allowed_hosts: root.list("allowed_hosts", host_name)?.unwrap_or(default.allowed_hosts),
        allowed_origins: root.list("allowed_origins", str::parse::<AllowedOrigin>)?.unwrap_or(default.allowed_origins),
        max_body_bytes: count(&mut root, "max_body_bytes", 1 << 10, 1 << 30)?.unwrap_or(default.max_body_bytes),
        request_time_limit: seconds(&mut root, "request_time_limit_s", 3600)?.unwrap_or(default.request_time_limit),
        uploads: uploads(root.section("uploads")?, &default.uploads)?,
        jobs: jobs(root.section("jobs")?, &default.jobs)?,
        heartbeat: streams(root.section("streams")?)?.unwrap_or(default.heartbeat),
        images: images(root.section("images")?, &default.images)?,
        models: models(root.section("models")?, &default.models)?,
        admission: limits(root.section("admission")?, &default.admission)?,
        keys: keys(&mut root)?,
        log: log(root.section("log")?, default.log)?,
        metrics: metrics(root.section("metrics")?)?.unwrap_or(default.metrics),
        transformers: transformers(root.section("transformers")?)?,
        plugins: plugin::tables(root.section("plugin")?, &mut notices)?,
        plugin_limits: plugin_limits::read(root.section("plugin_limits")?, &default.plugin_limits)?,
        plugin_life: plugin_life(root.section("plugin_life")?, default.plugin_life)?,
        shutdown_grace: shutdown(root.section("shutdown")?)?.unwrap_or(default.shutdown_grace),
    };
    root.finish()?;
    let grants = grants.map_or_else(|| config.grants_file(), Path::to_owned);
    grants::add(&grants, &layers, &mut config.plugins, &mut notices)?;
    let asked = layers.asked();
    notices.extend(unread_variables(sources, &asked, layers.named()));
    Ok((Loaded { config, notices, secret_files: layers.files() }, asked))
}

fn listen(root: &mut Section, sources: &Sources, default: SocketAddr) -> Result<SocketAddr> {
    let address = root.parsed("listen", "ADDRESS:PORT, as in 127.0.0.1:7860", |text| text.parse().ok())?;
    let address = address.unwrap_or(default);
    match sources.flags.get("port").map(|port| port.parse()) {
        Some(Ok(port)) => Ok(SocketAddr::new(address.ip(), port)),
        Some(Err(_)) => Err(ConfigError::general("--port must be a whole number from 0 to 65535")),
        None => Ok(address),
    }
}

fn folder(section: &mut Section, key: &'static str) -> Result<Option<PathBuf>> {
    Ok(section.text(key)?.map(PathBuf::from))
}

fn count(section: &mut Section, key: &'static str, least: u64, most: u64) -> Result<Option<usize>> {
    // Bounds are below 2^32.
    Ok(section.number(key, least..=most)?.map(|number| usize::try_from(number).unwrap_or(usize::MAX)))
}

fn seconds(section: &mut Section, key: &'static str, most: u64) -> Result<Option<Duration>> {
    Ok(section.number(key, 1..=most)?.map(Duration::from_secs))
}

fn base_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    let is_bare =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    (is_web && is_bare).then_some(url)
}

fn host_name(text: &str) -> std::result::Result<String, String> {
    match url::Host::parse(text) {
        Ok(host) if !text.is_empty() => Ok(host.to_string()),
        Ok(_) | Err(_) => {
            Err(format!("{text:?} is not a host name; write it without scheme and port, as in images.example.org"))
        }
    }
}

fn uploads(mut section: Section, default: &Uploads) -> Result<Uploads> {
    let uploads = Uploads {
        max_body_bytes: count(&mut section, "max_body_bytes", 1 << 10, 1 << 30)?.unwrap_or(default.max_body_bytes),
        max_picture_bytes: count(&mut section, "max_picture_bytes", 1, 1 << 30)?.unwrap_or(default.max_picture_bytes),
        max_pixels: section.number("max_pixels", 1..=1 << 28)?.unwrap_or(default.max_pixels),
        at_once: count(&mut section, "at_once", 1, MAX_LIMIT)?.unwrap_or(default.at_once),
    };
    section.finish()?;
    Ok(uploads)
}

fn jobs(mut section: Section, default: &JobRules) -> Result<JobRules> {
    let rules = JobRules {
        open: section.number("open", 0..=MAX_LIMIT)?.unwrap_or(default.open),
        open_per_key: section.number("open_per_key", 0..=MAX_LIMIT)?.unwrap_or(default.open_per_key),
        at_once: count(&mut section, "at_once", 1, MAX_LIMIT)?.unwrap_or(default.at_once),
        picture_bytes: count(&mut section, "picture_bytes", 0, 1 << 32)?.unwrap_or(default.picture_bytes),
        time_limit: seconds(&mut section, "time_limit_s", 7 * 24 * 3600)?.unwrap_or(default.time_limit),
        keep: seconds(&mut section, "keep_s", 365 * 24 * 3600)?.unwrap_or(default.keep),
        kept: section.number("kept", 0..=1_000_000)?.unwrap_or(default.kept),
    };
    section.finish()?;
    Ok(rules)
}

fn streams(mut section: Section) -> Result<Option<Duration>> {
    let heartbeat = seconds(&mut section, "heartbeat_s", 300)?;
    section.finish()?;
    Ok(heartbeat)
}

fn images(mut section: Section, default: &Images) -> Result<Images> {
    let delivery = [("url", Delivery::Address), ("b64_json", Delivery::Inline)];
    let images = Images {
        folder: folder(&mut section, "dir")?,
        last: folder(&mut section, "last")?,
        default_delivery: section.choice("default_response_format", &delivery)?,
        access: match section.flag("private")? {
            Some(true) => ImageAccess::Keyed,
            Some(false) => ImageAccess::Public,
            None => default.access,
        },
    };
    section.finish()?;
    Ok(images)
}

fn models(mut section: Section, default: &Models) -> Result<Models> {
    let models = Models {
        folder: folder(&mut section, "dir")?,
        default: section.text("default")?,
        unknown: match section.flag("strict")? {
            Some(true) => UnknownModel::Refuse,
            Some(false) => UnknownModel::UseDefault,
            None => default.unknown,
        },
        device: section.parsed("device", r#""auto", "cpu", "cuda" or "cuda:1""#, device)?.unwrap_or(default.device),
        keep_loaded: count(&mut section, "keep_loaded", 1, 64)?.unwrap_or(default.keep_loaded),
        demo: match section.flag("demo")? {
            Some(true) => Demo::Offered,
            Some(false) => Demo::Hidden,
            None => default.demo,
        },
        safety: section
            .choice(
                "safety",
                &[("required", Safety::Required), ("available", Safety::Available), ("off", Safety::Off)],
            )?
            .unwrap_or(default.safety),
        aliases: {
            let mut aliases = section.section("aliases")?;
            let rest = aliases.rest();
            let alias = |(name, node): (String, Node)| match &node.value {
                Value::Text(model) if !model.is_empty() => Ok((name, model.clone())),
                _ => Err(node.wrong(&aliases.path_of(&name), "the id of a model")),
            };
            rest.into_iter().map(alias).collect::<Result<_>>()?
        },
    };
    section.finish()?;
    Ok(models)
}

fn device(text: &str) -> Option<Device> {
    match text {
        "auto" => Some(Device::Auto),
        "cpu" => Some(Device::Cpu),
        "cuda" => Some(Device::Cuda(0)),
        _ => text.strip_prefix("cuda:")?.parse().ok().map(Device::Cuda),
    }
}

fn limits(mut section: Section, default: &Limits) -> Result<Limits> {
    let limits = Limits {
        default: count(&mut section, "limit", 1, MAX_LIMIT)?.unwrap_or(default.default),
        backends: {
            let mut backends = section.section("backends")?;
            let rest = backends.rest();
            let limit = |(id, node): (String, Node)| {
                let limit = node.number(&backends.path_of(&id), 1..=MAX_LIMIT)?;
                Ok((id, usize::try_from(limit).unwrap_or(usize::MAX)))
            };
            rest.into_iter().map(limit).collect::<Result<_>>()?
        },
    };
    section.finish()?;
    Ok(limits)
}

fn keys(root: &mut Section) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    let mut names = BTreeSet::new();
    for (index, node) in root.tables("keys")?.into_iter().enumerate() {
        let path = format!("keys[{index}]");
        let key = key(root.item(path.clone(), &node)?, &node, &path)?;
        if !names.insert(Arc::clone(&key.name)) {
            return Err(ConfigError::at(&node.origin, format!("two keys are called {:?}", key.name)));
        }
        keys.push(key);
    }
    for (variable, rank) in KEY_VARIABLES {
        if let Some(secret) = root.variable(variable) {
            keys.push(Key { name: variable.into(), secret: Secret::new(secret), allowance: Arc::default(), rank });
        }
    }
    Ok(keys)
}

fn key(mut section: Section, node: &Node, path: &str) -> Result<Key> {
    let Some(name) = section.text("name")? else {
        return Err(ConfigError::at(
            &node.origin,
            format!("{path} must have a name, which the log tells instead of the key"),
        ));
    };
    let Some(place) = section.node("secret")? else {
        let error = ConfigError::at(&node.origin, format!("key {name:?} has no secret"));
        return Err(error.with_hint(r#"add secret = { env = "NAME" } or { file = "path" }"#));
    };
    let secret = match secret::read(&section, &section.path_of("secret"), &place)? {
        Found::Value(secret) => secret,
        // A server that quietly needed one key less would be an open one.
        Found::Missing(what) => {
            return Err(ConfigError::at(&place.origin, format!("key {name:?} has no value: {what}")));
        }
    };
    let allowance = Allowance {
        max_count: section
            .number("max_images", 1..=u64::from(easel_core::MAX_COUNT))?
            .and_then(|most| u32::try_from(most).ok()),
        max_pixels: section.number("max_pixels", 1..=1 << 28)?,
        models: section.list("models", |text| Ok(text.to_owned()))?.map(BTreeSet::from_iter),
    };
    let rank = if section.flag("admin")?.unwrap_or(false) { Rank::Operator } else { Rank::Caller };
    section.finish()?;
    Ok(Key { name: name.into(), secret, allowance: Arc::new(allowance), rank })
}

fn log(mut section: Section, default: Log) -> Result<Log> {
    let level = |text: &str| EnvFilter::try_new(text).is_ok().then(|| text.to_owned());
    let log = Log {
        format: section
            .choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])?
            .unwrap_or(default.format),
        level: section
            .parsed("level", "error, warn, info, debug or trace, also by target as in info,easel_runtime=debug", level)?
            .unwrap_or(default.level),
    };
    section.finish()?;
    Ok(log)
}

fn metrics(mut section: Section) -> Result<Option<MetricsAccess>> {
    let is_public = section.flag("public")?;
    section.finish()?;
    Ok(is_public.map(|is_public| if is_public { MetricsAccess::Public } else { MetricsAccess::Operators }))
}

fn transformers(mut section: Section) -> Result<Vec<TransformerSettings>> {
    let order = section.list("order", |text| Ok(text.to_owned()))?.unwrap_or_default();
    let mut by_id: BTreeMap<String, (Option<Duration>, Option<OnFailure>)> = BTreeMap::new();
    for (id, node) in section.rest() {
        let path = section.path_of(&id);
        if !order.contains(&id) {
            let error = ConfigError::at(
                &node.origin,
                format!("{path} says how {id:?} runs, but transformers.order does not name it"),
            );
            return Err(match nearest(&id, order.iter().map(String::as_str).chain(["order"])) {
                Some(near) => error.with_hint(format!("did you mean {near:?}?")),
                None => error.with_hint(format!("add {id:?} to transformers.order")),
            });
        }
        let mut one = section.item(path, &node)?;
        let time_limit = one.number("time_limit_ms", 1..=60_000)?.map(Duration::from_millis);
        let on_failure = one.choice("on_failure", &[("closed", OnFailure::Closed), ("open", OnFailure::Open)])?;
        one.finish()?;
        by_id.insert(id, (time_limit, on_failure));
    }
    let mut seen = BTreeSet::new();
    order
        .into_iter()
        .map(|id| {
            if !seen.insert(id.clone()) {
                return Err(ConfigError::general(format!("transformers.order names {id:?} twice")));
            }
            let (time_limit, on_failure) = by_id.remove(&id).unwrap_or_default();
            Ok(TransformerSettings {
                id,
                time_limit: time_limit.unwrap_or(TRANSFORMER_TIME_LIMIT),
                on_failure: on_failure.unwrap_or(OnFailure::Closed),
            })
        })
        .collect()
}

fn plugin_life(mut section: Section, default: LifeRules) -> Result<LifeRules> {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let rules = LifeRules {
        drain: seconds(&mut section, "drain_s", 3600)?.unwrap_or(default.drain),
        traps: section.number("quarantine_traps", 0..=256)?.map_or(default.traps, small),
        of_calls: section.number("quarantine_calls", 1..=256)?.map_or(default.of_calls, small),
        earlier: count(&mut section, "earlier", 0, 16)?.unwrap_or(default.earlier),
    };
    if rules.traps > rules.of_calls {
        let (traps, calls) = (rules.traps, rules.of_calls);
        let message = format!("plugin_life.quarantine_traps = {traps} cannot be reached in {calls} calls");
        return Err(ConfigError::general(message).with_hint("raise plugin_life.quarantine_calls; 0 traps is never"));
    }
    section.finish()?;
    Ok(rules)
}

fn shutdown(mut section: Section) -> Result<Option<Duration>> {
    let grace = section.number("grace_s", 0..=3600)?.map(Duration::from_secs);
    section.finish()?;
    Ok(grace)
}

/// Variables that start like ours and look like one, but are none. Platforms set such names of their own (a Kubernetes
/// service called `easel` makes `EASEL_PORT`), so they are told, not refused.
fn unread_variables(sources: &Sources, asked: &[String], mut known: Vec<String>) -> Vec<String> {
    known.extend(asked.iter().map(|path| variable_of(path)));
    known.extend(ALIASES.iter().map(|alias| alias.variable.to_owned()));
    known.push("EASEL_CONFIG".to_owned());
    let unread = sources.environment.our_names().filter(|name| !known.iter().any(|known| known == name));
    let told = unread.filter_map(|name| {
        // Compared without what all of them begin with.
        let ours = name.strip_prefix(PREFIX)?;
        let near = nearest(ours, known.iter().filter_map(|known| known.strip_prefix(PREFIX)))?;
        Some(format!("nothing reads the environment variable {name}; did you mean {PREFIX}{near}?"))
    });
    told.collect()
}
