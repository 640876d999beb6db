//! Puts blobs into JSON: `{"$blob": 0, "as": "data-url"}` becomes a string made of the first blob. The text around is
//! sent as the plugin wrote it.

use bytes::Bytes;
use serde::Deserialize;

use crate::door::Pieces;
use crate::json;

/// A blob to put in.
pub(crate) struct Insert {
    pub(crate) bytes: Bytes,
    pub(crate) media_type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    #[serde(rename = "$blob")]
    index: usize,
    r#as: Form,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Form {
    Base64,
    DataUrl,
}

/// Makes the body. Every blob must have its place, and every place a blob.
pub(crate) fn splice(text: String, inserts: &[Insert]) -> Result<Pieces, String> {
    json::check(text.as_bytes()).map_err(|error| format!("the body is not JSON: {error}"))?;
    let text = Bytes::from(text);
    let mut used = vec![false; inserts.len()];
    let mut pieces = Pieces::default();
    let (mut at, mut sent) = (0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'{', rest)) {
        at += found;
        if text[at] == b'"' {
            at = json::end_of_string(&text, at);
            continue;
        }
        let Some((end, place)) = place(&text, at)? else {
            at += 1;
            continue;
        };
        let count = inserts.len();
        let insert =
            inserts.get(place.index).ok_or_else(|| format!("there is no blob {}; there are {count}", place.index))?;
        pieces.plain(text.slice(sent..at));
        pieces.plain(match place.r#as {
            Form::Base64 => "\"".to_owned(),
            Form::DataUrl => format!("\"data:{};base64,", quoted_media_type(&insert.media_type)?),
        });
        pieces.base64(insert.bytes.clone());
        pieces.plain("\"");
        used[place.index] = true;
        (at, sent) = (end, end);
    }
    pieces.plain(text.slice(sent..));
    match used.iter().position(|used| !used) {
        Some(unused) => Err(format!("blob {unused} has no place in the body")),
        None => Ok(pieces),
    }
}

/// The place that begins at a brace, and where it ends; `None` for an ordinary object.
fn place(text: &[u8], at: usize) -> Result<Option<(usize, Place)>, String> {
    // The first name decides cheaply; no ordinary object is looked through to its end.
    let name = text.get(at + 1..).unwrap_or_default().trim_ascii_start();
    if !name.starts_with(b"\"$blob\"") && !name.starts_with(b"\"as\"") {
        return Ok(None);
    }
    let end = json::end_of_value(text, at);
    let object = text.get(at..end).and_then(|object| std::str::from_utf8(object).ok()).unwrap_or_default();
    match serde_json::from_str(object) {
        Ok(place) => Ok(Some((end, place))),
        Err(_) if !json::members(object).any(|(name, _)| name == "\"$blob\"") => Ok(None),
        Err(error) => {
            Err(format!("a blob's place must be {{\"$blob\": N, \"as\": \"base64\" or \"data-url\"}}: {error}"))
        }
    }
}

fn quoted_media_type(media_type: &str) -> Result<&str, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/+-.=;".contains(&byte);
    if media_type.bytes().all(is_plain) {
        Ok(media_type)
    } else {
        Err(format!("media type {media_type:?} is not plain"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::wire;

    fn spliced(text: &str) -> Result<String, String> {
        let insert = |text: &'static str| Insert { bytes: text.into(), media_type: "image/png".into() };
        let inserts = [insert("one"), insert("four")];
        splice(text.to_owned(), &inserts).map(|pieces| {
            let length = pieces.wire_bytes();
            let sent = String::from_utf8(wire(pieces)).unwrap();
            assert_eq!(sent.len() as u64, length);
            sent
        })
    }

    #[test]
    fn blobs_take_their_places_and_the_rest_stays_as_written() {
        let text = r#"{ "image": [{"$blob": 0, "as": "base64"} , { "as":"data-url" ,"$blob":1 }], "as": "{\"$blob\": 9}",
            "deep": {"as": {"x": 1.50}}, "again": {"$blob":0,"as":"base64"}}"#;
        let expected = r#"{ "image": ["b25l" , "data:image/png;base64,Zm91cg=="], "as": "{\"$blob\": 9}",
            "deep": {"as": {"x": 1.50}}, "again": "b25l"}"#;
        assert_eq!(spliced(text).unwrap(), expected);
        let wide = r#"["é", {"$blob":0,"as":"base64"}, {"$blob":1,"as":"base64"}]"#;
        assert_eq!(spliced(wide).unwrap(), r#"["é", "b25l", "Zm91cg=="]"#);
    }

    #[test]
    fn wrong_places_are_refused() {
        let rows = [
            (r#"[{"$blob": 2, "as": "base64"}]"#, "there is no blob 2"),
            (r#"[{"$blob": 0, "as": "base64"}]"#, "blob 1 has no place"),
            (r#"[{"$blob": 0, "as": "hex"}]"#, "a blob's place must be"),
            (r#"[{"$blob": 0}]"#, "a blob's place must be"),
            (r#"[{"as": "base64", "$blob": 0, "x": 1}]"#, "a blob's place must be"),
            (r#"[{"$blob": 0,"#, "the body is not JSON"),
        ];
        for (text, expected) in rows {
            let error = spliced(text).unwrap_err();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }
}
