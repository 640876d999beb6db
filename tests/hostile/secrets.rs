//! Credentials: how each kind is put on, where it goes, and that no byte of one comes back.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use easel_core::ErrorKind;
use easel_runtime::{PluginSettings, Secret};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Host, KEY, MANIFEST, install, limits};
use crate::harness::{Received, Reply, Upstream, Wire};

/// A key that looks different in every form.
const ODD: &str = "sk-\"odd\\key/with+all=of it&\u{e9}%";

/// The hostile adapter with other credentials in its manifest, granted these origins and this key.
async fn host(credential: &str, origins: &[&str], key: &str) -> Host {
    let folder = tempfile::TempDir::new().unwrap();
    let manifest = MANIFEST.replace("header = \"x-secret\"\nprefix = \"Bearer \"", credential);
    assert_ne!(manifest, MANIFEST, "the manifest has such a credential");
    install(folder.path(), "hostile", env!("COMPONENT_HOSTILE_GUEST"), &manifest);
    Host::start(folder, [("hostile".to_owned(), supplied(origins, key))].into(), limits()).await
}

fn supplied(origins: &[&str], key: &str) -> PluginSettings {
    let credentials = [("key".to_owned(), Secret::new(key))].into();
    PluginSettings { credentials, ..super::settings(origins) }
}

/// A text in the disguise in which the guest looks for it.
fn disguised(text: &str) -> String {
    text.bytes().map(|byte| format!("{:02x}", byte ^ 0x5a)).collect()
}

async fn ok() -> Upstream {
    Upstream::start(|_| Reply::bytes(200, "text/plain", "ok".into())).await
}

#[tokio::test]
async fn key_in_the_query_replaces_what_the_plugin_wrote_there() {
    let upstream = ok().await;
    let host = host("query = \"key\"", &[&upstream.origin()], "s&cret-of-mine").await;
    let url = format!("{}/v1?a=%20b&key=mine&k%65y=mine", upstream.origin());
    host.answer(&format!("fetch GET {url} credential=key")).await;
    host.answer(&format!("wasi-http GET {url} x-easel-credential:key")).await;
    host.answer(&format!("fetch GET {url}")).await;
    let paths: Vec<_> = upstream.received().into_iter().map(|received| received.path).collect();
    let with = "/v1?a=%20b&key=s%26cret-of-mine";
    assert_eq!(paths, [with, with, "/v1?a=%20b&key=mine&k%65y=mine"]);
}

#[tokio::test]
async fn key_in_the_body_is_spliced_into_whatever_json_is_sent() {
    let upstream = ok().await;
    let host = host("json = \"/auth/key\"", &[&upstream.origin()], ODD).await;
    let url = format!("{}/", upstream.origin());
    let body = r#"body={"auth":{"key":"mine"},"n":[1,{"auth":2}]}"#;
    host.answer(&format!("fetch POST {url} {body} credential=key")).await;
    host.answer(&format!("wasi-http POST {url} {body} x-easel-credential:key")).await;
    host.answer(&format!("wasi-http POST {url} body={{\"auth\":{{}}}} x-easel-credential:key")).await;
    let received: Vec<_> = upstream.received().iter().map(Received::json).collect();
    let expected = serde_json::json!({ "auth": { "key": ODD }, "n": [1, { "auth": 2 }] });
    assert_eq!(received, [expected.clone(), expected, serde_json::json!({ "auth": { "key": ODD } })]);
}

#[tokio::test]
async fn body_that_cannot_hold_the_key_is_refused_before_its_end_is_sent() {
    let upstream = ok().await;
    let host = host("json = \"/auth/key\"", &[&upstream.origin()], KEY).await;
    let url = format!("{}/", upstream.origin());
    for body in ["", "body=hello", "body={\"auth\":{\"key\":", "body={\"other\":{}}", "body=a=1&b=2", "body=[1]"] {
        let error = host.generate(&format!("fetch POST {url} {body} credential=key")).await.unwrap_err();
        assert!(error.message().contains("the credential"), "{body}: {error}");
        let answer = host.answer(&format!("wasi-http POST {url} {body} x-easel-credential:key")).await;
        assert!(answer.starts_with("refused: "), "{body}: {answer}");
    }
    // What is whole when it is sent is checked to the letter.
    let body = r#"body={"auth":{},"a":"\q"}"#;
    let error = host.generate(&format!("fetch POST {url} {body} credential=key")).await.unwrap_err();
    assert!(error.message().contains("the body is not JSON"), "{error}");
    assert!(upstream.received().iter().all(|received| !String::from_utf8_lossy(&received.body).contains(KEY)));
}

