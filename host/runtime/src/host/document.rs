//! `fetch.document`: a provider's JSON answer. It stays text (`json.rs`): a picture in it is decoded straight from
//! where it lies, and then taken out.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use wasmtime::component::Resource;

use super::blobs::{Blob, Held};
use crate::bindings::easel::plugin::fetch;
use crate::bindings::easel::plugin::types::ErrorKind;
use crate::fault::{Breach, Failure};
use crate::json;
use crate::state::State;

/// The longest value that `get` gives.
const MAX_GET: usize = 4 << 20;

/// Some providers leave the padding out.
const PADDED_OR_NOT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDED_OR_NOT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDED_OR_NOT);

/// Decodes base64 of the one alphabet or the other; a text that mixes them is none.
fn decode(data: &[u8]) -> Option<Vec<u8>> {
    let alphabet = if memchr::memchr2(b'-', b'_', data).is_some() { URL_SAFE } else { STANDARD };
    alphabet.decode(data).ok()
}

/// A checked JSON text.
pub struct Document {
    text: String,
    held: Held,
}

impl Document {
    /// Checks an answer's body.
    pub(crate) fn parse(bytes: Vec<u8>, held: Held) -> Result<Self, Failure> {
        let wrong = |error| Failure::new(ErrorKind::Upstream, format!("the answer is not JSON: {error}"));
        json::check(&bytes).map_err(wrong)?;
        let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { text, held })
    }

    fn get(&self, pointer: &str, max: u32) -> Result<Option<String>, Breach> {
        let Some(value) = json::find(&self.text, pointer) else { return Ok(None) };
        let cut = json::cut(value, max as usize, MAX_GET).ok_or_else(|| {
            Breach::Contract(format!("asked a document for more than {MAX_GET} bytes at {pointer:?}"))
        })?;
        Ok(Some(cut))
    }

    /// Decodes a string and leaves an empty one in its place.
    fn take_base64(&mut self, pointer: &str, mut held: Held) -> Result<Blob, Failure> {
        let wrong = |what: &str| Failure::new(ErrorKind::Upstream, format!("the answer has {what} at {pointer:?}"));
        let value = json::find(&self.text, pointer).ok_or_else(|| wrong("nothing"))?;
        let string = json::unquote(value).ok_or_else(|| wrong("no string"))?;
        let (declared, data) = match string.strip_prefix("data:").and_then(|url| url.split_once(";base64,")) {
            Some((media_type, data)) => (media_type.to_owned(), data),
            None => ("application/octet-stream".to_owned(), &*string),
        };
        if data.is_empty() {
            return Err(wrong("an empty string"));
        }
        held.grow(data.len().div_ceil(4) * 3)?;
        let bytes = match decode(data.as_bytes()) {
            Some(bytes) => bytes,
            // Line breaks are rare enough to be looked for only now.
            None => {
                let plain: Vec<u8> = data.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
                decode(&plain).ok_or_else(|| wrong("no base64"))?
            }
        };
        held.shrink_to(bytes.len());
        let blob = Blob::new(bytes, &declared, held);

        let begin = value.as_ptr().addr() - self.text.as_ptr().addr();
        let end = begin + value.len();
        self.text.replace_range(begin..end, "\"\"");
        self.text.shrink_to_fit();
        self.held.shrink_to(self.text.len());
        Ok(blob)
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Document {
    /// What is taken out of a text at a place, and the text that is left.
    pub(crate) fn taken(text: &str, pointer: &str, quota: &super::BlobQuota) -> Option<(Vec<u8>, String)> {
        let mut held = quota.open();
        held.grow(text.len()).ok()?;
        let mut document = Self::parse(text.as_bytes().to_vec(), held).ok()?;
        let blob = document.take_base64(pointer, quota.open()).ok()?;
        Some((blob.bytes.to_vec(), document.text))
    }
}

impl fetch::HostDocument for State {
    async fn get(
        &mut self,
        document: Resource<Document>,
        pointer: String,
        max: u32,
    ) -> wasmtime::Result<Option<String>> {
        self.trail.step("document.get");
        Ok(self.table.get(&document)?.get(&pointer, max)?)
    }

    async fn len(&mut self, document: Resource<Document>, pointer: String) -> wasmtime::Result<Option<u32>> {
        self.trail.step("document.len");
        let value = json::find(&self.table.get(&document)?.text, &pointer);
        Ok(value.and_then(json::count).and_then(|count| u32::try_from(count).ok()))
    }

    async fn take_base64(&mut self, document: Resource<Document>, pointer: String) -> Result<Resource<Blob>, Failure> {
        self.trail.step("document.take-base64");
        let held = self.call.blobs.open();
        let blob = self.table.get_mut(&document)?.take_base64(&pointer, held)?;
        Ok(self.table.push(blob)?)
    }

    async fn drop(&mut self, document: Resource<Document>) -> wasmtime::Result<()> {
        self.table.delete(document)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose;
    use serde_json::Value;

    use super::*;
    use crate::host::BlobQuota;
    use crate::random::Random;

    fn document(text: &str, quota: &BlobQuota) -> Document {
        let mut held = quota.open();
        held.grow(text.len()).ok().unwrap();
        Document::parse(text.as_bytes().to_vec(), held).ok().unwrap()
    }

    #[test]
    fn base64_is_taken_out_of_the_document() {
        let quota = BlobQuota::new(1000);
        let text = r#"{"data":[{"b64_json":"iVBORw0KGgo="},{"b64_json":"data:image\/webp;base64,YWJj"}],"n":2}"#;
        let mut document = document(text, &quota);
        let first = document.take_base64("/data/0/b64_json", quota.open()).ok().unwrap();
        assert_eq!((&first.bytes[..], &*first.media_type), (&b"\x89PNG\r\n\x1a\n"[..], "image/png"));
        let second = document.take_base64("/data/1/b64_json", quota.open()).ok().unwrap();
        assert_eq!((&second.bytes[..], &*second.media_type), (&b"abc"[..], "image/webp"));
        assert_eq!(document.text, r#"{"data":[{"b64_json":""},{"b64_json":""}],"n":2}"#);
        assert_eq!(document.get("/n", 0).unwrap().as_deref(), Some("2"));
    }

    #[test]
    fn base64_comes_padded_or_not_and_with_line_breaks() {
        for (text, expected) in [("YQ==", "a"), ("YQ", "a"), ("YWJj\\nZGVm\\r\\n", "abcdef"), ("\\u0059\\u0051", "a")] {
            let quota = BlobQuota::new(1000);
            let blob = document(&format!("[\"{text}\"]"), &quota).take_base64("/0", quota.open()).ok().unwrap();
            assert_eq!(&blob.bytes[..], expected.as_bytes(), "{text}");
        }
    }

    #[test]
    fn base64_comes_in_the_alphabet_for_addresses_too() {
        let rows = ["-_8=", "-_8", "+/8=", "-_\\n8=", "data:image/png;base64,-_8"];
        for text in rows {
            let quota = BlobQuota::new(1000);
            let blob = document(&format!("[\"{text}\"]"), &quota).take_base64("/0", quota.open()).ok().unwrap();
            assert_eq!(&blob.bytes[..], b"\xfb\xff", "{text}");
        }
    }

    #[test]
    fn what_is_no_base64_is_the_upstreams_fault() {
        let quota = BlobQuota::new(1000);
        let mut document = document(r#"{"a":1,"b":"!!!","c":"","e":"-/8=","f":"+_8="}"#, &quota);
        for pointer in ["/a", "/b", "/c", "/d", "/e", "/f", ""] {
            let Err(Failure::Value(error)) = document.take_base64(pointer, quota.open()) else { panic!("{pointer}") };
            assert!(matches!(error.kind, ErrorKind::Upstream), "{pointer}");
        }
    }

    #[test]
    fn decoded_bytes_count_against_the_quota() {
        let quota = BlobQuota::new(20);
        let mut document = document(r#"["YWJjZGVmZ2hp"]"#, &quota);
        let Err(Failure::Value(error)) = document.take_base64("/0", quota.open()) else { panic!() };
        assert!(matches!(error.kind, ErrorKind::LimitExceeded));
    }

    /// Base64 as providers write it, and inside a JSON text.
    fn written(random: &mut Random, bytes: &[u8]) -> String {
        let is_for_addresses = random.below(3) == 0;
        let alphabet = if is_for_addresses { general_purpose::URL_SAFE } else { general_purpose::STANDARD };
        let mut text = alphabet.encode(bytes);
        if random.below(2) == 0 {
            text = text.trim_end_matches('=').to_owned();
        }
        if random.below(3) == 0 {
            text = format!("data:image/webp;base64,{text}");
        } else if random.below(3) == 0 {
            text = text.as_bytes().chunks(8).map(|line| format!("{}\r\n", String::from_utf8_lossy(line))).collect();
        }
        let quoted = serde_json::to_string(&text).unwrap();
        match random.below(3) {
            0 => quoted.replace('/', "\\/"),
            1 => quoted.replace('A', "\\u0041").replace('+', "\\u002B"),
            _ => quoted,
        }
    }

    #[test]
    fn any_picture_is_taken_out_of_any_document() {
        let mut random = Random::new(5);
        for _ in 0..3000 {
            let length = 1 + random.below(100);
            let bytes = random.bytes(length);
            let name = ["b64", "é", "a/b", "~"][random.below(4)];
            let (before, after) = (random.json(&["x", "y"], 3), random.json(&["x", "y"], 3));
            let picture = written(&mut random, &bytes);
            let (before, after) = (random.written(&before), random.written(&after));
            let text = format!("[{before},{{\"n\":1, {}:{picture}}},{after}]", Value::from(name));
            let quota = BlobQuota::new(100_000);
            let mut document = document(&text, &quota);
            let pointer = format!("/1/{}", name.replace('~', "~0").replace('/', "~1"));
            let blob = document.take_base64(&pointer, quota.open()).ok().unwrap_or_else(|| panic!("{text}"));
            assert_eq!(&blob.bytes[..], bytes, "{text}");
            let mut expected: Value = serde_json::from_str(&text).unwrap();
            expected[1][name] = "".into();
            assert_eq!(serde_json::from_str::<Value>(&document.text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn any_text_is_base64_just_when_the_reference_says_so() {
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let references = [&alphabet::STANDARD, &alphabet::URL_SAFE].map(|letters| GeneralPurpose::new(letters, config));
        let mut random = Random::new(6);
        let letters = ["A", "z", "0", "+", "/", "=", "\n", " ", "-", "_", "é"];
        for _ in 0..20_000 {
            let text: String = (0..1 + random.below(9)).map(|_| letters[random.below(letters.len())]).collect();
            let plain: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
            let quota = BlobQuota::new(1000);
            let taken = document(&Value::from(text.as_str()).to_string(), &quota).take_base64("", quota.open());
            let expected = references.iter().find_map(|reference| reference.decode(&plain).ok());
            assert_eq!(taken.ok().map(|blob| blob.bytes.to_vec()), expected, "{text:?}");
        }
    }
}
