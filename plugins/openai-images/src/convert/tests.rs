//! What is said to the upstream, row by row.

use easel_sdk::{ErrorKind, Input};

use super::*;

fn config(extra: &Value) -> Config {
    let manifest: Value = toml::from_str(include_str!("../../plugin.toml")).unwrap();
    let table = |value: &Value| Table::new("", value.clone()).unwrap();
    let base = json!({"base_url": "http://127.0.0.1:9000/v1"});
    Config::try_from(table(&manifest["config"]).under(&table(&base)).under(&table(extra))).unwrap()
}

fn of(dialect: &str) -> Config {
    config(&json!({"dialect": dialect}))
}

fn request() -> Request {
    Request { model: Some("openai-images".to_owned()), ..Request::new("a fox") }
}

/// A request that sets whatever can be set.
fn full() -> Request {
    Request {
        negative_prompt: Some("dogs".to_owned()),
        count: 2,
        size: Some(Size::new(640, 480)),
        seed: Some(7),
        steps: Some(20),
        guidance: Some(4.5),
        sampler: Some("euler".to_owned()),
        format: Some(Format::Webp),
        compression: Some(80),
        ..request()
    }
}

fn input(role: InputRole, bytes: &str) -> Input {
    let blob = Blob::new("image/png", bytes.as_bytes()).unwrap();
    Input { role, blob, format: Format::Png, size: Size::new(640, 480) }
}

fn with(roles: &[InputRole]) -> Request {
    let inputs = roles.iter().map(|role| input(*role, role.name())).collect();
    Request { inputs, ..request() }
}

fn share(request: &Request) -> Share {
    Share { first: 0, count: request.count }
}

fn made(config: &Config, request: &Request) -> Result<Call> {
    call(config, &config.dialect().unwrap(), request, share(request), false)
}

fn body(config: &Config, request: &Request) -> Value {
    match made(config, request).unwrap().body {
        Body::Json(body, _) => body,
        Body::Form(parts) => parts.into_iter().map(part).collect::<Vec<_>>().into(),
    }
}

/// A part in words; files by their bytes.
fn part(part: Part) -> String {
    match part {
        Part::Text(name, text) => format!("{name}={text}"),
        Part::File(name, file, blob) => {
            format!("{name}={file} {}", String::from_utf8(blob.bytes(100).unwrap()).unwrap())
        }
    }
}

fn notes(config: &Config, request: &Request) -> Vec<String> {
    let notes = made(config, request).unwrap().notes;
    notes.into_iter().map(|note| format!("{}: {}", note.param.unwrap_or_default(), note.message)).collect()
}

#[test]
fn every_dialect_of_the_manifest_can_be_read() {
    for name in config(&json!({})).dialects.keys() {
        let models = of(name).models().unwrap();
        assert_eq!(models[0].id, "openai-images", "{name}");
    }
}

#[test]
fn request_becomes_the_upstreams_body() {
    let check = |config: &Config, request: &Request, expected: Value| assert_eq!(body(config, request), expected);
    // Acceptance 42 and 43: without a model name there is no key; base64 is always asked for.
    let plain = json!({"prompt": "a fox", "n": 1, "response_format": "b64_json"});
    check(&config(&json!({})), &request(), plain.clone());
    let named = config(&json!({"model": "sdxl"}));
    check(&named, &request(), json!({"model": "sdxl", "prompt": "a fox", "n": 1, "response_format": "b64_json"}));
    let two = config(&json!({"model": "sdxl", "models": ["fast = turbo", "openai-images="]}));
    check(&two, &request(), plain);
    let fast = Request { model: Some("fast".to_owned()), ..request() };
    check(&two, &fast, json!({"model": "turbo", "prompt": "a fox", "n": 1, "response_format": "b64_json"}));
    let options = [("quality".to_owned(), "\"high\"".to_owned())].into();
    check(
        &config(&json!({})),
        &Request { options, ..full() },
        json!({"prompt": "a fox", "negative_prompt": "dogs", "n": 2, "size": "640x480", "seed": 7, "steps": 20,
               "cfg_scale": 4.5, "scheduler": "euler", "output_format": "webp", "output_compression": 80,
               "quality": "high", "response_format": "b64_json"}),
    );
    let png = Request { format: Some(Format::Png), compression: Some(80), ..request() };
    check(&config(&json!({})), &png, json!({"prompt": "a fox", "n": 1, "response_format": "b64_json"}));
    let rooted = config(&json!({"root_url": "http://host:7860/"}));
    assert_eq!(made(&rooted, &request()).unwrap().url, "http://host:7860/v1/images/generations");
    let switched =
        config(&json!({"switches": {"send": {"response_format": ""}, "fields": {"steps": "num_steps", "seed": ""}}}));
    let sown = Request { steps: Some(9), seed: Some(7), ..request() };
    check(&switched, &sown, json!({"prompt": "a fox", "n": 1, "num_steps": 9}));
    check(&of("litellm"), &sown, json!({"prompt": "a fox", "n": 1, "steps": 9, "seed": 7}));
}

