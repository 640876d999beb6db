//! Transformers in the running server: their time limits and what their failures come to, on the way in and on the way out,
//! and what they keep over a restart.

use serde_json::{Value, json};

use crate::harness::{Answer, Server, components, pictures};

/// A server with a stub behind the hostile transformer, set up like this.
async fn server(settings: &str) -> Server {
    let config = format!("mode = \"stub\"\n[transformers]\norder = [\"twist\"]\n[transformers.twist]\n{settings}");
    Server::start_with(&config, &components::TWIST).await
}

async fn ask(server: &Server, prompt: &str) -> Answer {
    server.client().generate(&json!({ "prompt": prompt, "size": "64x32" })).await
}

/// What the answer says was done differently.
fn warnings(answer: &Answer) -> String {
    answer.json()["warnings"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn transformer_that_fails_fails_the_request_or_is_left_out_as_configured() {
    let closed = server("on_failure = \"closed\"\ntime_limit_ms = 300").await;
    let open = server("on_failure = \"open\"\ntime_limit_ms = 300").await;
    for (prompt, expected) in [
        ("trap", "plugin twist trapped"),
        ("sleep", "transformer twist took longer than 300ms"),
        ("result-trap", "plugin twist trapped"),
        ("result-sleep", "transformer twist took longer than 300ms"),
        ("result-few", "transformer twist gave 0 images where 1 were asked for"),
    ] {
        let refused = ask(&closed, prompt).await;
        assert_eq!(refused.status, 502, "{prompt}: {}", refused.text());
        assert!(refused.text().contains(expected), "{prompt}: {}", refused.text());

        let answer = ask(&open, prompt).await.expect(200);
        assert!(warnings(&answer).contains("transformer twist failed and was left out"), "{prompt}: {}", answer.text());
        assert_eq!(pictures::files(&open.client(), &answer).await.len(), 1);
    }
    ask(&closed, "a cat").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_count_whatever_is_configured_for_failures() {
    let server = server("on_failure = \"open\"").await;
    for (prompt, message) in [("reject", "not that"), ("result-reject", "not to be seen")] {
        let answer = ask(&server, prompt).await.expect(400);
        assert_eq!(answer.json()["error"]["message"], message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_pictures_are_replaced_before_they_are_kept() {
    let server = server("").await;
    let answer = ask(&server, "result-shrink").await.expect(200);
    let file = pictures::files(&server.client(), &answer).await.remove(0);
    let (_, picture) = pictures::decode(&file);
    assert_eq!((picture.width(), picture.height()), (32, 16));
    assert!(warnings(&answer).contains("shrunk"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_keeps_survives_a_restart_of_the_server() {
    let server = server("").await;
    let told = async |server: &Server, what: &str| {
        let answer = ask(server, &format!("store {what}")).await.expect(200);
        let warnings: Value = answer.json()["warnings"].clone();
        warnings.to_string()
    };
    assert!(told(&server, "get key").await.contains("None"));
    assert!(told(&server, "set key 10").await.contains("set"));
    let server = server.restart().await;
    assert!(told(&server, "get key").await.contains("Some(10)"));
}
