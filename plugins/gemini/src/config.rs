//! What the operator sets, and where that leads: the two forms of the API, their addresses, and the credential each of
//! them takes. What is known of the models is [`catalogue`](crate::catalogue)'s.

use easel_sdk::host::has_credential;
use easel_sdk::{Error, Result, Size, Table};
use serde::Deserialize;
use serde_json::Value;

use crate::known::Kind;
use crate::option;

/// Where the Gemini API is.
const GEMINI: &str = "https://generativelanguage.googleapis.com/v1beta";

/// The domain that is the provider's own.
const PROVIDER: &str = "googleapis.com";

/// `[plugin.gemini.config]`; `README.md` says what each key means.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Table")]
pub struct Config {
    pub api: Api,
    base_url: String,
    project: String,
    location: String,
    pub offer: Vec<String>,
    pub max_count: u32,
    pub sizes: SizePolicy,
    pub least_side: u32,
    pub most_side: u32,
    pub unsupported: Unsupported,
    pub safety_settings: Vec<Value>,
    pub watermark: bool,
    pub retries: u32,
    pub max_request_mib: u32,
    pub timeout_s: u32,
    /// What the operator changes of the catalogue or adds to it.
    pub models: Vec<Value>,
    /// What is known of each model, the default first.
    pub catalogue: Vec<Value>,
    /// The size of each aspect ratio, for each kind of model.
    gemini_sizes: Vec<(String, Size)>,
    imagen_sizes: Vec<(String, Size)>,
}

/// The form of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// The Gemini API, with a key.
    Gemini,
    /// Vertex AI, with a service account or, in its express mode, a key.
    Vertex,
}

/// What becomes of a size that is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizePolicy {
    /// The nearest of the table is asked for, with a note.
    Nearest,
    /// It is refused.
    Listed,
}

/// What becomes of a control that the model does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// A request that sets it is refused.
    Refuse,
    /// It has no effect, with a note.
    Ignore,
}

impl TryFrom<Table> for Config {
    type Error = String;

    fn try_from(mut table: Table) -> Result<Self, String> {
        let mut tables = table.table("tables")?;
        let mut sizes = |kind: &str| sizes(tables.as_mut(), kind);
        let (gemini_sizes, imagen_sizes) = (sizes("gemini")?, sizes("imagen")?);
        let config = Self {
            api: if table.flag("vertex")?.unwrap_or(false) { Api::Vertex } else { Api::Gemini },
            base_url: table.text("base_url")?.unwrap_or_default(),
            project: table.text("project")?.unwrap_or_default(),
            location: table.text("location")?.unwrap_or_default(),
            offer: table.texts("offer")?,
            max_count: table.small("max_count")?.unwrap_or(1),
            sizes: word(&mut table, "sizes", &[("nearest", SizePolicy::Nearest), ("listed", SizePolicy::Listed)])?,
            least_side: table.small("least_side")?.unwrap_or_default(),
            most_side: table.small("most_side")?.unwrap_or_default(),
            unsupported: word(
                &mut table,
                "unsupported",
                &[("refuse", Unsupported::Refuse), ("ignore", Unsupported::Ignore)],
            )?,
            safety_settings: table.list("safety_settings")?,
            watermark: table.flag("watermark")?.unwrap_or(true),
            retries: table.small("retries")?.unwrap_or_default(),
            max_request_mib: table.small("max_request_mib")?.unwrap_or_default(),
            timeout_s: table.small("timeout_s")?.unwrap_or_default(),
            models: table.list("models")?,
            catalogue: table.list("catalogue")?,
            gemini_sizes,
            imagen_sizes,
        };
        table.done()?;
        Ok(config)
    }
}

impl Config {
    /// The size of an aspect ratio at 1K.
    pub fn size_of(&self, kind: Kind, ratio: &str) -> Option<Size> {
        let table = match kind {
            Kind::Gemini => &self.gemini_sizes,
            Kind::Imagen => &self.imagen_sizes,
        };
        table.iter().find(|(name, _)| name == ratio).map(|(_, size)| *size)
    }

    /// The address up to and with the version.
    fn base(&self) -> String {
        match (self.base_url.trim_end_matches('/'), self.api) {
            ("", Api::Gemini) => GEMINI.to_owned(),
            ("", Api::Vertex) => match self.location.as_str() {
                "global" => format!("https://aiplatform.{PROVIDER}/v1"),
                regions @ ("us" | "eu") => format!("https://aiplatform.{regions}.rep.{PROVIDER}/v1"),
                region => format!("https://{region}-aiplatform.{PROVIDER}/v1"),
            },
            (base, Api::Gemini | Api::Vertex) => base.to_owned(),
        }
    }

    /// The address of a model.
    pub fn address(&self, model: &str) -> String {
        let base = self.base();
        match (self.api, self.project.as_str()) {
            (Api::Gemini, _) => format!("{base}/models/{model}"),
            (Api::Vertex, "") => format!("{base}/publishers/google/models/{model}"),
            (Api::Vertex, project) => {
                format!("{base}/projects/{project}/locations/{}/publishers/google/models/{model}", self.location)
            }
        }
    }

    /// Whether the other side is the provider itself, whose prices and ends of models are known.
    pub fn is_providers_own(&self) -> bool {
        let base = self.base();
        let host = base.split_once("://").map_or("", |(_, rest)| rest).split(['/', '?', '#', ':']).next();
        let host = host.unwrap_or_default().to_ascii_lowercase();
        host == PROVIDER || host.strip_suffix(PROVIDER).is_some_and(|name| name.ends_with('.'))
    }

