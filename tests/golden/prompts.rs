//! Weighted and long prompts against compel, and against the rules of brackets written out in Python.

use easel_engine::trace::{Recorder, Values};
use easel_engine::weighting::Syntax;
use serde_json::Value;

use super::{BLOCK, Golden, json, model};

const MODELS: [&str; 2] = ["tiny-sd", "tiny-sdxl"];
const SYNTAXES: [Syntax; 2] = [Syntax::Compel, Syntax::Emphasis];

#[test]
fn a_weighted_prompt_is_read_as_elsewhere() {
    let golden = Golden::read("prompts.safetensors");
    let prompts = json("prompts.json");
    for (name, syntax) in MODELS.iter().flat_map(|name| SYNTAXES.map(|syntax| (*name, syntax))) {
        for (index, prompt) in texts(&prompts[syntax.name()]).iter().enumerate() {
            let key = format!("{name}.{}.{index}", syntax.name());
            let error = golden.error(&key, &read(name, syntax, &[prompt]));
            assert!(error <= BLOCK, "{key} is off by {error:e}: {prompt}");
        }
    }
}

#[test]
fn prompts_of_one_picture_are_made_equally_long() {
    let golden = Golden::read("prompts.safetensors");
    let prompts = json("prompts.json");
    for pair in prompts["pairs"].as_array().unwrap() {
        let syntax = Syntax::named(pair[0].as_str().unwrap()).unwrap();
        let texts = texts(&prompts[syntax.name()]);
        let pair = [&pair[1], &pair[2]].map(|index| texts[index.as_u64().unwrap() as usize].as_str());
        for name in MODELS {
            let key = format!("{name}.{}.pair", syntax.name());
            let got = read(name, syntax, &pair);
            assert!(got.dims[1] > 77 && got.dims[1].is_multiple_of(77), "{:?}", got.dims);
            let error = golden.error(&key, &got);
            assert!(error <= BLOCK, "{key} is off by {error:e}");
        }
    }
}

#[test]
fn a_prompt_without_weights_is_read_as_a_plain_one() {
    for name in MODELS {
        let plain = read(name, Syntax::Plain, &["a red circle", ""]);
        for syntax in SYNTAXES {
            assert_eq!(read(name, syntax, &["a red circle", ""]), plain, "{name} {syntax:?}");
        }
        assert_ne!(read(name, Syntax::Plain, &["a (red:1.5) circle++", ""]), plain);
    }
}

#[test]
fn what_a_syntax_has_and_the_engine_has_not_is_refused() {
    let engine = model("tiny-sd");
    for (prompt, says) in [("(\"a\", \"b\").blend(1, 1)", ".blend("), ("(a)99.0", "from -10 to 10")] {
        let error =
            engine.read_in(Syntax::Compel, &[prompt], 0, (16, 16), &Recorder::default()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let many = "(a)0.5 b ".repeat(33);
    let error = engine.read_in(Syntax::Compel, &[&many], 0, (16, 16), &Recorder::default()).unwrap_err().to_string();
    assert!(error.contains("33 parts") && error.contains("at most 32"), "{error}");
}

fn read(name: &'static str, syntax: Syntax, prompts: &[&str]) -> Values {
    model(name).read_in(syntax, prompts, 0, (16, 16), &Recorder::default()).unwrap().text
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}