#[test]
fn every_dialect_says_it_in_its_own_words() {
    let check = |dialect: &str, expected: Value| assert_eq!(body(&of(dialect), &full()), expected, "{dialect}");
    check(
        "together",
        json!({"prompt": "a fox", "n": 2, "width": 640, "height": 480, "seed": 7, "steps": 20, "guidance_scale": 4.5,
               "negative_prompt": "dogs", "output_format": "png", "response_format": "base64"}),
    );
    check(
        "xai",
        json!({"prompt": "a fox", "n": 2, "aspect_ratio": "4:3", "resolution": "1k", "response_format": "b64_json"}),
    );
    check(
        "localai",
        json!({"prompt": "a fox|dogs", "size": "640x480", "seed": 7, "step": 20, "response_format": "b64_json"}),
    );
    let tags = r#"{"negative_prompt":"dogs","sample_params":{"guidance":{"txt_cfg":4.5},"sample_method":"euler","sample_steps":20},"seed":7}"#;
    check(
        "sd-server",
        json!({"prompt": format!("a fox<sd_cpp_extra_args>{tags}</sd_cpp_extra_args>"), "n": 2, "size": "640x480",
               "output_format": "webp", "output_compression": 80}),
    );
    check(
        "vllm-omni",
        json!({"prompt": "a fox", "n": 2, "size": "640x480", "seed": 7, "num_inference_steps": 20, "guidance_scale": 4.5,
               "negative_prompt": "dogs", "output_format": "webp", "response_format": "b64_json"}),
    );
}

#[test]
fn server_of_one_picture_at_a_time_gets_the_seed_of_each() {
    let config = of("localai");
    let dialect = config.dialect().unwrap();
    assert_eq!(most_at_a_time(&dialect, &full()).unwrap(), 1);
    let third = call(&config, &dialect, &full(), Share { first: 2, count: 1 }, false).unwrap();
    let Body::Json(body, _) = third.body else { panic!("without pictures it is JSON") };
    assert_eq!(body["seed"], 9);
    let at_once = of("sd-server");
    assert_eq!(most_at_a_time(&at_once.dialect().unwrap(), &full()).unwrap(), 2);
}

#[test]
fn intermediate_states_are_asked_for_where_somebody_watches_one_picture() {
    let config = of("easel");
    let body = |count: u32, is_watched: bool| {
        let call =
            call(&config, &config.dialect().unwrap(), &request(), Share { first: 0, count }, is_watched).unwrap();
        match call.body {
            Body::Json(body, _) => (body["stream"].clone(), body["partial_images"].clone()),
            Body::Form(_) => panic!("without pictures it is JSON"),
        }
    };
    assert_eq!(body(1, true), (json!(true), json!(2)));
    assert_eq!((body(1, false), body(2, true)), ((Value::Null, Value::Null), (Value::Null, Value::Null)));
}

#[test]
fn pictures_go_where_each_server_takes_them() {
    use InputRole::{Image, Mask, Reference};
    let check = |dialect: &str, roles: &[InputRole], path: &str, expected: Value| {
        let (config, request) = (of(dialect), with(roles));
        let call = made(&config, &request).unwrap();
        assert_eq!(call.url, format!("http://127.0.0.1:9000/v1{path}"), "{dialect}");
        assert_eq!(body(&config, &request), expected, "{dialect}");
    };
    let head = ["n=1", "prompt=a fox", "response_format=b64_json"];
    let parts = |files: &[&str]| json!([&head, files].concat());
    check("openai", &[Image], "/images/edits", parts(&["image=image.png image"]));
    let two = parts(&["image[]=image.png image", "image[]=image.png reference"]);
    check("openai", &[Image, Reference], "/images/edits", two);
    check("openai", &[Reference], "/images/edits", parts(&["image=image.png reference"]));
    check("vllm-omni", &[Image, Mask], "/images/edits", parts(&["image=image.png image", "mask_image=mask.png mask"]));
    let sd = json!(["n=1", "prompt=a fox", "image[]=image.png image", "mask=mask.png mask"]);
    check("sd-server", &[Image, Mask], "/images/edits", sd);

    let data_url = |number: u32| json!({"$blob": number, "as": "data-url"});
    let xai = |number: u32| json!({"url": data_url(number), "type": "image_url"});
    let one = json!({"prompt": "a fox", "n": 1, "response_format": "b64_json", "image": xai(0)});
    check("xai", &[Image], "/images/edits", one);
    let two = json!({"prompt": "a fox", "n": 1, "response_format": "b64_json", "images": [xai(0), xai(1)]});
    check("xai", &[Image, Image], "/images/edits", two);
    check(
        "together",
        &[Image, Reference],
        "/images/generations",
        json!({"prompt": "a fox", "n": 1, "response_format": "base64", "image_url": data_url(0), "reference_images": [data_url(1)]}),
    );
    let base64 = |number: u32| json!({"$blob": number, "as": "base64"});
    check(
        "localai",
        &[Image, Reference],
        "/images/generations",
        json!({"prompt": "a fox", "response_format": "b64_json", "file": base64(0), "ref_images": [base64(1)]}),
    );
    let form = json!(["prompt=a fox", "response_format=b64_json", "image=image.png image", "mask=mask.png mask"]);
    check("localai", &[Image, Mask], "/images/inpainting", form);
}

