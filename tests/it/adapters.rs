//! The adapters of this repository in the running server, each in front of an upstream that answers from a script: what the
//! acceptance list says of models in the cloud. What each adapter makes of every single answer is shown by the tests beside
//! it (`plugins/*/tests`); that of InvokeAI has a file of its own, and `plugins.rs` is about `openai-images`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::harness::{Answer, Client, Received, Reply, Server, Upstream, openai, pictures, until};

/// A key that upstreams give back, and nobody may read.
const KEY: &str = "sk-planted-0123456789";

/// A server with one adapter beside a stub, which stays the backend of requests that name none. In its config `{origin}` is
/// the upstream, and `{folder}/key` has the key.
async fn server(component: &str, upstream: &Upstream, config: &str) -> Server {
    let config = format!("mode = \"stub\"\n{}", config.replace("{origin}", &upstream.origin()));
    let component = std::fs::read(component).expect("it was built with the tests");
    Server::start_with(&config, &[("plugins/adapter.wasm", &component), ("key", KEY.as_bytes())]).await
}

async fn bfl(upstream: &Upstream) -> Server {
    let config = "[plugin.bfl]\norigins = [\"https://*.bfl.ai\", \"{origin}\"]\n\
                  credentials = { server_key = { file = \"{folder}/key\" } }\nconfig = { base_url = \"{origin}/v1\" }\n";
    server(env!("COMPONENT_BFL"), upstream, config).await
}

async fn gemini(upstream: &Upstream, more: &str) -> Server {
    let config = "[plugin.gemini]\norigins = [\"https://generativelanguage.googleapis.com\", \"{origin}\"]\n\
                  credentials = { api_key = { file = \"{folder}/key\" } }\n\
                  [plugin.gemini.config]\nbase_url = \"{origin}/v1beta\"\n";
    server(env!("COMPONENT_GEMINI"), upstream, &format!("{config}{more}")).await
}

async fn openai_itself(upstream: &Upstream) -> Server {
    let config = "[plugin.openai]\norigins = [\"https://api.openai.com\", \"{origin}\"]\n\
                  credentials = { api_key = { file = \"{folder}/key\" } }\n\
                  config = { base_url = \"{origin}/v1\", prices = \"openai\" }\n";
    server(env!("COMPONENT_OPENAI"), upstream, config).await
}

/// Asks one backend for a picture, with these fields besides.
async fn ask(server: &Server, backend: &str, fields: Value) -> Answer {
    let mut body = json!({ "prompt": "a fox", "backend": backend, "response_format": "b64_json" });
    body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    server.client().generate(&body).await
}

fn png() -> String {
    STANDARD.encode(pictures::png(8, 8))
}

/// What `:generateContent` answers: one picture, and what it took.
fn content() -> Reply {
    let parts = json!([{ "inlineData": { "mimeType": "image/png", "data": png() } }]);
    Reply::json(
        200,
        &json!({
            "candidates": [{ "finishReason": "STOP", "content": { "role": "model", "parts": parts } }],
            "usageMetadata": {
                "promptTokenCount": 10, "candidatesTokenCount": 1290,
                "candidatesTokensDetails": [{ "modality": "IMAGE", "tokenCount": 1290 }],
            },
        }),
    )
}

/// What `:predict` answers: as many pictures as it was asked for.
fn predictions(received: &Received) -> Reply {
    let count = received.json()["parameters"]["sampleCount"].as_u64().expect("it says how many");
    let one = json!({ "bytesBase64Encoded": png(), "mimeType": "image/png", "prompt": "a red fox" });
    Reply::json(200, &json!({ "predictions": vec![one; usize::try_from(count).expect("few")] }))
}

fn last(upstream: &Upstream) -> Received {
    upstream.received().pop().expect("it was asked")
}

