//! The adapter of InvokeAI in the running server, in front of an InvokeAI that is played: what the acceptance list says of the
//! queue, the template and the names of the older service (items 19 to 23), and of a caller who goes (79). Whole requests,
//! answer by answer, are in the tests beside the plugin.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Answer, Process, Received, Reply, Server, Upstream, pictures, until};

const COMPONENT: &str = env!("COMPONENT_INVOKEAI");

fn component() -> Vec<u8> {
    std::fs::read(COMPONENT).expect("it was built with the tests")
}

/// The template of one of the tests beside the plugin.
fn template(test: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("there is a folder above");
    let path = root.join("plugins/invokeai/tests").join(format!("{test}.toml"));
    let text = std::fs::read_to_string(path).expect("the test is there");
    let test: toml::Table = toml::from_str(&text).expect("it is TOML");
    test["config"]["graph_template"].as_str().expect("it has a template").to_owned()
}

/// An InvokeAI with one model whose items are done at once, or never. Each node's result is a picture of a size of its own:
/// `l2i-1` makes 24x24, every other 8x8.
async fn invoke(is_done: &Arc<AtomicBool>) -> Upstream {
    let done = Arc::clone(is_done);
    Upstream::start(move |received| {
        let path = received.path.split('?').next().unwrap_or_default();
        let model = json!({
            "key": "k-sd", "hash": "blake3:k-sd", "name": "Dreamer 1", "base": "sd-1", "type": "main",
            "format": "diffusers", "variant": "normal",
        });
        let status = if done.load(Ordering::SeqCst) { "completed" } else { "in_progress" };
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        let body = match (received.method.as_str(), parts.as_slice()) {
            ("GET", [.., "version"]) => json!({ "version": "6.14.2" }),
            ("GET", [.., "queue", queue, "status"]) => json!({
                "queue": { "queue_id": queue, "pending": 0, "in_progress": 0, "total": 0 },
                "processor": { "is_started": true, "is_processing": false },
            }),
            ("GET", [.., "models", "missing"]) => json!({ "models": [] }),
            ("GET", [.., "models"]) => json!({ "models": [model] }),
            ("POST", [.., "enqueue_batch"]) => json!({
                "queue_id": "default", "enqueued": 1, "requested": 1, "priority": 0, "batch": { "batch_id": "b" },
                "item_ids": [1],
            }),
            ("POST", [.., "item_summaries_by_ids"]) => json!([{ "item_id": 1, "status": status }]),
            ("GET", [.., "i", "1"]) => json!({
                "item_id": 1, "status": status,
                "session": {
                    "source_prepared_mapping": { "l2i-1": ["p/1"], "other": ["p/2"], "out": ["p/2"], "paste": ["p/2"] },
                    "results": { "p/1": image("24.png"), "p/2": image("8.png") },
                },
            }),
            ("GET", [.., name, "full"]) => {
                let side = if *name == "24.png" { 24 } else { 8 };
                return Reply::bytes(200, "image/png", pictures::png(side, side).into());
            }
            ("POST", [.., "upload"]) => json!({ "image_name": "in.png" }),
            ("PUT", [.., "cancel_by_destination"]) => json!({ "canceled": 1 }),
            ("DELETE", _) => Value::Null,
            _ => return Reply::json(404, &json!({ "detail": path })),
        };
        Reply::json(200, &body)
    })
    .await
}

fn image(name: &str) -> Value {
    json!({ "type": "image_output", "image": { "image_name": name }, "width": 8, "height": 8 })
}

async fn ready() -> Upstream {
    invoke(&Arc::new(AtomicBool::new(true))).await
}

/// A server with the adapter beside a stub; these lines are its config.
async fn server(upstream: &Upstream, config: &str) -> Server {
    let origin = upstream.origin();
    let config = format!(
        "mode = \"stub\"\n[plugin.invokeai]\norigins = [\"{origin}\"]\n[plugin.invokeai.config]\nbase_url = \"{origin}\"\n\
         live = false\n{config}"
    );
    Server::start_with(&config, &[("plugins/invokeai.wasm", &component())]).await
}

