//! What the list says of the models, and what the operator makes of it.

use serde_json::json;

use super::*;
use crate::config::tests::config;

fn list(changes: &Value) -> Catalogue<'_> {
    Catalogue::read(changes.as_object().unwrap()).unwrap()
}

fn model(id: &str, changes: Value) -> Value {
    let none = Map::new();
    let list = Catalogue::read(&none).unwrap();
    serde_json::to_value(list.record(id).unwrap().model(&config(changes), &Provider::known().unwrap(), Owner::Provider))
        .unwrap()
}

#[test]
fn every_model_declares_what_it_takes() {
    let flux = model("flux-2-pro", json!({}));
    assert_eq!(
        flux["sizes"],
        json!({"range": {"least_side": 256, "most_side": 4096, "multiple": 16, "max_pixels": 4_194_304}})
    );
    assert_eq!((&flux["inputs"], &flux["seed"]), (&json!({"images": 8, "references": 8}), &json!("honoured")));
    assert_eq!(
        (&flux["steps"], &flux["samplers"], &flux["negative_prompt"]),
        (&json!("ignored"), &json!("ignored"), &json!("ignored"))
    );
    assert_eq!(flux["options"], json!([{"name": "safety_tolerance", "values": [0, 1, 2, 3, 4, 5]}]));
    assert_eq!((&flux["determinism"], &flux["formats"][0]), (&json!("best_effort"), &json!("png")));
    assert_eq!((&flux["price"], &flux["max_count"]), (&Value::Null, &json!(10)));

    let flex = model("flux-2-flex", json!({}));
    assert_eq!(flex["steps"], json!({"least": 1, "most": 50, "default": 50}));
    assert_eq!(flex["guidance"], json!({"least": 1.5, "most": 10.0, "default": 5.0}));

    let kontext = model("flux-kontext-max", json!({}));
    assert_eq!((&kontext["max_count"], &kontext["price"]["micros"]), (&json!(6), &json!(80_000)));
    assert_eq!(kontext["sizes"]["range"]["least_side"], 256);

    let three = model("flux-3-image", json!({}));
    assert_eq!((&three["seed"], &three["determinism"]), (&json!("ignored"), &json!("none")));
    assert_eq!(three["options"][3], json!({"name": "grounding", "values": [true, false]}));
    assert_eq!(three["formats"], json!(["png", "jpeg", "webp"]));
    assert_eq!(model("flux-3-image-klein", json!({}))["steps"], json!({"least": 1, "most": 50}));

    let fill = model("flux-pro-1.0-fill", json!({}));
    assert_eq!((&fill["tasks"], &fill["inputs"]), (&json!(["inpainting"]), &json!({"images": 1, "references": 0})));
    assert_eq!(model("flux-pro-1.1", json!({}))["inputs"], json!({"images": 0, "references": 1}));
    assert_eq!(model("flux-pro-1.0-canny", json!({}))["name"], "FLUX.1 Canny [pro]");
}

#[test]
fn operator_decides_on_counts_and_on_what_a_model_does_not_have() {
    let strict = model("flux-2-pro", json!({ "unsupported": "refuse", "max_count": 4 }));
    for control in ["negative_prompt", "steps", "guidance", "samplers"] {
        assert_eq!(strict[control], "refused", "{control}");
    }
    assert_eq!((&strict["seed"], &strict["max_count"]), (&json!("honoured"), &json!(4)));
    assert_eq!(model("flux-2-pro", json!({ "max_active": 3 }))["max_count"], 3);
}

#[test]
fn operator_changes_fields_of_a_model_and_adds_models() {
    let changes = json!({
        "flux-2-pro": { "endpoint": "/v1/flux-2-pro-2", "options": [] },
        "flux-9": { "kind": "kontext", "endpoint": "/v1/flux-9", "price": { "picture": 1 } },
    });
    let list = list(&changes);
    let changed = list.record("flux-2-pro").unwrap();
    assert_eq!((changed.endpoint.as_str(), changed.options.len(), changed.inputs.most), ("/v1/flux-2-pro-2", 0, 8));
    let added = list.record("flux-9").unwrap();
    assert_eq!((added.inputs.most, added.price.unwrap().picture), (4, Some(1)));
    assert_eq!(list.record("flux-8").unwrap_err().param.as_deref(), Some("model"));
}

#[test]
fn options_are_checked_by_type_and_bounds() {
    let changes = json!({});
    let list = list(&changes);
    let check = |model: &str, name: &str, value: Value, expected: Option<&str>| {
        let record = list.record(model).unwrap();
        let rule = record.options.iter().find(|rule| rule.name == name).unwrap();
        let error = rule.check(&value).err();
        assert_eq!(error.as_ref().map(|error| error.message.as_str()), expected, "{name} {value}");
        let param = format!("option.{name}");
        assert!(error.is_none_or(|error| error.param.as_deref() == Some(param.as_str())));
    };
    check("flux-2-pro", "safety_tolerance", json!(5), None);
    check(
        "flux-2-pro",
        "safety_tolerance",
        json!(6),
        Some("safety_tolerance must be a whole number from 0 to 5, not 6"),
    );
    check(
        "flux-2-pro",
        "safety_tolerance",
        json!(1.5),
        Some("safety_tolerance must be a whole number from 0 to 5, not 1.5"),
    );
    check("flux-2-flex", "prompt_upsampling", json!(false), None);
    check("flux-2-flex", "prompt_upsampling", json!("no"), Some("prompt_upsampling must be true or false, not \"no\""));
    check("flux-pro-1.1-ultra", "image_prompt_strength", json!(0.25), None);
    check(
        "flux-pro-1.1-ultra",
        "image_prompt_strength",
        json!(1.5),
        Some("image_prompt_strength must be a number from 0 to 1, not 1.5"),
    );
    check(
        "flux-3-image",
        "resolution",
        json!("8k"),
        Some("resolution must be one of 768sq, 1k, 1.5k, 2k, 4k, not \"8k\""),
    );
    check("flux-3-image", "version", json!("latest"), None);
    check("flux-3-image", "version", json!(3), Some("version must be text, not 3"));
}
