//! Fitting a request to a model: each parameter honoured, ignored with a note, or refused; never dropped silently.

use super::fakes::{checked, model, size};
use crate::{
    Control, Determinism, Draft, Error, ErrorKind, Fitted, ImageFormat, ModelInfo, NoteKind, Numbers, OnUnknown,
    OptionValue, SizeRule,
};

const SEED: u64 = 99;

fn fit(model: &ModelInfo, draft: Draft) -> Result<Fitted, Error> {
    model.fit(&checked(draft), SEED)
}

fn draft() -> Draft {
    Draft::new("a cat")
}

/// A model that treats every control in one way.
fn with_controls(negative: Control<()>, seed: Control<()>, steps: Control<Numbers<u32>>) -> ModelInfo {
    let guidance = match steps {
        Control::Honoured(_) => Control::Honoured(Numbers { least: 1.0, most: 20.0, default: Some(7.5) }),
        Control::Ignored => Control::Ignored,
        Control::Refused => Control::Refused,
    };
    let samplers = match steps {
        Control::Honoured(_) => Control::Honoured(vec!["euler".to_owned()]),
        Control::Ignored => Control::Ignored,
        Control::Refused => Control::Refused,
    };
    ModelInfo { negative_prompt: negative, seed, steps, guidance, samplers, ..model("brush") }
}

/// A draft with one control set, and the control's name.
fn drafts_with_one_control() -> Vec<(&'static str, Draft)> {
    vec![
        ("negative_prompt", Draft { negative_prompt: Some("dogs".to_owned()), ..draft() }),
        ("seed", Draft { seed: Some(5), ..draft() }),
        ("steps", Draft { steps: Some(5), ..draft() }),
        ("guidance", Draft { guidance: Some(5.0), ..draft() }),
        ("sampler", Draft { sampler: Some("euler".to_owned()), ..draft() }),
    ]
}

#[test]
fn every_control_that_is_honoured_reaches_the_model_unchanged() {
    for (name, draft) in drafts_with_one_control() {
        let fitted = fit(&model("brush"), draft.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(fitted.notes, Vec::new(), "{name}");
        let (was, is) = (&draft, &fitted.request);
        assert_eq!(was.negative_prompt, is.negative_prompt, "{name}");
        assert!(was.seed.is_none() || was.seed == is.seed, "{name}");
        assert!(was.steps.is_none() || was.steps == is.steps, "{name}");
        assert!(was.guidance.is_none() || was.guidance == is.guidance, "{name}");
        assert_eq!(was.sampler, is.sampler, "{name}");
    }
}

#[test]
fn every_control_that_is_ignored_is_taken_out_and_noted() {
    let model = with_controls(Control::Ignored, Control::Ignored, Control::Ignored);
    for (name, draft) in drafts_with_one_control() {
        let fitted = fit(&model, draft).unwrap_or_else(|error| panic!("{name}: {error}"));
        let is = &fitted.request;
        assert_eq!(fitted.notes.len(), 1, "{name}: {:?}", fitted.notes);
        assert_eq!((fitted.notes[0].kind, fitted.notes[0].param.as_deref()), (NoteKind::Ignored, Some(name)));
        assert_eq!(fitted.notes[0].message, format!("model brush does not use {name}; it had no effect"));
        assert_eq!((&is.negative_prompt, is.seed, is.steps), (&None, None, None), "{name}");
        assert_eq!((is.guidance, &is.sampler), (None, &None), "{name}");
    }
}

#[test]
fn every_control_that_is_refused_refuses_the_request() {
    let model = with_controls(Control::Refused, Control::Refused, Control::Refused);
    for (name, draft) in drafts_with_one_control() {
        let error = fit(&model, draft).expect_err(name);
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidRequest, "unsupported_parameter"));
        assert_eq!((error.param(), error.message()), (Some(name), &*format!("model brush does not take {name}")));
    }
}

#[test]
fn request_that_sets_nothing_fits_every_model_without_a_note() {
    for (control, seed) in [(Control::Ignored, None), (Control::Refused, None), (Control::Honoured(()), Some(SEED))] {
        let numbers = match control {
            Control::Honoured(()) => Control::Honoured(Numbers { least: 1, most: 9, default: Some(4) }),
            Control::Ignored => Control::Ignored,
            Control::Refused => Control::Refused,
        };
        let fitted = fit(&with_controls(control.clone(), control, numbers), draft()).unwrap();
        assert_eq!((fitted.request.seed, fitted.notes), (seed, Vec::new()));
    }
}

