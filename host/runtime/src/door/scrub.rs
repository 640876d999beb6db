//! Takes secrets out of what comes back. A provider that echoes a key, in an error or a debug page, must not hand it to
//! the plugin: every byte of an answer passes here, and so does what a plugin logs or says in an error.
//!
//! Each secret is looked for as it is and in the forms that it takes on its way through JSON, addresses and base64. What
//! is found is overwritten with asterisks, byte for byte, so that no length changes. Over a stream only what may be the
//! beginning of a secret is held back. Secrets of fewer than [`SHORTEST`] bytes cannot be told from ordinary text.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};

use crate::Secret;

/// The shortest text that is looked for.
pub(crate) const SHORTEST: usize = 6;

/// Finds the secrets of one plugin.
pub(crate) struct Scrubber {
    search: AhoCorasick,
    forms: Vec<Vec<u8>>,
    longest: usize,
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scrubber({} forms)", self.forms.len())
    }
}

impl Scrubber {
    /// Looks for these; `None` where there is nothing to look for.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Option<Self> {
        let forms: BTreeSet<_> = secrets.into_iter().flat_map(|secret| forms(secret.expose())).collect();
        let forms: Vec<Vec<u8>> = forms.into_iter().filter(|form| form.len() >= SHORTEST).collect();
        let longest = forms.iter().map(Vec::len).max()?;
        // The longest, or what a short secret leaves of one that begins alike would pass.
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&forms)
            .ok()?;
        Some(Self { search, forms, longest })
    }

    /// Whether there is a secret in it.
    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        self.search.is_match(bytes)
    }

    /// A text without them.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        self.overwrite(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Overwrites what there is in it.
    pub(crate) fn overwrite(&self, bytes: &mut [u8]) {
        let mut at = 0;
        while let Some(found) = bytes.get(at..).and_then(|rest| self.search.find(rest)) {
            bytes[at + found.start()..at + found.end()].fill(b'*');
            at += found.end();
        }
    }

    /// Where the last part begins that may be the beginning of a form.
    fn open_end(&self, bytes: &[u8]) -> usize {
        let from = bytes.len().saturating_sub(self.longest - 1);
        let is_open = |at: &usize| {
            let end = &bytes[*at..];
            self.forms.iter().any(|form| form.len() > end.len() && form.starts_with(end))
        };
        (from..bytes.len()).find(is_open).unwrap_or(bytes.len())
    }
}

/// A stream that is scrubbed as it comes.
pub(crate) struct Stream {
    scrubber: Arc<Scrubber>,
    /// What came and may be the beginning of a secret: always shorter than the longest.
    held: BytesMut,
}

impl Stream {
    pub(crate) fn new(scrubber: Arc<Scrubber>) -> Self {
        Self { scrubber, held: BytesMut::new() }
    }

    /// Takes the next part and gives what is certain now.
    pub(crate) fn push(&mut self, part: &Bytes) -> Bytes {
        if self.held.is_empty() {
            let end = self.scrubber.open_end(part);
            // The usual case: nothing is copied.
            if !self.scrubber.is_in(part) {
                self.held.extend_from_slice(&part[end..]);
                return part.slice(..end);
            }
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(part);
        let mut at = 0;
        let mut open = self.scrubber.open_end(&bytes);
        while let Some(found) = self.scrubber.search.find(&bytes[at..]) {
            let (begin, end) = (at + found.start(), at + found.end());
            // It may yet turn out to be the beginning of a longer one.
            if begin >= open {
                break;
            }
            bytes[begin..end].fill(b'*');
            at = end;
            if open < at {
                open = at + self.scrubber.open_end(&bytes[at..]);
            }
        }
        self.held = bytes.split_off(open);
        bytes.freeze()
    }

    /// Gives what was held back, at the end.
    pub(crate) fn finish(&mut self) -> Bytes {
        let mut held = std::mem::take(&mut self.held);
        self.scrubber.overwrite(&mut held);
        held.freeze()
    }
}

/// A secret as it is, and in the forms that other texts hold it in.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let mut forms = vec![secret.as_bytes().to_vec()];
    let json = serde_json::to_string(secret).unwrap_or_default();
    let json = json.get(1..json.len().saturating_sub(1)).unwrap_or_default().to_owned();
    forms.push(json.replace('/', "\\/").into_bytes());
    for text in [json.replace('/', "\\/"), json.clone()] {
        forms.extend([escaped(&text, "", false), escaped(&text, "", true)].map(String::into_bytes));
    }
    // Some escape more than they must, so that the text can stand in HTML: Go's library, and that of .NET.
    forms.push(json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e").into_bytes());
    forms.push(escaped(&json.replace("\\\"", "\""), "\"&'+<>`", true).into_bytes());
    forms.push(json.into_bytes());
    for kept in ["-_.~", "-_.!~*'()", "-_.*"] {
        for is_lower in [false, true] {
            let text = percent(secret, kept, is_lower);
            forms.push(text.replace("%20", "+").into_bytes());
            forms.push(text.into_bytes());
        }
    }
    for shift in 0..3 {
        forms.extend(in_base64(secret.as_bytes(), shift));
    }
    forms
}

/// With everything outside ASCII, and these, as `\uXXXX`.
fn escaped(text: &str, also: &str, is_upper: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii() && !also.contains(letter) {
            escaped.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut [0; 2]) {
            escaped.push_str(&if is_upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") });
        }
    }
    escaped
}

fn percent(text: &str, kept: &str, is_lower: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
            escaped.push(char::from(byte));
            continue;
        }
        escaped.push_str(&if is_lower { format!("%{byte:02x}") } else { format!("%{byte:02X}") });
    }
    escaped
}

