//! What is declared, refused and said to the upstream, row by row.

use easel_sdk::{ErrorKind, Input, Table};

use super::*;

/// The manifest's config with the operator's.
fn config(extra: &Value) -> Config {
    let manifest: Value = toml::from_str(include_str!("../../plugin.toml")).unwrap();
    let table = |value: &Value| Table::new("", value.clone()).unwrap();
    Config::try_from(table(&manifest["config"]).under(&table(extra))).unwrap()
}

/// Some server that still has what OpenAI had.
fn elsewhere() -> Config {
    config(&json!({"base_url": "http://up.test/v1/"}))
}

fn day(text: &str) -> Today {
    text.parse::<Day>().unwrap().into()
}

fn asked(config: &Config, id: &str, request: &Request) -> Result<Call> {
    let entry = config.entry(id)?;
    check(id, &entry, request)?;
    call(config, id, &entry, request, Share { first: 0, count: request.count }, 0)
}

fn body(config: &Config, id: &str, request: &Request) -> Value {
    match asked(config, id, request).unwrap().body {
        Body::Json(body) => body,
        Body::Form(parts) => parts.into_iter().map(part).collect::<Vec<_>>().into(),
    }
}

/// A part in words.
fn part(part: Part) -> String {
    match part {
        Part::Text(name, text) => format!("{name}={text}"),
        Part::File(name, file, blob) => format!("{name}={file} {} bytes", blob.size()),
    }
}

fn options(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned())).collect()
}

/// The head of a PNG, which is all that the stand-in reads.
fn picture(role: InputRole, format: Format) -> Input {
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    file.extend([64_u32.to_be_bytes(), 64_u32.to_be_bytes()].concat());
    let blob = Blob::new(format.media_type(), &file).unwrap();
    Input { role, blob, format, size: Size::new(64, 64) }
}

#[test]
fn every_model_of_the_manifest_can_be_read_and_is_offered_in_order() {
    let models = models(&config(&json!({})), day("2026-01-01")).unwrap();
    let ids: Vec<_> = models.iter().map(|model| model.id.as_str()).collect();
    assert_eq!((ids.len(), ids[0], ids[10]), (11, "gpt-image-2.5-flare", "dall-e-2"));
    assert!(models.iter().all(|model| model.determinism == Determinism::None && model.max_count == 10));
}

#[test]
fn models_declare_what_the_catalogue_says() {
    let models = serde_json::to_value(models(&config(&json!({})), day("2026-01-01")).unwrap()).unwrap();
    let find = |id: &str| models.as_array().unwrap().iter().find(|model| model["id"] == id).unwrap().clone();
    let flare = find("gpt-image-2.5-flare");
    assert_eq!(flare["tasks"], json!(["text-to-image", "image-to-image", "inpainting"]));
    assert_eq!(flare["inputs"], json!({"images": 16, "references": 16}));
    assert_eq!(flare["sizes"]["range"]["most_side"], 3840);
    assert_eq!(flare["formats"], json!(["png", "jpeg", "webp"]));
    assert_eq!(flare["price"], json!({"micros": 400_000, "currency": "USD"}));
    let quality = |model: &Value| {
        let options = model["options"].as_array().unwrap().clone();
        options.into_iter().find(|option| option["name"] == "quality").map(|option| option["values"].clone())
    };
    assert_eq!(quality(&flare), Some(json!(["auto", "low", "medium", "high", "xhigh", "max"])));
    for (control, treatment) in [("seed", "ignored"), ("steps", "ignored"), ("negative_prompt", "refused")] {
        assert_eq!(flare[control], treatment, "{control}");
    }
    let three = find("dall-e-3");
    assert_eq!(three["sizes"], json!({"listed": ["1024x1024", "1792x1024", "1024x1792"]}));
    assert_eq!((&three["tasks"], &three["formats"]), (&json!(["text-to-image"]), &json!(["png"])));
    assert_eq!(quality(&three), Some(json!(["standard", "hd"])));
    assert_eq!(find("gpt-image-2.6-flare")["price"], Value::Null, "unknown is unknown");
    assert_eq!(find("gpt-image-1-mini")["options"][1], json!({"name": "input_fidelity", "values": ["low"]}));
}

#[test]
fn list_prices_hold_at_the_provider_or_where_the_operator_says_so() {
    let price = |config: &Config| models(config, day("2026-01-01")).unwrap()[0].price.clone().map(|price| price.micros);
    assert_eq!(price(&config(&json!({}))), Some(400_000));
    assert_eq!(price(&elsewhere()), None);
    assert_eq!(price(&config(&json!({"base_url": "http://up.test/v1", "prices": "openai"}))), Some(400_000));
    assert_eq!(price(&config(&json!({"azure_endpoint": "https://a.openai.azure.com"}))), None);
}