#[test]
fn numbers_are_taken_within_the_models_bounds_only() {
    let rows = [
        (Draft { steps: Some(2), ..draft() }, None),
        (Draft { steps: Some(50), ..draft() }, None),
        (Draft { steps: Some(1), ..draft() }, Some("steps must be from 2 to 50 for model brush, not 1")),
        (Draft { steps: Some(51), ..draft() }, Some("steps must be from 2 to 50 for model brush, not 51")),
        (Draft { guidance: Some(1.0), ..draft() }, None),
        (Draft { guidance: Some(20.0), ..draft() }, None),
        (Draft { guidance: Some(0.9), ..draft() }, Some("guidance must be from 1 to 20 for model brush, not 0.9")),
        (Draft { guidance: Some(20.5), ..draft() }, Some("guidance must be from 1 to 20 for model brush, not 20.5")),
        (Draft { count: 4, ..draft() }, None),
        (Draft { count: 5, ..draft() }, Some("count must be from 1 to 4 for model brush, not 5")),
    ];
    for (draft, refusal) in rows {
        let result = fit(&model("brush"), draft);
        assert_eq!(result.as_ref().err().map(Error::message), refusal);
    }
}

#[test]
fn sizes_within_a_range_are_taken_and_others_refused_with_what_would_fit() {
    let rows = [
        (size(64, 64), true),
        (size(1_024, 512), true),
        (size(56, 64), false),
        (size(64, 1_032), false),
        (size(100, 64), false),
        (size(1_024, 520), false),
    ];
    for (size, fits) in rows {
        let result = fit(&model("brush"), Draft { size: Some(size), ..draft() });
        match result {
            Ok(fitted) => assert_eq!((fits, fitted.request.size), (true, Some(size)), "{size}"),
            Err(error) => {
                let allowed = "WIDTHxHEIGHT with sides from 64 to 1024 in multiples of 8, at most 524288 pixels";
                let message = format!("size {size} is not possible with model brush: it takes {allowed}");
                assert_eq!((fits, error.param(), error.message()), (false, Some("size"), &*message));
            }
        }
    }
}

#[test]
fn listed_sizes_are_taken_and_others_refused_with_the_list() {
    let sizes = SizeRule::Listed(vec![size(256, 256), size(512, 256)]);
    let model = ModelInfo { sizes, ..model("brush") };

    assert_eq!(fit(&model, draft()).unwrap().request.size, Some(size(256, 256)), "the first is the default");
    assert!(fit(&model, Draft { size: Some(size(512, 256)), ..draft() }).is_ok());
    let error = fit(&model, Draft { size: Some(size(256, 512)), ..draft() }).unwrap_err();
    assert_eq!(error.message(), "size 256x512 is not possible with model brush: it takes one of 256x256, 512x256");
}

#[test]
fn samplers_are_taken_from_the_models_list() {
    let named = |sampler: &str| Draft { sampler: Some(sampler.to_owned()), ..draft() };
    let error = fit(&model("brush"), named("euler_b")).unwrap_err();
    assert_eq!(error.param(), Some("sampler"));
    assert_eq!(error.message(), "sampler \"euler_b\" is unknown to model brush: it takes euler, ddim");

    let any = ModelInfo { samplers: Control::Honoured(Vec::new()), ..model("brush") };
    assert_eq!(fit(&any, named("euler_b")).unwrap().request.sampler.as_deref(), Some("euler_b"));
}

#[test]
fn format_that_the_model_does_not_give_is_replaced_by_its_default_with_a_note() {
    assert_eq!(fit(&model("brush"), draft()).unwrap().request.format, Some(ImageFormat::Png));

    let jpeg = fit(&model("brush"), Draft { format: Some(ImageFormat::Jpeg), ..draft() }).unwrap();
    assert_eq!((jpeg.request.format, jpeg.notes.len()), (Some(ImageFormat::Jpeg), 0));

    let webp = fit(&model("brush"), Draft { format: Some(ImageFormat::Webp), ..draft() }).unwrap();
    assert_eq!(webp.request.format, Some(ImageFormat::Png));
    assert_eq!((webp.notes[0].kind, webp.notes[0].param.as_deref()), (NoteKind::Replaced, Some("format")));
}

