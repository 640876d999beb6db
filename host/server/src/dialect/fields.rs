//! Reads the fields of a JSON body one by one, so that an error names the field, the value and what would be right, and
//! so that what nobody read can be named in the answer's warnings.
//!
//! `null` is the same as no field: client libraries send it for arguments that were not set. A form's fields are all
//! text: numbers, flags and objects are read as they would be written in JSON, and an empty text is no field.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use easel_core::{Error, Note, NoteKind};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The most fields of one body.
const MAX_FIELDS: usize = 256;
/// The most unknown fields that warnings name one by one.
const MAX_NAMED: usize = 16;
/// How much of a wrong value or an unknown name is repeated to the caller.
const MAX_QUOTED: usize = 64;

/// The fields of a body that were not read yet.
#[derive(Debug)]
pub struct Fields {
    values: BTreeMap<String, Value>,
    origin: Origin,
    notes: Vec<Note>,
}

/// Where fields came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Json,
    Form,
}

impl Fields {
    /// Takes a body apart. A field that comes twice counts as it comes last, with a note.
    ///
    /// # Errors
    /// `InvalidRequest` unless the body is one JSON object of at most 256 fields; broken JSON with line and column.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let wrong =
            |message: String| Err(Error::new(easel_core::ErrorKind::InvalidRequest, message).with_code("invalid_json"));
        match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => return wrong("the body is empty; it must be a JSON object".to_owned()),
            Some(b'{') => {}
            Some(_) => return wrong("the body must be a JSON object, which begins with {".to_owned()),
        }
        let mut reader = serde_json::Deserializer::from_slice(body);
        let parsed = reader.deserialize_map(FieldsVisitor).and_then(|fields| reader.end().map(|()| fields));
        parsed.or_else(|error| wrong(format!("the body is not valid JSON: {error}")))
    }

    /// Takes the text fields of a form, in the order in which they came. `a[b]` is the member `b` of the object `a`.
    ///
    /// # Errors
    /// `InvalidRequest` for more than 256 fields, or one that is both an object and a value.
    pub fn of_form(parts: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        let mut fields = Self { values: BTreeMap::new(), origin: Origin::Form, notes: Vec::new() };
        for (count, (name, text)) in parts.into_iter().enumerate() {
            if count == MAX_FIELDS {
                let message = format!("the form has more than {MAX_FIELDS} fields");
                return Err(Error::new(easel_core::ErrorKind::InvalidRequest, message));
            }
            if text.is_empty() {
                continue;
            }
            match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
                Some((outer, path)) if !outer.is_empty() && !path.is_empty() => {
                    let object = fields.values.entry(outer.to_owned()).or_insert_with(|| Value::Object(Map::new()));
                    put(object, &mut path.split("]["), text)
                        .map_err(|()| Error::invalid(clip(outer), format!("{} is given in two ways", clip(&name))))?;
                }
                Some(_) | None => fields.put(name, Value::String(text)),
            }
        }
        Ok(fields)
    }

    fn put(&mut self, name: String, value: Value) {
        if self.values.contains_key(&name) && self.notes.len() < MAX_NAMED {
            let name = clip(&name);
            let message = format!("{name} was given more than once; the last value counts");
            self.notes.push(Note::about(NoteKind::Ignored, name, message));
        }
        self.values.insert(name, value);
    }

    /// Takes a field as it came.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.take(name)
    }

    /// Reads text.
    ///
    /// # Errors
    /// `InvalidRequest` when it is something else.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(name, "a string", &other)),
        }
    }

    /// Reads one of some words.
    ///
    /// # Errors
    /// `InvalidRequest`, listing the words.
    pub fn word(&mut self, name: &'static str, words: &[&'static str]) -> Result<Option<&'static str>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match words.iter().find(|word| **word == text) {
            Some(word) => Ok(Some(word)),
            None => {
                Err(Error::invalid(name, format!("{name} must be one of {}, not {}", words.join(", "), quote(&text))))
            }
        }
    }

    /// Reads `true` or `false`.
    ///
    /// # Errors
    /// `InvalidRequest` when it is something else.
    pub fn flag(&mut self, name: &'static str) -> Result<Option<bool>, Error> {
        match self.take_written(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong_type(name, "true or false", &other)),
        }
    }

    /// Reads a whole number within a range. `7.0` is a whole number, as JSON Schema has it: languages with one kind of
    /// number send it.
    ///
    /// # Errors
    /// `InvalidRequest`, naming the range.
    pub fn integer(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Result<Option<u64>, Error> {
        let Some(value) = self.take_written(name) else { return Ok(None) };
        let Value::Number(number) = &value else { return Err(wrong_type(name, "an integer", &value)) };
        if number.as_f64().is_some_and(|number| number.fract() != 0.0) {
            return Err(
                Error::invalid(name, format!("{name} must be an integer, not {number}")).with_code("invalid_type")
            );
        }
        match number.as_u64().or_else(|| whole(number.as_f64()?)).filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (least, most) = range.into_inner();
                Err(Error::invalid(name, format!("{name} must be from {least} to {most}, not {number}")))
            }
        }
    }

    /// Reads a number. Its range is the request's own check.
    ///
    /// # Errors
    /// `InvalidRequest` when it is something else.
    pub fn number(&mut self, name: &'static str) -> Result<Option<f64>, Error> {
        match self.take_written(name) {
            None => Ok(None),
            Some(Value::Number(number)) if number.as_f64().is_some() => Ok(number.as_f64()),
            Some(other) => Err(wrong_type(name, "a number", &other)),
        }
    }

    /// Reads an object, without those of its entries that are `null`.
    ///
    /// # Errors
    /// `InvalidRequest` when it is something else.
    pub fn object(&mut self, name: &'static str) -> Result<Option<Map<String, Value>>, Error> {
        match self.take_written(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object.into_iter().filter(|(_, value)| !value.is_null()).collect())),
            Some(other) => Err(wrong_type(name, "an object", &other)),
        }
    }

    /// Reads an array; in a form it is written as JSON.
    ///
    /// # Errors
    /// `InvalidRequest` when it is something else.
    pub fn list(&mut self, name: &'static str) -> Result<Option<Vec<Value>>, Error> {
        match self.take_written(name) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(other) => Err(wrong_type(name, "an array", &other)),
        }
    }

    /// Notes that a field that was read has no effect, and why.
    pub fn note_ignored(&mut self, name: &str, why: &str) {
        self.notes.push(Note::about(NoteKind::Ignored, name, format!("{name} had no effect: {why}")));
    }

    /// Ends the reading: what is left is unknown here and had no effect, which the notes say.
    pub fn finish(self) -> Vec<Note> {
        let mut notes = self.notes;
        let unknown: Vec<_> =
            self.values.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name).collect();
        for name in unknown.iter().take(MAX_NAMED) {
            let name = clip(name);
            let message = format!("there is no field {name} here; it had no effect");
            notes.push(Note::about(NoteKind::Ignored, name, message));
        }
        if let Some(more) = unknown.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
            notes.push(Note::general(NoteKind::Ignored, format!("{more} more unknown fields had no effect")));
        }
        notes
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name).filter(|value| !value.is_null())
    }

    /// Takes something other than text, which a form writes as text all the same.
    fn take_written(&mut self, name: &str) -> Option<Value> {
        match (self.take(name)?, self.origin) {
            (Value::String(text), Origin::Form) => match serde_json::from_str(text.trim()) {
                Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::Array(_))) => Some(value),
                Ok(Value::Null) => None,
                Ok(Value::String(_)) | Err(_) => Some(Value::String(text)),
            },
            (value, Origin::Json | Origin::Form) => Some(value),
        }
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields { values: BTreeMap::new(), origin: Origin::Json, notes: Vec::new() };
        let mut count = 0_usize;
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            count += 1;
            if count > MAX_FIELDS {
                return Err(A::Error::custom(format_args!("it has more than {MAX_FIELDS} fields")));
            }
            fields.put(name, value);
        }
        Ok(fields)
    }
}

