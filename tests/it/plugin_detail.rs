//! One plugin as its operator sees it: `/v1/plugins/{id}`, and `easel plugin show` which asks there. Whatever is told of
//! credentials and environment variables is names.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Process, Reply, Server, Upstream, components, until};

/// Values that are nobody's business but the host's: of a file, and of two variables.
const PLANTED: [&str; 3] = ["sk-planted-of-a-file", "sk-planted-of-a-variable", "https://planted.of-a-variable"];

#[tokio::test(flavor = "multi_thread")]
async fn plugin_is_shown_with_all_that_it_wants_and_is_given_over_http_and_by_command() {
    let [component, (manifest, text)] = components::HOSTILE;
    let wants = "[network]\norigins = [\"operator\", \"https://api.example.com\"]\n[limits]\ncpu_ms = 300\n\
                 [[credential]]\nname = \"key\"\nheader = \"x-secret\"\n";
    let text = [text, wants.as_bytes()].concat();
    let config = "mode = \"stub\"\n[plugin.hostile]\norigins = [\"http://10.0.0.5:8188\"]\n\
                  withheld = [\"https://api.example.com\"]\ncredentials = { key = { file = \"{folder}/key\" } }\n";
    let server = Server::start_with(config, &[component, (manifest, &text), ("key", PLANTED[0].as_bytes())]).await;
    let client = server.client();

    let shown = client.get("/v1/plugins/hostile").await.expect(200).json();
    let network = |origin: &str, standing: &str| {
        let (methods, credentials) = (json!(["GET", "POST"]), json!(["key"]));
        json!({ "origin": origin, "methods": methods, "paths": null, "credentials": credentials,
                "redirects": "wanted", "standing": standing })
    };
    let wants = json!({
        "network": [network("operator", "granted"), network("https://api.example.com", "withheld")],
        "credentials": [
            { "name": "key", "place": "header x-secret", "origins": ["operator", "https://api.example.com"], "need": "optional", "supplied": true },
        ],
        "needs": ["prompt", "inputs", "images"],
    });
    assert_eq!(shown["wants"], wants);
    let grants = json!({ "origins": ["http://10.0.0.5:8188"], "network": [], "withheld": ["https://api.example.com"] });
    assert_eq!(shown["grants"], grants);
    assert_eq!((&shown["state"], &shown["version"]), (&json!("ready"), &json!("0.1.0")));
    assert_eq!((&shown["limits"]["cpu_ms"], &shown["limits"]["requests"]), (&json!(300), &json!(256)));
    assert_eq!((&shown["health"]["status"], &shown["health"]["depth"]), (&json!("untold"), &json!("shallow")));
    assert!(shown["figures"].is_array() && shown["errors"].is_array() && shown["digest"].is_string(), "{shown}");

    for wrong in ["health=thorough", "healthy=deep", "health=deep&health=deep"] {
        let refused = client.get(&format!("/v1/plugins/hostile?{wrong}")).await.expect(400).json();
        assert_eq!(refused["error"]["param"], "health", "{wrong}");
    }
    let listed = client.get("/v1/plugins").await.expect(200).json();
    assert!(listed["data"][0].get("health").is_none(), "a list asks no plugin how it is");

    let (folder, origin) = (server.folder().to_owned(), server.origin());
    let show = move || Process::run(&folder, &["plugin", "show", "hostile", "--deep", "--url", &origin], &[]);
    let told = tokio::task::spawn_blocking(show).await.expect("the command ends");
    assert!(told.status.success(), "{}", told.log);
    for part in ["origin operator", "standing withheld", "place header x-secret", "untold", "deep", "cpu_ms"] {
        assert!(told.output.contains(part), "{part} is not in:\n{}", told.output);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_says_about_its_health_is_told_and_a_deep_look_is_only_taken_when_asked_for() {
    let upstream = Upstream::start(|_| Reply::bytes(200, "text/plain", "up and running".into())).await;
    let origin = upstream.origin();
    let config = format!(
        "mode = \"stub\"\n[plugin.hostile-jobs]\norigins = [\"{origin}\"]\nconfig = {{ health = \"{origin}/\" }}\n"
    );
    let server = Server::start_with(&config, &components::HOSTILE_JOBS).await;
    let client = server.client();
    let look = async |query: &str| {
        let answer = client.get(&format!("/v1/plugins/hostile-jobs{query}")).await.expect(200).json();
        answer["health"].clone()
    };

    let shallow = look("").await;
    assert_eq!((&shallow["status"], &shallow["depth"]), (&json!("unhealthy"), &json!("shallow")), "{shallow}");
    assert!(shallow["error"].as_str().is_some_and(|error| error.contains("there is no network")), "{shallow}");
    assert_eq!(upstream.received().len(), 0);
    let deep = look("?health=deep").await;
    assert_eq!((&deep["status"], &deep["summary"]), (&json!("healthy"), &json!("Deep and well")), "{deep}");
    assert_eq!((&deep["details"]["upstream"], &deep["error"]), (&json!("up and running"), &Value::Null));
    assert!(deep["at"].as_u64().is_some_and(|at| at > 0) && deep["took_ms"].is_u64(), "{deep}");
    assert_eq!(look("?health=deep").await, deep, "of a moment ago");
    assert_eq!(upstream.received().len(), 1);

    server.reconfigure("mode = \"stub\"\n[plugin.hostile-jobs]\nenabled = false\n");
    until("it is switched off", async || look("").await.is_null()).await;
    let shown = client.get("/v1/plugins/hostile-jobs").await.expect(200).json();
    assert_eq!((&shown["state"], &shown["wants"]["network"][0]["origin"]), (&json!("disabled"), &json!("operator")));
    assert_eq!(shown["wants"]["network"][0]["standing"], "ungranted", "nothing is given any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn plugin_that_awaits_its_grant_is_shown_with_what_it_wants_and_nobody_asks_how_it_is() {
    let wants = "[[network]]\norigin = \"https://api.example.com\"\npaths = [\"/v1/**\"]\n[[network]]\norigin = \"https://cdn.example.com\"\n";
    let config =
        "mode = \"stub\"\n[[plugin.hostile.network]]\norigin = \"https://cdn.example.com\"\nmethods = [\"GET\"]\n";
    let server = Server::start_with(config, &[("plugins/hostile.wasm", &components::hostile(1, wants))]).await;
    let shown = server.client().get("/v1/plugins/hostile").await.expect(200).json();
    let standings: Vec<_> = shown["wants"]["network"]
        .as_array()
        .expect("it wants two")
        .iter()
        .map(|want| (want["origin"].as_str().unwrap_or_default(), want["standing"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(standings, [("https://api.example.com", "ungranted"), ("https://cdn.example.com", "partly")]);
    assert_eq!(shown["wants"]["network"][0]["paths"], json!(["/v1/**"]));
    assert_eq!(shown["grants"]["network"][0]["methods"], json!(["GET"]));
    assert_eq!((&shown["state"], &shown["health"]), (&json!("awaiting_grant"), &Value::Null));
    assert!(shown["missing_grant"]["toml"].is_string(), "{shown}");
}

/// A server of its own process with the adapter that has a key of a file, a key of a variable and a setting of one.
fn start_with_planted_values(folder: &Path) -> Process {
    let [(component, bytes), (manifest, text)] = components::HOSTILE_JOBS;
    let names = "[[credential]]\nname = \"one\"\nheader = \"x-one\"\n[[credential]]\nname = \"two\"\nheader = \"x-two\"\n\
                 [[environment]]\nvariable = \"PLANTED_KEY\"\ncredential = \"two\"\n\
                 [[environment]]\nvariable = \"PLANTED_PLACE\"\nconfig = \"generation\"\n\
                 [[environment]]\nvariable = \"UNGRANTED_PLACE\"\nconfig = \"generation\"\n";
    // It says both keys, and the host has to see to it that nobody hears them.
    let config = format!(
        "mode = \"stub\"\n[plugin.hostile-jobs]\nenvironment = [\"PLANTED_*\"]\n\
         credentials = {{ one = {{ file = \"one.key\" }} }}\nconfig = {{ health = \"say {} {}\" }}\n",
        PLANTED[0], PLANTED[1]
    );
    let text = [text, names.as_bytes()].concat();
    let files =
        [(component, bytes), (manifest, &text), ("one.key", PLANTED[0].as_bytes()), ("easel.toml", config.as_bytes())];
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("the folder can be written");
        fs::write(path, bytes).expect("the folder can be written");
    }
    let environment = [("PLANTED_KEY", PLANTED[1]), ("PLANTED_PLACE", PLANTED[2]), ("UNGRANTED_PLACE", PLANTED[2])];
    Process::start(folder, &["serve", "--listen", "127.0.0.1:0"], &environment)
}

#[track_caller]
fn assert_nothing_planted(told: &str) {
    for value in PLANTED {
        assert!(!told.contains(value), "{value} stands in: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_of_a_credential_or_a_variable_is_ever_shown() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let process = start_with_planted_values(folder.path());
    let client = process.client().await;
    let is_loaded = async || client.get("/v1/plugins/hostile-jobs").await.json()["digest"].is_string();
    until("it is loaded", is_loaded).await;
    let answer = client.get("/v1/plugins/hostile-jobs?health=deep").await.expect(200);
    let (shown, text) = (answer.json(), answer.text());
    let variable =
        |variable: &str, sets: &str, counts: bool| json!({ "variable": variable, "sets": sets, "counts": counts });
    let variables = [
        variable("PLANTED_KEY", "credentials.two", true),
        variable("PLANTED_PLACE", "config.generation", true),
        variable("UNGRANTED_PLACE", "config.generation", false),
    ];
    assert_eq!(shown["environment"], json!(variables), "they are there, by name");
    let supplied: Vec<_> = shown["wants"]["credentials"]
        .as_array()
        .expect("it wants two")
        .iter()
        .map(|want| (want["name"].as_str().unwrap_or_default(), want["supplied"] == true))
        .collect();
    assert_eq!(supplied, [("one", true), ("two", true)]);
    let summary = shown["health"]["summary"].as_str().expect("it says something");
    assert!(summary.starts_with("say ***"), "{summary}");
    assert_nothing_planted(&text);
    assert_nothing_planted(&client.get("/v1/plugins").await.expect(200).text());
    assert_nothing_planted(&client.get("/metrics").await.expect(200).text());
    for flag in ["--deep", "--json"] {
        let (folder, origin) = (folder.path().to_owned(), format!("http://{}", client.address()));
        let show = move || Process::run(&folder, &["plugin", "show", "hostile-jobs", flag, "--url", &origin], &[]);
        let told = tokio::task::spawn_blocking(show).await.expect("the command ends");
        assert!(told.status.success() && told.output.contains("PLANTED_KEY"), "{}", told.log);
        assert_nothing_planted(&format!("{}{}", told.output, told.log));
    }
    assert_nothing_planted(&process.log());
}
