//! `[[environment]]`: variables of the operator's environment by which keys of the config and credentials are set too, so
//! that the names of other servers go on working.
//!
//! A name is a want like others. A plugin's manifest must not read what it likes of the environment, so a variable counts
//! only where the operator granted its name (`PluginSettings::environment`), and its value goes where it would have come from
//! the operator's file: a key of the config is checked like any other, a credential goes to the vault.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::schema::Schema;
use super::{Manifest, invalid};
use crate::refusal::Refusal;
use crate::status::VariableStatus;
use crate::{PluginSettings, Secret};

/// The most variables of one plugin.
const MOST: usize = 64;

/// The longest file that a variable names.
const MOST_FILE_BYTES: u64 = 1 << 20;

/// A variable that a plugin wants to be set by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VariableWant {
    /// Its name.
    pub(crate) name: String,
    /// What it sets.
    pub(crate) sets: Sets,
    /// Whether it names a file that has the value.
    is_file: bool,
}

/// What a variable sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sets {
    /// A key of the config.
    Config(String),
    /// A credential, by its name.
    Credential(String),
}

/// What the variables of one plugin come to.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// The operator's settings with what the variables say in its place. Credentials are there by name only.
    pub(crate) settings: PluginSettings,
    /// The values of credentials.
    pub(crate) credentials: BTreeMap<String, Secret>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVariable {
    variable: String,
    config: Option<String>,
    credential: Option<String>,
    #[serde(default)]
    file: bool,
}

/// Checks the variables against the keys and credentials that there are.
pub(super) fn check(
    raw: Vec<RawVariable>,
    is_key: impl Fn(&str) -> bool,
    credentials: &[String],
) -> Result<Vec<VariableWant>, Refusal> {
    if raw.len() > MOST {
        return Err(Refusal::new(format!("there are {} [[environment]], at most {MOST} are possible", raw.len())));
    }
    let mut wants: Vec<VariableWant> = Vec::new();
    for RawVariable { variable, config, credential, file } in raw {
        let is_plain = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
        let is_name = (1..=64).contains(&variable.len())
            && variable.chars().all(is_plain)
            && variable.starts_with(|letter: char| letter.is_ascii_uppercase());
        if !is_name {
            let right = "1 to 64 capitals, digits and underscores that begin with a capital";
            return Err(invalid("environment.variable", &variable, right));
        }
        let sets = match (config, credential) {
            (Some(key), None) if is_key(&key) => Sets::Config(key),
            (Some(key), None) => {
                return Err(invalid("environment.config", &key, "a key of [config]"));
            }
            (None, Some(name)) if credentials.contains(&name) => Sets::Credential(name),
            (None, Some(name)) => {
                return Err(invalid("environment.credential", &name, "the name of a [[credential]]"));
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(Refusal::new(format!("the variable {variable} must set one of config and credential")));
            }
        };
        if wants.iter().any(|want| want.name == variable && want.sets == sets) {
            return Err(Refusal::new(format!("[[environment]] has {variable} twice")));
        }
        wants.push(VariableWant { name: variable, sets, is_file: file });
    }
    Ok(wants)
}

impl Manifest {
    /// The operator's settings with what the granted variables say: a variable counts before the operator's file, and
    /// of several for one thing the first that is set.
    pub(crate) fn with_environment(&self, settings: &PluginSettings) -> Result<Environment, Refusal> {
        let mut environment = Environment { settings: settings.clone(), ..Environment::default() };
        for want in self.environment.iter().rev() {
            let Some(value) = settings.environment.get(&want.name).filter(|value| !value.expose().is_empty()) else {
                continue;
            };
            let value = want.value(value)?;
            match &want.sets {
                Sets::Config(key) => {
                    let value = self.read(want, key, value.expose())?;
                    environment.settings.config.insert(key.clone(), value);
                }
                Sets::Credential(name) => {
                    environment.settings.credentials.insert(name.clone(), Secret::new(""));
                    environment.credentials.insert(name.clone(), value);
                }
            }
        }
        Ok(environment)
    }

    /// Whether a granted variable supplies a credential.
    pub(crate) fn is_supplied_by_a_variable(&self, credential: &str, settings: &PluginSettings) -> bool {
        let mut wants = self.environment.iter().filter(|want| want.sets == Sets::Credential(credential.to_owned()));
        wants.any(|want| settings.environment.contains_key(&want.name))
    }

