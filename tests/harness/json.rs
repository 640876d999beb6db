//! Compares JSON with what is expected of it. What is expected names only what matters: objects may have more members,
//! arrays are as long as they are written. A text in angle brackets stands for a kind of value:
//!
//! `<any>`, `<integer>`, `<number>`, `<string>`, `<null>`, `<absent>`, `<contains TEXT>`, and `<like A*B>` where `*` is
//! any text.

use serde_json::Value;

/// Says where a value is not what is expected, or nothing.
pub fn mismatch(expected: &Value, actual: Option<&Value>, path: &str) -> Option<String> {
    let is_right = match (expected, actual) {
        (Value::String(pattern), actual) if pattern.starts_with('<') && pattern.ends_with('>') => {
            is_of_kind(&pattern[1..pattern.len() - 1], actual)
        }
        (Value::Object(members), Some(Value::Object(there))) => {
            return members
                .iter()
                .find_map(|(name, value)| mismatch(value, there.get(name), &format!("{path}.{name}")));
        }
        (Value::Array(items), Some(Value::Array(there))) if items.len() == there.len() => {
            let mut pairs = items.iter().zip(there).enumerate();
            return pairs.find_map(|(index, (item, there))| mismatch(item, Some(there), &format!("{path}[{index}]")));
        }
        // 1.0 in a case is 1 on the wire.
        (Value::Number(number), Some(Value::Number(there))) => number == there || number.as_f64() == there.as_f64(),
        (expected, actual) => actual == Some(expected),
    };
    let actual = actual.map_or_else(|| "nothing".to_owned(), Value::to_string);
    (!is_right).then(|| format!("{path} should be {expected}, not {}", actual.chars().take(300).collect::<String>()))
}

fn is_of_kind(kind: &str, actual: Option<&Value>) -> bool {
    let (word, rest) = kind.split_once(' ').unwrap_or((kind, ""));
    match (word, actual) {
        ("absent", actual) => actual.is_none(),
        ("any", actual) => actual.is_some(),
        ("null", actual) => actual.is_some_and(Value::is_null),
        ("integer", actual) => actual.is_some_and(|value| value.is_u64() || value.is_i64()),
        ("number", actual) => actual.is_some_and(Value::is_number),
        ("string", actual) => actual.is_some_and(Value::is_string),
        ("contains", Some(Value::String(text))) => text.contains(rest),
        ("like", Some(Value::String(text))) => is_like(rest, text),
        ("contains" | "like", _) => false,
        _ => panic!("no such pattern: <{kind}>"),
    }
}

/// Whether a text is a pattern with some text for each `*`.
pub fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn expectations_hold_and_fail_as_they_should() {
    let actual = serde_json::json!({"a": 1, "b": [1.5, "text"], "c": null, "more": true});
    let holds = [
        r#"{"a": 1}"#,
        r#"{"a": "<integer>", "b": ["<number>", "<contains ex>"], "c": "<null>", "d": "<absent>"}"#,
        r#"{"b": "<any>", "a": 1.0}"#,
        r#"{"b": [1.5, "<like t*t>"]}"#,
        r#"{"b": ["<any>", "<like *ex*>"]}"#,
    ];
    let fails = [
        r#"{"a": 2}"#,
        r#"{"b": [1.5]}"#,
        r#"{"b": ["<integer>", "text"]}"#,
        r#"{"c": "<absent>"}"#,
        r#"{"d": "<any>"}"#,
        r#"{"d": "<null>"}"#,
        r#"{"b": ["<any>", "<like t*x>"]}"#,
        r#"{"b": ["<any>", "<like ext*>"]}"#,
        r#"{"a": "<string>"}"#,
        r#"{"a": "<contains 1>"}"#,
    ];
    for text in holds {
        assert_eq!(mismatch(&serde_json::from_str(text).unwrap(), Some(&actual), "$"), None, "{text}");
    }
    for text in fails {
        assert!(mismatch(&serde_json::from_str(text).unwrap(), Some(&actual), "$").is_some(), "{text}");
    }
}
