//! Models as the text that the host reads. Put together by hand of values: what serde derives would be a writer for each
//! type, which is a twentieth of a small component. That both say the same is a test.

use serde_json::{Map, Value};

use super::{Control, Determinism, Inputs, Model, Numbers, Retired, SizeRange, Sizes, Treatment};
use crate::json;

/// The JSON of `backend.models`.
#[cfg_attr(
    all(not(target_arch = "wasm32"), not(test)),
    expect(dead_code, reason = "only a component's export writes it")
)]
pub(crate) fn text(models: &[Model]) -> String {
    let (mut offered, mut retired) = (Vec::new(), Vec::new());
    for model in models {
        match &model.retired {
            None => offered.push(value(model)),
            Some(how) => retired.push(gone(&model.id, how)),
        }
    }
    let mut text = object([("models", offered.into())]);
    if !retired.is_empty() {
        add(&mut text, "retired", Some(retired.into()));
    }
    json::text(&text)
}

fn gone(id: &str, retired: &Retired) -> Value {
    let mut value = object([("id", id.into())]);
    add(&mut value, "since", retired.since.as_deref().map(Into::into));
    add(&mut value, "successor", retired.successor.as_deref().map(Into::into));
    value
}

fn value(model: &Model) -> Value {
    let inputs =
        |Inputs { images, references }: Inputs| object([("images", images.into()), ("references", references.into())]);
    let mut value = object([
        ("id", model.id.as_str().into()),
        ("name", model.name.as_str().into()),
        ("family", model.family.as_str().into()),
        ("tasks", list(&model.tasks, |task| task.as_str().into())),
        ("sizes", sizes(&model.sizes)),
        ("max_count", model.max_count.into()),
        ("formats", list(&model.formats, |format| format.name().into())),
        ("negative_prompt", treatment(model.negative_prompt).into()),
        ("seed", treatment(model.seed).into()),
        ("steps", control(&model.steps, numbers)),
        ("guidance", control(&model.guidance, numbers)),
        ("samplers", control(&model.samplers, |names| list(names, |name| name.as_str().into()))),
        (
            "options",
            list(&model.options, |option| {
                object([("name", option.name.as_str().into()), ("values", option.values.clone().into())])
            }),
        ),
        (
            "determinism",
            match model.determinism {
                Determinism::None => "none",
                Determinism::BestEffort => "best_effort",
                Determinism::Exact => "exact",
            }
            .into(),
        ),
        (
            "price",
            model.price.as_ref().map_or(Value::Null, |price| {
                object([("micros", price.micros.into()), ("currency", price.currency.as_str().into())])
            }),
        ),
    ]);
    add(&mut value, "inputs", model.inputs.map(inputs));
    value
}

fn sizes(sizes: &Sizes) -> Value {
    match sizes {
        Sizes::Listed(sizes) => object([("listed", list(sizes, |size| size.to_string().into()))]),
        Sizes::Range(SizeRange { least_side, most_side, multiple, max_pixels, default }) => {
            let mut range = object([
                ("least_side", (*least_side).into()),
                ("most_side", (*most_side).into()),
                ("multiple", (*multiple).into()),
                ("max_pixels", (*max_pixels).into()),
            ]);
            add(&mut range, "default", default.map(|size| size.to_string().into()));
            object([("range", range)])
        }
    }
}

fn treatment(treatment: Treatment) -> &'static str {
    match treatment {
        Treatment::Honoured => "honoured",
        Treatment::Ignored => "ignored",
        Treatment::Refused => "refused",
    }
}

fn control<T>(control: &Control<T>, bounds: impl Fn(&T) -> Value) -> Value {
    match control {
        Control::Honoured(of) => bounds(of),
        Control::Ignored => "ignored".into(),
        Control::Refused => "refused".into(),
    }
}

fn numbers<T: Copy + Into<Value>>(numbers: &Numbers<T>) -> Value {
    let mut value = object([("least", numbers.least.into()), ("most", numbers.most.into())]);
    add(&mut value, "default", numbers.default.map(Into::into));
    value
}

fn list<T>(items: &[T], item: impl Fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(item).collect())
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let mut map = Map::new();
    fields.into_iter().for_each(|(name, value)| drop(map.insert(name.to_owned(), value)));
    Value::Object(map)
}

fn add(value: &mut Value, name: &str, field: Option<Value>) {
    if let (Value::Object(map), Some(field)) = (value, field) {
        map.insert(name.to_owned(), field);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::models::ModelOption;
    use crate::{Format, Money, Size};

    #[test]
    fn models_are_written_as_their_types_say() {
        let range =
            |default| SizeRange { least_side: 64, most_side: 2048, multiple: 8, max_pixels: 4_194_304, default };
        let rich = Model {
            inputs: Some(Inputs { images: 2, references: 3 }),
            sizes: Sizes::Range(range(Some(Size::new(512, 768)))),
            formats: vec![Format::Webp, Format::Jpeg],
            negative_prompt: Treatment::Honoured,
            seed: Treatment::Honoured,
            steps: Control::Honoured(Numbers { least: 1, most: 50, default: Some(20) }),
            guidance: Control::Honoured(Numbers { least: 0.0, most: 7.5, default: None }),
            samplers: Control::Honoured(vec!["euler".to_owned()]),
            options: vec![ModelOption { name: "quality".to_owned(), values: vec![json!("low"), json!(2)] }],
            determinism: Determinism::BestEffort,
            price: Some(Money { micros: 40_000, currency: "USD".to_owned() }),
            ..Model::new("two", "demo")
        };
        let open = Model { sizes: Sizes::Range(range(None)), determinism: Determinism::Exact, ..rich.clone() };
        for model in [Model::new("one", "demo"), rich, open] {
            assert_eq!(value(&model), serde_json::to_value(&model).unwrap());
        }
    }

    #[test]
    fn models_that_are_gone_are_written_beside_the_others() {
        let gone = Retired { since: Some("2026-05-12".to_owned()), successor: Some("one".to_owned()) };
        let models = [
            Model { retired: Some(gone), ..Model::new("old", "demo") },
            Model::new("one", "demo"),
            Model { retired: Some(Retired::default()), ..Model::new("older", "demo") },
        ];
        let written: Value = serde_json::from_str(&text(&models)).unwrap();
        assert_eq!(written["models"], json!([serde_json::to_value(&models[1]).unwrap()]));
        assert_eq!(
            written["retired"],
            json!([{"id": "old", "since": "2026-05-12", "successor": "one"}, {"id": "older"}])
        );
        assert!(!text(&models[1..2]).contains("retired"));
    }
}