    /// The names of the variables that supply these credentials.
    pub(crate) fn variables_of_credentials(&self, credentials: &[String]) -> Vec<&str> {
        let supplies = |want: &&VariableWant| match &want.sets {
            Sets::Credential(name) => credentials.contains(name),
            Sets::Config(_) => false,
        };
        self.environment.iter().filter(supplies).map(|want| want.name.as_str()).collect()
    }

    /// The variables, each with what it sets and whether it does.
    pub(crate) fn variables(&self, settings: &PluginSettings) -> Vec<VariableStatus> {
        let status = |want: &VariableWant| VariableStatus {
            name: want.name.clone(),
            sets: want.target(),
            counts: settings.environment.contains_key(&want.name),
        };
        self.environment.iter().map(status).collect()
    }

    /// A text as a value of a key's type.
    fn read(&self, want: &VariableWant, key: &str, text: &str) -> Result<Value, Refusal> {
        let default = self.config.get(key);
        // The value may be a secret that was put under a wrong name, so it is not told.
        let wrong = |kind: &str| Refusal::new(format!("the environment variable {} must be {kind}", want.name));
        let text = text.trim();
        match default {
            Some(Value::String(_)) => Ok(text.into()),
            Some(Value::Bool(_)) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Ok(true.into()),
                "false" | "0" | "no" | "off" => Ok(false.into()),
                _ => Err(wrong("true or false")),
            },
            Some(Value::Number(_)) => {
                let number = serde_json::from_str::<serde_json::Number>(text).map_err(|_| wrong("a number"))?;
                Ok(Value::Number(number))
            }
            Some(Value::Array(_)) if !text.starts_with('[') => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Ok(items.map(Value::from).collect())
            }
            Some(Value::Array(_)) => serde_json::from_str(text).map_err(|_| wrong("a list, as a,b or as JSON")),
            Some(Value::Object(_)) => serde_json::from_str::<Map<String, Value>>(text)
                .map(Value::Object)
                .map_err(|_| wrong("a table, as JSON")),
            // Only a schema says what it is: what is JSON and no text there, where it may be that.
            Some(Value::Null) | None => {
                let is_text = self.schema.properties.get(key).is_none_or(Schema::takes_text);
                match serde_json::from_str::<Value>(text).ok().filter(|_| !is_text) {
                    Some(value) => Ok(value),
                    None => Ok(text.into()),
                }
            }
        }
    }
}

impl VariableWant {
    /// Its value: what the variable holds, or the file that it names.
    fn value(&self, held: &Secret) -> Result<Secret, Refusal> {
        if !self.is_file {
            return Ok(held.clone());
        }
        let refuse = |why: String| Refusal::new(format!("the file that {} names {why}", self.name));
        let unreadable = |error: std::io::Error| refuse(format!("cannot be read: {error}"));
        let length = std::fs::metadata(held.expose()).map_err(unreadable)?.len();
        if length > MOST_FILE_BYTES {
            return Err(refuse(format!("is longer than {MOST_FILE_BYTES} bytes")));
        }
        std::fs::read_to_string(held.expose()).map(Secret::new).map_err(unreadable)
    }

