//! What the design promises about plugins, item by item, each shown whole against a running server: that nobody learns a key
//! (77), that a file is all it takes (87), that a misbehaving one hurts nobody else (88), that transformers have their order
//! and no credentials (89), and what a plugin can call at all (90).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::harness::{Answer, Client, Process, Reply, Server, Upstream, components, openai, until};

/// The planted key of the adapter, and the one that another plugin has.
const KEY: &str = "sk-planted-0123456789";
const OTHERS: &str = "sk-of-another-55555";
/// The key of whoever asks for pictures.
const CALLER: &str = "sesame-open-7777";

/// What is looked for: a key, and the forms in which it could be read back.
fn forms(key: &str) -> Vec<Vec<u8>> {
    let middle = |text: String| text.as_bytes()[4..text.len() - 4].to_vec();
    let hex = key.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let percent = key.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let wide = key.bytes().flat_map(|byte| [byte, 0]).collect();
    let base64 = ["", "x", "xy"].map(|before| middle(STANDARD.encode(format!("{before}{key}x"))));
    let mut forms = vec![key.as_bytes().to_vec(), hex.into_bytes(), percent.into_bytes(), wide];
    forms.push(key.bytes().rev().collect());
    forms.push(middle(URL_SAFE_NO_PAD.encode(format!("x{key}x"))));
    forms.extend(base64);
    forms
}

fn contains(bytes: &[u8], sought: &[u8]) -> bool {
    bytes.windows(sought.len()).any(|window| window == sought)
}

/// Fails the test where a key can be read in some bytes, in any form.
fn assert_secret(bytes: &[u8], where_from: &str) {
    for key in [KEY, OTHERS] {
        for form in forms(key) {
            assert!(!contains(bytes, &form), "{where_from} holds {:?}", String::from_utf8_lossy(&form));
        }
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be listed").filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            found.push((path.display().to_string(), bytes));
        }
    }
    found
}

async fn ask(client: &Client, backend: &str, prompt: &str) -> Answer {
    let body = json!({ "prompt": prompt, "backend": backend, "size": "1x1", "response_format": "b64_json" });
    client.generate(&body).await
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("the folder can be written");
    fs::write(path, bytes).expect("the folder can be written");
}

/// Gives back whatever key it got, in its body and in a header, and keeps what it is sent.
async fn echo() -> Upstream {
    Upstream::start(|received| {
        let key = received.header("x-secret").to_owned();
        Reply::bytes(200, "text/plain", format!("there-it-is {key}").into()).with("x-seen", &key)
    })
    .await
}

