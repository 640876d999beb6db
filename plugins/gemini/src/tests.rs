//! Whole calls against a scripted upstream, and what other tests begin with: the config of `plugin.toml`.

use easel_sdk::ErrorKind;
use easel_sdk::models::Retired;
use easel_sdk::testing::{Reply, Upstream};
use std::time::Duration;

use super::*;
use crate::known::Known;

/// The letters `hi` as base64.
pub const HI: &str = "aGk=";

/// The config of `plugin.toml` with the operator's changes, in TOML.
pub fn config(operator: &str) -> Config {
    let manifest: toml::Table = toml::from_str(include_str!("../plugin.toml")).unwrap();
    let mut config = manifest["config"].as_table().unwrap().clone();
    config.extend(toml::from_str::<toml::Table>(operator).unwrap());
    serde_json::from_value(serde_json::to_value(config).unwrap()).unwrap()
}

/// A request for one picture by a model.
pub fn request(model: &str) -> Request {
    Request { model: Some(model.to_owned()), ..Request::new("a fox") }
}

/// What is known of a model.
pub fn known(config: &Config, model: &str) -> Known {
    config.asked(&request(model)).unwrap()
}

/// Sends a request to the scripted upstream.
pub fn generate(operator: &str, request: &Request) -> Result<Output> {
    let context = Context::new("r", Duration::from_secs(20));
    let operator = format!("base_url = 'http://up.test/v1beta'\n{operator}");
    Gemini::generate(&context, &config(&operator), request, &Progress::unheard())
}

#[test]
fn model_that_its_provider_retired_is_not_offered_there_and_asked_elsewhere() {
    let upstream =
        Upstream::script([Reply::json(200, &format!(r#"{{"predictions": [{{"bytesBase64Encoded": "{HI}"}}]}}"#))])
            .with_credential("api_key");
    let asked = request("imagen-4.0-ultra-generate-001");
    let retired = |operator: &str| {
        let models = config(operator).models().unwrap();
        models.into_iter().find(|model| Some(&model.id) == asked.model.as_ref()).unwrap().retired
    };
    let (since, successor) = ("2026-08-17".to_owned(), "gemini-3-pro-image".to_owned());
    assert_eq!(retired(""), Some(Retired { since: Some(since), successor: Some(successor) }));
    assert_eq!(retired("base_url = 'http://up.test/v1'"), None);
    assert_eq!(generate("", &asked).unwrap().pictures.len(), 1);
    assert_eq!(upstream.seen()[0].url, "http://up.test/v1beta/models/imagen-4.0-ultra-generate-001:predict");
}

#[test]
fn model_that_is_not_found_names_its_successor() {
    let body = r#"{"error": {"code": 404, "message": "models/x is not found.", "status": "NOT_FOUND"}}"#;
    let _upstream = Upstream::script([Reply::json(404, body)]);
    let error = generate("", &request("gemini-2.5-flash-image")).unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::ModelNotFound, Some("model")));
    assert_eq!(
        error.message,
        "the upstream answered 404: models/x is not found; its successor is gemini-nano-banana-2.1"
    );
}

#[test]
fn deep_check_looks_at_the_model_and_makes_nothing() {
    let context = Context::new("r", Duration::from_secs(20));
    let upstream =
        Upstream::script([Reply::json(200, "{}"), Reply::json(400, r#"{"error": {"message": "API key not valid"}}"#)])
            .with_credential("api_key");
    let config = config("");
    assert_eq!(Gemini::check(&context, &config, Depth::Shallow).unwrap().summary.as_deref(), Some("asks with api_key"));
    assert!(upstream.seen().is_empty());
    Gemini::check(&context, &config, Depth::Deep).unwrap();
    let seen = upstream.seen();
    assert_eq!(seen[0].method, "GET");
    assert_eq!(seen[0].url, "https://generativelanguage.googleapis.com/v1beta/models/gemini-nano-banana-2.1");
    assert_eq!(seen[0].credential.as_deref(), Some("api_key"));
    assert_eq!(Gemini::check(&context, &config, Depth::Deep).unwrap_err().kind, ErrorKind::Auth);
}