    /// What it sets, in words.
    fn target(&self) -> String {
        match &self.sets {
            Sets::Config(key) => format!("config.{key}"),
            Sets::Credential(name) => format!("credentials.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::tests::HEAD;

    const TEXT: &str = r#"
[[credential]]
name = "key"
header = "x-key"
[config]
url = ""
strict = false
poll_s = 0.25
names = []
presets = {}
[schema.properties.graph]
type = "object"
[[environment]]
variable = "NEW_URL"
config = "url"
[[environment]]
variable = "OLD_URL"
config = "url"
[[environment]]
variable = "STRICT"
config = "strict"
[[environment]]
variable = "POLL"
config = "poll_s"
[[environment]]
variable = "NAMES"
config = "names"
[[environment]]
variable = "PRESETS"
config = "presets"
[[environment]]
variable = "GRAPH_PATH"
config = "graph"
file = true
[[environment]]
variable = "KEY"
credential = "key"
"#;

    fn settings(variables: &[(&str, &str)]) -> PluginSettings {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
        let config = json!({"url": "of the file", "poll_s": 2.0}).as_object().unwrap().clone();
        PluginSettings { environment, config, ..PluginSettings::default() }
    }

    fn configured(variables: &[(&str, &str)]) -> Result<Value, String> {
        let manifest = Manifest::parse(&format!("{HEAD}{TEXT}")).unwrap();
        let told = |refusal: Refusal| refusal.to_string();
        let environment = manifest.with_environment(&settings(variables)).map_err(told)?;
        manifest.configured(&environment.settings.config).map(Value::Object).map_err(told)
    }

    #[test]
    fn granted_variable_counts_before_the_file_and_is_of_its_keys_type() {
        let told = configured(&[
            ("OLD_URL", "of the old"),
            ("STRICT", "True"),
            ("POLL", "0.5"),
            ("NAMES", "a, b"),
            ("PRESETS", r#"{"a": 1}"#),
        ]);
        let expected =
            json!({"url": "of the old", "strict": true, "poll_s": 0.5, "names": ["a", "b"], "presets": {"a": 1}});
        assert_eq!(told.unwrap(), expected);
        assert_eq!(configured(&[("OLD_URL", "old"), ("NEW_URL", "new")]).unwrap()["url"], "new", "the first counts");
        assert_eq!(configured(&[]).unwrap()["url"], "of the file");
        assert_eq!(configured(&[("NEW_URL", "")]).unwrap()["url"], "of the file", "an empty one is not set");
        assert_eq!(configured(&[("NAMES", r#"["a"]"#)]).unwrap()["names"], json!(["a"]));
    }

    #[test]
    fn value_of_another_type_is_refused_and_not_told() {
        for (name, value, kind) in [
            ("STRICT", "hunter2", "true or false"),
            ("POLL", "hunter2", "a number"),
            ("NAMES", "[hunter2", "a list"),
            ("PRESETS", "hunter2", "a table"),
            ("GRAPH_PATH", "hunter2", "cannot be read"),
        ] {
            let error = configured(&[(name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(kind) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn variable_may_name_a_file_of_bounded_length() {
        let path = std::env::temp_dir().join(format!("easel-environment-{}.json", std::process::id()));
        std::fs::write(&path, r#"{"nodes": {}}"#).unwrap();
        let told = configured(&[("GRAPH_PATH", path.to_str().unwrap())]).unwrap();
        assert_eq!(told["graph"], json!({"nodes": {}}));
        std::fs::write(&path, vec![b' '; MOST_FILE_BYTES as usize + 1]).unwrap();
        let error = configured(&[("GRAPH_PATH", path.to_str().unwrap())]).unwrap_err();
        assert!(error.contains("longer than"), "{error}");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn credential_is_told_by_name_and_its_value_kept_apart() {
        let manifest = Manifest::parse(&format!("{HEAD}{TEXT}")).unwrap();
        let environment = manifest.with_environment(&settings(&[("KEY", "hunter2")])).unwrap();
        assert_eq!(environment.settings.credentials["key"].expose(), "");
        assert_eq!(environment.credentials["key"].expose(), "hunter2");
        assert!(!format!("{environment:?}").contains("hunter2"));
    }

    #[test]
    fn variable_without_a_target_is_refused() {
        let rows = [
            ("variable = \"lower\"\nconfig = \"url\"", "must be 1 to 64 capitals"),
            ("variable = \"_X\"\nconfig = \"url\"", "must be 1 to 64 capitals"),
            ("variable = \"X\"\nconfig = \"ur\"", "environment.config must be a key of [config]"),
            ("variable = \"X\"\ncredential = \"k\"", "must be the name of a [[credential]]"),
            ("variable = \"X\"", "must set one of config and credential"),
            ("variable = \"X\"\nconfig = \"url\"\ncredential = \"key\"", "must set one of config and credential"),
            ("variable = \"NEW_URL\"\nconfig = \"url\"", "has NEW_URL twice"),
            ("variable = \"X\"\nkey = \"url\"", "unknown field"),
        ];
        for (text, expected) in rows {
            let error = Manifest::parse(&format!("{HEAD}{TEXT}[[environment]]\n{text}\n")).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let many: String =
            (0..=MOST).map(|n| format!("[[environment]]\nvariable = \"X{n}\"\nconfig = \"url\"\n")).collect();
        let error = Manifest::parse(&format!("{HEAD}[config]\nurl = \"\"\n{many}")).unwrap_err().to_string();
        assert!(error.contains("at most 64"), "{error}");
    }
}
