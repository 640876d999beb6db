//! Who may call, and from where: keys, foreign pages, foreign names.

use bytes::Bytes;
use hyper::Method;
use serde_json::json;

use crate::harness::{Answer, Client, Server, until};

const KEYED: &str = r#"
mode = "stub"
[[keys]]
name = "chat"
secret = { file = "{folder}/chat.key" }
[[keys]]
name = "small"
secret = { file = "{folder}/small.key" }
max_images = 1
max_pixels = 4096
models = ["stub"]
[[keys]]
name = "nothing"
secret = { file = "{folder}/nothing.key" }
models = ["gone"]
"#;

async fn keyed(more: &str) -> Server {
    let files: [(&str, &[u8]); 3] =
        [("chat.key", b"sesame-open\n"), ("small.key", b"sesame-a-little"), ("nothing.key", b"sesame-shut")];
    Server::start_with(&format!("{more}\n{KEYED}"), &files).await
}

async fn with_headers(client: &Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    client.send(Method::GET, path, headers, Bytes::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn item_44_key_is_taken_from_either_header_and_only_if_it_is_right() {
    let server = keyed("").await;
    let client = server.client();
    let rows = [
        (vec![("authorization", "Bearer sesame-open")], 200),
        (vec![("authorization", "bearer  sesame-open ")], 200),
        (vec![("x-api-key", "sesame-open")], 200),
        (vec![("x-api-key", "sesame-open"), ("authorization", "Bearer wrong")], 200),
        (vec![], 401),
        (vec![("authorization", "Bearer wrong")], 401),
        (vec![("authorization", "Bearer sesame-ope")], 401),
        (vec![("authorization", "Bearer sesame-open!")], 401),
        (vec![("authorization", "Basic sesame-open")], 401),
        (vec![("authorization", "Bearer")], 401),
        (vec![("authorization", "sesame-open")], 401),
        (vec![("x-api-key", "")], 401),
        (vec![("x-api-key", "SESAME-OPEN")], 401),
        (vec![("cookie", "key=sesame-open")], 401),
    ];
    for (headers, status) in rows {
        let answer = with_headers(&client, "/v1/models", &headers).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
        if status == 401 {
            assert_eq!(answer.code(), "invalid_api_key");
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
            assert!(!answer.text().contains("sesame"), "a key is never repeated: {}", answer.text());
        }
    }
    with_headers(&client, "/v1/models?key=sesame-open", &[]).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn item_44_nothing_but_probes_and_public_pictures_is_served_without_a_key() {
    let server = keyed("").await;
    let (client, caller) = (server.client(), server.client().with_key("sesame-open"));
    let url = caller.generate(&json!({ "prompt": "a cat" })).await.expect(200).json()["data"][0]["url"].clone();
    let url = url.as_str().expect("the picture has an address");

    for path in ["/healthz", "/readyz", url] {
        client.get(path).await.expect(200);
    }
    for path in ["/v1/models", "/v1/models/stub", "/v1/gateway/status", "/health", "/info", "/api/backends"] {
        client.get(path).await.expect(401);
        caller.get(path).await.expect(200);
    }
    client.generate(&json!({ "prompt": "a cat" })).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_need_a_key_where_they_are_private() {
    let server = keyed("images.private = true").await;
    let caller = server.client().with_key("sesame-open");
    let url = caller.generate(&json!({ "prompt": "a cat" })).await.expect(200).json()["data"][0]["url"].clone();
    let url = url.as_str().expect("the picture has an address");

    server.client().get(url).await.expect(401);
    let answer = caller.get(url).await.expect(200);
    assert!(answer.header("cache-control").starts_with("private"), "{}", answer.header("cache-control"));
}

#[tokio::test(flavor = "multi_thread")]
async fn key_with_bounds_may_ask_within_them_only() {
    let server = keyed("models.aliases = { other = \"stub\" }").await;
    let caller = server.client().with_key("sesame-a-little");
    let rows = [
        (json!({ "prompt": "a cat", "size": "64x64" }), None),
        (json!({ "prompt": "a cat", "size": "64x64", "n": 2 }), Some("n")),
        (json!({ "prompt": "a cat", "size": "64x72" }), Some("size")),
        (json!({ "prompt": "a cat", "size": "64x64", "model": "stub/stub" }), None),
        (json!({ "prompt": "a cat", "size": "64x64", "model": "other" }), None),
    ];
    for (body, param) in rows {
        let answer = caller.generate(&body).await;
        match param {
            None => drop(answer.expect(200)),
            Some(param) => {
                let answer = answer.expect(403);
                assert_eq!(
                    (answer.code().as_str(), answer.json()["error"]["param"].as_str()),
                    ("permission_denied", Some(param))
                );
                assert_eq!(answer.header("x-should-retry"), "false");
            }
        }
    }
    let listed = caller.get("/v1/models").await.expect(200).json();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(2), "the model and its other name: {listed}");

    let caller = server.client().with_key("sesame-shut");
    for model in [json!(null), json!("stub"), json!("stub/stub"), json!("other"), json!("unheard-of")] {
        let answer = caller.generate(&json!({ "prompt": "a cat", "model": model })).await.expect(403);
        assert_eq!(answer.json()["error"]["param"], "model");
    }
    let listed = caller.get("/v1/models").await.expect(200).json();
    assert_eq!(listed["data"], json!([]), "only what may be used is listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn page_with_a_name_that_was_re_pointed_here_is_refused() {
    let server = Server::start("mode = \"stub\"\nallowed_hosts = [\"easel.example.org\"]").await;
    let client = server.client();
    for host in
        ["localhost", "localhost:9", "127.0.0.1:7860", "127.8.9.1", "[::1]:80", "LOCALHOST", "easel.example.org:8443"]
    {
        with_headers(&client, "/v1/models", &[("host", host)]).await.expect(200);
    }
    for host in [
        "evil.example",
        "evil.example:7860",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.1.5",
        "",
        "a@localhost",
    ] {
        let answer = with_headers(&client, "/v1/models", &[("host", host)]).await.expect(403);
        assert_eq!(answer.code(), "host_not_allowed", "{host}");
    }
    with_headers(&client, "/healthz", &[("host", "evil.example")]).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_page_may_not_call_and_a_configured_one_may() {
    let server = Server::start("mode = \"stub\"\nallowed_origins = [\"https://chat.example.org\"]").await;
    let client = server.client();
    for origin in [
        "https://evil.example",
        "http://chat.example.org",
        "https://chat.example.org:8443",
        "null",
        "https://chat.example.org.evil.example",
    ] {
        let answer = with_headers(&client, "/v1/models", &[("origin", origin)]).await.expect(403);
        assert_eq!(answer.code(), "origin_not_allowed", "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}");
    }
    let friend = [("origin", "https://chat.example.org")];
    let answer = with_headers(&client, "/v1/models", &friend).await.expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), "https://chat.example.org");
    let preflight = [
        friend[0],
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization, x-evil"),
    ];
    let answer = client.send(Method::OPTIONS, "/v1/images/generations", &preflight, Bytes::new()).await.expect(204);
    assert_eq!(answer.header("access-control-allow-headers"), "authorization");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_is_withdrawn_in_the_config_opens_nothing_any_more() {
    let server = keyed("").await;
    let caller = server.client().with_key("sesame-a-little");
    caller.get("/v1/models").await.expect(200);

    server.reconfigure("mode = \"stub\"\n[[keys]]\nname = \"chat\"\nsecret = { file = \"{folder}/chat.key\" }");

    until("the key is gone", async || caller.get("/v1/models").await.status == 401).await;
    server.client().with_key("sesame-open").get("/v1/models").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn body_over_the_limit_is_refused_whether_its_length_is_announced_or_not() {
    let server = Server::start("mode = \"stub\"\nmax_body_bytes = 65536").await;
    let client = server.client();
    let body = |length: usize| {
        let frame = json!({ "prompt": "a cat", "user": "" }).to_string().len();
        json!({ "prompt": "a cat", "user": "x".repeat(length - frame) })
    };
    client.generate(&body(65_536)).await.expect(200);

    let announced = client.generate(&body(65_537)).await.expect(413);
    assert_eq!((announced.code().as_str(), announced.header("x-should-retry")), ("request_too_large", "false"));
    assert!(announced.text().contains("65536"), "{}", announced.text());

    let head = "POST /v1/images/generations HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let text = body(65_537).to_string();
    let chunked = format!("{head}{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
    let answer = client.raw(chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("request_too_large"), "{answer}");
}