#[tokio::test]
async fn key_goes_only_where_the_manifest_ties_it_to() {
    let (tied, other) = (ok().await, ok().await);
    let folder = tempfile::TempDir::new().unwrap();
    let manifest = MANIFEST
        .replace(
            "[network]\norigins = [\"operator\"]",
            "[[network]]\norigin = \"operator\"\n[[network]]\norigin = \"TIED\"\ncredential = \"key\"",
        )
        .replace("TIED", &tied.origin());
    install(folder.path(), "hostile", env!("COMPONENT_HOSTILE_GUEST"), &manifest);
    let settings = supplied(&[&tied.origin(), &other.origin()], KEY);
    let host = Host::start(folder, [("hostile".to_owned(), settings)].into(), limits()).await;
    host.answer(&format!("fetch GET {}/ credential=key", tied.origin())).await;
    let error = host.generate(&format!("fetch GET {}/ credential=key", other.origin())).await.unwrap_err();
    assert!(error.message().contains("may not send its credential \"key\" there"), "{error}");
    let answer = host.answer(&format!("wasi-http GET {}/ x-easel-credential:key", other.origin())).await;
    assert!(answer.starts_with("refused: "), "{answer}");
    host.answer(&format!("fetch GET {}/", other.origin())).await;
    assert_eq!(tied.received()[0].header("x-secret"), format!("Bearer {KEY}"));
    assert_eq!(other.received().len(), 1);
}

#[tokio::test]
async fn redirect_that_carries_the_key_to_another_origin_is_not_followed() {
    let target = ok().await;
    let to = target.origin();
    let upstream = Upstream::start(move |received| {
        let (path, query) = received.path.split_once('?').unwrap_or((&received.path, ""));
        match path {
            "/leak" => Reply::bytes(307, "text/plain", Bytes::new()).with("location", &format!("{to}/?{query}")),
            "/round" => Reply::bytes(307, "text/plain", Bytes::new()).with("location", &format!("/end?{query}")),
            "/bare" => Reply::bytes(307, "text/plain", Bytes::new()).with("location", "#there"),
            _ => Reply::bytes(200, "text/plain", "ok".into()),
        }
    })
    .await;
    let host = host("query = \"key\"", &[&upstream.origin(), &target.origin()], ODD).await;
    let error = host.generate(&format!("fetch GET {}/leak credential=key", upstream.origin())).await.unwrap_err();
    assert!(error.message().contains("with a credential in the address"), "{error}");
    assert!(target.received().is_empty());
    host.answer(&format!("fetch GET {}/round credential=key", upstream.origin())).await;
    let paths: Vec<_> = upstream.received().into_iter().map(|received| received.path).collect();
    assert_eq!(paths[2].matches("key=").count(), 1, "{paths:?}");
    // By `wasi:http` the plugin follows by itself, and does not see where the key went.
    let answer = host
        .answer(&format!("search {} wasi-http GET {}/leak x-easel-credential:key", disguised(ODD), upstream.origin()))
        .await;
    assert!(answer.starts_with("0 in memory, 307 "), "{answer}");
}

/// A key in all the forms that upstreams give back, by the path of a request.
fn echoed(path: &str, key: &str) -> Bytes {
    let json = serde_json::to_string(key).unwrap();
    let text = match path {
        "/json" => format!("{{\"said\":{json},\"marker\":\"there-it-is\"}}"),
        "/slash" => format!("{{\"said\":{},\"marker\":\"there-it-is\"}}", json.replace('/', "\\/")),
        "/query" => format!("there-it-is key={}", url_encoded(key)),
        "/base64" => format!("there-it-is {}", STANDARD.encode(format!("user:{key}"))),
        "/base64-url" => format!("there-it-is {}", URL_SAFE_NO_PAD.encode(format!("x{key}"))),
        _ => format!("there-it-is {key} {key}{key}"),
    };
    text.into()
}

fn url_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn gzipped(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().into()
}

/// What is looked for: the key, and the forms in which it could be read back.
fn sought(key: &str) -> Vec<String> {
    let json = serde_json::to_string(key).unwrap();
    let middle = |text: String| text[4..text.len() - 4].to_owned();
    vec![
        key.to_owned(),
        json.trim_matches('"').to_owned(),
        json.trim_matches('"').replace('/', "\\/"),
        url_encoded(key),
        middle(STANDARD.encode(format!("user:{key}"))),
        middle(URL_SAFE_NO_PAD.encode(format!("x{key}"))),
    ]
}