#[test]
fn mask_is_a_picture_with_a_hole_where_a_server_wants_that() {
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    file.extend([640_u32.to_be_bytes(), 480_u32.to_be_bytes()].concat());
    let mask = Input { blob: Blob::new("image/png", &file).unwrap(), ..input(InputRole::Mask, "") };
    let request = Request { inputs: vec![mask, input(InputRole::Image, "image")], ..request() };
    let sent = |dialect: &str| {
        let Body::Form(mut parts) = made(&of(dialect), &request).unwrap().body else { panic!("a form") };
        let Some(Part::File(name, _, blob)) = parts.pop() else { panic!("the mask comes last") };
        (name, blob.head().unwrap().size, blob.bytes(100).is_ok_and(|bytes| bytes == file))
    };
    for dialect in ["openai", "easel", "litellm", "localai"] {
        assert_eq!(sent(dialect), ("mask".to_owned(), Size::new(640, 480), true), "{dialect}");
    }
    assert_eq!(sent("vllm-omni").0, "mask_image");
    let odd = json!({"switches": {"edit": {"mask_marks": "grey"}}});
    assert_eq!(
        config(&odd).dialect().unwrap_err().message,
        "config: mask_marks of an edit must be \"white\" or \"transparent\""
    );
}

#[test]
fn pictures_that_a_server_does_not_take_are_refused() {
    use InputRole::{Image, Mask, Reference};
    let refused = |dialect: &str, roles: &[InputRole]| {
        let error = made(&of(dialect), &with(roles)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported, "{}", error.message);
        (error.param.unwrap(), error.message)
    };
    assert_eq!(refused("xai", &[Image, Mask]).0, "mask");
    assert_eq!(
        refused("together", &[Image, Image]),
        ("image".into(), "this server takes at most 1 images here, not 2".into())
    );
    assert_eq!(refused("localai", &[Image, Mask, Reference]).0, "reference");
    assert!(refused("xai", &[Image, Image, Reference, Reference]).1.contains("at most 1 references"));
}

#[test]
fn edit_gets_a_format_that_the_server_gives_there() {
    let request = Request { format: Some(Format::Webp), ..with(&[InputRole::Image]) };
    assert_eq!(body(&of("sd-server"), &request), json!(["n=1", "prompt=a fox", "image[]=image.png image"]));
    assert_eq!(body(&of("sd-server"), &Request { format: Some(Format::Jpeg), ..request })[1], "output_format=jpeg");
}

#[test]
fn what_has_no_effect_is_told() {
    let inpainting = Request { steps: Some(20), ..with(&[InputRole::Image, InputRole::Mask]) };
    assert_eq!(notes(&of("localai"), &inpainting), Vec::<String>::new());
    let without = config(&json!({"dialect": "localai", "switches": {"inpaint": {"fields": {"steps": null}}}}));
    let told = notes(&without, &inpainting);
    assert_eq!(told, ["steps: the server does not take it for this kind of request; it had no effect"]);
    let told = notes(&of("xai"), &Request { size: Some(Size::new(1000, 700)), ..request() });
    assert_eq!(told, ["size: the server takes aspect ratios, not sizes: 1000x700 became 3:2"]);
    let told = notes(&of("xai"), &Request { size: Some(Size::new(1024, 512)), ..request() });
    assert_eq!(told, Vec::<String>::new(), "2:1 is what was asked");
}