async fn ask(server: &Server, fields: Value) -> Answer {
    let mut body = json!({ "prompt": "a fox", "backend": "invokeai", "response_format": "b64_json" });
    body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    server.client().generate(&body).await
}

/// The batches that were enqueued.
fn batches(upstream: &Upstream) -> Vec<Received> {
    upstream.received().into_iter().filter(|received| received.path.ends_with("/enqueue_batch")).collect()
}

fn graph(upstream: &Upstream) -> Value {
    batches(upstream).pop().expect("a batch was enqueued").json()["batch"]["graph"].clone()
}

/// The standing of the plugin: its state and why.
async fn standing(server: &Server) -> (String, String) {
    let list = server.client().get("/v1/plugins").await.expect(200).json();
    let plugin = list["data"].as_array().or(list.as_array()).expect("a list")[0].clone();
    let text = |name: &str| plugin[name].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

/// A program in a folder with the adapter, for whose config these variables count.
struct Shim {
    folder: tempfile::TempDir,
    process: Process,
}

impl Shim {
    fn start(upstream: &Upstream, template: Option<&str>, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let place = |name: &str| -> PathBuf { folder.path().join(name) };
        let write =
            |name: &str, content: &[u8]| std::fs::write(place(name), content).expect("the folder can be written");
        std::fs::create_dir(place("plugins")).expect("the folder can be written");
        write("plugins/invokeai.wasm", &component());
        let origin = upstream.origin();
        let granted = "environment = [\"SHIM_*\", \"INVOKEAI_*\"]";
        let config = format!(
            "models = {{ demo = false, default = \"invokeai\" }}\n[plugin.invokeai]\norigins = [\"{origin}\"]\n{granted}\n\
             config = {{ live = false }}\n"
        );
        write("easel.toml", config.as_bytes());
        let mut variables = variables.to_vec();
        variables.push(("INVOKEAI_BASE_URL", &origin));
        let path = place("graph.json").to_string_lossy().into_owned();
        if let Some(template) = template {
            write("graph.json", template.as_bytes());
            variables.push(("SHIM_GRAPH_TEMPLATE_PATH", &path));
        }
        let process = Process::start(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &variables);
        Self { folder, process }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_11_edit_changes_as_much_as_its_strength_says_and_only_under_its_mask() {
    let upstream = ready().await;
    let server = server(&upstream, "").await;
    let address = |picture: Vec<u8>| json!(format!("data:image/png;base64,{}", STANDARD.encode(picture)));
    let image = json!([{ "image_url": address(pictures::png(64, 64)) }]);
    let mask = json!({ "image_url": address(pictures::mask(64, 64)) });
    // What is kept of the picture is the rest of the strength.
    for (fields, kept, has_mask) in [
        (json!({}), 0.35, false),
        (json!({ "strength": 0.25 }), 0.75, false),
        (json!({ "strength": 1.0, "mask": mask }), 0.0, true),
    ] {
        let mut body = json!({ "prompt": "a hat", "backend": "invokeai", "model": "invokeai", "images": image });
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        server.client().post("/v1/images/edits", &body).await.expect(200);
        let graph = graph(&upstream);
        let start = graph["nodes"]["denoise"]["denoising_start"].as_f64().unwrap_or_default();
        assert!((start - kept).abs() < 1e-6, "{graph}");
        assert_eq!(graph.to_string().contains("create_gradient_mask"), has_mask, "{graph}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_19_queue_mode_wants_a_template_and_readiness_says_so_before_any_request_does() {
    let upstream = ready().await;
    let template = template("template-api-graph");
    let broken = template.replacen('{', "", 1);
    for (template, reason) in
        [(None, "set graph_template (SHIM_GRAPH_TEMPLATE_PATH)"), (Some(&broken), "graph_template")]
    {
        let shim = Shim::start(&upstream, template.map(String::as_str), &[("SHIM_MODE", "invokeai_queue")]);
        let client = shim.process.listening().await;
        until("readiness tells of it", async || client.get("/readyz").await.text().contains(reason)).await;
        let standing = client.get("/readyz").await.expect(503).json();
        let told = standing["backends"]["invokeai"]["reason"].as_str().unwrap_or_default();
        assert!(told.contains(reason), "{standing}");
        client.get("/healthz").await.expect(200);
        // Not a 500 for each request.
        assert_eq!(client.generate(&json!({ "prompt": "a fox" })).await.expect(503).code(), "backend_not_ready");
    }
    let shim = Shim::start(&upstream, Some(&template), &[("SHIM_MODE", "invokeai_queue")]);
    shim.process.client().await.generate(&json!({ "prompt": "a fox" })).await.expect(200);
    assert_eq!(graph(&upstream)["nodes"]["string-p"]["value"], "a fox", "the template is what is enqueued");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_20_variables_of_the_shim_count_as_they_did_there() {
    let upstream = ready().await;
    let template = template("template-api-graph");
    let variables = [
        ("SHIM_MODE", "invokeai_queue"),
        ("SHIM_OUTPUT_NODE_ID", "l2i-1"),
        ("SHIM_STRICT_MODEL", "true"),
        ("SHIM_MODEL_INPUT_MODE", "dict"),
        ("SHIM_POLL_INTERVAL_S", "0.1"),
        ("SHIM_TIMEOUT_S", "20"),
        ("SHIM_SAVE_LAST_IMAGE_PATH", "last.png"),
        ("SHIM_MODEL_PRESETS_JSON", r#"{"fast": {"model": "Dreamer 1", "steps": 4}}"#),
        ("INVOKEAI_QUEUE_ID", "nightly"),
    ];
    let shim = Shim::start(&upstream, Some(&template), &variables);
    let client = shim.process.client().await;

    let models = client.get("/v1/models").await.expect(200).json();
    let ids: Vec<_> = models["data"].as_array().expect("a list").iter().map(|model| model["id"].clone()).collect();
    assert_eq!(ids, ["fast", "invokeai"], "presets come first");
    let answer = client.generate(&json!({ "prompt": "a fox", "model": "fast", "seed": 9 })).await.expect(200);
    let batch = batches(&upstream).pop().expect("a batch was enqueued");
    assert_eq!(batch.path, "/api/v1/queue/nightly/enqueue_batch");
    let graph = batch.json()["batch"]["graph"].clone();
    assert_eq!(
        (&graph["nodes"]["string-p"]["value"], &graph["nodes"]["denoise"]["steps"]),
        (&json!("a fox"), &json!(4))
    );
    assert_eq!(graph["nodes"]["loader"]["model"]["key"], "k-sd");
    let url = answer.json()["data"][0]["url"].as_str().expect("the address is the default").to_owned();
    let picture = client.get(&url).await.expect(200).body;
    assert_eq!(pictures::decode(&picture).1.dimensions(), (24, 24), "the picture of the node that was named");
    let last = std::fs::read(shim.folder.path().join("last.png")).expect("the last picture is saved");
    assert_eq!(last, picture);

    // Strict: what nobody has is not replaced.
    let answer = client.generate(&json!({ "prompt": "a fox", "model": "Nobody" })).await.expect(404);
    assert_eq!(answer.code(), "model_not_found");
    let log = shim.process.log();
    for (variable, _) in variables.iter().filter(|(name, _)| !["SHIM_SAVE_LAST_IMAGE_PATH"].contains(name)) {
        assert!(log.contains(&format!("variable=\"{variable}\"")), "{variable} counts: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_21_output_node_that_is_named_wins_and_what_is_ambiguous_is_an_error_of_the_config() {
    let upstream = ready().await;
    let mut two: Value = serde_json::from_str(&template("template-api-graph")).expect("an API graph is JSON");
    let mut other = two["nodes"]["l2i-1"].clone();
    other["id"] = json!("other");
    two["nodes"]["other"] = other;
    let edges = two["edges"].as_array().expect("a list").clone();
    let into = edges.iter().filter(|edge| edge["destination"]["node_id"] == "l2i-1").cloned();
    let into = into.map(|mut edge| {
        edge["destination"]["node_id"] = json!("other");
        edge
    });
    two["edges"] = edges.iter().cloned().chain(into).collect();
    let lines = |more: &str| format!("graph_template = '{two}'\n{more}");

    // Nobody says which of two it is: the server starts, and the plugin says what to set.
    let server = server(&upstream, &lines("")).await;
    let (state, reason) = standing(&server).await;
    assert_eq!(state, "failed", "{reason}");
    assert!(reason.contains("output_node") && reason.contains("l2i-1") && reason.contains("other"), "{reason}");
    assert_eq!(ask(&server, json!({})).await.expect(400).code(), "backend_not_found");
    server.client().generate(&json!({ "prompt": "a fox" })).await.expect(200);

    for (node, side) in [("l2i-1", 24), ("other", 8)] {
        let server = self::server(&upstream, &lines(&format!("output_node = \"{node}\"\n"))).await;
        let answer = ask(&server, json!({})).await.expect(200);
        let picture = pictures::files(&server.client(), &answer).await.remove(0);
        assert_eq!(pictures::decode(&picture).1.dimensions(), (side, side), "{node}");
    }
    // The only one that it can be is found.
    let server = self::server(&upstream, &format!("graph_template = '{}'\n", template("template-api-graph"))).await;
    ask(&server, json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn item_22_model_that_is_not_installed_is_replaced_and_told_or_refused_with_those_that_are() {
    let upstream = ready().await;
    let asked = json!({ "options": { "invokeai_model": "Nobody" } });
    let server = server(&upstream, "").await;
    let answer = ask(&server, asked.clone()).await.expect(200);
    let warnings = answer.json()["warnings"].to_string();
    assert!(warnings.contains("Nobody") && warnings.contains("Dreamer 1 took its place"), "{warnings}");
    assert_eq!(answer.header("x-model-used"), "invokeai");

    let before = batches(&upstream).len();
    let server = self::server(&upstream, "strict_model = true\n").await;
    let answer = ask(&server, asked).await;
    assert!(answer.status.is_client_error(), "{}", answer.text());
    let error = answer.json()["error"].clone();
    assert_eq!(error["param"], "model");
    assert!(error["message"].as_str().is_some_and(|told| told.contains("there are: Dreamer 1")), "{error}");
    assert_eq!(batches(&upstream).len(), before, "nothing is enqueued");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_23_api_graph_and_workflow_export_give_the_same_graph() {
    let upstream = ready().await;
    let mut graphs = Vec::new();
    for test in ["template-api-graph", "template-workflow-export"] {
        let server = server(&upstream, &format!("graph_template = '''{}'''\n", template(test))).await;
        let fields = json!({ "negative_prompt": "rain", "size": "512x256", "seed": 9, "steps": 12, "cfg_scale": 3.5 });
        ask(&server, fields).await.expect(200);
        graphs.push(graph(&upstream));
    }
    assert_eq!(graphs[0], graphs[1]);
    let nodes = &graphs[0]["nodes"];
    assert_eq!((&nodes["string-p"]["value"], &nodes["string-n"]["value"]), (&json!("a fox"), &json!("rain")));
    assert_eq!((&nodes["noise"]["width"], &nodes["noise"]["height"]), (&json!(512), &json!(256)));
}

#[tokio::test(flavor = "multi_thread")]
async fn item_79_caller_who_goes_takes_his_work_out_of_the_queue() {
    let is_done = Arc::new(AtomicBool::new(false));
    let upstream = invoke(&is_done).await;
    let server = server(&upstream, "").await;
    let client = server.client();
    let asked = |part: &str| upstream.received().into_iter().filter(|received| received.path.contains(part)).count();
    let body = json!({ "prompt": "a fox", "backend": "invokeai" });
    let (asking, sent) = (client.clone(), body.clone());
    let running = tokio::spawn(async move { asking.generate(&sent).await });
    until("it is followed", async || asked("item_summaries_by_ids") > 0).await;

    running.abort();

    until("it is taken out", async || asked("cancel_by_destination") == 1).await;
    let cancel = upstream.received().into_iter().find(|received| received.path.contains("cancel_by_destination"));
    let destination = batches(&upstream)[0].json()["batch"]["destination"].as_str().unwrap_or_default().to_owned();
    assert!(cancel.is_some_and(|cancel| cancel.path.ends_with(&format!("destination={destination}"))));
    is_done.store(true, Ordering::SeqCst);
    client.generate(&body).await.expect(200);
}