#[tokio::test]
async fn no_byte_of_the_key_is_ever_in_the_plugins_memory() {
    for key in [KEY, ODD] {
        let upstream = Upstream::start(move |received| {
            let (packing, path) = received.path.split_at(received.path.rfind('/').unwrap());
            let body = echoed(path, key);
            let ascii = key.replace('\u{e9}', "e");
            match packing {
                "/gzip" => Reply::bytes(200, "text/plain", gzipped(&body)).with("content-encoding", "gzip"),
                _ => Reply::bytes(200, "text/plain", body).with("x-seen", &ascii),
            }
        })
        .await;
        let key_in_header = key == KEY;
        let credential = if key_in_header { "header = \"x-secret\"" } else { "query = \"key\"" };
        let host = host(credential, &[&upstream.origin()], key).await;
        for path in ["/plain", "/json", "/slash", "/query", "/base64", "/base64-url", "/gzip/plain", "/gzip/base64"] {
            for way in ["fetch", "wasi-http"] {
                let named = if way == "fetch" { "credential=key" } else { "x-easel-credential:key" };
                let request = format!("{way} GET {}{path} {named}", upstream.origin());
                for text in sought(key) {
                    let answer = host.answer(&format!("search {} {request}", disguised(&text))).await;
                    assert!(answer.starts_with("0 in memory, 200 "), "{way} {path}: {answer}");
                    assert!(!answer.contains(key), "{way} {path}: {answer}");
                }
                // What is not secret is found, so looking finds what is there.
                let answer = host.answer(&format!("search {} {request}", disguised("there-it-is"))).await;
                let found: usize = answer.split(' ').next().unwrap().parse().unwrap();
                assert!(found > 0 && answer.contains("there-it-is"), "{way} {path}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn key_that_comes_back_in_parts_or_trailers_is_not_seen() {
    let upstream = Wire::start(|head| {
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-echo\r\n\r\n".to_vec();
        // Every byte is a chunk of its own.
        let parts: Vec<String> = match head.contains("/halves") {
            true => vec![format!("before {}", &KEY[..9]), format!("{} after", &KEY[9..])],
            false => format!("before {KEY} after").chars().map(String::from).collect(),
        };
        for part in parts {
            answer.extend_from_slice(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes());
        }
        answer.extend_from_slice(format!("0\r\nx-echo: {KEY}\r\n\r\n").as_bytes());
        answer
    })
    .await;
    let host = Host::granted(&[&upstream.origin()]).await;
    for path in ["/bytes", "/halves"] {
        for way in ["fetch", "wasi-http"] {
            let request = format!("{way} GET {}{path}", upstream.origin());
            let answer = host.answer(&format!("search {} {request}", disguised(KEY))).await;
            assert!(answer.starts_with("0 in memory, 200 "), "{answer}");
            assert!(answer.ends_with(&format!("before {} after", "*".repeat(KEY.len()))), "{answer}");
        }
    }
}

#[tokio::test]
async fn plugin_that_knows_the_key_all_the_same_cannot_pass_it_on_in_an_error() {
    let upstream = ok().await;
    let host = Host::granted(&[&upstream.origin()]).await;
    let error = host.generate(&format!("say it-is-{KEY}")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Upstream);
    assert_eq!(error.message(), format!("it-is-{}", "*".repeat(KEY.len())));
    let error = format!("{error:?} {error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
    assert!(!error.contains(KEY) && error.contains("it-is-"), "{error}");
}

#[tokio::test]
async fn changed_key_counts_at_once_without_a_new_generation_or_connection() {
    let upstream = Wire::start(|head| {
        let key = head.lines().find_map(|line| line.strip_prefix("x-secret: ")).unwrap_or_default();
        let body = format!("{key} and {KEY}");
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    })
    .await;
    let host = Host::granted(&[&upstream.origin()]).await;
    let loaded = || {
        let status = host.status("hostile");
        (status.loads, status.since, status.digest)
    };
    let before = loaded();
    let prompt = format!("fetch GET {}/ credential=key", upstream.origin());
    host.answer(&prompt).await;
    let next = "sk-the-next-key-9876543210";
    host.runtime.reconfigure([("hostile".to_owned(), supplied(&[&upstream.origin()], next))].into());
    let answer = host.answer(&prompt).await;
    let sent: Vec<_> = upstream.heads().iter().map(|head| head.contains(&format!("x-secret: Bearer {next}"))).collect();
    assert_eq!(sent, [false, true], "the very next request has the new one");
    // The one that was replaced is as secret as before.
    let stars = |key: &str| "*".repeat(key.len());
    assert!(answer.ends_with(&format!("Bearer {} and {}", stars(next), stars(KEY))), "{answer}");
    // The loader has looked at everything once another plugin, which came later, serves.
    let other = MANIFEST.replace("\"hostile\"", "\"other\"");
    install(host.folder.path(), "other", env!("COMPONENT_HOSTILE_GUEST"), &other);
    host.until("another plugin serves", |runtime| super::is_ready(runtime, "other")).await;
    assert_eq!(loaded(), before, "no generation was made");
    assert_eq!(upstream.connections(), 1);
}
