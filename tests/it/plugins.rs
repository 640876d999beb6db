//! Plugins in the running server: what an adapter does with a real upstream, what a transformer does to a request, and
//! that both are put in, replaced, broken and taken away while requests run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Reply, Server, Upstream, components, openai, pictures, until};

async fn ask(client: &Client, prompt: &str) -> Answer {
    client.generate(&json!({ "prompt": prompt, "backend": "openai-images", "response_format": "b64_json" })).await
}

/// The ids of the backends that are there.
async fn backends(client: &Client) -> Vec<String> {
    let list = client.get("/api/backends").await.expect(200).json();
    let ids =
        list.as_array().expect("a list").iter().map(|backend| backend["id"].as_str().unwrap_or_default().to_owned());
    ids.collect()
}

async fn has_backend(client: &Client, id: &str) -> bool {
    backends(client).await.iter().any(|backend| backend == id)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_easel_behind_an_adapter_gives_the_pictures_that_it_gives_itself() {
    let behind = Server::start_with(
        "mode = \"stub\"\n[[keys]]\nname = \"front\"\nsecret = { file = \"{folder}/key\" }",
        &[("key", b"sesame-open")],
    )
    .await;
    let config = format!(
        "{}\n[plugin.openai-images.credentials]\napi_key = {{ file = \"{{folder}}/upstream.key\" }}",
        openai::config(&behind.origin(), "")
    );
    let front = Server::start_with(&config, &[("upstream.key", b"sesame-open"), openai::COMPONENT]).await;
    let client = front.client();
    let body = |backend: &str| json!({ "prompt": "a cat", "seed": 7, "n": 2, "size": "64x128", "backend": backend });

    let through = client.generate(&body("openai-images")).await.expect(200);
    let itself = behind.client().with_key("sesame-open").generate(&body("stub")).await.expect(200);

    assert_eq!(through.header("x-backend-used"), "openai-images");
    assert!(!through.text().contains("sesame"));
    let through = pictures::files(&client, &through).await;
    assert_eq!(through.len(), 2);
    assert_eq!(through, pictures::files(&behind.client(), &itself).await);
    let (_, picture) = pictures::decode(&through[0]);
    assert_eq!((picture.width(), picture.height()), (64, 128));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_config_hold_for_plugins() {
    let upstream = Upstream::start(|_| openai::pictures(1)).await;
    for (limit, status) in [("requests = 0", 502), ("requests = 1", 200)] {
        let config = openai::config(&upstream.origin(), "");
        let server = openai::server_of(&format!("{config}[plugin_limits]\n{limit}\n")).await;
        ask(&server.client(), "a cat").await.expect(status);
    }
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn item_30_backend_that_is_not_ready_is_answered_503_and_its_upstream_is_not_asked() {
    let upstream = Upstream::start(|_| openai::pictures(1)).await;
    let manifest = include_str!("../../plugins/openai-images/plugin.toml");
    let needy = manifest.replace("required = false", "required = true");
    assert_ne!(manifest, needy, "it does not need its key");
    let files = [
        ("plugins/openai-images/plugin.toml", needy.as_bytes()),
        ("plugins/openai-images/plugin.wasm", openai::COMPONENT.1),
    ];
    let config = openai::config(&upstream.origin(), "");
    let server = Server::start_with(&config, &files).await;

    let answer = ask(&server.client(), "a cat").await.expect(503);

    assert_eq!((answer.code().as_str(), answer.header("retry-after")), ("backend_not_ready", "30"));
    assert_eq!(answer.header("x-backend-used"), "openai-images");
    assert!(answer.json()["error"]["message"].as_str().is_some_and(|text| text.contains("api_key")), "{answer:?}");
    assert!(upstream.received().is_empty(), "it was asked");
    let standing = server.client().get("/readyz").await.expect(200).json();
    assert_eq!(standing["backends"]["openai-images"]["status"], "not_ready");

    let key = "[plugin.openai-images.credentials]\napi_key = { file = \"{folder}/key\" }";
    let files = [files[0], files[1], ("key", &b"sesame-open"[..])];
    let server = Server::start_with(&format!("{config}{key}"), &files).await;
    ask(&server.client(), "a cat").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn item_43_adapter_asks_its_upstream_for_base64_and_answers_by_our_own_rule() {
    let upstream = Upstream::start(|_| openai::pictures(1)).await;
    let server = openai::server(&upstream.origin()).await;

    let answer = server.client().generate(&json!({ "prompt": "a cat", "backend": "openai-images" })).await.expect(200);

    assert!(answer.json()["data"][0]["url"].as_str().is_some_and(|url| url.starts_with("/ui/images/")));
    let received = upstream.received().remove(0);
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/v1/images/generations"));
    let body = received.json();
    assert_eq!((&body["response_format"], &body["prompt"]), (&json!("b64_json"), &json!("a cat")));
    assert_eq!(received.header("authorization"), "", "no credential was granted, so none is sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_42_upstream_request_names_no_model_unless_one_is_configured() {
    let upstream = Upstream::start(|_| openai::pictures(1)).await;
    for (config, model) in [("", Value::Null), ("model = \"gpt-image-2\"", json!("gpt-image-2"))] {
        let config = format!("{}\n{config}", openai::config(&upstream.origin(), ""));
        let server = openai::server_of(&config).await;
        ask(&server.client(), "a cat").await.expect(200);
        let body = upstream.received().pop().expect("it was asked").json();
        assert_eq!(body.get("model").cloned().unwrap_or_default(), model);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_69_errors_of_the_upstream_keep_their_meaning_and_show_no_key() {
    let error = |status: u16, kind: &str, code: &str| {
        Reply::json(
            status,
            &json!({ "error": { "message": format!("{code} it is"), "type": kind, "param": null, "code": code } }),
        )
    };
    let rows = [
        (error(400, "invalid_request_error", "invalid_value"), 400),
        (error(400, "image_generation_user_error", "moderation_blocked"), 400),
        (error(402, "billing", "billing_hard_limit_reached"), 402),
        (error(429, "rate_limit", "rate_limit_exceeded").with("retry-after", "7"), 429),
        (error(500, "server_error", "server_error"), 502),
        (Reply::bytes(200, "text/html", "<html>welcome</html>".into()), 502),
        (Reply::json(200, &json!({ "data": [] })), 502),
        (Reply::json(200, &json!({ "data": [{ "b64_json": "bm8gcGljdHVyZQ==" }] })), 502),
    ];
    for (reply, status) in rows {
        let scripted = reply.clone();
        let upstream = Upstream::start(move |_| scripted.clone()).await;
        let config = format!(
            "{}\n[plugin.openai-images.credentials]\napi_key = {{ file = \"{{folder}}/upstream.key\" }}",
            openai::config(&upstream.origin(), "")
        );
        let server = Server::start_with(&config, &[("upstream.key", b"sesame-open"), openai::COMPONENT]).await;

        let answer = ask(&server.client(), "a cat").await;

        assert_eq!(answer.status, status, "{reply:?}: {}", answer.text());
        assert_eq!(answer.header("x-backend-used"), "openai-images");
        assert!(!answer.text().contains("sesame"), "{}", answer.text());
        assert_eq!(upstream.received()[0].header("authorization"), "Bearer sesame-open");
        if status == 429 {
            assert_eq!(answer.header("retry-after"), "7");
        }
        if answer.text().contains("moderation") {
            assert_eq!(answer.json()["error"]["type"], "image_generation_user_error", "{}", answer.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adapter_reaches_nothing_that_the_operator_did_not_grant() {
    let upstream = Upstream::start(|_| openai::pictures(1)).await;
    let config = openai::config(&upstream.origin(), "").replace(&format!("origins = [\"{}\"]", upstream.origin()), "");
    let server = openai::server_of(&config).await;

    let answer = ask(&server.client(), "a cat").await;

    assert!(answer.status.is_server_error(), "{}: {}", answer.status, answer.text());
    assert!(upstream.received().is_empty());
}

/// A server with the transformer, in front of an upstream that shows what reaches it.
async fn styled(order: &str, styles: &str) -> (Server, Upstream) {
    let upstream = Upstream::start(|_| openai::pictures(1)).await;
    let config = format!("{}\n{styles}", openai::config(&upstream.origin(), order));
    let files = [openai::COMPONENT, components::PROMPT_STYLES];
    let server = Server::start_with(&config, &files).await;
    (server, upstream)
}

const ORDER: &str = "transformers.order = [\"prompt-styles\"]";
const INK: &str = "[plugin.prompt-styles.config.styles.ink]\nprompt = \"{prompt}, in ink\"";

#[tokio::test(flavor = "multi_thread")]
async fn item_89_transformer_changes_the_prompt_where_it_is_ordered_and_only_there() {
    for (order, seen) in [(ORDER, "a cat, in ink"), ("", "a cat <style:ink>")] {
        let (server, upstream) = styled(order, INK).await;

        let answer = ask(&server.client(), "a cat <style:ink>").await.expect(200);

        assert_eq!(upstream.received().pop().expect("it was asked").json()["prompt"], seen);
        let warnings = answer.json()["warnings"].to_string();
        assert_eq!(warnings.contains("ink"), !order.is_empty(), "{warnings}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transformer_that_is_ordered_but_not_there_fails_requests_or_is_told_as_left_out() {
    for (on_failure, status) in [("closed", 502), ("open", 200)] {
        let config = format!(
            "transformers.order = [\"prompt-styles\"]\ntransformers.prompt-styles.on_failure = \"{on_failure}\"\nmode = \"stub\""
        );
        let server = Server::start(&config).await;
        let answer = server.client().generate(&json!({ "prompt": "a cat" })).await;
        let status = if status == 502 { answer.status.is_server_error() } else { answer.status == status };
        assert!(status, "{on_failure}: {}", answer.text());
        assert!(answer.text().contains("prompt-styles"), "{on_failure}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_88_misbehaving_plugin_fails_its_own_request_and_no_other() {
    let server = Server::start_with("mode = \"stub\"", &components::HOSTILE).await;
    let client = server.client();
    let ask = async |backend: &str, prompt: &str| {
        client
            .generate(&json!({ "prompt": prompt, "backend": backend, "size": "1x1", "response_format": "b64_json" }))
            .await
    };
    for prompt in ["trap", "panic", "exit", "recursion", "loop", "memory"] {
        let answer = ask("hostile", prompt).await.expect(502);
        assert_eq!((answer.code().as_str(), answer.header("x-should-retry")), ("plugin_error", "false"), "{prompt}");
        assert_eq!(answer.header("x-backend-used"), "hostile");
        ask("stub", "a cat").await.expect(200);
        ask("hostile", "count").await.expect(200);
    }
    let status = client.get("/v1/gateway/status").await.json();
    assert_eq!(status["admission_control"]["hostile.images"], json!({ "limit": 2, "available": 2, "inflight": 0 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn item_87_component_that_is_dropped_in_serves_and_one_that_is_taken_away_does_not() {
    let upstream = Upstream::start(|_| openai::pictures(1)).await;
    let server = Server::start_with(&openai::config(&upstream.origin(), ""), &[("plugins/README", b"")]).await;
    let client = server.client();
    assert!(!has_backend(&client, "openai-images").await);
    ask(&client, "a cat").await.expect(400);

    server.install(openai::COMPONENT.0, openai::COMPONENT.1);
    until("it serves", async || has_backend(&client, "openai-images").await).await;
    ask(&client, "a cat").await.expect(200);

    server.uninstall(openai::COMPONENT.0);
    until("it is gone", async || !has_backend(&client, "openai-images").await).await;
    assert_eq!(ask(&client, "a cat").await.expect(400).code(), "backend_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_87_replacing_a_component_under_load_fails_no_request_and_the_new_one_serves_after() {
    let (server, upstream) = styled(ORDER, "").await;
    let client = server.client();
    ask(&client, "a cat").await.expect(200);

    let is_over = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (client, is_over) = (client.clone(), Arc::clone(&is_over));
        async move {
            let (mut served, mut failed) = (0, Vec::new());
            while !is_over.load(Ordering::Relaxed) {
                let answer = ask(&client, "a cat").await;
                if answer.status == 200 { served += 1 } else { failed.push(answer.text()) }
            }
            (served, failed)
        }
    });
    for version in 1..=5 {
        let word = format!("version {version}");
        server.install(components::PROMPT_STYLES.0, &components::styles_that_add(&word));
        let changed = async || {
            ask(&client, "a cat").await;
            let body = upstream.received().pop().expect("it was asked").json();
            body["prompt"].as_str().is_some_and(|prompt| prompt.contains(&word))
        };
        until("the new one serves", changed).await;
    }
    is_over.store(true, Ordering::Relaxed);

    let (served, failed) = load.await.expect("the load ends");
    assert_eq!(failed, Vec::<String>::new());
    assert!(served > 5, "there was load: {served}");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_87_broken_component_changes_nothing_that_serves() {
    let upstream = Upstream::start(|_| openai::pictures(1)).await;
    let server = openai::server(&upstream.origin()).await;
    let client = server.client();
    ask(&client, "a cat").await.expect(200);

    for broken in [&b"no component"[..], &openai::COMPONENT.1[..openai::COMPONENT.1.len() / 2], b""] {
        server.install(openai::COMPONENT.0, broken);
        until("the refusal is known", async || server.plugin_trouble(openai::COMPONENT.0).is_some()).await;
        ask(&client, "a cat").await.expect(200);
    }
    server.install(openai::COMPONENT.0, openai::COMPONENT.1);
    until("it is well again", async || server.plugin_trouble(openai::COMPONENT.0).is_none()).await;
    ask(&client, "a cat").await.expect(200);
}
