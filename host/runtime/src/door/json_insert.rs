//! Puts a credential into a JSON body while it is sent: the text at a JSON Pointer is replaced, or added to the object
//! that should hold it. The body is looked through once, in whatever parts it comes, and not held.
//!
//! What is no JSON gets no credential: the structure is checked up to the place and after it, and an error ends the
//! request before its end was sent.

use std::ops::Range;

use bytes::Bytes;
use serde::de::IgnoredAny;

use crate::json;

/// The deepest nesting, as in `json::check`.
const MAX_DEPTH: usize = 128;
/// The longest number or word.
const MAX_SCALAR: usize = 128;

/// Why there is no credential in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlace {
    #[error("the body is not JSON, so it cannot hold the credential")]
    NotJson,
    #[error("the body has no place for the credential: the object that should hold it is missing")]
    Missing,
}

/// A part of what is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// These bytes of what came.
    Kept(Range<usize>),
    /// These instead.
    New(Bytes),
}

/// The walk through one body.
#[derive(Debug)]
pub(super) struct JsonInsert {
    pointer: Vec<String>,
    /// The credential, quoted.
    value: Bytes,
    stack: Vec<Frame>,
    expect: Expect,
    inside: Inside,
    /// The name that was read last, without its quotes, as far as it matters; or a number or word.
    text: Vec<u8>,
    /// The depth of the value that is left out.
    skipping: Option<usize>,
    is_placed: bool,
}

#[derive(Debug)]
struct Frame {
    is_object: bool,
    /// Whether the pointer leads through or into it.
    is_on_path: bool,
    /// Whether the credential is in it already.
    is_done: bool,
    /// The values so far.
    count: usize,
    /// Whether the name that was read last is the pointer's.
    is_named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    Colon,
    CommaOrEnd,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Nothing,
    Name(Escape),
    Text(Escape),
    Scalar,
}

/// How far an escape in a text has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    /// So many digits are missing.
    Digits(u8),
}

impl Escape {
    /// After the next byte of a text, which is not its end.
    fn after(self, byte: u8) -> Result<Self, NoPlace> {
        match (self, byte) {
            (Self::None, b'\\') => Ok(Self::Begun),
            (Self::None, 0x20..) | (Self::Begun, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                Ok(Self::None)
            }
            (Self::Begun, b'u') => Ok(Self::Digits(4)),
            (Self::Digits(1), digit) if digit.is_ascii_hexdigit() => Ok(Self::None),
            (Self::Digits(left), digit) if digit.is_ascii_hexdigit() => Ok(Self::Digits(left - 1)),
            _ => Err(NoPlace::NotJson),
        }
    }
}

impl JsonInsert {
    pub(super) fn new(pointer: Vec<String>, secret: &str) -> Self {
        let value = serde_json::to_string(secret).unwrap_or_default().into();
        Self {
            pointer,
            value,
            stack: Vec::new(),
            expect: Expect::Value,
            inside: Inside::Nothing,
            text: Vec::new(),
            skipping: None,
            is_placed: false,
        }
    }

