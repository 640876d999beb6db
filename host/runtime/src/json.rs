//! JSON without a tree: an answer with an 8 MB picture in it is checked once, and then its parts are found where they
//! lie. Every function but [`check`] takes text that `check` has accepted.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// Checks that bytes are one JSON value, nested at most 128 deep.
pub(crate) fn check(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// The value at a JSON Pointer (RFC 6901).
pub(crate) fn find<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
    let mut value = text.trim_ascii();
    if pointer.is_empty() {
        return Some(value);
    }
    for token in pointer.strip_prefix('/')?.split('/') {
        let token = token.replace("~1", "/").replace("~0", "~");
        value = match value.as_bytes().first() {
            // As everywhere, the last of equal names counts.
            Some(b'{') => members(value).filter(|(name, _)| unquote(name).is_some_and(|name| name == token)).last()?.1,
            Some(b'[') => elements(value).nth(index(&token)?)?,
            _ => return None,
        };
    }
    Some(value)
}

fn index(token: &str) -> Option<usize> {
    let is_plain = token.bytes().all(|byte| byte.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    is_plain.then(|| token.parse().ok()).flatten()
}

/// The number of elements of an array or members of an object.
pub(crate) fn count(value: &str) -> Option<usize> {
    match value.as_bytes().first() {
        Some(b'{') => Some(members(value).count()),
        Some(b'[') => Some(elements(value).count()),
        _ => None,
    }
}

/// The members of an object: name, still quoted, and value.
pub(crate) fn members(object: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut items = Items { text: object, at: 1 };
    std::iter::from_fn(move || {
        let name = items.next_value()?;
        Some((name, items.next_value()?))
    })
}

fn elements(array: &str) -> impl Iterator<Item = &str> {
    let mut items = Items { text: array, at: 1 };
    std::iter::from_fn(move || items.next_value())
}

/// The values inside one array or object, names among them.
struct Items<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Items<'a> {
    fn next_value(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':')) {
            self.at += 1;
        }
        if matches!(bytes.get(self.at), None | Some(b']' | b'}')) {
            return None;
        }
        let begin = self.at;
        self.at = end_of_value(bytes, begin);
        self.text.get(begin..self.at)
    }
}

/// Where the value that begins at `at` ends.
pub(crate) fn end_of_value(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                // A number or word before the end of what holds it.
                if depth == 0 {
                    return at;
                }
                depth -= 1;
                at += 1;
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {
                at += 1;
                continue;
            }
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Where the string whose opening quote is at `at` ends, its closing quote included.
pub(crate) fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        match bytes.get(at + found) {
            Some(b'"') => return at + found + 1,
            _ => at += found + 2,
        }
    }
    bytes.len()
}

/// The text of a quoted string; `None` for any other value.
pub(crate) fn unquote(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(inner.into());
    }
    serde_json::from_str::<String>(value).ok().map(Cow::Owned)
}

/// Copies a value with every string in it cut to `most` characters; names stay whole. `None` when the copy would be
/// longer than `most_bytes`.
pub(crate) fn cut(value: &str, most: usize, most_bytes: usize) -> Option<String> {
    let bytes = value.as_bytes();
    let mut copy = String::new();
    let mut at = 0;
    while at < bytes.len() && copy.len() <= most_bytes {
        let quote = memchr::memchr(b'"', &bytes[at..]).map_or(bytes.len(), |found| at + found);
        copy.push_str(value.get(at..quote)?);
        if quote == bytes.len() {
            break;
        }
        at = end_of_string(bytes, quote);
        let string = value.get(quote..at)?;
        let is_name = bytes[at..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
        match if is_name { None } else { too_long(string, most) } {
            Some(end) => {
                copy.push_str(string.get(..end)?);
                copy.push('"');
            }
            None => copy.push_str(string),
        }
    }
    (copy.len() <= most_bytes).then_some(copy)
}

/// Where to cut a quoted string that has more than `most` characters.
fn too_long(string: &str, most: usize) -> Option<usize> {
    let inner = string.len() - 1;
    let mut at = 1;
    for _ in 0..most {
        if at >= inner {
            return None;
        }
        at += character(string.as_bytes().get(at..)?);
    }
    (at < inner).then_some(at)
}

/// The length of the character, escaped or not, at the beginning. A pair of surrogates is one.
fn character(bytes: &[u8]) -> usize {
    match bytes {
        [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', _, _, b'\\', b'u', ..] => 12,
        [b'\\', b'u', ..] => 6,
        [b'\\', ..] => 2,
        [0xf0..=0xff, ..] => 4,
        [0xe0..=0xef, ..] => 3,
        [0xc0..=0xdf, ..] => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const TEXT: &str = r#" {"a" : [1, -2.5e3 , true,null, "x\"]}" , {"b":[]}, [[ ]] ], "é/~" :{"": "v"}, "a\u0062":"\u00e9",
        "d":1,"d":2} "#;

    #[test]
    fn pointers_find_what_a_parsed_tree_has() {
        let tree: Value = serde_json::from_str(TEXT).unwrap();
        let text = check(TEXT.as_bytes()).unwrap();
        let pointers = [
            "", "/a", "/a/0", "/a/1", "/a/2", "/a/3", "/a/4", "/a/5", "/a/5/b", "/a/6", "/a/6/0", "/a/7", "/a/00",
            "/a/-", "/a/x", "/é~1~0", "/é~1~0/", "/ab", "/d", "/d/0", "/nothing", "a", "/a/5/b/0", "/a/+1",
        ];
        for pointer in pointers {
            let found = find(text, pointer);
            let parsed = found.map(|value| serde_json::from_str::<Value>(value).unwrap());
            assert_eq!(parsed.as_ref(), tree.pointer(pointer), "{pointer}");
            let length = tree.pointer(pointer).and_then(|value| match value {
                Value::Array(array) => Some(array.len()),
                // The tree has each name once; here both of `d` count.
                Value::Object(object) => Some(object.len() + usize::from(pointer.is_empty())),
                _ => None,
            });
            assert_eq!(found.and_then(count), length, "{pointer}");
        }
    }

    #[test]
    fn broken_text_is_refused() {
        for text in ["", "{", "[1,]", "{\"a\"}", "\"\\x\"", "nul", "1 2", "[\"a\u{1}\"]"] {
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
        assert!(check(&[b'"', 0xff, b'"']).is_err());
        assert!(check("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn long_strings_are_cut_between_characters() {
        let rows = [
            (r#"{"long-name":"abcdef"}"#, 3, r#"{"long-name":"abc"}"#),
            (r#"["abc", "ab"]"#, 3, r#"["abc", "ab"]"#),
            (r#""a\n\"b""#, 2, r#""a\n""#),
            (r#""\ud83d\ude00x""#, 1, r#""\ud83d\ude00""#),
            ("\"éü😀x\"", 3, "\"éü😀\""),
            (r#""abc""#, 0, r#""""#),
            ("12345", 2, "12345"),
        ];
        for (text, most, expected) in rows {
            let copy = cut(text, most, 1000).unwrap();
            assert_eq!(copy, expected);
            check(copy.as_bytes()).unwrap();
        }
        assert_eq!(cut("[1,2,3,4,5]", 5, 5), None);
    }
}
