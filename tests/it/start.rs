//! The program as an operator meets it: how it starts, how it refuses to, and how it stops.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::harness::{Process, Upstream, openai, until};

fn folder() -> TempDir {
    tempfile::tempdir().expect("there is room for a folder")
}

fn with_config(config: &str) -> TempDir {
    let folder = folder();
    std::fs::write(folder.path().join("easel.toml"), config).expect("the folder can be written");
    folder
}

/// Starts a server that must refuse to, and returns the lines it wrote.
fn refused(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
    let ended = Process::run(folder, arguments, environment);
    assert!(!ended.status.success(), "it should have refused: {}", ended.log);
    assert!(!ended.log.contains("panicked"), "{}", ended.log);
    ended.log.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

#[test]
fn item_61_port_in_use_ends_the_program_with_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("the system has a free port");
    let address = taken.local_addr().expect("a bound port has an address").to_string();
    let folder = folder();

    let lines = refused(folder.path(), &["serve", "--listen", &address], &[]);

    let errors: Vec<_> = lines.iter().filter(|line| line.contains("error")).collect();
    assert_eq!(errors.len(), 1, "{lines:#?}");
    assert!(errors[0].contains(&address) && errors[0].contains("in use"), "{lines:#?}");
}

#[test]
fn x9_other_machines_are_not_served_without_keys() {
    let folder = folder();
    let lines = refused(folder.path(), &["serve", "--listen", "0.0.0.0:0"], &[]);
    let text = lines.join("\n");
    assert!(text.contains("0.0.0.0:0") && text.contains("EASEL_API_KEY") && text.contains("--insecure"), "{text}");
    assert!(!folder.path().join("data").exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn x9_other_machines_are_served_with_a_key_or_when_that_is_asked_for() {
    for (arguments, environment, status) in [
        (vec!["serve", "--listen", "0.0.0.0:0"], vec![("EASEL_API_KEY", "sesame-open")], 401),
        (vec!["serve", "--listen", "0.0.0.0:0", "--insecure"], vec![], 200),
    ] {
        let folder = with_config("mode = \"stub\"");
        let process = Process::start(folder.path(), &arguments, &environment);
        process.client().await.get("/v1/models").await.expect(status);
    }
}

#[test]
fn config_that_is_wrong_is_refused_with_the_place_and_what_would_be_right() {
    let rows: [(&str, &[&str]); 6] = [
        ("mode = \"stub\"\nlisten_on = \"127.0.0.1:1\"\n", &["easel.toml", "2", "listen_on", "listen"]),
        ("[admision]\nlimit = 2\n", &["admision", "admission"]),
        ("mode = \"turbo\"\n", &["mode", "turbo", "engine", "stub"]),
        ("listen = \"nowhere\"\n", &["listen", "nowhere"]),
        ("admission.limit = -1\n", &["limit", "-1"]),
        ("mode = \n", &["easel.toml", "1"]),
    ];
    for (config, words) in rows {
        let folder = with_config(config);
        let lines = refused(folder.path(), &["serve"], &[]);
        let text = lines.join("\n");
        for word in words {
            assert!(text.contains(word), "{config:?} should be told with {word:?}: {text}");
        }
        assert!(lines.len() <= 6, "{config:?}: one clear message, not {text}");
    }
}

#[test]
fn secret_that_is_written_in_the_config_is_refused_without_being_repeated() {
    let folder = with_config("[[keys]]\nname = \"chat\"\nsecret = \"sesame-open\"\n");
    let text = refused(folder.path(), &["serve"], &[]).join("\n");
    assert!(text.contains("env") && text.contains("file"), "{text}");
    assert!(!text.contains("sesame"), "{text}");
}

#[test]
fn command_that_does_not_exist_is_told_with_the_nearest() {
    let folder = folder();
    let text = refused(folder.path(), &["serv"], &[]).join("\n");
    assert!(text.contains("serve"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_20_names_of_the_older_services_are_honoured() {
    let folder = folder();
    let environment = [
        ("SHIM_MODE", "stub"),
        ("SHIM_STRICT_MODEL", "true"),
        ("SD_API_KEY", "sesame-open"),
        ("UI_IMAGE_DIR", "pictures"),
    ];
    let process = Process::start(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &environment);
    let client = process.client().await;

    client.generate(&json!({ "prompt": "a cat" })).await.expect(401);
    let client = client.with_key("sesame-open");
    assert_eq!(
        client.generate(&json!({ "prompt": "a cat", "model": "dall-e-9" })).await.expect(404).code(),
        "model_not_found"
    );
    assert_eq!(client.generate(&json!({ "prompt": "a cat" })).await.expect(200).header("x-backend-used"), "stub");
    assert_eq!(std::fs::read_dir(folder.path().join("pictures")).expect("UI_IMAGE_DIR is used").count(), 1);
    assert!(!process.log().contains("sesame"), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn item_85_dot_env_file_is_read() {
    let folder = folder();
    std::fs::write(folder.path().join(".env"), "EASEL_MODE=stub\nEASEL_API_KEY=sesame-open\n")
        .expect("it can be written");
    let process = Process::start(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &[]);
    let client = process.client().await;
    client.get("/v1/models").await.expect(401);
    client.with_key("sesame-open").get("/v1/models").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn item_84_told_to_stop_it_ends_by_itself_and_leaves_nothing_running() {
    for signal in ["TERM", "INT"] {
        let folder = with_config("mode = \"stub\"");
        let process = Process::start(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &[]);
        process.client().await.generate(&json!({ "prompt": "a cat" })).await.expect(200);

        process.signal(signal);

        let ended = process.wait();
        assert!(ended.status.success(), "{signal}: {}", ended.log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plugin_that_was_told_nothing_yet_says_what_to_paste_and_is_no_warning() {
    let folder = with_config("mode = \"stub\"\n");
    std::fs::create_dir(folder.path().join("plugins")).expect("the folder can be written");
    std::fs::write(folder.path().join(openai::COMPONENT.0), openai::COMPONENT.1).expect("the folder can be written");
    let process = Process::start(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &[]);
    let client = process.client().await;
    until("the plugin is told of", async || process.log().contains("plugin is not ready")).await;
    let log = process.log();
    assert!(!log.contains("WARN"), "{log}");

    let (_, line) = log.split_once("write at the top of easel.toml: ").expect("it says what to write");
    let line = line.lines().next().expect("it ends somewhere");
    let (line, _) = line.rsplit_once('}').expect("it is a table");
    std::fs::write(folder.path().join("easel.toml"), format!("{line}}}\nmode = \"stub\"\n"))
        .expect("it can be written");

    until("it is ready", async || client.get("/api/backends").await.text().contains("openai-images")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_data_folder_serves_one_process_at_a_time() {
    let folder = with_config("mode = \"stub\"");
    let first = Process::start(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &[]);
    first.client().await.get("/healthz").await.expect(200);

    let text = refused(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &[]).join("\n");

    assert!(text.contains("data"), "{text}");
    first.client().await.get("/readyz").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_config_change_while_the_server_runs() {
    let folder = with_config("mode = \"stub\"\nadmission.limit = 2\n");
    let process = Process::start(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &[]);
    let client = process.client().await;
    let limit =
        async || client.get("/v1/gateway/status").await.json()["admission_control"]["stub.images"]["limit"].clone();
    assert_eq!(limit().await, 2);

    std::fs::write(folder.path().join("easel.toml"), "mode = \"stub\"\nadmission.limit = 5\n")
        .expect("it can be written");
    until("the new limit holds", async || limit().await == 5).await;

    std::fs::write(folder.path().join("easel.toml"), "mode = \"stub\"\nadmission.limits = 7\n")
        .expect("it can be written");
    until("the bad config is told", async || process.log().contains("admission.limits")).await;
    assert_eq!(limit().await, 5, "a bad config changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_84_second_signal_ends_it_without_waiting_for_what_runs() {
    let gate = Arc::new(Semaphore::new(0));
    let behind = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| openai::pictures(1).behind(&behind)).await;
    let folder = with_config(&openai::config(&upstream.origin(), "shutdown.grace_s = 300"));
    std::fs::create_dir(folder.path().join("plugins")).expect("the folder can be written");
    std::fs::write(folder.path().join(openai::COMPONENT.0), openai::COMPONENT.1).expect("the folder can be written");
    let mut process = Process::start(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &[]);
    let client = process.client().await;
    until("it is ready", async || client.get("/api/backends").await.text().contains("openai-images")).await;
    let request = client.clone();
    let running =
        tokio::spawn(
            async move { request.try_generate(&json!({ "prompt": "a cat", "backend": "openai-images" })).await },
        );
    until("the request runs", async || upstream.received().len() == 1).await;

    process.signal("TERM");
    until("it admits nothing", async || client.try_status("/readyz").await.is_none_or(|status| status == 503)).await;
    assert!(process.is_running(), "it waits for what runs: {}", process.log());
    process.signal("TERM");

    process.wait();
    drop(running.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn item_86_log_for_machines_is_one_object_a_line_and_holds_neither_prompt_nor_key() {
    let folder = with_config("mode = \"stub\"\nlog.level = \"debug\"\n");
    let environment = [("EASEL_API_KEY", "sesame-open")];
    let process = Process::start(folder.path(), &["serve", "--listen", "127.0.0.1:0", "--log", "json"], &environment);
    let client = process.client().await.with_key("sesame-open");
    client.generate(&json!({ "prompt": "a secret cat", "negative_prompt": "a secret dog" })).await.expect(200);
    client.generate(&json!({ "prompt": "a secret cat", "size": "a secret size" })).await.expect(400);
    client.with_key("sesame-shut").get("/v1/models").await.expect(401);
    until("the requests are told", async || process.log().matches("request_id").count() >= 3).await;

    process.signal("TERM");
    let log = process.wait().log;

    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert!(!log.contains("secret") && !log.contains("sesame"), "{log}");
}