    /// The credential to go along. One is there, or the plugin is not ready: the manifest requires any.
    pub fn credential(&self) -> Option<&'static str> {
        let order = match self.api {
            Api::Gemini => ["api_key", "account"],
            Api::Vertex => ["account", "api_key"],
        };
        order.into_iter().find(|name| has_credential(name))
    }

    /// Checks what can be checked without a request.
    ///
    /// # Errors
    /// `Internal` naming the key that makes no sense.
    pub fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::config(message));
        let is_address = self.base_url.starts_with("http://") || self.base_url.starts_with("https://");
        if !self.base_url.is_empty() && !is_address {
            return wrong(format!(
                "base_url must be the server's address up to and with the version, as {GEMINI} is, not {:?}",
                self.base_url
            ));
        }
        for (key, value) in [("project", &self.project), ("location", &self.location)] {
            if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte)) {
                return wrong(format!("{key} must be of letters, digits, hyphens, dots and colons, not {value:?}"));
            }
        }
        if self.location.is_empty() {
            return wrong("location must name a region of Vertex AI, or be \"global\"".to_owned());
        }
        if self.least_side == 0 || self.least_side > self.most_side {
            return wrong(format!(
                "least_side must be from 1 to most_side, not {} with most_side {}",
                self.least_side, self.most_side
            ));
        }
        if !self.safety_settings.iter().all(option::is_safety_setting) {
            return wrong("safety_settings must be a list of { category = \"…\", threshold = \"…\" }".to_owned());
        }
        Ok(())
    }
}

/// One of a few words.
pub fn word<T: Copy>(table: &mut Table, key: &str, words: &[(&str, T)]) -> Result<T, String> {
    let said = table.text(key)?;
    let said = table.needed(key, said)?;
    match words.iter().find(|(word, _)| *word == said) {
        Some((_, meaning)) => Ok(*meaning),
        None => {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            Err(format!("{key} must be {}, not {said:?}", words.join(" or ")))
        }
    }
}

/// A table of sizes.
fn sizes(tables: Option<&mut Table>, kind: &str) -> Result<Vec<(String, Size)>, String> {
    let Some(mut table) = tables.and_then(|tables| tables.table(kind).transpose()).transpose()? else {
        return Ok(Vec::new());
    };
    let ratios: Vec<_> = table.keys().map(str::to_owned).collect();
    let mut sizes = Vec::new();
    for ratio in ratios {
        if let Some(size) = table.parsed(&ratio)? {
            sizes.push((ratio, size));
        }
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use easel_sdk::testing::Upstream;

    use crate::tests::config;

    #[test]
    fn each_form_of_the_api_has_its_addresses() {
        let check = |extra: &str, address: &str, is_own: bool| {
            let config = config(extra);
            assert_eq!(config.address("m"), address, "{extra}");
            assert_eq!(config.is_providers_own(), is_own, "{extra}");
        };
        check("", "https://generativelanguage.googleapis.com/v1beta/models/m", true);
        check(
            "base_url = 'https://generativelanguage.googleapis.com/v1/'",
            "https://generativelanguage.googleapis.com/v1/models/m",
            true,
        );
        check("base_url = 'http://up.test/v1beta'", "http://up.test/v1beta/models/m", false);
        check("base_url = 'https://notgoogleapis.com/v1'", "https://notgoogleapis.com/v1/models/m", false);
        check("base_url = 'https://googleapis.com.up.test/v1'", "https://googleapis.com.up.test/v1/models/m", false);
        check("vertex = true", "https://aiplatform.googleapis.com/v1/publishers/google/models/m", true);
        let placed = |location: &str| format!("vertex = true\nproject = 'p'\nlocation = '{location}'");
        let tail = |location: &str| format!("/v1/projects/p/locations/{location}/publishers/google/models/m");
        for (location, host) in [
            ("global", "aiplatform.googleapis.com"),
            ("eu", "aiplatform.eu.rep.googleapis.com"),
            ("us-central1", "us-central1-aiplatform.googleapis.com"),
        ] {
            check(&placed(location), &format!("https://{host}{}", tail(location)), true);
        }
        check(
            &format!("{}\nbase_url = 'http://up.test/v1'", placed("global")),
            &format!("http://up.test{}", tail("global")),
            false,
        );
    }

    #[test]
    fn key_or_account_go_along() {
        let both = Upstream::script([]).with_credential("api_key").with_credential("account");
        assert_eq!(config("").credential(), Some("api_key"));
        assert_eq!(config("vertex = true").credential(), Some("account"));
        drop(both);
        let _key = Upstream::script([]).with_credential("api_key");
        assert_eq!(config("vertex = true").credential(), Some("api_key"), "express mode");
    }

    #[test]
    fn config_that_makes_no_sense_is_refused_with_the_key() {
        config("").check().unwrap();
        for (extra, expected) in [
            ("base_url = 'up.test'", "base_url must be the server's address"),
            ("project = 'a/b'", "project must be of letters"),
            ("safety_settings = [{ category = 'x' }]", "safety_settings must be a list"),
            ("location = ''", "location must name a region"),
            ("location = 'a.test/'", "location must be of letters"),
            ("least_side = 5000", "least_side must be from 1 to most_side"),
        ] {
            let error = config(extra).check().unwrap_err();
            assert!(error.message.contains(expected), "{:?} should contain {expected:?}", error.message);
        }
    }
}
