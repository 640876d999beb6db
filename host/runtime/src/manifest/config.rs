//! `[config]`: the keys that the operator may set, with their defaults.

use serde_json::{Map, Value};

use super::Manifest;
use crate::refusal::{Refusal, nearest};

impl Manifest {
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

/// The defaults, as the guest reads them.
pub(super) fn check(raw: toml::Table) -> Result<Map<String, Value>, Refusal> {
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::manifest::Manifest;
    use crate::manifest::tests::HEAD;

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
}