    /// Looks through the next bytes, and gives what is sent for them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Part>, NoPlace> {
        let mut parts = Vec::new();
        let (mut at, mut from) = (0, 0);
        while let Some(byte) = bytes.get(at).copied() {
            match self.inside {
                // A text is run through at once, whatever its length.
                Inside::Text(Escape::None) => {
                    let rest = bytes.get(at..).unwrap_or_default();
                    let plain = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    if rest.iter().take(plain).any(|byte| *byte < 0x20) {
                        return Err(NoPlace::NotJson);
                    }
                    at += plain;
                    let Some(byte) = bytes.get(at).copied() else { break };
                    at += 1;
                    if byte == b'"' {
                        self.inside = Inside::Nothing;
                        self.end_value(at, &mut from);
                    } else {
                        self.inside = Inside::Text(Escape::Begun);
                    }
                }
                Inside::Text(escape) => {
                    self.inside = Inside::Text(escape.after(byte)?);
                    at += 1;
                }
                Inside::Name(Escape::None) if byte == b'"' => {
                    self.end_name();
                    at += 1;
                }
                Inside::Name(escape) => {
                    self.inside = Inside::Name(escape.after(byte)?);
                    self.keep_name(byte);
                    at += 1;
                }
                Inside::Scalar => {
                    if matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n') {
                        self.end_scalar()?;
                        self.end_value(at, &mut from);
                    } else if self.text.len() == MAX_SCALAR {
                        return Err(NoPlace::NotJson);
                    } else {
                        self.text.push(byte);
                        at += 1;
                    }
                }
                Inside::Nothing => {
                    if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                        self.token(byte, at, &mut from, &mut parts)?;
                    }
                    at += 1;
                }
            }
        }
        if self.skipping.is_none() && from < bytes.len() {
            parts.push(Part::Kept(from..bytes.len()));
        }
        Ok(parts)
    }

    /// Bytes of a text, encoded so that nothing in them can end it. Tells whether they are sent.
    pub(super) fn push_opaque(&mut self) -> Result<bool, NoPlace> {
        match self.inside {
            Inside::Text(Escape::None) => Ok(self.skipping.is_none()),
            _ => Err(NoPlace::NotJson),
        }
    }

    /// At the end of the body.
    pub(super) fn finish(&self) -> Result<(), NoPlace> {
        match (self.expect, self.is_placed) {
            (Expect::Nothing, true) if self.inside == Inside::Nothing => Ok(()),
            (Expect::Nothing, false) => Err(NoPlace::Missing),
            // A number or word alone ends with the body.
            _ if self.inside == Inside::Scalar && self.stack.is_empty() => Err(NoPlace::Missing),
            _ => Err(NoPlace::NotJson),
        }
    }

    fn token(&mut self, byte: u8, at: usize, from: &mut usize, parts: &mut Vec<Part>) -> Result<(), NoPlace> {
        match (self.expect, byte) {
            (Expect::Name | Expect::NameOrEnd, b'"') => {
                self.text.clear();
                self.inside = Inside::Name(Escape::None);
            }
            (Expect::Colon, b':') => self.expect = Expect::Value,
            (Expect::CommaOrEnd, b',') => {
                let is_object = self.stack.last().is_some_and(|frame| frame.is_object);
                self.expect = if is_object { Expect::Name } else { Expect::Value };
            }
            (Expect::CommaOrEnd | Expect::NameOrEnd, b'}') => self.close(true, at, from, parts)?,
            (Expect::CommaOrEnd | Expect::ValueOrEnd, b']') => self.close(false, at, from, parts)?,
            (Expect::Value | Expect::ValueOrEnd, _) => self.begin_value(byte, at, *from, parts)?,
            _ => return Err(NoPlace::NotJson),
        }
        Ok(())
    }

    fn begin_value(&mut self, byte: u8, at: usize, from: usize, parts: &mut Vec<Part>) -> Result<(), NoPlace> {
        let depth = self.stack.len();
        let key = depth.checked_sub(1).and_then(|last| self.pointer.get(last));
        let is_on_path = match (self.stack.last_mut(), key) {
            (None, _) => true,
            (Some(frame), Some(key)) if frame.is_on_path => {
                if frame.is_object {
                    frame.is_named
                } else {
                    *key == frame.count.to_string()
                }
            }
            (Some(_), _) => false,
        };
        if let Some(frame) = self.stack.last_mut() {
            frame.count += 1;
        }
        if is_on_path && depth == self.pointer.len() && self.skipping.is_none() {
            parts.push(Part::Kept(from..at));
            parts.push(Part::New(self.value.clone()));
            self.skipping = Some(depth);
            self.is_placed = true;
            if let Some(frame) = self.stack.last_mut() {
                frame.is_done = true;
            }
        }
        match byte {
            b'{' | b'[' if depth == MAX_DEPTH => return Err(NoPlace::NotJson),
            b'{' | b'[' => {
                let is_object = byte == b'{';
                let is_on_path = is_on_path && depth < self.pointer.len();
                self.stack.push(Frame { is_object, is_on_path, is_done: false, count: 0, is_named: false });
                self.expect = if is_object { Expect::NameOrEnd } else { Expect::ValueOrEnd };
            }
            b'"' => self.inside = Inside::Text(Escape::None),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                self.text.clear();
                self.text.push(byte);
                self.inside = Inside::Scalar;
            }
            _ => return Err(NoPlace::NotJson),
        }
        Ok(())
    }

    /// An object or array ends. The one that should hold the credential and does not gets it now.
    fn close(&mut self, is_object: bool, at: usize, from: &mut usize, parts: &mut Vec<Part>) -> Result<(), NoPlace> {
        let depth = self.stack.len();
        let frame = self.stack.pop().filter(|frame| frame.is_object == is_object).ok_or(NoPlace::NotJson)?;
        if frame.is_on_path && is_object && depth == self.pointer.len() && !frame.is_done {
            let name = serde_json::to_string(self.pointer.last().map_or("", String::as_str)).unwrap_or_default();
            let comma = if frame.count == 0 { "" } else { "," };
            parts.push(Part::Kept(*from..at));
            parts.push(Part::New(format!("{comma}{name}:").into()));
            parts.push(Part::New(self.value.clone()));
            *from = at;
            self.is_placed = true;
        }
        self.end_value(at + 1, from);
        Ok(())
    }

    /// A value ended before `end`.
    fn end_value(&mut self, end: usize, from: &mut usize) {
        if self.skipping == Some(self.stack.len()) {
            self.skipping = None;
            *from = end;
        }
        self.expect = if self.stack.is_empty() { Expect::Nothing } else { Expect::CommaOrEnd };
    }

    fn end_scalar(&mut self) -> Result<(), NoPlace> {
        self.inside = Inside::Nothing;
        serde_json::from_slice::<IgnoredAny>(&self.text).map(drop).map_err(|_| NoPlace::NotJson)
    }

    /// Keeps a byte of a name, where it may be the one that is looked for.
    fn keep_name(&mut self, byte: u8) {
        // Each character can be escaped in six.
        let most = self.key().map_or(0, |key| key.chars().count() * 12 + 1);
        if self.text.len() < most {
            self.text.push(byte);
        }
    }

    fn end_name(&mut self) {
        self.inside = Inside::Nothing;
        self.expect = Expect::Colon;
        let quoted = std::str::from_utf8(&self.text).ok().map(|text| format!("\"{text}\""));
        let name = quoted.as_deref().and_then(json::unquote);
        let is_named = name.is_some_and(|name| self.key().is_some_and(|key| *key == *name));
        if let Some(frame) = self.stack.last_mut() {
            frame.is_named = is_named;
        }
    }

    /// The name that is looked for in the object of this moment.
    fn key(&self) -> Option<&String> {
        self.stack.last().filter(|frame| frame.is_on_path)?;
        self.pointer.get(self.stack.len() - 1)
    }
}