#[test]
fn operator_changes_values_and_adds_models() {
    let config = config(&json!({"offer": ["gpt-image-2"], "models": {
        "gpt-image-2": {"name": "Mine", "options": {"quality": {"values": ["low"]}}},
        "gpt-image-3": {"like": "gpt-image-2", "per_request": 1, "sizes": ["512x512"]},
    }}));
    let models = models(&config, day("2026-01-01")).unwrap();
    let ids: Vec<_> = models.iter().map(|model| model.id.as_str()).collect();
    assert_eq!((ids, models[0].name.as_str()), (vec!["gpt-image-2", "gpt-image-3"], "Mine"));
    assert_eq!(models[1].sizes, models::Sizes::Listed(vec![Size::new(512, 512)]));
    let quality = models[1].options.iter().find(|option| option.name == "quality").unwrap();
    assert_eq!(quality.values, [json!("low")], "it is like what the operator made of it");
    assert_eq!(config.entry("gpt-image-3").unwrap().per_request, 1);
}

#[test]
fn config_that_makes_no_sense_is_refused_with_its_place() {
    let check = |extra: &Value, expected: &str| {
        let error = models(&config(extra), day("2026-01-01")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal);
        assert!(error.message.contains(expected), "{:?} should contain {expected:?}", error.message);
    };
    check(&json!({"base_url": "api.openai.com"}), "base_url must be an address");
    check(&json!({"azure_endpoint": "https://a.test?x"}), "azure_endpoint must be an address");
    check(&json!({"azure_deployment": "a/b"}), "azure_deployment must be of letters");
    check(&json!({"azure_api_version": "1&x=2"}), "azure_api_version must be of letters");
    check(&json!({"offer": [], "models": {}}), "offer must list at least one model");
    check(&json!({"offer": ["gpt-image-9"]}), "model gpt-image-9: catalogue has no \"gpt-image-9\"");
    check(&json!({"models": {"x": {"like": "gpt-image", "quality": 1}}}), "model x: catalogue.x.quality is no key");
    check(
        &json!({"models": {"x": {"like": "gpt-image", "shutdown": {"openai": "soon"}}}}),
        "catalogue.x.shutdown.openai: a day",
    );
    check(&json!({"models": {"x": {"like": "gpt-image", "options": {"user": {"at": "home"}}}}}), "at must be");
}

#[test]
fn model_that_is_gone_is_refused_at_its_provider_and_names_its_successor() {
    let retirement = |config: &Config, id: &str, today: &str| {
        let note = retirement(config, id, &config.entry(id).unwrap(), day(today));
        note.map(|note| note.map(|note| note.message)).map_err(|error| (error.kind, error.message))
    };
    let openai = config(&json!({}));
    let (kind, message) = retirement(&openai, "dall-e-3", "2026-11-20").unwrap_err();
    assert_eq!(kind, ErrorKind::ModelNotFound);
    assert_eq!(message, "openai has no dall-e-3 since 2026-05-12; its successor is gpt-image-2.5-flare");
    assert!(retirement(&openai, "dall-e-2", "2026-05-12").is_err());
    assert!(retirement(&openai, "gpt-image-1", "2026-10-23").is_err());
    assert_eq!(retirement(&openai, "gpt-image-1", "2026-01-01"), Ok(None), "too long before");
    let told = "openai will have no gpt-image-1.5 from 2026-12-01 on; its successor is gpt-image-2.5-sunburst";
    assert_eq!(retirement(&openai, "gpt-image-1.5", "2026-11-20"), Ok(Some(told.to_owned())));
    assert_eq!(retirement(&openai, "gpt-image-2", "2030-01-01"), Ok(None));
    let retired = |config: &Config, today: &str| -> Vec<_> {
        let gone = models(config, day(today)).unwrap().into_iter();
        gone.filter_map(|model| Some((model.id, model.retired?))).collect()
    };
    let gone = retired(&openai, "2026-05-12");
    let expected = Retired { since: Some("2026-05-12".to_owned()), successor: Some("gpt-image-2.5-flare".to_owned()) };
    assert_eq!(gone, [("dall-e-3".to_owned(), expected.clone()), ("dall-e-2".to_owned(), expected)]);
    assert_eq!(retired(&openai, "2026-05-11"), []);
    assert_eq!(retired(&elsewhere(), "2026-11-20"), []);
    // Any other server may still have it; Azure has days of its own.
    assert_eq!(retirement(&elsewhere(), "dall-e-3", "2026-11-20"), Ok(None));
    let azure = config(&json!({"base_url": "https://a.openai.azure.com/openai/v1"}));
    assert!(retirement(&azure, "gpt-image-1-mini", "2026-12-24").is_ok());
    assert!(retirement(&azure, "gpt-image-1", "2026-11-20").is_err());
}