/// Puts a text into nested objects, at most four deep.
fn put<'a>(object: &mut Value, path: &mut impl Iterator<Item = &'a str>, text: String) -> Result<(), ()> {
    const MAX_DEPTH: usize = 4;
    let path: Vec<_> = path.take(MAX_DEPTH + 1).collect();
    let (last, outer) = path.split_last().filter(|_| path.len() <= MAX_DEPTH).ok_or(())?;
    let mut at = object;
    for name in outer {
        let members = at.as_object_mut().ok_or(())?;
        at = members.entry(*name).or_insert_with(|| Value::Object(Map::new()));
    }
    at.as_object_mut().ok_or(())?.insert((*last).to_owned(), Value::String(text));
    Ok(())
}

/// The whole number that a floating one is, while floating numbers can tell neighbours apart.
fn whole(number: f64) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0 to 2^53 and without a fraction"
    )]
    (number.fract() == 0.0 && (0.0..=EXACT).contains(&number)).then_some(number as u64)
}

fn wrong_type(name: &'static str, expected: &str, value: &Value) -> Error {
    let given = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => format!("the boolean {flag}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the string {}", quote(text)),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    Error::invalid(name, format!("{name} must be {expected}, not {given}")).with_code("invalid_type")
}

/// A caller's text as it is repeated in a message: in quotes, and not all of it.
pub fn quote(text: &str) -> String {
    format!("{:?}", clip(text))
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
