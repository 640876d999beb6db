//! What `tests/fuzz` asks of the parts that read text from outside: no input makes them panic, and what they let through has
//! the property that makes it safe. Inputs are split at NUL bytes where a property is about several texts.
//!
//! The tests play the seeds, so that these stay true without a fuzzer; made-up inputs are in `properties.rs` and beside the parts.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::Method;
use serde_json::Value;
use url::Url;

use crate::PluginSettings;
use crate::door::{Grant, OriginPattern, PathPattern, insert_credential, wire};
use crate::events::{Event, EventParser};
use crate::host::{BlobQuota, Document};
use crate::manifest::Manifest;
use crate::splice::{Insert, splice};

/// A manifest is read or refused; a pattern that is read says what it was read from.
pub fn manifest(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    drop(Manifest::parse(text));
    if let Ok(pattern) = OriginPattern::parse(text) {
        assert_eq!(
            OriginPattern::parse(&pattern.to_string()),
            Ok(pattern.clone()),
            "an origin is another when read again"
        );
        assert!(pattern.covers(&pattern), "an origin does not cover itself");
    }
    if let Ok(pattern) = PathPattern::parse(text) {
        assert_eq!(PathPattern::parse(&pattern.to_string()), Ok(pattern), "a path is another when read again");
    }
}

/// What passes was wanted and given: nothing passes without a grant, and the spelling of an address changes nothing.
/// The input is `manifest NUL origin NUL url`.
pub fn grants(input: &[u8]) {
    let [manifest, origin, url] = &parts::<3>(input);
    let (Ok(manifest), Ok(url)) = (Manifest::parse(manifest), Url::parse(url)) else { return };
    let nothing = PluginSettings { withheld: vec![origin.clone()], ..PluginSettings::default() };
    let one = PluginSettings { origins: vec![origin.clone()], ..PluginSettings::default() };
    for method in [Method::GET, Method::POST, Method::DELETE] {
        if let Ok(grant) = Grant::new(&manifest, &nothing) {
            assert!(grant.check(&method, &url).is_err(), "{method} {url} passes without a grant");
        }
        let Ok(grant) = Grant::new(&manifest, &one) else { return };
        let passes = grant.check(&method, &url).is_ok();
        if passes {
            let pattern = OriginPattern::parse(origin).expect("what was granted is an origin");
            let asked = OriginPattern::parse(&url.origin().ascii_serialization()).expect("what passes has an origin");
            assert!(pattern.covers(&asked), "{url} passes by a grant for {origin}");
            assert!(url.username().is_empty() && url.password().is_none(), "{url} passes with a name in it");
        }
        let again = Url::parse(url.as_str()).expect("an address is one when read again");
        assert_eq!(grant.check(&method, &again).is_ok(), passes, "{url} is judged in two ways");
        for credential in &manifest.credentials {
            let may = grant.may_carry(&credential.name, &method, &url);
            assert!(passes || !may, "{url} does not pass and carries {:?}", credential.name);
        }
    }
}

/// What is sent for JSON is JSON, of the length that was said, with the same text around the blobs.
/// The input is `json NUL blob NUL blob`.
pub fn splicer(input: &[u8]) {
    let [text, first, second] = parts::<3>(input);
    let insert = |text: String| Insert { bytes: text.into(), media_type: "image/png".into() };
    let was_json = serde_json::from_str::<Value>(&text).is_ok();
    let has_places = text.contains("$blob") || text.contains('\\');
    let Ok(pieces) = splice(text.clone(), &[insert(first), insert(second)]) else {
        // Without any blob, whatever is JSON and has no place is sent as it is.
        if was_json && !has_places {
            let pieces = splice(text.clone(), &[]).expect("JSON without places is sent");
            assert_eq!(wire(pieces), text.as_bytes(), "the text was changed");
        }
        return;
    };
    let length = pieces.wire_bytes();
    let sent = wire(pieces);
    assert_eq!(sent.len() as u64, length, "the length is another");
    assert!(was_json, "what is no JSON was sent");
    serde_json::from_slice::<Value>(&sent).expect("what is sent for JSON is JSON");
}

