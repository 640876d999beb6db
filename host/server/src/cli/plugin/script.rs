//! An upstream that answers from a test's script, and says what of it was not kept to.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use easel_runtime::workbench::{Answer, Sent, Upstream, Wire};
use serde_json::Value;

use super::case::{Answered, Exchange};

/// What stands in place of a credential's value in tests: the plugin's own tests hold no secrets.
pub(super) fn stand_in(credential: &str) -> String {
    format!("value-of-{credential}")
}

/// The upstream of one test.
pub(super) struct Script {
    /// Where the files of answers are.
    folder: PathBuf,
    credentials: Vec<String>,
    left: Mutex<VecDeque<Exchange>>,
    faults: Mutex<Vec<String>>,
}

impl Script {
    pub(super) fn new(folder: &Path, credentials: Vec<String>, exchanges: &[Exchange]) -> Self {
        let left = Mutex::new(exchanges.iter().cloned().collect());
        Self { folder: folder.to_owned(), credentials, left, faults: Mutex::default() }
    }

    /// What was not as the script says.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        faults.extend(
            left.iter().map(|exchange| format!("the upstream was never asked {} {}", exchange.method, exchange.url)),
        );
        faults
    }

    fn answer(&self, sent: &Sent) -> Result<Answer, String> {
        let next = self.left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(exchange) = next else {
            return Err(format!("the upstream was asked {} {}, which the test does not expect", sent.method, sent.url));
        };
        let differences = differences(&exchange, sent, &self.credentials);
        if differences.is_empty() { body(&exchange.answer, &self.folder) } else { Err(differences.join("; ")) }
    }
}

#[async_trait]
impl Upstream for Script {
    async fn exchange(&self, sent: Sent, _: Wire) -> Result<Answer, String> {
        self.answer(&sent).inspect_err(|fault| {
            self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault.clone());
        })
    }
}

/// What of a request is not as expected.
fn differences(expected: &Exchange, sent: &Sent, credentials: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    if (&expected.method, &expected.url) != (&sent.method, &sent.url) {
        faults.push(format!("asked {} {}, not {} {}", sent.method, sent.url, expected.method, expected.url));
    }
    for (name, value) in &expected.headers {
        let found = sent.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        if found != Some(value) {
            faults.push(format!("header {name} is {found:?}, not {value:?}"));
        }
    }
    let text = String::from_utf8_lossy(&sent.body);
    for name in credentials {
        let value = stand_in(name);
        let is_sent = sent.url.contains(&value)
            || text.contains(&value)
            || sent.headers.iter().any(|(_, header)| header.contains(&value));
        match (is_sent, expected.credential.as_ref() == Some(name)) {
            (true, false) => faults.push(format!("credential {name} was sent")),
            (false, true) => faults.push(format!("credential {name} was not sent")),
            (true, true) | (false, false) => {}
        }
    }
    if let Some(json) = &expected.json {
        let expected = serde_json::to_value(json).unwrap_or_default();
        match serde_json::from_str::<Value>(&text) {
            Ok(found) if same(&expected, &found) => {}
            Ok(found) => faults.push(format!("the body is {found}, not {expected}")),
            Err(error) => faults.push(format!("the body is no JSON: {error}")),
        }
    }
    let absent = expected.contains.iter().filter(|part| !text.contains(part.as_str()));
    faults.extend(absent.map(|part| format!("the body does not have {part:?}")));
    faults
}

/// Whether two values say the same; 1 and 1.0 do.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn body(answer: &Answered, folder: &Path) -> Result<Answer, String> {
    let (media_type, body) = match (&answer.json, &answer.text, &answer.file) {
        (Some(json), _, _) => ("application/json", serde_json::to_vec(json).map_err(|error| error.to_string())?),
        (None, Some(text), _) => ("text/plain", text.clone().into_bytes()),
        (None, None, Some(file)) => {
            let path = folder.join(file);
            let bytes = std::fs::read(&path)
                .map_err(|error| format!("the answer's file {} cannot be read: {error}", path.display()))?;
            (media_type(file), bytes)
        }
        (None, None, None) => ("", Vec::new()),
    };
    let mut headers: Vec<_> = answer.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    if !media_type.is_empty() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        headers.push(("content-type".to_owned(), media_type.to_owned()));
    }
    Ok(Answer { status: answer.status, headers, body: body.into() })
}

fn media_type(file: &str) -> &'static str {
    match file.rsplit('.').next() {
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some(_) | None => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(text: &str) -> Exchange {
        toml::from_str(text).unwrap()
    }

    fn sent(url: &str, headers: &[(&str, &str)], body: &str) -> Sent {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sent { method: "POST".to_owned(), url: url.to_owned(), headers, body: body.to_owned().into() }
    }

    #[test]
    fn request_must_be_as_the_script_says() {
        let expected = exchange(
            "method = \"POST\"\nurl = \"http://u/v1\"\nheaders = { \"x-a\" = \"b\" }\ncredential = \"key\"\njson = { n = 1, list = [\"x\"] }\nanswer = { status = 200 }\n",
        );
        let check = |sent: &Sent| differences(&expected, sent, &["key".to_owned()]);
        let headers = [("X-A", "b"), ("authorization", "Bearer value-of-key")];
        assert_eq!(check(&sent("http://u/v1", &headers, r#"{"list": ["x"], "n": 1.0}"#)), [""; 0]);
        assert_eq!(check(&sent("http://u/v2", &headers[..1], r#"{"n": 2}"#)).len(), 3);
        assert_eq!(check(&sent("http://u/v1", &headers[1..], "x")).len(), 2);
    }

    #[test]
    fn credential_that_is_not_expected_is_a_fault_wherever_it_stands() {
        let expected = exchange("method = \"POST\"\nurl = \"http://u/?k=value-of-key\"\nanswer = { status = 200 }\n");
        let url = "http://u/?k=value-of-key";
        assert_eq!(differences(&expected, &sent(url, &[], ""), &["key".to_owned()]), ["credential key was sent"]);
        assert_eq!(differences(&expected, &sent(url, &[], ""), &[]), [""; 0]);
    }

    #[test]
    fn exchanges_that_nobody_asked_for_are_told() {
        let expected = exchange("method = \"POST\"\nurl = \"http://u/\"\nanswer = { status = 204 }\n");
        let script = Script::new(Path::new("."), Vec::new(), &[expected]);
        assert_eq!(script.faults(), ["the upstream was never asked POST http://u/"]);
        assert_eq!(script.answer(&sent("http://u/", &[], "")).unwrap().status, 204);
        assert_eq!(script.faults(), [""; 0]);
        assert!(script.answer(&sent("http://u/", &[], "")).unwrap_err().contains("does not expect"));
    }
}
