//! Requests as they come in, and as they go on.

use std::time::Duration;

use easel_sdk::{ErrorKind, Note};

use super::*;
use crate::style::Style;

fn config(default_style: &str) -> Config {
    let oil = r#"{"prompt": "{prompt}, oil on canvas", "negative_prompt": "photo"}"#;
    let style = |json: &str| -> Style { serde_json::from_str(json).unwrap() };
    let styles = [
        ("oil".to_owned(), style(oil)),
        ("dusk".to_owned(), style(r#"{"prompt": "at dusk"}"#)),
        ("clean".to_owned(), style(r#"{"negative_prompt": "noise"}"#)),
    ];
    Config { styles: styles.into(), default_style: default_style.to_owned() }
}

fn run(config: &Config, request: &Request) -> (Verdict, Edits) {
    let context = Context::new("r", Duration::from_secs(1));
    let mut edits = Edits::default();
    (PromptStyles::on_request(&context, config, request, &mut edits), edits)
}

/// Prompt and negative prompt after the edits.
fn styled(config: &Config, prompt: &str, preset: Option<&str>) -> (String, Option<String>) {
    let options = preset.map(|name| ("style_preset".to_owned(), format!("{name:?}"))).into_iter().collect();
    let request = Request { options, ..Request::new(prompt) };
    let (verdict, edits) = run(config, &request);
    assert!(matches!(verdict, Verdict::Next), "{verdict:?}");
    assert_eq!(edits.edits.contains(&Edit::Option("style_preset".to_owned(), None)), preset.is_some());
    edits.edits.into_iter().fold((request.prompt, None), |(prompt, negative), edit| match edit {
        Edit::Prompt(prompt) => (prompt, negative),
        Edit::NegativePrompt(negative) => (prompt, negative),
        _ => (prompt, negative),
    })
}

#[test]
fn styles_are_chosen_by_option_by_tag_or_by_default() {
    let check = |default: &str, prompt: &str, preset: Option<&str>, expected: (&str, Option<&str>)| {
        let (prompt, negative) = styled(&config(default), prompt, preset);
        assert_eq!((prompt.as_str(), negative.as_deref()), expected);
    };
    check("", "a fox", None, ("a fox", None));
    check("", "a fox", Some("oil"), ("a fox, oil on canvas", Some("photo")));
    check("", "a fox", Some("none"), ("a fox", None));
    check("", "a <style:dusk> fox", None, ("a fox, at dusk", None));
    check("", "<style:dusk> a fox", None, ("a fox, at dusk", None));
    check("", "a fox <style: dusk >", None, ("a fox, at dusk", None));
    check("", "a fox<style:clean>", None, ("a fox", Some("noise")));
    check("", "a fox <style:dusk><style:oil>", None, ("a fox, at dusk, oil on canvas", Some("photo")));
    check("", "a fox <style:dusk>", Some("oil"), ("a fox, oil on canvas, at dusk", Some("photo")));
    check("", "a fox <style:oil>", Some("oil"), ("a fox, oil on canvas", Some("photo")));
    check("", "a <lora:x:1> fox <style:dusk", None, ("a <lora:x:1> fox <style:dusk", None));
    check("dusk", "a fox", None, ("a fox, at dusk", None));
    check("dusk", "a fox", Some("none"), ("a fox", None));
    check("dusk", "a fox <style:none>", None, ("a fox", None));
    check("dusk", "a fox", Some("oil"), ("a fox, oil on canvas", Some("photo")));
    check("dusk", "a fox <style:oil>", None, ("a fox, oil on canvas", Some("photo")));
}

#[test]
fn negative_prompt_of_the_request_stays() {
    let request = Request { negative_prompt: Some("dogs".to_owned()), ..Request::new("a fox <style:oil>") };
    let (_, edits) = run(&config(""), &request);
    assert!(edits.edits.contains(&Edit::NegativePrompt(Some("dogs, photo".to_owned()))));
}

#[test]
fn client_is_told_what_changed() {
    let (_, edits) = run(&config(""), &Request::new("a fox <style:oil>"));
    let note = |param: &str, message: &str| Note::about(param, message);
    assert_eq!(
        edits.notes,
        [note("prompt", "style oil was applied"), note("negative-prompt", "style oil added to it")]
    );
    let (_, edits) = run(&config(""), &Request::new("a fox"));
    assert_eq!(edits, Edits::default());
}

#[test]
fn unknown_style_is_refused_with_the_list() {
    let refused = |default: &str, request: &Request| match run(&config(default), request) {
        (Verdict::Reject(error), _) => error,
        (verdict, _) => unreachable!("{verdict:?}"),
    };
    let error = refused("", &Request::new("a fox <style:gouache>"));
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::InvalidRequest, Some("prompt")));
    assert_eq!(error.message, "there is no style \"gouache\"; there are: clean, dusk, oil, none");
    let options = [("style_preset".to_owned(), "\"gouache\"".to_owned())].into();
    let error = refused("", &Request { options, ..Request::new("a fox") });
    assert_eq!(error.param.as_deref(), Some("option.style_preset"));
    let options = [("style_preset".to_owned(), "3".to_owned())].into();
    let error = refused("", &Request { options, ..Request::new("a fox") });
    assert_eq!(error.param.as_deref(), Some("option.style_preset"));
    let error = refused("", &Request::new("<style:oil>"));
    assert_eq!(error.message, "the prompt is empty without its style tags");
}

#[test]
fn default_style_that_is_not_there_is_refused_when_the_config_is_loaded() {
    for right in ["", "none", "oil"] {
        assert_eq!(PromptStyles::check(&config(right)), Ok(()));
    }
    let error = PromptStyles::check(&config("gouache")).unwrap_err();
    assert_eq!(
        error.message,
        "config: default_style: there is no style \"gouache\"; there are: clean, dusk, oil, none"
    );
}

#[test]
fn tags_beyond_the_limit_stay_words() {
    let prompt = format!("a fox {}", "<style:dusk>".repeat(9));
    let (names, text) = style::take_tags(&prompt);
    assert_eq!((names.len(), text.as_str()), (8, "a fox <style:dusk>"));
}