/// What base64 shows of a text that begins so many bytes after a multiple of three, whatever stands around it: the
/// characters that are made of its bits alone. Both alphabets.
fn in_base64(secret: &[u8], shift: usize) -> [Vec<u8>; 2] {
    let shifted = [&[0; 2][..shift], secret].concat();
    let (begin, end) = ((shift * 8).div_ceil(6), shifted.len() * 8 / 6);
    [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)]
        .map(|text| text.as_bytes().get(begin..end).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    const SECRET: &str = "sk-\"a/b\\ c+d=é%&\u{1F511}?secret";

    fn scrubber(secrets: &[&str]) -> Arc<Scrubber> {
        let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        Arc::new(Scrubber::new(&secrets).unwrap())
    }

    /// What a stream becomes, cut at these places.
    fn streamed(scrubber: &Arc<Scrubber>, bytes: &[u8], cuts: &[usize]) -> Vec<u8> {
        let mut stream = Stream::new(Arc::clone(scrubber));
        let (mut out, mut at) = (Vec::new(), 0);
        for cut in cuts.iter().chain([&bytes.len()]) {
            out.extend(stream.push(&Bytes::copy_from_slice(&bytes[at..*cut])));
            assert!(*cut - out.len() < scrubber.longest, "more is held back than may be a beginning");
            at = *cut;
        }
        out.extend(stream.finish());
        assert_eq!(out.len(), bytes.len());
        out
    }

    fn hex(text: &str, kept: &str) -> String {
        percent(text, kept, true)
    }

    #[test]
    fn every_form_of_a_secret_is_found() {
        let scrubber = scrubber(&[SECRET]);
        let json = serde_json::to_string(SECRET).unwrap();
        let texts = [
            SECRET.to_owned(),
            json.trim_matches('"').to_owned(),
            json[1..json.len() - 1].replace('/', "\\/"),
            url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect(),
            hex(SECRET, "-_.~"),
            hex(SECRET, "-_.!~*'()"),
            escaped(&json[1..json.len() - 1], "", false),
            json[1..json.len() - 1].replace('&', "\\u0026"),
            escaped(&json[1..json.len() - 1].replace('/', "\\/"), "", false),
            r"sk-\u0022a/b\\ c\u002Bd=\u00E9%\u0026\uD83D\uDD11?secret".to_owned(),
        ];
        for text in texts {
            let around = format!("before {text} after");
            let scrubbed = scrubber.text(&around);
            assert_eq!(scrubbed, format!("before {} after", "*".repeat(text.len())), "{text}");
        }
    }

    #[test]
    fn every_way_to_encode_a_secret_in_an_address_is_found() {
        // Encoders differ in which of these they leave alone.
        let secret = "sk-~!*'() /secret";
        let scrubber = scrubber(&[secret]);
        let rows = [
            "sk-~%21%2A%27%28%29%20%2Fsecret",
            "sk-~%21%2a%27%28%29%20%2fsecret",
            "sk-~!*'()%20%2Fsecret",
            "sk-~!*'()%20%2fsecret",
            "sk-%7E%21*%27%28%29+%2Fsecret",
            "sk-%7e%21*%27%28%29+%2fsecret",
        ];
        for text in rows {
            assert_eq!(scrubber.text(&format!("?key={text}&a=b")), format!("?key={}&a=b", "*".repeat(text.len())));
        }
    }

    #[test]
    fn base64_hides_no_secret_wherever_it_begins() {
        ["sk-hostile-0123456789", "sk-~~~???>>>~~~???>>>"].into_iter().for_each(is_found_in_base64);
    }

    fn is_found_in_base64(secret: &str) {
        let scrubber = scrubber(&[secret]);
        for before in 0..7 {
            for after in 0..4 {
                let text = format!("{}{secret}{}", "b".repeat(before), "a".repeat(after));
                for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text), STANDARD_NO_PAD.encode(&text)] {
                    let scrubbed = scrubber.text(&encoded);
                    let stars = scrubbed.matches('*').count();
                    assert!(stars >= secret.len() * 4 / 3 - 2, "{scrubbed}");
                }
            }
        }
    }

    #[test]
    fn streams_are_scrubbed_wherever_they_are_cut() {
        let scrubber = scrubber(&["secret-one", "secret-one-and-two", "onetwothree"]);
        let bytes = b"secret-onsecret-one-and-twsecret-one-and-two secret-onetwothree.secret-one".as_slice();
        let mut expected = bytes.to_vec();
        scrubber.overwrite(&mut expected);
        assert_eq!(
            String::from_utf8_lossy(&expected),
            "secret-on**********-and-tw****************** **********twothree.**********"
        );
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let got = streamed(&scrubber, bytes, &[first, second]);
                assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&expected), "{first} {second}");
            }
        }
        let every: Vec<_> = (0..bytes.len()).collect();
        assert_eq!(streamed(&scrubber, bytes, &every), expected);
    }

    #[test]
    fn nothing_is_held_back_that_cannot_be_a_secret() {
        let scrubber = scrubber(&["secret-one"]);
        let mut stream = Stream::new(scrubber);
        assert_eq!(stream.push(&"data: hello\n\n".into()), "data: hello\n\n");
        assert_eq!(stream.push(&"xsecret".into()), "x");
        assert_eq!(stream.push(&"-two".into()), "secret-two");
        assert_eq!(stream.push(&"sec".into()), "");
        assert_eq!(stream.finish(), "sec");
    }

    #[test]
    fn short_and_missing_secrets_are_not_looked_for() {
        assert!(Scrubber::new(&[Secret::new("abc"), Secret::new("")]).is_none());
        assert!(Scrubber::new(&[]).is_none());
    }
}
