//! Keys of providers in the running server: they reach the provider and nothing else, and a changed file is a changed key.

use std::path::Path;

use serde_json::json;

use crate::harness::{Client, Process, Reply, Upstream, components, until};

const KEY: &str = "sk-planted-0123456789";
const NEXT: &str = "sk-following-987654";
/// One that is put into addresses.
const SECOND: &str = "sk-in-the-address-55555";

/// Everything but how components are compiled.
const LEVEL: &str = "trace,wasmtime=info,cranelift=info,regalloc2=info";

/// A server as a program of its own that logs everything, with the hostile plugin and its key in a file.
fn start(folder: &Path, origin: &str) -> Process {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("the folder can be written");
        std::fs::write(path, bytes).expect("the folder can be written");
    };
    let [(component, bytes), (manifest, text)] = components::HOSTILE;
    let wants = "[network]\norigins = [\"operator\"]\n[[credential]]\nname = \"key\"\nheader = \"x-secret\"\n\
                 [[credential]]\nname = \"second\"\nquery = \"key\"\n";
    write(component, bytes);
    write(manifest, [text, wants.as_bytes()].concat().as_slice());
    write("secrets/key", KEY.as_bytes());
    write("secrets/second", SECOND.as_bytes());
    let config = format!(
        "mode = \"stub\"\nlog.level = \"{LEVEL}\"\n[plugin.hostile]\norigins = [\"{origin}\"]\n\
         credentials = {{ key = {{ file = \"secrets/key\" }}, second = {{ file = \"secrets/second\" }} }}\n"
    );
    write("easel.toml", config.as_bytes());
    Process::start(folder, &["serve", "--listen", "127.0.0.1:0"], &[])
}

/// What is answered to a prompt, head and all.
async fn ask(client: &Client, prompt: &str) -> String {
    let answer = client.generate(&json!({ "prompt": prompt, "backend": "hostile" })).await;
    format!("{answer:?} {}", answer.text())
}

/// Gives back the key that it got.
async fn echo() -> Upstream {
    Upstream::start(|received| {
        let key = format!("{}{}", received.header("x-secret"), received.path);
        Reply::bytes(200, "text/plain", format!("marker {key}").into()).with("x-seen", &key)
    })
    .await
}

fn keys(upstream: &Upstream) -> Vec<String> {
    upstream.received().iter().map(|received| received.header("x-secret").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_key_reaches_the_provider_and_stands_in_no_log_and_no_answer() {
    let (folder, upstream) = (tempfile::tempdir().expect("there is room for a folder"), echo().await);
    let process = start(folder.path(), &upstream.origin());
    let client = process.client().await;
    until("the plugin serves", async || process.log().contains("plugin loaded")).await;
    let url = format!("{}/", upstream.origin());
    let prompts = [
        format!("fetch GET {url} credential=key"),
        format!("wasi-http GET {url} x-easel-credential:key"),
        format!("fetch-document GET {url} credential=key /x"),
        format!("fetch-picture GET {url} credential=key"),
        format!("fetch GET {url}missing credential=second"),
        format!("wasi-http GET {url}missing x-easel-credential:second"),
        "fetch GET http://127.0.0.1:1/ credential=second".to_owned(),
        format!("say it-is-{KEY}"),
        format!("say it-is-{}", KEY.replace('-', "%2D")),
    ];
    let mut answers = String::new();
    for prompt in &prompts {
        answers.push_str(&ask(&client, prompt).await);
    }
    assert_eq!(keys(&upstream), [KEY, KEY, KEY, KEY, "", ""]);
    assert!(upstream.received()[4..].iter().all(|received| received.path == format!("/missing?key={SECOND}")));
    let stars = "*".repeat(KEY.len());
    assert!(answers.contains("marker") && answers.contains(&format!("it-is-{stars}")), "{answers}");
    assert!(!answers.contains(KEY) && !answers.contains(SECOND), "{answers}");
    until("the plugin's lines are logged", async || process.log().matches(&format!("it-is-{stars}")).count() >= 3)
        .await;
    let log = process.log();
    assert!(!log.contains(KEY) && !log.contains(SECOND), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_changes_in_its_file_counts_without_a_new_generation() {
    let (folder, upstream) = (tempfile::tempdir().expect("there is room for a folder"), echo().await);
    let process = start(folder.path(), &upstream.origin());
    let client = process.client().await;
    until("the plugin serves", async || process.log().contains("plugin loaded")).await;
    let prompt = format!("fetch GET {}/ credential=key", upstream.origin());
    ask(&client, &prompt).await;
    let loaded = || process.log().lines().filter(|line| line.contains("plugin loaded")).count();
    let before = loaded();
    assert!(before > 0, "{}", process.log());

    // One way is to replace the file, the other to write to it. In between it is gone, which changes nothing.
    let path = folder.path().join("secrets/key");
    std::fs::write(path.with_extension("new"), NEXT).expect("the folder can be written");
    std::fs::rename(path.with_extension("new"), &path).expect("files can be renamed");
    until("the next key is sent", async || {
        ask(&client, &prompt).await;
        keys(&upstream).last().is_some_and(|key| key == NEXT)
    })
    .await;
    std::fs::remove_file(&path).expect("the file is there");
    until("it is told", async || process.log().contains("what it held still counts")).await;
    ask(&client, &prompt).await;
    assert_eq!(keys(&upstream).last().map(String::as_str), Some(NEXT));
    std::fs::write(&path, KEY).expect("the folder can be written");
    until("the first key is sent again", async || {
        ask(&client, &prompt).await;
        keys(&upstream).last().is_some_and(|key| key == KEY)
    })
    .await;
    assert_eq!(loaded(), before, "no generation was made");
    assert!(process.log().contains("the secrets that the config names were read again"));
}