#[test]
fn compression_is_taken_out_and_noted_where_the_format_loses_nothing() {
    let squeezed = |format| Draft { compression: Some(50), format, ..draft() };
    let note = "compression has no effect on png, which loses nothing";
    for format in [None, Some(ImageFormat::Png)] {
        let fitted = fit(&model("brush"), squeezed(format)).unwrap();
        assert_eq!(fitted.request.compression, None);
        assert_eq!((fitted.notes[0].kind, fitted.notes[0].param.as_deref()), (NoteKind::Ignored, Some("compression")));
        assert_eq!((fitted.notes[0].message.as_str(), fitted.notes.len()), (note, 1));
    }
    let replaced = fit(&model("brush"), squeezed(Some(ImageFormat::Webp))).unwrap();
    assert_eq!(replaced.notes.last().map(|last| last.message.as_str()), Some(note), "what counts is what is given");

    let jpeg = fit(&model("brush"), squeezed(Some(ImageFormat::Jpeg))).unwrap();
    assert_eq!((jpeg.request.compression, jpeg.notes), (Some(50), Vec::new()));
}

#[test]
fn options_are_taken_noted_or_refused_by_what_the_model_knows() {
    use OnUnknown::{Note, Refuse};
    let rows = [
        ("quality", "\"high\"", Refuse, Ok(0)),
        ("quality", "\"high\"", Note, Ok(0)),
        ("tiling", "{\"any\":1}", Refuse, Ok(0)),
        ("unheard", "1", Note, Ok(1)),
        (
            "unheard",
            "1",
            Refuse,
            Err(("options.unheard", "model brush has no option \"unheard\"; its options: quality, tiling")),
        ),
        (
            "quality",
            "\"best\"",
            Refuse,
            Err(("options.quality", "options.quality must be one of \"low\", \"high\" for model brush, not \"best\"")),
        ),
        (
            "quality",
            "\"best\"",
            Note,
            Err(("quality", "quality must be one of \"low\", \"high\" for model brush, not \"best\"")),
        ),
    ];
    for (name, json, on_unknown, expected) in rows {
        let value = OptionValue { json: json.to_owned(), on_unknown };
        let result = fit(&model("brush"), Draft { options: [(name.to_owned(), value)].into(), ..draft() });
        match (&result, expected) {
            (Ok(fitted), Ok(notes)) => {
                assert_eq!(fitted.notes.len(), notes, "{name}");
                assert_eq!(fitted.request.options.contains_key(name), notes == 0, "what is noted is taken out");
            }
            (Err(error), Err((param, message))) => {
                assert_eq!((error.param(), error.message()), (Some(param), message));
            }
            _ => panic!("{name} {json} {on_unknown:?}: {result:?}"),
        }
    }
}

#[test]
fn model_without_options_says_so() {
    let bare = ModelInfo { options: Vec::new(), ..model("brush") };
    let value = OptionValue { json: "1".to_owned(), on_unknown: OnUnknown::Refuse };
    let error = fit(&bare, Draft { options: [("tiling".to_owned(), value)].into(), ..draft() }).unwrap_err();
    assert_eq!(error.message(), "model brush has no option \"tiling\"; its options: none");
}

#[test]
fn model_that_does_not_do_the_task_refuses_it() {
    let error = fit(&ModelInfo { tasks: Vec::new(), ..model("brush") }, draft()).unwrap_err();
    assert_eq!((error.kind(), error.param()), (ErrorKind::Unsupported, Some("model")));
    assert_eq!(error.message(), "model brush does not do text-to-image");
}

#[test]
fn seed_that_repeats_only_roughly_is_told() {
    let rough = ModelInfo { determinism: Determinism::BestEffort, ..model("brush") };
    assert_eq!(fit(&rough, draft()).unwrap().notes, Vec::new(), "nobody asked for a repeatable picture");
    let notes = fit(&rough, Draft { seed: Some(1), ..draft() }).unwrap().notes;
    assert_eq!((notes[0].kind, notes[0].param.as_deref()), (NoteKind::Advice, Some("seed")));
}

#[test]
fn seed_that_is_ignored_is_not_also_called_rough() {
    let rough = ModelInfo { determinism: Determinism::BestEffort, seed: Control::Ignored, ..model("brush") };
    let notes = fit(&rough, Draft { seed: Some(1), ..draft() }).unwrap().notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!(notes[0].kind, NoteKind::Ignored);
}
