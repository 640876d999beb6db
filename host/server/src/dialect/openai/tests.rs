//! The API as its clients see it, through the whole router. Requests with pictures and answers as streams stand in files
//! of their own.

mod edits;
mod streams;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use easel_core::{Allowance, Delivery, ImageFormat, OnUnknown, Readiness, Size, UnknownModel};
use serde_json::{Value, json};

use crate::http::tests::house::{Answer, Ask, Behaviour, Disk, House, key, picture, settings};
use crate::http::{Key, Settings};

/// A body, and the status, parameter, code and part of the message that answer it.
async fn check_refused(house: &House, body: &str, param: Option<&str>, code: &str, says: &str) {
    let answer = house.generate(body).await;
    assert_eq!(answer.status, 400, "{body}: {answer:?}");
    assert_eq!(answer.code(), code, "{body}");
    let error = &answer.json()["error"];
    assert_eq!(error["param"].as_str(), param, "{body}");
    assert_eq!(error["type"], "invalid_request_error", "{body}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(says), "{body}: {message}");
    assert!(house.engine.last.lock().unwrap().is_none(), "{body} reached the backend");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_name() {
    let house = House::new().await;
    let long = format!(r#"{{"prompt":"{}"}}"#, "ä".repeat(32_001));
    let many = format!(r#"{{"prompt":"p"{}}}"#, (0..300).map(|n| format!(r#","f{n}":1"#)).collect::<String>());
    let options = (0..65).map(|n| format!(r#""o{n}":1"#)).collect::<Vec<_>>().join(",");
    let options = format!(r#"{{"prompt":"p","options":{{{options}}}}}"#);
    let deep = format!(r#"{{"prompt":"p","x":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
    let rows = [
        ("", None, "invalid_json", "the body is empty"),
        ("[]", None, "invalid_json", "must be a JSON object"),
        ("\"text\"", None, "invalid_json", "must be a JSON object"),
        ("{\"prompt\":\n  \"p\",}", None, "invalid_json", "line 2 column 7"),
        ("{\"prompt\":\"p\"", None, "invalid_json", "line 1 column 13"),
        ("{\"prompt\":\"p\"} x", None, "invalid_json", "trailing"),
        (&many, None, "invalid_json", "more than 256 fields"),
        (&deep, None, "invalid_json", "recursion"),
        ("{}", Some("prompt"), "missing_required_parameter", "prompt is missing"),
        (r#"{"prompt":null}"#, Some("prompt"), "missing_required_parameter", "prompt is missing"),
        (r#"{"prompt":""}"#, Some("prompt"), "invalid_value", "must not be empty"),
        (r#"{"prompt":" \n "}"#, Some("prompt"), "invalid_value", "must not be empty"),
        (r#"{"prompt":7}"#, Some("prompt"), "invalid_type", "prompt must be a string, not the number 7"),
        (r#"{"prompt":["p"]}"#, Some("prompt"), "invalid_type", "not an array"),
        (&long, Some("prompt"), "string_above_max_length", "32001 characters, at most 32000"),
        (r#"{"prompt":"p","n":0}"#, Some("n"), "invalid_value", "n must be from 1 to 10, not 0"),
        (r#"{"prompt":"p","n":11}"#, Some("n"), "invalid_value", "not 11"),
        (r#"{"prompt":"p","n":-1}"#, Some("n"), "invalid_value", "not -1"),
        (r#"{"prompt":"p","n":1e99}"#, Some("n"), "invalid_value", "from 1 to 10"),
        (r#"{"prompt":"p","n":1.5}"#, Some("n"), "invalid_type", "n must be an integer, not 1.5"),
        (r#"{"prompt":"p","n":"2"}"#, Some("n"), "invalid_type", r#"an integer, not the string "2""#),
        (r#"{"prompt":"p","n":true}"#, Some("n"), "invalid_type", "an integer, not the boolean true"),
        (r#"{"prompt":"p","size":"big"}"#, Some("size"), "invalid_value", r#"WIDTHxHEIGHT"#),
        (r#"{"prompt":"p","size":"64"}"#, Some("size"), "invalid_value", r#"not "64""#),
        (r#"{"prompt":"p","size":"64x"}"#, Some("size"), "invalid_value", "size must be"),
        (r#"{"prompt":"p","size":"-64x64"}"#, Some("size"), "invalid_value", "size must be"),
        (r#"{"prompt":"p","size":"0x64"}"#, Some("size"), "invalid_value", "size must be"),
        (r#"{"prompt":"p","size":"64x64x64"}"#, Some("size"), "invalid_value", "size must be"),
        (r#"{"prompt":"p","size":" 64x64"}"#, Some("size"), "invalid_value", "size must be"),
        (r#"{"prompt":"p","size":"99999999999x64"}"#, Some("size"), "invalid_value", "1 to 16384"),
        (r#"{"prompt":"p","size":"65x64"}"#, Some("size"), "invalid_value", "multiples of 16"),
        (r#"{"prompt":"p","size":"4096x64"}"#, Some("size"), "invalid_value", "2048"),
        (r#"{"prompt":"p","size":64}"#, Some("size"), "invalid_type", "a string"),
        (r#"{"prompt":"p","response_format":"png"}"#, Some("response_format"), "invalid_value", "url, b64_json"),
        (r#"{"prompt":"p","response_format":1}"#, Some("response_format"), "invalid_type", "a string"),
        (r#"{"prompt":"p","output_format":"bmp"}"#, Some("output_format"), "invalid_value", "png, jpeg, webp"),
        (r#"{"prompt":"p","output_format":"svg"}"#, Some("output_format"), "unsupported_operation", "png, jpeg, webp"),
        (r#"{"prompt":"p","output_format":"gif"}"#, Some("output_format"), "unsupported_operation", "gif"),
        (r#"{"prompt":"p","output_compression":101}"#, Some("output_compression"), "invalid_value", "from 0 to 100"),
        (r#"{"prompt":"p","quality":"best"}"#, Some("quality"), "invalid_value", "auto, low, medium, high"),
        (r#"{"prompt":"p","quality":1}"#, Some("quality"), "invalid_type", "a string"),
        (r#"{"prompt":"p","style":"loud"}"#, Some("style"), "invalid_value", "vivid, natural"),
        (r#"{"prompt":"p","background":"red"}"#, Some("background"), "invalid_value", "transparent"),
        (r#"{"prompt":"p","moderation":"off"}"#, Some("moderation"), "invalid_value", "auto, low"),
        (r#"{"prompt":"p","complexity":"auto"}"#, Some("complexity"), "invalid_value", "low, medium, high"),
        (r#"{"prompt":"p","frame_count":1}"#, Some("frame_count"), "invalid_value", "from 2 to 16"),
        (r#"{"prompt":"p","frame_duration_ms":0}"#, Some("frame_duration_ms"), "invalid_value", "from 1"),
        (r#"{"prompt":"p","svg":"x"}"#, Some("svg"), "invalid_type", "an object"),
        (r#"{"prompt":"p","clip_skip":65}"#, Some("clip_skip"), "invalid_value", "from 0 to 64"),
        (r#"{"prompt":"p","loras":"ink"}"#, Some("loras"), "invalid_type", "an array"),
        (r#"{"prompt":"p","vae":7}"#, Some("vae"), "invalid_type", "a string"),
        (r#"{"prompt":"p","stream":"yes"}"#, Some("stream"), "invalid_type", "true or false"),
        (r#"{"prompt":"p","partial_images":4}"#, Some("partial_images"), "invalid_value", "from 0 to 3"),
        (r#"{"prompt":"p","user":7}"#, Some("user"), "invalid_type", "a string"),
        (r#"{"prompt":"p","model":7}"#, Some("model"), "invalid_type", "a string"),
        (r#"{"prompt":"p","seed":-1}"#, Some("seed"), "invalid_value", "from 0 to 9007199254740991, not -1"),
        (r#"{"prompt":"p","seed":9007199254740992}"#, Some("seed"), "invalid_value", "from 0"),
        (r#"{"prompt":"p","steps":0}"#, Some("steps"), "invalid_value", "from 1 to 1000"),
        (r#"{"prompt":"p","steps":101}"#, Some("steps"), "invalid_value", "from 1 to 100 for model shapes"),
        (r#"{"prompt":"p","cfg_scale":"7"}"#, Some("cfg_scale"), "invalid_type", "a number"),
        (r#"{"prompt":"p","cfg_scale":101}"#, Some("cfg_scale"), "invalid_value", "from 0 to 100"),
        (r#"{"prompt":"p","guidance":31}"#, Some("guidance"), "invalid_value", "guidance must be from 0 to 30"),
        (r#"{"prompt":"p","guidance":3,"cfg_scale":4}"#, Some("cfg_scale"), "invalid_value", "contradict"),
        (r#"{"prompt":"p","scheduler":"magic"}"#, Some("scheduler"), "invalid_value", "euler, ddim"),
        (r#"{"prompt":"p","backend":"nobody"}"#, Some("backend"), "backend_not_found", "engine, cloud"),
        (r#"{"prompt":"p","options":[]}"#, Some("options"), "invalid_type", "an object"),
        (r#"{"prompt":"p","options":{"pen":1}}"#, Some("options.pen"), "invalid_value", "its options: brush"),
        (r#"{"prompt":"p","options":{"":1}}"#, Some("options"), "invalid_value", "1 to 64 characters"),
        (r#"{"prompt":"p","quality":"low","options":{"quality":1}}"#, Some("options.quality"), "invalid_value", "both"),
        (&options, Some("options"), "invalid_value", "at most 64 options"),
    ];
    for (body, param, code, says) in rows {
        check_refused(&house, body, param, code, says).await;
    }
}

#[tokio::test]
async fn every_field_reaches_the_backend() {
    let house = House::new().await;
    let body = json!({
        "prompt": "a red circle", "model": "shapes", "n": 2.0, "size": "128x64", "output_format": "webp",
        "output_compression": 80, "seed": 7, "steps": 9, "cfg_scale": 3.5, "negative_prompt": "blue",
        "scheduler": "ddim", "backend": "engine", "options": {"brush": {"width": 3}}, "user": "u", "safety_identifier": "s",
        "quality": "auto", "background": null, "stream": false, "partial_images": 0,
    });
    let answer = house.generate(&body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json().get("warnings"), None, "{:?}", answer.json());
    let request = house.engine.last_request();
    assert_eq!(request.prompt, "a red circle");
    assert_eq!(request.model.as_deref(), Some("shapes"));
    assert_eq!(request.count, 2);
    assert_eq!(request.size, Size::new(128, 64));
    assert_eq!(request.format, Some(ImageFormat::Webp));
    assert_eq!(request.compression, Some(80));
    assert_eq!((request.seed, request.steps, request.guidance), (Some(7), Some(9), Some(3.5)));
    assert_eq!(request.negative_prompt.as_deref(), Some("blue"));
    assert_eq!(request.sampler.as_deref(), Some("ddim"));
    assert_eq!(request.backend.as_deref(), Some("engine"));
    assert_eq!(request.options["brush"].json, r#"{"width":3}"#);
    assert_eq!(request.options["brush"].on_unknown, OnUnknown::Refuse);
    let data = answer.json()["data"].clone();
    assert_eq!((&data[0]["seed"], &data[1]["seed"], data.as_array().unwrap().len()), (&json!(7), &json!(8), 2));
}

#[tokio::test]
async fn a_model_that_knows_a_general_field_gets_it_and_the_answer_repeats_it() {
    let house = House::new().await;
    let answer = house.generate(r#"{"prompt":"p","model":"gpt-image-2","quality":"high"}"#).await;
    assert_eq!(answer.json()["quality"], "high");
    assert_eq!(house.cloud.last_request().options["quality"].json, "\"high\"");
    assert_eq!(answer.header("x-cost-usd"), "0.040000");
    let answer = house.generate(r#"{"prompt":"p","model":"gpt-image-2","quality":"hd"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["param"].as_str()), (400, Some("quality")));
}

/// The warnings of an answer as `param: kind`.
fn warnings(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let warnings = json["warnings"].as_array().cloned().unwrap_or_default();
    let told = warnings.iter().map(|warning| {
        assert!(warning["message"].is_string(), "{warning}");
        format!("{}: {}", warning["param"].as_str().unwrap_or("-"), warning["kind"].as_str().unwrap())
    });
    told.collect()
}

#[tokio::test]
async fn what_had_no_effect_is_named() {
    let house = House::new().await;
    let many: String = (0..20).map(|n| format!(r#","f{n:02}":1"#)).collect();
    let many = format!(r#"{{"prompt":"p"{many}}}"#);
    let rows: [(&str, &[&str]); 13] = [
        (r#"{"prompt":"p"}"#, &[]),
        (r#"{"prompt":"p","vae":"other","rng":"","loras":[{"name":"ink"}]}"#, &["loras: ignored", "vae: ignored"]),
        (r#"{"prompt":"p","user":"u","quality":"auto","moderation":"auto"}"#, &[]),
        (r#"{"prompt":"p","colour":"red"}"#, &["colour: ignored"]),
        (r#"{"prompt":"p","colour":null}"#, &[]),
        (r#"{"prompt":"q","prompt":"p"}"#, &["prompt: ignored"]),
        (r#"{"prompt":"p","quality":"high"}"#, &["quality: ignored"]),
        (r#"{"prompt":"p","frame_count":3,"svg":{"model":"x"}}"#, &["frame_count: ignored", "svg: ignored"]),
        (r#"{"prompt":"p","partial_images":2}"#, &["partial_images: ignored"]),
        (r#"{"prompt":"p","output_compression":50}"#, &["output_compression: ignored"]),
        (r#"{"prompt":"p","model":"unheard-of"}"#, &["model: replaced"]),
        (
            r#"{"prompt":"p","model":"gpt-image-2","seed":1,"output_format":"webp"}"#,
            &["output_format: replaced", "seed: ignored"],
        ),
        (&many, &[]),
    ];
    for (body, expected) in rows {
        let answer = house.generate(body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        let mut told = warnings(&answer);
        told.sort();
        if body == many {
            assert_eq!(told.len(), 17);
            assert_eq!(told[0], "-: ignored");
        } else {
            assert_eq!(told, expected, "{body}");
        }
    }
    assert_eq!(house.engine.last_request().prompt, "p");
}

#[tokio::test]
async fn pictures_come_the_way_the_caller_or_the_model_has_it() {
    let house = House::new().await;
    let operator = |default_delivery| Settings { default_delivery: Some(default_delivery), ..settings() };
    let rows = [
        (None, r#"{"prompt":"p"}"#, "url"),
        (None, r#"{"prompt":"p","response_format":"url"}"#, "url"),
        (None, r#"{"prompt":"p","response_format":null}"#, "url"),
        (None, r#"{"prompt":"p","response_format":"b64_json"}"#, "b64_json"),
        (None, r#"{"prompt":"p","model":"gpt-image-2"}"#, "b64_json"),
        (None, r#"{"prompt":"p","model":"cloud/gpt-image-2"}"#, "b64_json"),
        (None, r#"{"prompt":"p","model":"gpt-image-of-tomorrow"}"#, "b64_json"),
        (None, r#"{"prompt":"p","model":"gpt-image-2","response_format":"url"}"#, "url"),
        (None, r#"{"prompt":"p","model":"best"}"#, "url"),
        (Some(Delivery::Inline), r#"{"prompt":"p"}"#, "b64_json"),
        (Some(Delivery::Inline), r#"{"prompt":"p","response_format":"url"}"#, "url"),
        (Some(Delivery::Address), r#"{"prompt":"p","model":"gpt-image-2"}"#, "url"),
    ];
    for (default, body, expected) in rows {
        house.front.reload(default.map_or_else(settings, operator));
        let answer = house.generate(body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        let item = answer.json()["data"][0].as_object().unwrap().clone();
        for key in ["url", "b64_json"] {
            assert_eq!(item.contains_key(key), key == expected, "{body} with {default:?}: {key}");
        }
    }
}

#[tokio::test]
async fn inline_pictures_are_the_bytes_that_were_made() {
    let house = House::new().await;
    let answer = house.generate(r#"{"prompt":"p","n":3,"seed":1,"response_format":"b64_json"}"#).await;
    let json = answer.json();
    for (index, item) in json["data"].as_array().unwrap().iter().enumerate() {
        let bytes = STANDARD.decode(item["b64_json"].as_str().unwrap()).unwrap();
        let seed = 1 + index as u64;
        assert_eq!((&bytes[..], &item["seed"]), (&picture(ImageFormat::Png, seed)[..], &json!(seed)));
    }
    assert!(json["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!((&json["size"], &json["output_format"]), (&json!("64x64"), &json!("png")));
    let tokens = json!({"input_tokens": 3, "output_tokens": 40, "total_tokens": 43,
        "input_tokens_details": {"text_tokens": 3, "image_tokens": 0}});
    assert_eq!(json["usage"], tokens);
}

#[tokio::test]
async fn addresses_are_relative_until_the_public_one_is_known() {
    let house = House::new().await;
    for (base, expected) in [
        (None, "/ui/images/"),
        (Some("https://pics.example"), "https://pics.example/ui/images/"),
        (Some("https://pics.example/easel/"), "https://pics.example/easel/ui/images/"),
    ] {
        let base = base.map(|base| base.parse().unwrap());
        house.front.reload(Settings { public_base_url: base, ..settings() });
        let json = house.generate(r#"{"prompt":"p"}"#).await.json();
        let url = json["data"][0]["url"].as_str().unwrap();
        let name = url.strip_prefix(expected).unwrap_or_else(|| panic!("{url}"));
        assert!(name.parse::<easel_store::ImageName>().is_ok() && name.ends_with(".png"), "{name}");
    }
}

#[tokio::test]
async fn headers_say_what_was_used_and_why() {
    let house = House::new().await;
    let rows = [
        (r#"{"prompt":"p"}"#, "", "engine", "shapes", "default model"),
        (r#"{"prompt":"p","model":"tiny"}"#, "", "engine", "tiny", "requested model"),
        (r#"{"prompt":"p","model":"best"}"#, "", "cloud", "gpt-image-2", "requested model"),
        (r#"{"prompt":"p","model":"cloud/tiny"}"#, "", "cloud", "tiny", "requested model"),
        (r#"{"prompt":"p","model":"nope"}"#, "", "engine", "shapes", "unknown model, default used"),
        (r#"{"prompt":"p","backend":"cloud"}"#, "", "cloud", "gpt-image-2", "requested backend"),
        (r#"{"prompt":"p"}"#, "cloud", "cloud", "gpt-image-2", "requested backend"),
        (r#"{"prompt":"p","backend":"cloud"}"#, "cloud", "cloud", "gpt-image-2", "requested backend"),
    ];
    for (body, header, backend, model, reason) in rows {
        let answer = house.ask(Ask::post("/v1/images/generations", body).header("x-backend", header)).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        let told = [answer.header("x-backend-used"), answer.header("x-model-used"), answer.header("x-router-reason")];
        assert_eq!(told, [backend, model, reason], "{body}");
        assert!(answer.header("server-timing").contains("generate;dur="));
    }
    let contradiction = Ask::post("/v1/images/generations", r#"{"prompt":"p","backend":"engine"}"#);
    let answer = house.ask(contradiction.header("x-backend", "cloud")).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["param"].as_str()), (400, Some("backend")));
}

#[tokio::test]
async fn an_unknown_model_is_not_found_where_models_are_strict() {
    let house = House::with(settings(), UnknownModel::Refuse, Disk::Good).await;
    let answer = house.generate(r#"{"prompt":"p","model":"nope"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "model_not_found"));
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("shapes") && message.contains("gpt-image-2"), "{message}");
}

#[tokio::test]
async fn the_third_request_of_two_is_refused_at_once() {
    let house = std::sync::Arc::new(House::new().await);
    house.engine.behave(Behaviour::Wait);
    let mut running = Vec::new();
    for _ in 0..2 {
        let begun = std::sync::Arc::clone(&house);
        running.push(tokio::spawn(async move { begun.generate(r#"{"prompt":"p"}"#).await }));
        house.engine.begun.notified().await;
    }
    let answer = house.generate(r#"{"prompt":"p"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "backend_overloaded"));
    assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), ("5", ""));
    for request in running {
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
    }
    assert_eq!(house.front.pipeline.admission().lane("engine").available, 2);
}

#[tokio::test]
async fn a_caller_who_goes_away_stops_the_work() {
    let house = std::sync::Arc::new(House::new().await);
    house.engine.behave(Behaviour::Wait);
    let asking = std::sync::Arc::clone(&house);
    let request = tokio::spawn(async move { asking.generate(r#"{"prompt":"p"}"#).await });
    house.engine.begun.notified().await;
    let cancellation = house.engine.last.lock().unwrap().clone().unwrap().1;
    assert!(!cancellation.is_cancelled());
    request.abort();
    cancellation.cancelled().await;
    assert!(request.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn a_request_ends_at_its_deadline() {
    let house = House::new().await;
    let request_time_limit = std::time::Duration::from_millis(50);
    house.front.reload(Settings { request_time_limit, ..settings() });
    house.engine.behave(Behaviour::Wait);
    let answer = house.generate(r#"{"prompt":"p"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "timeout"));
}

async fn ids(house: &House, ask: Ask) -> Vec<String> {
    let json = house.ask(ask).await.json();
    json["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn models_are_listed_under_names_that_reach_them() {
    let house = House::new().await;
    house.cloud.stand(Readiness::NotReady("no credentials".to_owned()));
    let json = house.ask(Ask::get("/v1/models")).await.json();
    assert_eq!(json["object"], "list");
    assert_eq!(
        ids(&house, Ask::get("/v1/models")).await,
        ["best", "cheap", "shapes", "tiny", "editor", "gpt-image-2", "cloud/tiny"]
    );
    let shapes = &json["data"][2];
    assert_eq!(shapes["object"], "model");
    assert!(shapes["created"].is_u64());
    assert_eq!(
        (&shapes["owned_by"], &shapes["backend"], &shapes["family"]),
        (&json!("engine"), &json!("engine"), &json!("fake"))
    );
    assert_eq!(
        (&shapes["available"], &shapes["determinism"], &shapes["tasks"]),
        (&json!(true), &json!("exact"), &json!(["text-to-image"]))
    );
    assert_eq!(shapes["sizes"]["default"], "64x64");
    assert_eq!(json["data"][0]["alias_of"], "gpt-image-2");
    assert_eq!(json["data"][1]["alias_of"], "cloud/tiny");
    let cloud = &json["data"][5];
    assert_eq!((&cloud["available"], &cloud["reason"]), (&json!(false), &json!("no credentials")));
    assert_eq!((&cloud["price"], shapes.get("price")), (&json!({ "micros": 40_000, "currency": "USD" }), None));
}

#[tokio::test]
async fn one_model_is_found_by_every_name_it_has() {
    let house = House::new().await;
    let rows = [
        ("shapes", Some("shapes")),
        ("engine/shapes", Some("shapes")),
        ("engine%2Fshapes", Some("shapes")),
        ("cloud/tiny", Some("cloud/tiny")),
        ("best", Some("best")),
        ("nope", None),
        ("cloud/shapes", None),
        ("%ff", None),
    ];
    for (path, expected) in rows {
        let answer = house.ask(Ask::get(&format!("/v1/models/{path}"))).await;
        match expected {
            Some(id) => assert_eq!((answer.status.as_u16(), answer.json()["id"].as_str()), (200, Some(id)), "{path}"),
            None => assert_eq!(answer.status, 404, "{path}"),
        }
    }
    assert_eq!(house.ask(Ask::get("/v1/models/nope")).await.code(), "model_not_found");
}

#[tokio::test]
async fn a_key_sees_and_uses_the_models_it_may() {
    let models = ["engine/shapes", "cheap"].map(str::to_owned).into();
    let allowance = Allowance { models: Some(models), max_count: Some(2), max_pixels: None };
    let narrow = Key { allowance: allowance.into(), ..key("narrow", "sk-narrow") };
    let settings = Settings { keys: vec![narrow], ..settings() };
    let house = House::with(settings, UnknownModel::UseDefault, Disk::Good).await;
    let keyed = |ask: Ask| ask.header("authorization", "Bearer sk-narrow");
    // `tiny` would reach the engine's, which this key may not use.
    assert_eq!(ids(&house, keyed(Ask::get("/v1/models"))).await, ["cheap", "shapes", "cloud/tiny"]);
    let rows = [
        (r#"{"prompt":"p","n":2}"#, 200, Value::Null),
        (r#"{"prompt":"p","n":3}"#, 403, json!("n")),
        (r#"{"prompt":"p","model":"shapes"}"#, 200, Value::Null),
        (r#"{"prompt":"p","model":"cloud/tiny"}"#, 200, Value::Null),
        (r#"{"prompt":"p","model":"tiny"}"#, 403, json!("model")),
        (r#"{"prompt":"p","model":"best"}"#, 403, json!("model")),
    ];
    for (body, status, param) in rows {
        let answer = house.ask(keyed(Ask::post("/v1/images/generations", body))).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["param"]), (status, &param), "{body}");
    }
}
