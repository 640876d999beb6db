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
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::door::wire;
    use crate::random::Random;

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

    #[test]
    fn media_type_cannot_end_the_text_that_it_stands_in() {
        let spliced = |media_type: &str| {
            let insert = Insert { bytes: "one".into(), media_type: media_type.to_owned() };
            splice(r#"[{"$blob": 0, "as": "data-url"}]"#.to_owned(), &[insert]).map(wire)
        };
        assert_eq!(spliced("image/svg+xml").unwrap(), br#"["data:image/svg+xml;base64,b25l"]"#);
        for media_type in ["image/png\",\"admin\":\"", "a b", "a\\u0022", "a,b", "ä"] {
            assert!(spliced(media_type).unwrap_err().ends_with("is not plain"), "{media_type}");
        }
    }

    /// A tree as a plugin writes it, with places for blobs, and as it must be sent. `used` tells which blobs have a place.
    fn with_places(random: &mut Random, blobs: &[Insert], used: &mut [bool], depth: usize) -> (Value, Value) {
        let inner = if depth == 0 { 0 } else { random.below(5) };
        match (random.below(3), inner) {
            (0, _) if !blobs.is_empty() => {
                let index = random.below(blobs.len());
                used[index] = true;
                let encoded = STANDARD.encode(&blobs[index].bytes);
                match random.below(2) {
                    0 => (json!({ "$blob": index, "as": "base64" }), encoded.into()),
                    _ => {
                        let url = format!("data:{};base64,{encoded}", blobs[index].media_type);
                        (json!({ "as": "data-url", "$blob": index }), url.into())
                    }
                }
            }
            (_, 1 | 2) => {
                let count = random.below(4);
                let (written, sent): (Vec<_>, Vec<_>) =
                    (0..count).map(|_| with_places(random, blobs, used, depth - 1)).unzip();
                (written.into(), sent.into())
            }
            (_, 3 | 4) => {
                let (mut written, mut sent) = (Map::new(), Map::new());
                for name in ["a", "as", "é\"{", "$blobs"].iter().take(random.below(5)) {
                    let (one, other) = with_places(random, blobs, used, depth - 1);
                    written.insert((*name).to_owned(), one);
                    sent.insert((*name).to_owned(), other);
                }
                (written.into(), sent.into())
            }
            _ => {
                let leaf = random.json(&["a"], 0);
                (leaf.clone(), leaf)
            }
        }
    }

    #[test]
    fn any_tree_with_places_is_sent_as_a_parsed_tree_would_be() {
        let mut random = Random::new(3);
        let mut placed = 0;
        for _ in 0..3000 {
            let blobs: Vec<_> = (0..random.below(4))
                .map(|_| {
                    let length = random.below(70);
                    Insert { bytes: random.bytes(length).into(), media_type: "image/png".into() }
                })
                .collect();
            let mut used = vec![false; blobs.len()];
            let (written, expected) = with_places(&mut random, &blobs, &mut used, 4);
            let text = random.written(&written);
            match splice(text.clone(), &blobs) {
                Ok(pieces) => {
                    assert!(used.iter().all(|used| *used), "{text}");
                    let length = pieces.wire_bytes();
                    let sent = wire(pieces);
                    assert_eq!(sent.len() as u64, length);
                    assert_eq!(serde_json::from_slice::<Value>(&sent).unwrap(), expected, "{text}");
                    placed += used.len();
                }
                Err(error) => assert!(used.contains(&false), "{text}: {error}"),
            }
        }
        assert!(placed > 300, "only {placed} blobs had a place");
    }

    #[test]
    fn whatever_is_sent_is_json_if_it_was_and_nothing_panics() {
        let mut random = Random::new(4);
        let letters =
            ["{", "}", "[", "]", "\"$blob\"", "\"as\"", ":", ",", "0", "\"base64\"", "\"", "\\", " ", "é", "\"x\""];
        let blob = Insert { bytes: "blob".into(), media_type: "image/png".into() };
        for round in 0..20_000 {
            let mut text: String = (0..random.below(14)).map(|_| letters[random.below(letters.len())]).collect();
            if round % 2 == 0 {
                text = format!("[{{\"$blob\":0,\"as\":\"base64\"}},{text}]");
            }
            if let Ok(pieces) = splice(text.clone(), std::slice::from_ref(&blob)) {
                assert!(json::check(text.as_bytes()).is_ok(), "{text}");
                serde_json::from_slice::<Value>(&wire(pieces)).unwrap_or_else(|error| panic!("{text}: {error}"));
            }
        }
    }
}