/// A credential goes into JSON and nothing else, to its place, wherever the body is cut.
/// The input is `cut, name NUL json`, the cut being one byte.
pub fn insert(input: &[u8]) {
    const SECRET: &str = "s\u{e9}cret\"\\/\n";
    let Some((cut, rest)) = input.split_first() else { return };
    let Some(at) = rest.iter().position(|byte| *byte == 0) else { return };
    let (name, body) = (String::from_utf8_lossy(&rest[..at]).into_owned(), &rest[at + 1..]);
    let pointer: Vec<String> = name.split('/').map(str::to_owned).collect();
    let whole = insert_credential(body, body.len(), pointer.clone(), SECRET);
    let cut = usize::from(*cut) % (body.len() + 1);
    assert_eq!(insert_credential(body, cut, pointer.clone(), SECRET), whole, "a cut changes what is sent");
    let Some(sent) = whole else { return };
    assert!(serde_json::from_slice::<Value>(body).is_ok() || is_beyond_the_parser(body), "no JSON got the credential");
    let Ok(tree) = serde_json::from_slice::<Value>(&sent) else {
        assert!(is_beyond_the_parser(&sent), "what is sent is no JSON");
        return;
    };
    if members(&tree) != colons(&sent) {
        // Of two values under one name, the tree has the last, and the credential is in both.
        return;
    }
    let pointer: String =
        pointer.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect();
    assert_eq!(tree.pointer(&pointer).and_then(Value::as_str), Some(SECRET), "the credential is not in its place");
}

/// How many values have a name in this tree.
fn members(tree: &Value) -> usize {
    match tree {
        Value::Object(object) => object.values().map(|value| 1 + members(value)).sum(),
        Value::Array(array) => array.iter().map(members).sum(),
        _ => 0,
    }
}

/// How many values have a name in this text, which is JSON.
fn colons(text: &[u8]) -> usize {
    let (mut count, mut is_text, mut is_escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            b':' if !is_text => count += 1,
            _ => {}
        }
    }
    count
}

/// Numbers that `serde_json` refuses when it makes a tree, though they are JSON.
fn is_beyond_the_parser(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// What is taken out of a document is what the reference decodes, and the rest of the document stays.
/// The input is `pointer NUL json`.
pub fn base64(input: &[u8]) {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let references = [&alphabet::STANDARD, &alphabet::URL_SAFE].map(|letters| GeneralPurpose::new(letters, CONFIG));
    let [pointer, text] = parts::<2>(input);
    let quota = BlobQuota::new(1 << 20);
    let tree = serde_json::from_str::<Value>(&text);
    let Some((taken, rest)) = Document::taken(&text, &pointer, &quota) else { return };
    let Ok(mut tree) = tree else { return };
    let place = tree.pointer_mut(&pointer).expect("something was taken from a place that is not there");
    let string = place.as_str().expect("something was taken from what is no string");
    let data = match string.strip_prefix("data:").and_then(|url| url.split_once(";base64,")) {
        Some((_, data)) => data,
        None => string,
    };
    let plain: String = data.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    let expected = references.iter().find_map(|reference| reference.decode(&plain).ok());
    assert_eq!(expected.as_deref(), Some(&*taken), "other bytes were taken");
    *place = Value::from("");
    assert_eq!(serde_json::from_str::<Value>(&rest).ok(), Some(tree), "the rest was changed");
}

/// A stream means the same wherever it is cut, and holds no more than it may. The input is the cut, one byte, and the stream.
pub fn events(input: &[u8]) {
    const MOST: usize = 256;
    let Some((cut, stream)) = input.split_first() else { return };
    let read = |parts: &[&[u8]]| -> Option<Vec<Event>> {
        let (mut parser, mut events) = (EventParser::new(MOST), Vec::new());
        for part in parts {
            let mut bytes = Bytes::copy_from_slice(part);
            while let Some(event) = parser.next(&mut bytes).ok()? {
                events.push(event);
            }
            assert!(bytes.is_empty(), "bytes are left over");
            assert!(parser.size() <= MOST, "it holds more than it may");
        }
        Some(events)
    };
    let (first, second) = stream.split_at(usize::from(*cut) % (stream.len() + 1));
    let (whole, cut) = (read(&[stream]), read(&[first, second]));
    assert_eq!(whole, cut, "a cut changes the meaning");
}

/// The texts between the first NUL bytes; the last has what is left.
fn parts<const COUNT: usize>(input: &[u8]) -> [String; COUNT] {
    let mut parts = input.splitn(COUNT, |byte| *byte == 0);
    std::array::from_fn(|_| String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    type Target = fn(&[u8]);

    #[test]
    fn every_seed_of_the_fuzzers_keeps_its_property() {
        let targets: [(&str, Target); 6] = [
            ("manifest", super::manifest),
            ("grants", super::grants),
            ("splicer", super::splicer),
            ("insert", super::insert),
            ("base64", super::base64),
            ("events", super::events),
        ];
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/seeds");
        for (name, target) in targets {
            let mut played = 0;
            for entry in fs::read_dir(seeds.join(name)).unwrap() {
                target(&fs::read(entry.unwrap().path()).unwrap());
                played += 1;
            }
            assert!(played > 0, "{name} has no seeds");
        }
    }
}