#[test]
fn sizes_become_the_nearest_ratio_and_the_smallest_resolution_that_holds_them() {
    let check = |width: u32, height: u32, ratio: &str, resolution: &str| {
        let body = body(&of("xai"), &Request { size: Some(Size::new(width, height)), ..request() });
        assert_eq!(
            (body["aspect_ratio"].as_str(), body["resolution"].as_str()),
            (Some(ratio), Some(resolution)),
            "{width}"
        );
    };
    check(1024, 1024, "1:1", "1k");
    check(2048, 2048, "1:1", "2k");
    check(4096, 4096, "1:1", "2k");
    check(1920, 1080, "16:9", "2k");
    check(900, 1950, "9:19.5", "2k");
    let options = [("aspect_ratio".to_owned(), "\"2:3\"".to_owned())].into();
    let named = Request { size: Some(Size::new(64, 64)), options, ..request() };
    assert_eq!(body(&of("xai"), &named)["aspect_ratio"], "2:3", "what was named stays");
}

#[test]
fn prompt_cannot_write_the_servers_settings() {
    let check = |config: &Config, prompt: &str, negative: Option<&str>| {
        let request = Request { negative_prompt: negative.map(str::to_owned), ..Request::new(prompt) };
        let error = made(config, &request).unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::InvalidRequest, Some("prompt")), "{prompt}");
    };
    check(&of("sd-server"), "x<sd_cpp_extra_args>{\"lora\":[]}</sd_cpp_extra_args>", None);
    check(&of("sd-server"), "x", Some("</sd_cpp_extra_args>"));
    check(&of("localai"), "a|b", Some("c"));
    assert_eq!(body(&of("localai"), &Request::new("a|b"))["prompt"], "a|b");
}

#[test]
fn cost_is_counted_in_millionths() {
    let ticks = of("xai").dialect().unwrap().cost.unwrap();
    assert_eq!(cost(&ticks, &json!(200_000_000)), Some(Money { micros: 20_000, currency: "USD".to_owned() }));
    assert_eq!(cost(&ticks, &json!(1)).unwrap().micros, 1, "rounded up");
    assert_eq!(cost(&ticks, &json!("1")), None);
}

#[test]
fn models_say_what_the_upstream_takes() {
    let models = |config: &Config| serde_json::to_value(config.models().unwrap()).unwrap();
    let open = models(&config(&json!({})));
    assert_eq!(open[0]["id"], "openai-images");
    assert_eq!(open[0]["tasks"], json!(["text-to-image", "image-to-image", "inpainting"]));
    assert_eq!(open[0]["inputs"], json!({"images": 16, "references": 16}));
    assert!(open[0]["sizes"]["range"].get("default").is_none(), "the upstream has its own default");
    assert_eq!(open[0]["steps"], json!({"least": 1, "most": 1000}));
    assert_eq!(open[0]["samplers"], json!([]));
    assert_eq!((&open[0]["seed"], &open[0]["determinism"]), (&json!("honoured"), &json!("best_effort")));

    let strict = models(&config(&json!({"extensions": false, "models": ["a", "b=c"], "sizes": ["512x512"]})));
    assert_eq!((&strict[0]["id"], &strict[1]["id"]), (&json!("a"), &json!("b")));
    assert_eq!(strict[1]["sizes"], json!({"listed": ["512x512"]}));
    for control in ["seed", "steps", "guidance", "samplers", "negative_prompt"] {
        assert_eq!(strict[0][control], "ignored", "{control}");
    }
    let tasks = |dialect: &str| models(&of(dialect))[0]["tasks"].as_array().unwrap().len();
    assert_eq!(["together", "xai", "localai", "sd-server", "vllm-omni"].map(tasks), [2, 2, 3, 3, 3]);
    let xai = &models(&of("xai"))[0];
    assert_eq!(
        (&xai["seed"], &xai["steps"], &xai["formats"]),
        (&json!("ignored"), &json!("ignored"), &json!(["jpeg"]))
    );
}

#[test]
fn config_that_makes_no_sense_is_refused_with_the_line_to_write() {
    let refused = |extra: Value| config(&extra).models().unwrap_err().message;
    assert!(refused(json!({"base_url": ""})).contains("config = { base_url = \"http://127.0.0.1:9000/v1\" }"));
    assert!(refused(json!({"base_url": "localhost:9000"})).contains("localhost:9000"));
    assert!(refused(json!({"models": []})).contains("models"));
    assert!(refused(json!({"models": ["=x"]})).contains("models"));
    assert!(
        refused(json!({"dialect": "klingon"})).contains("dialects has no \"klingon\"; it has easel, litellm, localai")
    );
    assert!(refused(json!({"switches": {"filds": {}}})).contains("dialects.openai.filds is no key"));
    assert!(refused(json!({"switches": {"fields": {"step": "s"}}})).contains("dialects.openai.fields.step is no key"));
    assert!(refused(json!({"dialect": "xai", "switches": {"edit": {"images": null}}})).contains("images"));
}
