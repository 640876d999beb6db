//! The bounds of every field of a request, and whose words an error uses.

use super::fakes::{checked, size};
use crate::{
    Draft, Edit, Error, MAX_COUNT, MAX_GUIDANCE, MAX_OPTIONS, MAX_PROMPT_CHARS, MAX_SEED, MAX_STEPS, OnUnknown,
    OptionValue, ParamNames,
};

/// A caller with a word of their own for everything.
static THEIRS: ParamNames = ParamNames {
    prompt: "Text",
    negative_prompt: "Not",
    model: "Engine",
    backend: "Where",
    count: "Many",
    size: "Dimensions",
    seed: "Start",
    steps: "Rounds",
    guidance: "Push",
    sampler: "Solver",
    format: "File",
    compression: "Squeeze",
    image: "Canvas",
    mask: "Stencil",
    reference: "Model sheet",
    options: "Rest",
};

fn draft() -> Draft {
    Draft::new("a cat")
}

fn refused(draft: Draft) -> Error {
    draft.check(&THEIRS).expect_err("the draft is out of bounds")
}

fn options(count: usize) -> Draft {
    let value = || OptionValue { json: "1".to_owned(), on_unknown: OnUnknown::Note };
    Draft { options: (0..count).map(|number| (number.to_string(), value())).collect(), ..draft() }
}

#[test]
fn every_field_is_taken_up_to_its_bounds() {
    let prompt = |length: usize| Draft::new("é".repeat(length));
    let negative = |length: usize| Draft { negative_prompt: Some("é".repeat(length)), ..draft() };
    let rows = [
        ("shortest prompt", prompt(1)),
        ("longest prompt, in characters", prompt(MAX_PROMPT_CHARS)),
        ("empty negative prompt", negative(0)),
        ("longest negative prompt", negative(MAX_PROMPT_CHARS)),
        ("one picture", Draft { count: 1, ..draft() }),
        ("most pictures", Draft { count: MAX_COUNT, ..draft() }),
        ("smallest seed", Draft { seed: Some(0), ..draft() }),
        ("largest seed", Draft { seed: Some(MAX_SEED), ..draft() }),
        ("largest seed of ten", Draft { seed: Some(MAX_SEED - 9), count: 10, ..draft() }),
        ("fewest steps", Draft { steps: Some(1), ..draft() }),
        ("most steps", Draft { steps: Some(MAX_STEPS), ..draft() }),
        ("least guidance", Draft { guidance: Some(0.0), ..draft() }),
        ("most guidance", Draft { guidance: Some(MAX_GUIDANCE), ..draft() }),
        ("least compression", Draft { compression: Some(0), ..draft() }),
        ("most compression", Draft { compression: Some(100), ..draft() }),
        ("most options", options(MAX_OPTIONS)),
    ];
    for (what, draft) in rows {
        let request = draft.clone().check(&THEIRS).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(*request, draft, "{what}: a checked request reads like its draft");
    }
}

#[test]
fn every_field_beyond_its_bounds_is_refused_in_the_callers_words() {
    let long = "x".repeat(MAX_PROMPT_CHARS + 1);
    let guidance = |guidance| Draft { guidance: Some(guidance), ..draft() };
    let rows = [
        (Draft::new(""), "Text", "Text must not be empty"),
        (Draft::new(" \n\u{3000}"), "Text", "Text must not be empty"),
        (Draft::new(long.clone()), "Text", "Text has 32001 characters, at most 32000 are allowed"),
        (
            Draft { negative_prompt: Some(long), ..draft() },
            "Not",
            "Not has 32001 characters, at most 32000 are allowed",
        ),
        (Draft { count: 0, ..draft() }, "Many", "Many must be from 1 to 10, not 0"),
        (Draft { count: 11, ..draft() }, "Many", "Many must be from 1 to 10, not 11"),
        (
            Draft { seed: Some(MAX_SEED + 1), ..draft() },
            "Start",
            "Start must be from 0 to 9007199254740991, not 9007199254740992",
        ),
        (
            Draft { seed: Some(MAX_SEED), count: 2, ..draft() },
            "Start",
            "Start must be from 0 to 9007199254740990, not 9007199254740991",
        ),
        (Draft { steps: Some(0), ..draft() }, "Rounds", "Rounds must be from 1 to 1000, not 0"),
        (Draft { steps: Some(1_001), ..draft() }, "Rounds", "Rounds must be from 1 to 1000, not 1001"),
        (guidance(-0.1), "Push", "Push must be a number from 0 to 100, not -0.1"),
        (guidance(100.1), "Push", "Push must be a number from 0 to 100, not 100.1"),
        (guidance(f64::NAN), "Push", "Push must be a number from 0 to 100, not NaN"),
        (guidance(f64::INFINITY), "Push", "Push must be a number from 0 to 100, not inf"),
        (Draft { compression: Some(101), ..draft() }, "Squeeze", "Squeeze must be from 0 to 100, not 101"),
        (options(MAX_OPTIONS + 1), "Rest", "at most 64 options, not 65"),
    ];
    for (draft, param, message) in rows {
        let error = refused(draft);
        assert_eq!((error.param(), error.message()), (Some(param), message));
        assert_eq!(error.kind(), crate::ErrorKind::InvalidRequest);
    }
}

#[test]
fn prompt_that_is_too_long_has_the_code_that_clients_know() {
    assert_eq!(refused(Draft::new("x".repeat(MAX_PROMPT_CHARS + 1))).code(), "string_above_max_length");
    assert_eq!(refused(Draft::new("")).code(), "invalid_value");
}

#[test]
fn edits_are_applied_all_or_none() {
    let request = checked(Draft { steps: Some(5), ..draft() });

    let edited = request.edit(vec![Edit::Steps(None), Edit::Size(Some(size(64, 64)))]).unwrap();
    assert_eq!((edited.steps, edited.size), (None, Some(size(64, 64))));

    assert!(request.edit(vec![Edit::Steps(Some(9)), Edit::Prompt(String::new())]).is_err());
    assert_eq!(request.steps, Some(5), "the request itself never changes");
}

#[test]
fn last_edit_of_a_parameter_holds() {
    let request = checked(draft()).edit(vec![Edit::Count(2), Edit::Count(3)]).unwrap();
    assert_eq!(request.count, 3);
}

#[test]
fn edits_are_named_by_our_words_and_never_by_their_values() {
    let value = OptionValue { json: "\"secret\"".to_owned(), on_unknown: OnUnknown::Note };
    let rows = [
        (Edit::Prompt("secret".to_owned()), "prompt"),
        (Edit::NegativePrompt(None), "negative_prompt"),
        (Edit::Model(None), "model"),
        (Edit::Count(1), "count"),
        (Edit::Size(None), "size"),
        (Edit::Seed(None), "seed"),
        (Edit::Steps(None), "steps"),
        (Edit::Guidance(None), "guidance"),
        (Edit::Sampler(None), "sampler"),
        (Edit::Format(None), "format"),
        (Edit::Compression(None), "compression"),
        (Edit::Option("tiling".to_owned(), Some(value)), "options.tiling"),
    ];
    for (edit, target) in rows {
        assert_eq!(edit.target(), target);
    }
}