/// What is sent for a body that comes in two parts; nothing where it has no place.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn insert_credential(body: &[u8], cut: usize, pointer: Vec<String>, secret: &str) -> Option<Vec<u8>> {
    let mut insert = JsonInsert::new(pointer, secret);
    let mut sent = Vec::new();
    let (first, second) = body.split_at_checked(cut)?;
    for part in [first, second] {
        for piece in insert.push(part).ok()? {
            match piece {
                Part::Kept(range) => sent.extend(part.get(range).unwrap_or_default()),
                Part::New(bytes) => sent.extend(bytes),
            }
        }
    }
    insert.finish().ok().map(|()| sent)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::random::Random;

    fn pointer(text: &str) -> Vec<String> {
        text[1..].split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect()
    }

    /// What is sent for a body that comes in these parts.
    fn inserted(body: &[u8], cuts: &[usize], pointer: &[String], secret: &str) -> Result<Vec<u8>, NoPlace> {
        let mut insert = JsonInsert::new(pointer.to_vec(), secret);
        let (mut sent, mut at) = (Vec::new(), 0);
        for cut in cuts.iter().chain([&body.len()]) {
            let part = &body[at..*cut];
            for piece in insert.push(part)? {
                match piece {
                    Part::Kept(range) => sent.extend(&part[range]),
                    Part::New(bytes) => sent.extend(bytes),
                }
            }
            at = *cut;
        }
        insert.finish().map(|()| sent)
    }

    /// The same on a parsed tree.
    fn reference(mut tree: Value, pointer: &[String], secret: &str) -> Option<Value> {
        let (last, path) = pointer.split_last().unwrap();
        let mut parent = &mut tree;
        for name in path {
            parent = match parent {
                Value::Object(object) => object.get_mut(name)?,
                Value::Array(array) => array.get_mut(index(name)?)?,
                _ => return None,
            };
        }
        match parent {
            Value::Object(object) => drop(object.insert(last.clone(), secret.into())),
            Value::Array(array) => *array.get_mut(index(last)?)? = secret.into(),
            _ => return None,
        }
        Some(tree)
    }

    fn index(name: &str) -> Option<usize> {
        name.parse().ok().filter(|index: &usize| index.to_string() == name)
    }

    #[test]
    fn credential_replaces_what_stands_there_or_is_added() {
        let rows = [
            (r#"{"a":1}"#, "/key", r#"{"a":1,"key":"s\"x"}"#),
            (r#" { } "#, "/key", r#" { "key":"s\"x"} "#),
            (r#"{"key" : {"a":[1,"}"]} ,"b":2}"#, "/key", r#"{"key" : "s\"x" ,"b":2}"#),
            (r#"{"\u006bey":null}"#, "/key", r#"{"\u006bey":"s\"x"}"#),
            (r#"{"key":1,"key":"2"}"#, "/key", r#"{"key":"s\"x","key":"s\"x"}"#),
            (r#"{"a":[{"b":{}},{}]}"#, "/a/1/c", r#"{"a":[{"b":{}},{"c":"s\"x"}]}"#),
            (r#"[0,1,2]"#, "/1", r#"[0,"s\"x",2]"#),
            (r#"{"key":12}"#, "/key", r#"{"key":"s\"x"}"#),
        ];
        for (body, at, expected) in rows {
            for cut in 0..=body.len() {
                let sent = inserted(body.as_bytes(), &[cut], &pointer(at), "s\"x").unwrap();
                assert_eq!(String::from_utf8(sent).unwrap(), expected, "{body} {at} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_json_gets_no_credential() {
        let rows = [
            ("", NoPlace::NotJson),
            ("hello", NoPlace::NotJson),
            ("{\"a\":1", NoPlace::NotJson),
            ("{\"a\":1}}", NoPlace::NotJson),
            ("{\"a\":1} x", NoPlace::NotJson),
            ("{\"a\" 1}", NoPlace::NotJson),
            ("{\"a\":1,}", NoPlace::NotJson),
            ("{\"a\":nul}", NoPlace::NotJson),
            ("{\"a\":1]", NoPlace::NotJson),
            ("{\"a\u{1}\":1}", NoPlace::NotJson),
            ("{\"a\":\"\u{1}\"}", NoPlace::NotJson),
            ("{\"a\":\"\\x\"}", NoPlace::NotJson),
            ("{\"\\q\":1}", NoPlace::NotJson),
            ("{\"a\":\"\\u00g0\"}", NoPlace::NotJson),
            ("--x\r\nform", NoPlace::NotJson),
            ("[1]", NoPlace::Missing),
            ("\"text\"", NoPlace::Missing),
            ("12", NoPlace::Missing),
            ("{\"a\":{\"key\":1}}", NoPlace::Missing),
        ];
        for (body, expected) in rows {
            let at = if expected == NoPlace::Missing { "/b/key" } else { "/key" };
            assert_eq!(inserted(body.as_bytes(), &[], &pointer(at), "s"), Err(expected), "{body}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(inserted(deep.as_bytes(), &[], &pointer("/key"), "s"), Err(NoPlace::NotJson));
        let nested = format!("{{\"key\":1,\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(inserted(nested.as_bytes(), &[], &pointer("/key"), "s"), Err(NoPlace::NotJson));
        let long = format!("[{}]", "1".repeat(100_000));
        assert_eq!(inserted(long.as_bytes(), &[], &pointer("/0"), "s").map(drop), Err(NoPlace::NotJson));
    }

    #[test]
    fn of_a_long_name_only_so_much_is_held_as_could_be_the_one_that_is_sought() {
        let mut insert = JsonInsert::new(vec!["key".to_owned()], "s");
        insert.push(format!("{{\"{}", "k".repeat(100_000)).as_bytes()).unwrap();
        assert!(insert.text.len() <= 3 * 12 + 1, "{} bytes are held", insert.text.len());
    }

    #[test]
    fn picture_stands_in_a_text_and_is_left_out_where_the_credential_goes() {
        let begun = |text: &str| {
            let mut insert = JsonInsert::new(vec!["key".to_owned()], "s");
            insert.push(text.as_bytes()).unwrap();
            insert.push_opaque()
        };
        assert_eq!(begun("{\"a\":\""), Ok(true));
        assert_eq!(begun("{\"key\":\"data:"), Ok(false));
        for text in ["", "{", "{\"a\":", "{\"a", "{\"a\":1", "{\"a\":\"\\"] {
            assert_eq!(begun(text), Err(NoPlace::NotJson), "{text}");
        }
    }

    #[test]
    fn any_body_cut_anywhere_becomes_what_a_parsed_tree_would() {
        let mut random = Random::new(7);
        let names = ["a", "b", "key", "0", "1", "é/~"];
        let mut placed = 0;
        for _ in 0..4000 {
            let tree = random.json(&names, 4);
            let text = random.written(&tree);
            let length = 1 + random.below(3);
            let at: Vec<_> = (0..length).map(|_| names[random.below(names.len())].to_owned()).collect();
            let mut cuts: Vec<_> = (0..random.below(6)).map(|_| random.below(text.len() + 1)).collect();
            cuts.sort_unstable();
            let secret = "sécret\"\\/\n";
            let got = inserted(text.as_bytes(), &cuts, &at, secret).ok();
            let got = got.map(|sent| serde_json::from_slice::<Value>(&sent).unwrap());
            assert_eq!(got, reference(tree.clone(), &at, secret), "{text} {at:?} {cuts:?}");
            placed += usize::from(got.is_some());
        }
        assert!(placed > 300, "only {placed} bodies had the place");
        assert_eq!(reference(json!({}), &["k".to_owned()], "s"), Some(json!({"k": "s"})));
    }

    #[test]
    fn any_bytes_cut_anywhere_are_judged_alike() {
        let mut random = Random::new(8);
        for _ in 0..4000 {
            let mut text = {
                let tree = random.json(&["a", "key"], 3);
                random.written(&tree)
            }
            .into_bytes();
            for _ in 0..random.below(3) {
                let at = random.below(text.len());
                text[at] = b"{}[]\",:\\x1 "[random.below(11)];
            }
            let whole = inserted(&text, &[], &["key".to_owned()], "secret");
            let cut = random.below(text.len() + 1);
            assert_eq!(inserted(&text, &[cut], &["key".to_owned()], "secret"), whole);
            // What is JSON is never refused as if it were none.
            if serde_json::from_slice::<Value>(&text).is_ok() {
                assert_ne!(whole, Err(NoPlace::NotJson), "{}", String::from_utf8_lossy(&text));
            }
        }
    }
}