#[test]
fn request_becomes_the_upstreams_body() {
    let config = elsewhere();
    let check = |id: &str, request: &Request, expected: Value| assert_eq!(body(&config, id, request), expected, "{id}");
    check("gpt-image-2", &Request::new("a fox"), json!({"model": "gpt-image-2", "prompt": "a fox", "n": 1}));
    let full = Request {
        count: 3,
        size: Some(Size::new(1536, 864)),
        format: Some(Format::Webp),
        compression: Some(80),
        options: options(&[
            ("quality", "\"high\""),
            ("background", "\"transparent\""),
            ("moderation", "\"low\""),
            ("complexity", "\"low\""),
            ("user", "\"u\""),
            ("safety_identifier", "\"s\""),
        ]),
        ..Request::new("a fox")
    };
    check(
        "gpt-image-2.5-flare",
        &full,
        json!({"model": "gpt-image-2.5-flare", "prompt": "a fox", "n": 3, "size": "1536x864", "output_format": "webp",
               "output_compression": 80, "quality": "high", "background": "transparent", "moderation": "low",
               "complexity": "low", "user": "u", "safety_identifier": "s"}),
    );
    let png = Request { format: Some(Format::Png), compression: Some(80), ..Request::new("a fox") };
    check("gpt-image-2", &png, json!({"model": "gpt-image-2", "prompt": "a fox", "n": 1}));
    // Acceptance 71: what the retired models took, they still get.
    let old = options(&[("quality", "\"hd\""), ("style", "\"natural\"")]);
    let three =
        Request { size: Some(Size::new(1792, 1024)), format: Some(Format::Png), options: old, ..Request::new("a fox") };
    check(
        "dall-e-3",
        &three,
        json!({"model": "dall-e-3", "prompt": "a fox", "n": 1, "size": "1792x1024", "response_format": "b64_json",
               "quality": "hd", "style": "natural"}),
    );
}

#[test]
fn intermediate_states_are_asked_for_by_number() {
    let (config, request) = (elsewhere(), Request::new("a fox"));
    let entry = config.entry("gpt-image-2").unwrap();
    let call = call(&config, "gpt-image-2", &entry, &request, Share { first: 0, count: 1 }, 2).unwrap();
    let Body::Json(body) = call.body else { panic!("without pictures it is JSON") };
    assert_eq!((&body["stream"], &body["partial_images"]), (&json!(true), &json!(2)));
}

#[test]
fn edits_are_forms_with_every_picture() {
    use InputRole::{Image, Reference};
    let config = elsewhere();
    let one = Request { inputs: vec![picture(Image, Format::Webp)], ..Request::new("snow") };
    let expected = json!(["model=gpt-image-2", "n=1", "prompt=snow", "image=image.webp 24 bytes"]);
    assert_eq!(body(&config, "gpt-image-2", &one), expected);
    let as_large = Request { size: Some(Size::new(64, 64)), ..one.clone() };
    assert_eq!(
        body(&config, "gpt-image-2", &as_large),
        expected,
        "the picture's own size is none that the model makes"
    );
    let told = asked(&config, "gpt-image-2", &as_large).unwrap().notes;
    assert!(told[0].message.contains("64x64 has 4096, so gpt-image-2 chose the size"), "{told:?}");
    let larger = Request { size: Some(Size::new(128, 128)), ..one.clone() };
    assert_eq!(asked(&config, "gpt-image-2", &larger).unwrap_err().param.as_deref(), Some("size"));
    assert_eq!(asked(&config, "gpt-image-2", &one).unwrap().url, "http://up.test/v1/images/edits");
    let inputs = vec![picture(Reference, Format::Png), picture(Image, Format::Jpeg)];
    let options = options(&[("input_fidelity", "\"high\""), ("moderation", "\"low\"")]);
    let several = Request { inputs, options, ..Request::new("snow") };
    let call = asked(&config, "gpt-image-1.5", &several).unwrap();
    let Body::Form(parts) = call.body else { panic!("an edit is a form") };
    let parts: Vec<_> = parts.into_iter().map(part).collect();
    let pictures = ["image[]=image.jpeg 24 bytes", "image[]=image.png 24 bytes"];
    assert_eq!(parts[..1], ["input_fidelity=high"]);
    assert_eq!(parts[4..], pictures, "images come before what they are to be like");
    assert_eq!(call.notes.len(), 1);
    assert_eq!(call.notes[0].param.as_deref(), Some("option.moderation"));
    // A model that takes PNG only gets PNG.
    let jpeg = Request { inputs: vec![picture(Image, Format::Jpeg)], ..Request::new("snow") };
    assert_eq!(body(&config, "dall-e-2", &jpeg)[4], "image=image.png 24 bytes");
}

