//! The config before it has a meaning: values that know where they were written, so that an error can say so. TOML is
//! read here and nowhere else; what a key means is `read.rs`'s business.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    File { name: Arc<str>, line: usize },
    Variable(Arc<str>),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// A value and its place. Values of flags and variables are always text.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub origin: Origin,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a point",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    /// Says what would be right. The value is shown: for keys that hold no secret.
    pub(super) fn wrong(&self, path: &str, right: &str) -> ConfigError {
        let shown = match &self.value {
            Value::Text(text) => format!("{text:?}"),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(flag) => flag.to_string(),
            Value::List(_) | Value::Table(_) => self.value.kind().to_owned(),
        };
        ConfigError::at(&self.origin, format!("{path} must be {right}, not {shown}"))
    }

    /// The same, showing only what kind of value it is: where a secret could stand by mistake.
    pub(super) fn wrong_kind(&self, path: &str, right: &str) -> ConfigError {
        ConfigError::at(&self.origin, format!("{path} must be {right}, not {}", self.value.kind()))
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, path: &str, bounds: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let read = match &self.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Text(text) if !self.is_from_file() => text.trim().parse().ok(),
            Value::Text(_) | Value::Float(_) | Value::Boolean(_) | Value::List(_) | Value::Table(_) => None,
        };
        let (least, most) = (bounds.start(), bounds.end());
        read.filter(|number| bounds.contains(number))
            .ok_or_else(|| self.wrong(path, &format!("a whole number from {least} to {most}")))
    }

    pub(super) fn is_from_file(&self) -> bool {
        matches!(self.origin, Origin::File { .. })
    }

    /// The value as JSON, for what a plugin's manifest checks.
    pub(super) fn to_json(&self, path: &str) -> Result<serde_json::Value, ConfigError> {
        Ok(match &self.value {
            Value::Text(text) => text.as_str().into(),
            Value::Integer(number) => (*number).into(),
            Value::Float(number) => {
                serde_json::Number::from_f64(*number).ok_or_else(|| self.wrong(path, "a finite number"))?.into()
            }
            Value::Boolean(flag) => (*flag).into(),
            Value::List(items) => items.iter().map(|item| item.to_json(path)).collect::<Result<Vec<_>, _>>()?.into(),
            Value::Table(entries) => {
                let entry =
                    |(name, node): (&String, &Node)| Ok((name.clone(), node.to_json(&format!("{path}.{name}"))?));
                serde_json::Value::Object(entries.iter().map(entry).collect::<Result<_, ConfigError>>()?)
            }
        })
    }
}

/// Parses a file's text.
pub(super) fn parse(name: &str, text: &str) -> Result<Node, ConfigError> {
    let file = File { name: name.into(), text };
    let table = DeTable::parse(text).map_err(|error| {
        let at = file.origin(error.span().map_or(0, |span| span.start));
        ConfigError::at(&at, format!("this is not TOML: {}", error.message()))
    })?;
    let origin = file.origin(0);
    Ok(Node { origin, value: Value::Table(file.table(table.into_inner())?) })
}

struct File<'a> {
    name: Arc<str>,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(self.text);
        Origin::File { name: Arc::clone(&self.name), line: 1 + before.matches('\n').count() }
    }

    fn table(&self, table: DeTable<'_>) -> Result<BTreeMap<String, Node>, ConfigError> {
        // The key's place, not the value's: a table made of dotted keys has no place of its own.
        let entry = |(key, value): (Spanned<_>, Spanned<_>)| {
            let start = key.span().start;
            let key: std::borrow::Cow<'_, str> = key.into_inner();
            Ok((key.into_owned(), self.node(start, value.into_inner())?))
        };
        table.into_iter().map(entry).collect()
    }

    fn node(&self, start: usize, value: DeValue<'_>) -> Result<Node, ConfigError> {
        let origin = self.origin(start);
        let value = match value {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix());
                Value::Integer(parsed.map_err(|_| ConfigError::at(&origin, format!("{number} is too large a number")))?)
            }
            DeValue::Float(number) => {
                let parsed = number.as_str().parse();
                Value::Float(parsed.map_err(|_| ConfigError::at(&origin, format!("{number} is not a number")))?)
            }
            DeValue::Boolean(flag) => Value::Boolean(flag),
            DeValue::Datetime(date) => Value::Text(date.to_string()),
            DeValue::Array(items) => {
                let item = |item: Spanned<DeValue<'_>>| self.node(item.span().start, item.into_inner());
                Value::List(items.into_iter().map(item).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Table(self.table(table)?),
        };
        Ok(Node { origin, value })
    }
}