fn message(answer: &Answer) -> String {
    answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

/// The message of the only warning about a parameter.
fn warning(answer: &Answer, param: &str) -> String {
    let json = answer.json();
    let warnings = json["warnings"].as_array().cloned().unwrap_or_default();
    let about: Vec<_> = warnings.iter().filter(|warning| warning["param"] == param).collect();
    assert_eq!(about.len(), 1, "{json}");
    about[0]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn item_15_fields_of_the_api_reach_an_upstream_that_takes_them_and_the_answer_tells_of_the_others() {
    let upstream = Upstream::start(|_| openai::pictures(1)).await;
    let fields = json!({
        "quality": "high", "style": "vivid", "background": "opaque", "moderation": "low",
        "output_format": "jpeg", "output_compression": 70,
    });
    let wide = openai::server(&upstream.origin()).await;
    ask(&wide, "openai-images", fields.clone()).await.expect(200);
    let sent = last(&upstream).json();
    for (name, value) in fields.as_object().expect("an object") {
        assert_eq!(&sent[name], value, "{name}");
    }

    let narrow = format!("{}dialect = \"sd-server\"\n", openai::config(&upstream.origin(), ""));
    let narrow = openai::server_of(&narrow).await;
    let answer = ask(&narrow, "openai-images", fields).await.expect(200);
    let sent = last(&upstream).json();
    assert_eq!((&sent["output_format"], &sent["output_compression"]), (&json!("jpeg"), &json!(70)));
    for name in ["quality", "style", "background", "moderation"] {
        assert!(sent.get(name).is_none(), "{name}");
        assert!(!warning(&answer, name).is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_55_adapter_without_its_key_is_not_available_says_why_and_keeps_nobody_from_starting() {
    let upstream = Upstream::start(|_| Reply::json(200, &json!({}))).await;
    let rows = [
        (env!("COMPONENT_BFL"), "bfl", "https://*.bfl.ai", "BFL_API_KEY"),
        (env!("COMPONENT_GEMINI"), "gemini", "https://generativelanguage.googleapis.com", "GOOGLE_API_KEY"),
        (env!("COMPONENT_OPENAI"), "openai", "https://api.openai.com", "OPENAI_API_KEY"),
    ];
    for (component, id, origin, variable) in rows {
        let granted = format!("[plugin.{id}]\norigins = [\"{origin}\"]\n");
        let server = server(component, &upstream, &granted).await;
        let client = server.client();
        client.get("/readyz").await.expect(200);

        let list = client.get("/api/backends").await.expect(200).json();
        let backend = list.as_array().expect("a list").iter().find(|backend| backend["id"] == id).expect("it is told");
        let reason = backend["reason"].as_str().unwrap_or_default();
        assert_eq!((&backend["available"], &backend["ready"]), (&json!(false), &json!(false)), "{backend}");
        assert!(reason.contains("missing credentials") && reason.contains(variable), "{reason}");

        let answer = ask(&server, id, json!({})).await.expect(503);
        assert_eq!(answer.code(), "backend_not_ready");
        assert!(message(&answer).contains(variable), "{}", answer.text());
        ask(&server, "stub", json!({})).await.expect(200);

        // With the key it is there, without a restart.
        let with = format!("mode = \"stub\"\n{granted}credentials = {{ api_key = {{ file = \"{{folder}}/key\" }} }}\n");
        server.reconfigure(&with);
        until("it is ready", async || {
            let list = client.get("/api/backends").await.json();
            list.as_array().expect("a list").iter().any(|backend| backend["id"] == id && backend["ready"] == true)
        })
        .await;
    }
    assert!(upstream.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn item_56_empty_account_and_full_lanes_of_the_provider_are_told_as_what_they_are() {
    let rows = [
        (Reply::json(402, &json!({ "detail": "Insufficient credits" })), 402, "insufficient_credits", ""),
        (Reply::json(429, &json!({ "detail": "Slow down" })).with("retry-after", "9"), 429, "rate_limit_exceeded", "9"),
    ];
    for (reply, status, code, wait) in rows {
        let upstream = Upstream::start(move |_| reply.clone()).await;
        let answer = ask(&bfl(&upstream).await, "bfl", json!({ "model": "flux-2-pro" })).await.expect(status);
        assert_eq!((answer.code().as_str(), answer.header("retry-after")), (code, wait));
        assert_eq!((&answer.json()["backend_class"], answer.header("x-backend-used")), (&json!("bfl"), "bfl"));
        let whose = format!("the account at {} is out of credits", upstream.origin());
        assert_eq!(message(&answer).contains(&whose), status == 402, "{}", answer.text());
        assert_eq!(answer.header("x-should-retry"), if status == 402 { "false" } else { "" });
    }
}

/// Ratios of the first Gemini model that made pictures, and what each of them gives.
const RATIOS: [(&str, &str); 10] = [
    ("1:1", "1024x1024"),
    ("3:2", "1536x1024"),
    ("2:3", "1024x1536"),
    ("3:4", "1152x1536"),
    ("4:3", "1536x1152"),
    ("4:5", "1024x1280"),
    ("5:4", "1280x1024"),
    ("9:16", "576x1024"),
    ("16:9", "1024x576"),
    ("21:9", "1344x576"),
];

#[tokio::test(flavor = "multi_thread")]
async fn item_63_size_becomes_the_nearest_ratio_and_the_answer_tells_it() {
    let upstream = Upstream::start(|_| content()).await;
    let server = gemini(&upstream, "").await;
    let ask = async |fields: Value| {
        let mut fields = fields;
        fields["model"] = json!("gemini-2.5-flash-image");
        let answer = ask(&server, "gemini", fields).await.expect(200);
        let sent = last(&upstream);
        assert_eq!(sent.path, "/v1beta/models/gemini-2.5-flash-image:generateContent");
        (sent.json()["generationConfig"]["imageConfig"]["aspectRatio"].clone(), answer)
    };
    for (ratio, size) in RATIOS {
        assert_eq!(ask(json!({ "size": size })).await.0, ratio);
        assert_eq!(ask(json!({ "options": { "aspect_ratio": ratio } })).await.0, ratio);
    }
    for (size, ratio) in [("1792x1024", "16:9"), ("1000x1000", "1:1"), ("4096x1024", "21:9")] {
        let (sent, answer) = ask(json!({ "size": size })).await;
        assert_eq!(sent, ratio, "{size}");
        let told = answer.json()["warnings"].to_string();
        assert!(told.contains(&format!("size {size} was asked for as aspect ratio {ratio}")), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_64_controls_that_the_model_has_not_are_refused_or_told_as_the_operator_says() {
    let upstream = Upstream::start(|_| content()).await;
    let rows = [("negative_prompt", json!("rain")), ("cfg_scale", json!(7.5))];
    for (policy, status) in [("refuse", 400), ("ignore", 200)] {
        let server = gemini(&upstream, &format!("unsupported = \"{policy}\"\n")).await;
        for (name, value) in &rows {
            let fields = json!({ "model": "gemini-2.5-flash-image", *name: value });
            let answer = ask(&server, "gemini", fields).await.expect(status);
            if status == 400 {
                assert_eq!(answer.json()["error"]["param"], *name);
            } else {
                assert!(!warning(&answer, name).is_empty());
            }
        }
        assert_eq!(upstream.received().len(), if status == 400 { 0 } else { rows.len() }, "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn item_65_sides_are_from_256_to_4096_and_pictures_from_one_to_ten() {
    let upstream = Upstream::start(|_| content()).await;
    let server = gemini(&upstream, "").await;
    for (fields, param) in [
        (json!({ "size": "255x1024" }), "size"),
        (json!({ "size": "1024x255" }), "size"),
        (json!({ "size": "4097x1024" }), "size"),
        (json!({ "n": 0 }), "n"),
        (json!({ "n": 11 }), "n"),
    ] {
        let mut fields = fields;
        fields["model"] = json!("gemini-2.5-flash-image");
        let answer = ask(&server, "gemini", fields).await.expect(400);
        assert_eq!(answer.json()["error"]["param"], param, "{}", answer.text());
    }
    assert!(upstream.received().is_empty());
    let model = "gemini-2.5-flash-image";
    for size in ["256x256", "4096x4096"] {
        ask(&server, "gemini", json!({ "model": model, "size": size })).await.expect(200);
    }
    let ten = ask(&server, "gemini", json!({ "model": model, "n": 10 })).await.expect(200);
    assert_eq!(ten.json()["data"].as_array().map(Vec::len), Some(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn item_66_missing_key_is_told_with_provider_and_variable() {
    let upstream = Upstream::start(|_| content()).await;
    let granted = "[plugin.gemini]\norigins = [\"https://generativelanguage.googleapis.com\"]\n";
    let server = server(env!("COMPONENT_GEMINI"), &upstream, granted).await;
    let answer = ask(&server, "gemini", json!({})).await;
    let told = message(&answer);
    assert!(!answer.status.is_success() && told.contains("API key not found for google-gemini"), "{told}");
    assert!(told.contains("GOOGLE_API_KEY"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn item_69_refusals_of_the_provider_have_codes_of_their_own_its_words_and_no_key() {
    let error = |status: u16, word: &str| {
        let message = format!("{word} it is, for the key {KEY}");
        Reply::json(status, &json!({ "error": { "code": status, "message": message, "status": word } }))
    };
    let blocked = Reply::json(200, &json!({ "promptFeedback": { "blockReason": "PROHIBITED_CONTENT" } }));
    let rows = [
        (error(401, "UNAUTHENTICATED"), 502, "UNAUTHENTICATED"),
        (error(403, "PERMISSION_DENIED"), 502, "PERMISSION_DENIED"),
        (error(402, "FAILED_PRECONDITION"), 402, "FAILED_PRECONDITION"),
        (error(429, "RESOURCE_EXHAUSTED").with("retry-after", "7"), 429, "RESOURCE_EXHAUSTED"),
        (error(500, "INTERNAL"), 502, "INTERNAL"),
        (error(503, "UNAVAILABLE"), 503, "UNAVAILABLE"),
        (error(504, "DEADLINE_EXCEEDED"), 504, "DEADLINE_EXCEEDED"),
        (blocked, 400, "PROHIBITED_CONTENT"),
    ];
    let mut codes = Vec::new();
    for (reply, status, words) in rows {
        let upstream = Upstream::start(move |_| reply.clone()).await;
        let server = gemini(&upstream, "").await;
        let answer = ask(&server, "gemini", json!({ "model": "gemini-2.5-flash-image" })).await.expect(status);
        assert!(answer.text().contains(words), "{}", answer.text());
        assert!(!answer.text().contains("planted") && !format!("{:?}", answer.headers).contains("planted"));
        assert_eq!(answer.header("x-backend-used"), "gemini");
        assert_eq!(last(&upstream).header("x-goog-api-key"), KEY, "the key was used");
        codes.push((status, answer.code()));
    }
    let distinct: std::collections::BTreeSet<_> = codes.iter().map(|(_, code)| code).collect();
    // 401 and 403 are both faults of the credentials; 500 is the provider's own.
    assert_eq!(distinct.len(), codes.len() - 1, "{codes:?}");
    assert_eq!((codes[0].1.as_str(), codes[1].1.as_str()), ("upstream_unauthorized", "upstream_unauthorized"));
}

/// Imagen's best model, at a server that still has it, with the price of the list.
const ULTRA: &str = "[[plugin.gemini.config.models]]\nid = \"imagen-4.0-ultra-generate-001\"\n\
                     tiers = [{ name = \"1K\", side = 1024, price = 60_000 }]\n";

#[tokio::test(flavor = "multi_thread")]
async fn item_70_imagen_makes_one_to_four_pictures_with_its_safety_its_enhancement_and_its_watermark() {
    let upstream = Upstream::start(predictions).await;
    let server = gemini(&upstream, ULTRA).await;
    let model = "imagen-4.0-ultra-generate-001";
    for count in [1, 4] {
        let answer = ask(&server, "gemini", json!({ "model": model, "n": count })).await.expect(200);
        assert_eq!(answer.json()["data"].as_array().map(Vec::len), Some(count));
        assert_eq!(answer.json()["data"][0]["revised_prompt"], "a red fox");
        let sent = last(&upstream);
        assert_eq!(sent.path, format!("/v1beta/models/{model}:predict"));
        assert_eq!((&sent.json()["parameters"]["sampleCount"], sent.header("x-goog-api-key")), (&json!(count), KEY));
    }
    let refused = ask(&server, "gemini", json!({ "model": model, "n": 5 })).await.expect(400);
    assert_eq!(refused.json()["error"]["param"], "n");
    let options = json!({ "safety_setting": "block_only_high" });
    ask(&server, "gemini", json!({ "model": model, "options": options })).await.expect(200);
    assert_eq!(last(&upstream).json()["parameters"]["safetySetting"], "block_only_high");

    // What only Vertex AI has; a picture with a watermark has no seed, and the answer tells it.
    let vertex = format!("vertex = true\nwatermark = false\nproject = \"p\"\nlocation = \"here\"\n{ULTRA}");
    let config = "[plugin.gemini]\norigins = [\"https://generativelanguage.googleapis.com\", \"{origin}\"]\n\
                  credentials = { api_key = { file = \"{folder}/key\" } }\n\
                  [plugin.gemini.config]\nbase_url = \"{origin}/v1\"\n";
    let server = self::server(env!("COMPONENT_GEMINI"), &upstream, &format!("{config}{vertex}")).await;
    let options = json!({ "enhance_prompt": false });
    let fields = json!({ "model": model, "seed": 7, "options": options });
    ask(&server, "gemini", fields).await.expect(200);
    let sent = last(&upstream);
    assert_eq!(sent.path, format!("/v1/projects/p/locations/here/publishers/google/models/{model}:predict"));
    let parameters = sent.json()["parameters"].clone();
    assert_eq!((&parameters["enhancePrompt"], &parameters["addWatermark"]), (&json!(false), &json!(false)));
    assert_eq!(parameters["seed"], 7);
    let options = json!({ "add_watermark": true });
    let answer = ask(&server, "gemini", json!({ "model": model, "seed": 7, "options": options })).await.expect(200);
    assert!(answer.text().contains("a picture with a watermark is made without a seed"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn item_71_dall_e_3_makes_one_picture_a_call_in_its_sizes_and_tells_the_prompt_that_it_made() {
    let upstream = Upstream::start(|_| {
        let one = json!({ "b64_json": png(), "revised_prompt": "a red fox" });
        Reply::json(200, &json!({ "created": 1_700_000_000, "data": [one] }))
    })
    .await;
    let server = openai_itself(&upstream).await;
    for (size, quality, style) in
        [("1024x1024", "standard", "vivid"), ("1792x1024", "hd", "natural"), ("1024x1792", "hd", "vivid")]
    {
        let before = upstream.received().len();
        let fields = json!({ "model": "dall-e-3", "size": size, "n": 3, "quality": quality, "style": style });
        let answer = ask(&server, "openai", fields).await.expect(200).json();
        assert_eq!(answer["data"].as_array().map(Vec::len), Some(3));
        assert_eq!(answer["data"][2]["revised_prompt"], "a red fox");
        let sent: Vec<_> = upstream.received().split_off(before).iter().map(Received::json).collect();
        assert_eq!(sent.len(), 3, "one picture a call");
        for sent in sent {
            assert_eq!((&sent["n"], &sent["size"]), (&json!(1), &json!(size)));
            assert_eq!((&sent["quality"], &sent["style"]), (&json!(quality), &json!(style)));
        }
    }
    let before = upstream.received().len();
    for (field, value) in [("size", "1536x1024"), ("quality", "max"), ("style", "gloomy")] {
        let fields = json!({ "model": "dall-e-3", field: value });
        let answer = ask(&server, "openai", fields).await.expect(400);
        assert_eq!(answer.json()["error"]["param"], field, "{}", answer.text());
    }
    assert_eq!(upstream.received().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn item_72_gpt_image_has_its_fields_edits_several_pictures_and_is_never_told_a_response_format() {
    let upstream = Upstream::start(|_| openai::pictures(1)).await;
    let server = openai_itself(&upstream).await;
    for (quality, sent_quality) in
        [("low", json!("low")), ("medium", json!("medium")), ("high", json!("high")), ("auto", Value::Null)]
    {
        let fields = json!({
            "model": "gpt-image-2", "quality": quality, "background": "opaque", "output_format": "webp",
            "output_compression": 80, "size": "1536x1024",
        });
        ask(&server, "openai", fields).await.expect(200);
        let sent = last(&upstream).json();
        assert!(sent.get("response_format").is_none(), "{sent}");
        assert_eq!((&sent["background"], &sent["output_format"]), (&json!("opaque"), &json!("webp")));
        assert_eq!((&sent["output_compression"], &sent["size"]), (&json!(80), &json!("1536x1024")));
        assert_eq!(sent["quality"], sent_quality, "what is the provider's to choose is not sent");
    }
    let address = |side| format!("data:image/png;base64,{}", STANDARD.encode(pictures::png(side, side)));
    let body = json!({
        "prompt": "both", "backend": "openai", "model": "gpt-image-2",
        "images": [{ "image_url": address(64) }, { "image_url": address(32) }],
    });
    server.client().post("/v1/images/edits", &body).await.expect(200);
    let sent = last(&upstream);
    assert_eq!(sent.path, "/v1/images/edits");
    assert!(sent.header("content-type").starts_with("multipart/form-data"));
    let form = String::from_utf8_lossy(&sent.body).into_owned();
    assert_eq!(form.matches("name=\"image[]\"").count(), 2);
    assert!(!form.contains("response_format"));
}

#[tokio::test(flavor = "multi_thread")]
async fn item_73_price_is_told_before_and_what_it_cost_after_in_a_header_and_in_the_body() {
    let upstream = Upstream::start(|received| {
        if received.path.ends_with(":predict") {
            predictions(received)
        } else if received.path.ends_with(":generateContent") {
            content()
        } else {
            openai::pictures(1)
        }
    })
    .await;
    let cost = |answer: &Answer| {
        let body = answer.json();
        let is_told = body.get("usage").is_none_or(|usage| usage["cost"] == body["cost"]);
        assert!(is_told, "where something was counted, its cost stands beside it: {body}");
        (answer.header("x-cost-usd").to_owned(), body["cost"].clone())
    };
    let price = async |client: &Client, id: &str| {
        let list = client.get("/v1/models").await.expect(200).json();
        let model = list["data"].as_array().expect("a list").iter().find(|model| model["id"] == id).cloned();
        model.expect("it is listed")["price"].clone()
    };

    // A picture has its price, or is counted by tokens; elsewhere than at the provider only prices that the operator sets hold.
    let listed = "[[plugin.gemini.config.models]]\nid = \"gemini-2.5-flash-image\"\n\
                  token_prices = { input = 300_000, text = 2_500_000, image = 30_000_000 }\n\
                  tiers = [{ name = \"\", side = 1024, price = 39_000 }]\n";
    let server = gemini(&upstream, &format!("{listed}{ULTRA}")).await;
    // 10 and 1290 tokens at the list's prices; two pictures.
    for (model, count, micros, dollars, total) in [
        ("gemini-2.5-flash-image", 1, 39_000, "0.038703", 38_703),
        ("imagen-4.0-ultra-generate-001", 2, 60_000, "0.120000", 120_000),
    ] {
        assert_eq!(price(&server.client(), model).await, json!({ "currency": "USD", "micros": micros }));
        let answer = ask(&server, "gemini", json!({ "model": model, "n": count })).await.expect(200);
        assert_eq!(cost(&answer), (dollars.to_owned(), json!({ "currency": "USD", "micros": total })));
    }

    let server = openai_itself(&upstream).await;
    for (size, quality, dollars) in [
        ("1024x1024", "standard", "0.040000"),
        ("1792x1024", "standard", "0.080000"),
        ("1024x1024", "hd", "0.080000"),
        ("1024x1792", "hd", "0.120000"),
    ] {
        let fields = json!({ "model": "dall-e-3", "size": size, "quality": quality });
        let answer = ask(&server, "openai", fields).await.expect(200);
        assert_eq!(cost(&answer).0, dollars, "{size} {quality}");
    }

    // Unknown is unknown, never zero.
    let server = gemini(&upstream, "").await;
    let answer = ask(&server, "gemini", json!({ "model": "gemini-2.5-flash-image" })).await.expect(200);
    assert_eq!(answer.header("x-cost-usd"), "");
    assert!(answer.json().get("cost").is_none(), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn item_79_each_adapter_has_its_timeout_the_request_one_deadline_and_whoever_goes_ends_the_call() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| openai::pictures(1).behind(&held)).await;

    // The adapter's own time …
    let config = format!("{}timeout_s = 1\n", openai::config(&upstream.origin(), ""));
    let answer = ask(&openai::server_of(&config).await, "openai-images", json!({})).await.expect(504);
    assert_eq!(answer.header("x-backend-used"), "openai-images");
    // … and the one deadline of the request, whatever the adapter would wait.
    let config = openai::config(&upstream.origin(), "request_time_limit_s = 1");
    ask(&openai::server_of(&config).await, "openai-images", json!({})).await.expect(504);

    // A caller who goes: the call ends, its lane is free, and the next one is served.
    let server = openai::server_of(&openai::config(&upstream.origin(), "admission.limit = 1")).await;
    let (client, before) = (server.client(), upstream.received().len());
    let body = json!({ "prompt": "a fox", "backend": "openai-images" });
    let (asking, asked) = (client.clone(), body.clone());
    let running = tokio::spawn(async move { asking.generate(&asked).await });
    until("it is on its way", async || upstream.received().len() > before).await;
    client.generate(&body).await.expect(429);
    running.abort();
    let inflight = async || {
        let status = client.get("/v1/gateway/status").await.json();
        status["admission_control"]["openai-images.images"]["inflight"].clone()
    };
    until("the call has ended", async || inflight().await == 0).await;
    gate.add_permits(4);
    client.generate(&body).await.expect(200);
}