#[test]
fn what_the_declared_model_cannot_say_is_checked() {
    let refused = |id: &str, request: &Request| {
        let error = asked(&elsewhere(), id, request).unwrap_err();
        (error.kind, error.param.unwrap(), error.message)
    };
    let sized = |width: u32, height: u32| Request { size: Some(Size::new(width, height)), ..Request::new("a") };
    let (kind, param, message) = refused("gpt-image-2", &sized(512, 512));
    assert_eq!((kind, param.as_str()), (ErrorKind::InvalidRequest, "size"));
    assert!(message.contains("at least 655360 pixels, and 512x512 has 262144"), "{message}");
    assert!(refused("gpt-image-2", &sized(3840, 1024)).2.contains("at most 3 times the other, unlike 3840x1024"));
    asked(&elsewhere(), "gpt-image-2", &sized(3072, 1024)).unwrap();
    let (kind, param, message) = refused("dall-e-2", &Request::new("ä".repeat(1_001)));
    assert_eq!((kind, param.as_str()), (ErrorKind::InvalidRequest, "prompt"));
    assert!(message.contains("at most 1000 characters, not 1001"));
    let inputs = vec![picture(InputRole::Image, Format::Png), picture(InputRole::Reference, Format::Png)];
    assert_eq!(refused("dall-e-2", &Request { inputs, ..Request::new("a") }).0, ErrorKind::Unsupported);
}

#[test]
fn addresses_are_those_of_each_service() {
    let check = |extra: Value, url: &str, model: Option<&str>| {
        let config = config(&extra);
        let call = asked(&config, "gpt-image-2", &Request::new("a fox")).unwrap();
        let Body::Json(body) = call.body else { panic!("without pictures it is JSON") };
        assert_eq!((call.url.as_str(), body.get("model").and_then(Value::as_str)), (url, model));
    };
    check(json!({}), "https://api.openai.com/v1/images/generations", Some("gpt-image-2"));
    let azure = "https://me.openai.azure.com";
    check(
        json!({"azure_endpoint": azure}),
        "https://me.openai.azure.com/openai/v1/images/generations",
        Some("gpt-image-2"),
    );
    check(
        json!({"azure_endpoint": azure, "azure_api_version": "preview", "azure_deployment": "mine"}),
        "https://me.openai.azure.com/openai/v1/images/generations?api-version=preview",
        Some("mine"),
    );
    check(
        json!({"azure_endpoint": format!("{azure}/"), "azure_api_version": "2025-04-01-preview",
               "models": {"gpt-image-2": {"upstream_name": "img-2"}}}),
        "https://me.openai.azure.com/openai/deployments/img-2/images/generations?api-version=2025-04-01-preview",
        None,
    );
    let by_path = config(&json!({"azure_endpoint": azure, "azure_api_version": "2025-04-01-preview"}));
    assert_eq!(by_path.models_address(), "https://me.openai.azure.com/openai/models?api-version=2025-04-01-preview");
    assert_eq!(config(&json!({})).models_address(), "https://api.openai.com/v1/models");
}

#[test]
fn servers_are_known_by_their_hosts() {
    let name = |extra: Value| config(&extra).service().unwrap().name;
    assert_eq!(name(json!({})), "openai");
    assert_eq!(name(json!({"base_url": "https://EU.api.openai.com:443/v1"})), "openai");
    assert_eq!(name(json!({"base_url": "https://api.openai.com.evil.test/v1"})), "");
    assert_eq!(name(json!({"base_url": "https://evil.test/api.openai.com"})), "");
    assert_eq!(name(json!({"base_url": "https://me.openai.azure.com/openai/v1"})), "azure");
    assert_eq!(name(json!({"azure_endpoint": "http://proxy.test"})), "azure");
}

#[test]
fn upstreams_list_tells_what_is_not_there_and_what_ends() {
    let config = config(&json!({"offer": ["gpt-image-2", "gpt-image-1.5"]}));
    let (missing, details) = listed(&config, &[("gpt-image-1.5".to_owned(), json!("2026-12-01"))]);
    assert_eq!(missing, ["gpt-image-2"]);
    let expected = json!({"not_listed": ["gpt-image-2"], "shutdown_dates": {"gpt-image-1.5": "2026-12-01"}});
    assert_eq!(Value::Object(details), expected);
}