/// A server of its own process that logs everything, with two plugins that each have a key.
fn start_with_keys(folder: &Path, upstream: &Upstream) -> Process {
    let wants = "[network]\norigins = [\"operator\"]\n[[credential]]\nname = \"key\"\nheader = \"x-secret\"\n";
    write(folder, "plugins/hostile.wasm", &components::hostile(1, wants));
    let [(component, bytes), (manifest, text)] = components::HOSTILE;
    let other = String::from_utf8_lossy(text).replace("\"hostile\"", "\"other\"") + wants;
    write(folder, &component.replace("hostile", "other"), bytes);
    write(folder, &manifest.replace("hostile", "other"), other.as_bytes());
    write(folder, "secrets/key", KEY.as_bytes());
    write(folder, "secrets/others", OTHERS.as_bytes());
    let origin = upstream.origin();
    let plugin = |id: &str, file: &str| {
        format!("[plugin.{id}]\norigins = [\"{origin}\"]\ncredentials = {{ key = {{ file = \"secrets/{file}\" }} }}\n")
    };
    let (one, two) = (plugin("hostile", "key"), plugin("other", "others"));
    let level = "trace,wasmtime=info,cranelift=info,regalloc2=info";
    write(folder, "easel.toml", format!("mode = \"stub\"\nlog.level = \"{level}\"\n{one}{two}").as_bytes());
    Process::start(folder, &["serve", "--listen", "127.0.0.1:0"], &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn item_77_planted_key_is_nowhere_but_at_its_upstream() {
    let (folder, upstream) = (tempfile::tempdir().expect("there is room for a folder"), echo().await);
    let process = start_with_keys(folder.path(), &upstream);
    let client = process.client().await;
    until("both serve", async || process.log().matches("plugin loaded").count() >= 2).await;
    let origin = upstream.origin();

    // The memory of the plugin whose key it is, and of another one, after each way to use a key.
    let mut dumps = 0;
    for (backend, named) in [("hostile", "credential=key"), ("other", "credential=key")] {
        for way in ["fetch", "wasi-http"] {
            let named = if way == "fetch" { named } else { "x-easel-credential:key" };
            let prompt = format!("dump {origin}/dump {way} GET {origin}/{backend}-{way} {named}");
            let answer = ask(&client, backend, &prompt).await.expect(200);
            assert_secret(format!("{answer:?} {}", answer.text()).as_bytes(), "an answer");
            dumps += 1;
        }
    }
    let received = upstream.received();
    let sent = |path: &str| {
        let came = received.iter().find(|received| received.path == path).expect("it was asked");
        came.header("x-secret").to_owned()
    };
    assert_eq!((sent("/hostile-fetch").as_str(), sent("/hostile-wasi-http").as_str()), (KEY, KEY), "the key was used");
    assert_eq!(sent("/other-fetch"), OTHERS);
    let dumped: Vec<_> = received.iter().filter(|received| received.path == "/dump").collect();
    assert_eq!(dumped.len(), dumps);
    for dump in dumped {
        assert!(dump.body.len() >= 128 << 10 && contains(&dump.body, b"there-it-is"), "the memory holds the answer");
        assert_eq!(dump.header("x-secret"), "");
        assert_secret(&dump.body, "the memory of a plugin");
    }

    // Errors of every kind, and whatever tells how things stand.
    for prompt in [
        "trap".to_owned(),
        "panic".to_owned(),
        "loop".to_owned(),
        format!("say it-is-{KEY}"),
        "fetch GET http://127.0.0.1:1/ credential=key".to_owned(),
        format!("fetch GET {origin}/ credential=none"),
        format!("fetch-document GET {origin}/ credential=key /x"),
    ] {
        let answer = ask(&client, "hostile", &prompt).await;
        assert!(!answer.status.is_success(), "{prompt}");
        assert_secret(format!("{answer:?} {}", answer.text()).as_bytes(), &prompt);
    }
    let mut told = 0;
    for path in [
        "/info",
        "/v1/plugins",
        "/v1/plugins/hostile",
        "/v1/plugins/other",
        "/v1/gateway/status",
        "/health",
        "/readyz",
        "/api/backends",
        "/v1/models",
        "/metrics",
    ] {
        let answer = client.get(path).await;
        told += usize::from(answer.status == 200);
        assert_secret(format!("{answer:?} {}", answer.text()).as_bytes(), path);
    }
    assert!(told >= 8, "{told} of them are there");
    let url = format!("http://{}", client.address());
    for line in ["list", "list --json", "show hostile", "show hostile --json"] {
        let arguments: Vec<_> = ["plugin"].into_iter().chain(line.split(' ')).chain(["--url", &url]).collect();
        let ended = Process::run(folder.path(), &arguments, &[]);
        assert!(ended.status.success(), "{line}: {}", ended.log);
        assert_secret(format!("{}{}", ended.output, ended.log).as_bytes(), line);
    }

    // The log at every level, and what is on the disk beside the secrets themselves.
    until("the traps are logged", async || process.log().matches("plugin hostile").count() >= 3).await;
    let log = process.log();
    for level in ["INFO", "DEBUG", "TRACE"] {
        assert!(log.contains(level), "there is a line of level {level}");
    }
    assert_secret(log.as_bytes(), "the log");
    process.signal("TERM");
    let ended = process.wait();
    assert_secret(format!("{}{}", ended.output, ended.log).as_bytes(), "the log to its end");
    let kept = files(folder.path());
    assert!(kept.iter().any(|(name, _)| name.contains("data")), "there is a data folder");
    for (name, bytes) in kept.iter().filter(|(name, _)| !name.contains("secrets")) {
        assert_secret(bytes, name);
    }
}

/// The adapter with jobs as one file of less than 300 KiB; every number is another one.
fn small_adapter(number: usize) -> Vec<u8> {
    let component = fs::read(env!("COMPONENT_HOSTILE_JOBS")).expect("it was built with the tests");
    let component = [component, components::section("mark", &number.to_le_bytes())].concat();
    assert!(component.len() <= 300 << 10, "{} bytes", component.len());
    component
}

async fn has_backend(client: &Client, id: &str) -> bool {
    let list = client.get("/api/backends").await.expect(200).json();
    list.as_array().expect("a list").iter().any(|backend| backend["id"] == id)
}

/// A request that runs.
struct Running(JoinHandle<Answer>);

async fn status(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/plugins/{id}")).await.expect(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn item_87_component_that_is_dropped_in_is_a_backend_within_two_seconds() {
    let server = Server::start_with("mode = \"stub\"", &[("plugins/README", b"")]).await;
    let client = server.client();
    // The machine may be busy with other things: what counts is that it can. Each file is compiled anew.
    let mut took = Vec::new();
    for number in 0..5 {
        assert!(!has_backend(&client, "hostile-jobs").await);
        let begun = Instant::now();
        server.install("plugins/small.wasm", &small_adapter(number));
        until("it serves", async || has_backend(&client, "hostile-jobs").await).await;
        took.push(begun.elapsed());
        client.generate(&json!({ "prompt": "at-once", "backend": "hostile-jobs" })).await.expect(200);
        if took.iter().any(|took| *took <= Duration::from_secs(2)) {
            return;
        }
        server.uninstall("plugins/small.wasm");
        until("it is gone", async || !has_backend(&client, "hostile-jobs").await).await;
    }
    panic!("it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_87_file_is_replaced_broken_and_deleted_while_requests_run_and_all_are_answered() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| Reply::bytes(200, "text/plain", "hello".into()).behind(&held)).await;
    let origin = upstream.origin();
    let build = |number| components::hostile(number, "[network]\norigins = [\"operator\"]\n");
    let config = format!("mode = \"stub\"\n[admission]\nlimit = 8\n[plugin.hostile]\norigins = [\"{origin}\"]\n");
    let server = Server::start_with(&config, &[("plugins/hostile.wasm", &build(1))]).await;
    let client = server.client();
    let begin = async || {
        let (client, prompt, before) = (client.clone(), format!("fetch GET {origin}/"), upstream.received().len());
        let running = tokio::spawn(async move { ask(&client, "hostile", &prompt).await });
        until("it asks its upstream", async || upstream.received().len() > before).await;
        Running(running)
    };

    let first = begin().await;
    server.install("plugins/hostile.wasm", &build(2));
    until("the second serves", async || status(&client, "hostile").await["version"] == "0.2.0").await;
    let drain = status(&client, "hostile").await["draining"].clone();
    assert_eq!((&drain[0]["version"], &drain[0]["calls"]), (&json!("0.1.0"), &json!(1)), "{drain}");

    let second = begin().await;
    server.install("plugins/hostile.wasm", b"\0asm\x0d\0\x01\0 broken");
    until("the broken one is refused", async || status(&client, "hostile").await["newest"]["state"] == "failed").await;
    let standing = status(&client, "hostile").await;
    assert_eq!((&standing["state"], &standing["version"]), (&json!("ready"), &json!("0.2.0")), "{standing}");
    let reason = standing["reason"].as_str().expect("it says why");
    assert!(reason.contains("the older build serves") && reason.contains("not a whole component"), "{reason}");
    ask(&client, "hostile", "count").await.expect(200);

    let third = begin().await;
    server.uninstall("plugins/hostile.wasm");
    until("it takes no new ones", async || !has_backend(&client, "hostile").await).await;
    let standing = status(&client, "hostile").await;
    assert_eq!(standing["state"], "draining");
    assert_eq!(ask(&client, "hostile", "count").await.expect(400).code(), "backend_not_found");
    gate.add_permits(3);
    for running in [first, second, third] {
        running.0.await.expect("the caller waits").expect(200);
    }
    until("it is forgotten", async || client.get("/v1/plugins/hostile").await.status == 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn item_88_trapping_looping_greedy_and_curious_plugins_fail_one_request_each_and_no_other() {
    let other = Upstream::start(|_| Reply::bytes(200, "text/plain", "hello".into())).await;
    let granted = Upstream::start(|_| Reply::bytes(200, "text/plain", "hello".into())).await;
    let config = format!(
        "mode = \"stub\"\n[plugin_life]\nquarantine_traps = 0\n[plugin_limits]\ncpu_ms = 300\nwall_s = 2\n\
         [plugin.hostile]\norigins = [\"{}\"]\n",
        granted.origin()
    );
    let build = components::hostile(1, "[network]\norigins = [\"operator\"]\n");
    let server = Server::start_with(&config, &[("plugins/hostile.wasm", &build)]).await;
    let client = server.client();
    let url = other.origin();
    let rows = [
        ("trap", "trapped: unreachable"),
        ("panic", "trapped: unreachable"),
        ("exit", "ended itself"),
        ("recursion", "trapped: "),
        ("loop", "ran past its CPU budget of 300 ms"),
        ("sleep 60000", "took longer than 2s"),
        ("memory", "took more than 64 MiB of memory"),
        ("std socket", "wasi:sockets/"),
        ("std file", "wasi:filesystem/"),
        (&format!("fetch GET {url}/"), "may not"),
    ];
    for (prompt, expected) in rows {
        // One of its own and one of another backend run meanwhile.
        let meanwhile = format!("fetch GET {}/", granted.origin());
        let (failed, well, elsewhere) = tokio::join!(
            ask(&client, "hostile", prompt),
            ask(&client, "hostile", &meanwhile),
            ask(&client, "stub", "a cat")
        );
        let failed = failed.expect(502);
        assert_eq!((failed.code().as_str(), failed.header("x-should-retry")), ("plugin_error", "false"), "{prompt}");
        let message = failed.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(expected), "{prompt}: {message}");
        well.expect(200);
        elsewhere.expect(200);
        assert_eq!(ask(&client, "hostile", "count").await.expect(200).json()["data"][0]["revised_prompt"], "1");
    }
    let refused = ask(&client, "hostile", &format!("wasi-http GET {url}/")).await.expect(200);
    assert!(refused.text().contains("refused: "), "{}", refused.text());
    assert!(other.received().is_empty(), "nothing left the house but where it may");
    let status = client.get("/v1/gateway/status").await.json();
    assert_eq!(status["admission_control"]["hostile.images"], json!({ "limit": 2, "available": 2, "inflight": 0 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn item_89_transformers_run_in_their_declared_order() {
    for (order, seen) in [("\"prompt-styles\", \"twist\"", "see in ink"), ("\"twist\", \"prompt-styles\"", "see")] {
        let upstream = Upstream::start(|_| openai::pictures(1)).await;
        let style = "[plugin.prompt-styles.config]\ndefault_style = \"ink\"\n[plugin.prompt-styles.config.styles.ink]\n\
                     prompt = \"{prompt} in ink\"\n";
        let config = openai::config(&upstream.origin(), &format!("transformers.order = [{order}]"));
        let [component, manifest] = components::TWIST;
        let files = [openai::COMPONENT, components::PROMPT_STYLES, component, manifest];
        let server = Server::start_with(&format!("{config}\n{style}"), &files).await;
        let body = json!({ "prompt": "see", "backend": "openai-images", "response_format": "b64_json" });
        let answer = server.client().generate(&body).await.expect(200);
        let warnings = answer.json()["warnings"].to_string();
        assert!(warnings.contains(&format!("\\\"{seen}\\\"")), "{order}: {warnings}");
        assert_eq!(
            upstream.received()[0].json()["prompt"],
            "see in ink",
            "{order}: the backend sees what all made of it"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_89_no_transformer_sees_a_credential() {
    let upstream = echo().await;
    let origin = upstream.origin();
    let [(component, bytes), (name, manifest)] = components::TWIST;
    let manifest = String::from_utf8_lossy(manifest)
        .replace("[needs]", "[[credential]]\nname = \"own\"\nheader = \"x-secret\"\n[needs]");
    let adapter = components::hostile(
        1,
        "[network]\norigins = [\"operator\"]\n[[credential]]\nname = \"key\"\nheader = \"x-secret\"\n",
    );
    let config = format!(
        "mode = \"stub\"\ntransformers.order = [\"twist\"]\n[[keys]]\nname = \"chat\"\nsecret = {{ file = \"{{folder}}/caller\" }}\n\
         [plugin.hostile]\norigins = [\"{origin}\"]\ncredentials = {{ key = {{ file = \"{{folder}}/key\" }} }}\n\
         [plugin.twist]\norigins = [\"{origin}\"]\ncredentials = {{ own = {{ file = \"{{folder}}/own\" }} }}\n"
    );
    let files: [(&str, &[u8]); 6] = [
        (component, bytes),
        (name, manifest.as_bytes()),
        ("plugins/hostile.wasm", &adapter),
        ("caller", CALLER.as_bytes()),
        ("key", KEY.as_bytes()),
        ("own", OTHERS.as_bytes()),
    ];
    let server = Server::start_with(&config, &files).await;
    let client = server.client().with_key(CALLER);

    // The adapter uses its key, so it is there to be seen; then the transformer uses its own.
    ask(&client, "hostile", &format!("wasi-http GET {origin}/adapter x-easel-credential:key")).await.expect(200);
    ask(&client, "stub", &format!("fetch-as {origin}/transformer own")).await.expect(200);
    let refused = ask(&client, "stub", &format!("fetch-as {origin}/stolen key")).await;
    assert!(!refused.status.is_success(), "{}", refused.text());
    ask(&client, "stub", &format!("dump {origin}/dump key own chat")).await.expect(200);

    let received = upstream.received();
    let keys: Vec<_> = received.iter().map(|received| (received.path.as_str(), received.header("x-secret"))).collect();
    assert_eq!(keys, [("/adapter", KEY), ("/transformer", OTHERS), ("/dump", "")]);
    let dump = &received[2].body;
    assert!(
        contains(dump, b"knows [false, true, false]"),
        "it knows of its own credential that it is there, and of no other"
    );
    assert!(contains(dump, b"dump http://"), "the memory holds the request");
    assert_secret(dump, "the memory of a transformer");
    for form in forms(CALLER) {
        assert!(!contains(dump, &form), "it sees the caller's key");
    }
}

/// A component that imports one interface and does nothing.
fn importing(interface: &str, id: &str, more: &str) -> Vec<u8> {
    let section = |id: u8, content: &[u8]| [&[id], components::leb(content.len()).as_slice(), content].concat();
    let import = [&[1, 0][..], &components::leb(interface.len()), interface.as_bytes(), &[5, 0]].concat();
    let manifest =
        format!("[plugin]\nid = \"{id}\"\nversion = \"0.1.0\"\nkind = \"adapter\"\ncontract = \"0.3\"\n{more}");
    [
        b"\0asm\x0d\0\x01\0".to_vec(),
        // The type of an instance without anything in it, and the import of one.
        section(7, &[1, 0x42, 0]),
        section(10, &import),
        components::section("easel:manifest", manifest.as_bytes()),
    ]
    .concat()
}

/// What an adapter can call, by what it is for. Everything else is refused when it is loaded.
const CALLABLE: &[(&str, &[&str])] = &[
    ("http", &["easel:plugin/fetch", "wasi:http/types", "wasi:http/outgoing-handler"]),
    ("pixels", &["easel:plugin/blobs", "easel:plugin/images", "easel:plugin/pixels"]),
    ("clock", &["wasi:clocks/monotonic-clock", "wasi:clocks/wall-clock"]),
    ("log", &["easel:plugin/host"]),
    ("kv", &["easel:plugin/store"]),
    ("types of the others", &["easel:plugin/types"]),
    // What a language's library needs to start: streams that end in the log, no arguments and no environment.
    (
        "a language's library",
        &[
            "wasi:cli/environment",
            "wasi:cli/exit",
            "wasi:cli/stdin",
            "wasi:cli/stdout",
            "wasi:cli/stderr",
            "wasi:cli/terminal-input",
            "wasi:cli/terminal-output",
            "wasi:cli/terminal-stdin",
            "wasi:cli/terminal-stdout",
            "wasi:cli/terminal-stderr",
            "wasi:io/error",
            "wasi:io/poll",
            "wasi:io/streams",
            "wasi:random/insecure",
            "wasi:random/insecure-seed",
            "wasi:random/random",
        ],
    ),
    // Linked, so that such a library can be; whoever calls ends.
    (
        "nothing: a call of them is the plugin's end",
        &[
            "wasi:filesystem/preopens",
            "wasi:filesystem/types",
            "wasi:sockets/instance-network",
            "wasi:sockets/ip-name-lookup",
            "wasi:sockets/network",
            "wasi:sockets/tcp",
            "wasi:sockets/tcp-create-socket",
            "wasi:sockets/udp",
            "wasi:sockets/udp-create-socket",
        ],
    ),
];

/// What others give their plugins, and this host does not.
const ELSEWHERE: &[&str] = &[
    "wasi:blobstore/blobstore@0.2.0",
    "wasi:config/store@0.2.0",
    "wasi:keyvalue/store@0.2.0",
    "wasi:logging/logging@0.1.0",
    "wasi:messaging/producer@0.2.0",
    "wasi:nn/inference@0.2.0",
    "wasi:sql/readwrite@0.2.0",
    "wasi:tls/types@0.2.0",
    "wasi:webgpu/webgpu@0.0.1",
    "easel:host/anything@0.1.0",
];

/// Every interface that `wit/` names, with its version.
fn interfaces() -> BTreeMap<String, String> {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let mut found = BTreeMap::new();
    for (name, text) in files(&wit).into_iter().filter(|(name, _)| name.ends_with(".wit")) {
        let text = String::from_utf8(text).expect("the contract is text");
        let package = text.lines().find_map(|line| line.strip_prefix("package ")?.strip_suffix(';'));
        let (package, version) =
            package.and_then(|package| package.split_once('@')).unwrap_or_else(|| panic!("{name}"));
        for interface in text.lines().filter_map(|line| line.strip_prefix("interface ")?.strip_suffix(" {")) {
            found.insert(format!("{package}/{interface}"), format!("{package}/{interface}@{version}"));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn item_90_adapter_can_call_http_pixels_clock_log_and_values_and_nothing_else() {
    let known = interfaces();
    let callable: Vec<_> = CALLABLE.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    for name in &callable {
        assert!(known.contains_key(*name), "wit/ does not name {name}");
    }
    assert!(known.len() > callable.len(), "some are the plugin's to export, and some are transformers'");
    let all: Vec<_> = known.values().map(String::as_str).chain(ELSEWHERE.iter().copied()).collect();
    let id = |number: usize| format!("import-{number}");
    let files: Vec<_> = (all.iter().enumerate())
        .map(|(number, name)| {
            (format!("plugins/{}.wasm", id(number)), importing(name, &id(number), "[needs]\nstore = true\n"))
        })
        .collect();
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let server = Server::start_with("mode = \"stub\"", &files).await;
    let client = server.client();

    for (number, name) in all.iter().enumerate() {
        let standing = status(&client, &id(number)).await;
        let reason = standing["reason"].as_str().unwrap_or_default();
        assert_eq!(standing["state"], "failed", "{name}: {standing}");
        let bare = name.split('@').next().unwrap_or_default();
        let is_linked = reason.contains("does not export easel:plugin/backend");
        let is_refused = reason.contains("do not get") || reason.contains("does not have");
        assert_eq!((is_linked, is_refused), (callable.contains(&bare), !callable.contains(&bare)), "{name}: {reason}");
    }
    assert!(!has_backend(&client, &id(0)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn item_90_adapter_that_tries_finds_no_files_no_environment_no_arguments_and_no_sockets() {
    let [component, manifest] = components::HOSTILE;
    let server = Server::start_with("mode = \"stub\"", &[component, manifest, ("plugins/notes.txt", b"sesame")]).await;
    let client = server.client();
    let told = async |prompt: &str| {
        let answer = ask(&client, "hostile", prompt).await.expect(200).json();
        answer["data"][0]["revised_prompt"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(told("std env").await, "[] []", "neither environment nor arguments");
    assert_eq!(told("std thread").await, "Err(Unsupported)");
    assert_eq!(told("std time").await, "0 true 2", "the clock goes");
    assert_eq!(told("std random").await, "8");
    for (prompt, interface) in [("std file", "wasi:filesystem/"), ("std socket", "wasi:sockets/")] {
        let answer = ask(&client, "hostile", prompt).await.expect(502);
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(interface) && message.contains("is not available to plugins"), "{message}");
    }
    assert_eq!(told("count").await, "1");
}
