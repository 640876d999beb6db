//! What an adapter says about its models, `wit/schema/models.json`: wire types, and their meaning in core's words.

use std::collections::BTreeSet;
use std::sync::Arc;

use easel_core::{
    Control, Determinism, ImageFormat, MAX_COUNT, MAX_GUIDANCE, MAX_INPUTS, MAX_STEPS, ModelInfo, ModelInputs,
    ModelOption, Money, Numbers, RetiredModel, Size, SizeRule, Task,
};
use serde::Deserialize;
use serde_json::Value;

/// The most models of one adapter.
const MAX_MODELS: usize = 256;

/// The longest text of a day, in bytes.
const MAX_DAY: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    models: Vec<Model>,
    #[serde(default)]
    retired: Vec<Retired>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retired {
    id: String,
    since: Option<String>,
    successor: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    id: String,
    name: String,
    family: String,
    tasks: Vec<String>,
    #[serde(default)]
    inputs: Option<Inputs>,
    sizes: Sizes,
    max_count: u32,
    formats: Vec<String>,
    #[serde(default)]
    negative_prompt: Flag,
    #[serde(default)]
    seed: Flag,
    #[serde(default)]
    steps: Range<u32>,
    #[serde(default)]
    guidance: Range<f64>,
    #[serde(default)]
    samplers: Samplers,
    #[serde(default)]
    options: Vec<OptionDeclaration>,
    determinism: Repeats,
    #[serde(default)]
    price: Option<Price>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    #[serde(default)]
    images: u32,
    #[serde(default)]
    references: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Sizes {
    Listed(Vec<String>),
    Range { least_side: u32, most_side: u32, multiple: u32, max_pixels: u64, default: Option<String> },
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Flag {
    Honoured,
    Ignored,
    #[default]
    Refused,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unused {
    Ignored,
    #[default]
    Refused,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "\"ignored\", \"refused\" or an object of least, most and perhaps default")]
enum Range<T> {
    Unused(Unused),
    Numbers(Bounds<T>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds<T> {
    least: T,
    most: T,
    #[serde(default = "Option::default")]
    default: Option<T>,
}

impl<T> Default for Range<T> {
    fn default() -> Self {
        Self::Unused(Unused::default())
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "\"ignored\", \"refused\" or a list of names")]
enum Samplers {
    Unused(Unused),
    Names(Vec<String>),
}

impl Default for Samplers {
    fn default() -> Self {
        Self::Unused(Unused::default())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OptionDeclaration {
    name: String,
    #[serde(default)]
    values: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Repeats {
    None,
    BestEffort,
    Exact,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Price {
    micros: u64,
    currency: String,
}

/// What an adapter has, and what it had.
#[derive(Debug, Default)]
pub(crate) struct Models {
    /// Its models, the default first.
    pub(crate) offered: Vec<Arc<ModelInfo>>,
    /// Those that its provider took away.
    pub(crate) retired: Vec<RetiredModel>,
}

/// Reads and checks an adapter's models.
pub(crate) fn parse(json: &str) -> Result<Models, String> {
    let catalogue: Catalogue = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let count = catalogue.models.len() + catalogue.retired.len();
    if count > MAX_MODELS {
        return Err(format!("at most {MAX_MODELS} models, not {count}"));
    }
    let mut ids = BTreeSet::new();
    let mut is_new = |id: &str| match ids.insert(id.to_owned()) {
        true => Ok(()),
        false => Err(format!("model {id:?} is there twice")),
    };
    let (mut offered, mut retired) = (Vec::new(), Vec::new());
    for model in catalogue.models {
        let id = model.id.clone();
        is_new(&id)?;
        offered.push(convert(model).map(Arc::new).map_err(|error| format!("model {id:?}: {error}"))?);
    }
    for Retired { id, since, successor } in catalogue.retired {
        is_new(&id)?;
        let ids = [Some(&id), successor.as_ref()].into_iter().flatten();
        let is_day = since.as_ref().is_none_or(|since| since.len() <= MAX_DAY && !since.contains(char::is_control));
        if !ids.into_iter().all(|id| is_id(id)) || !is_day {
            let right = "1 to 256 bytes without spaces, and a day as in 2026-05-12";
            return Err(format!("retired model {id:?}: the id, the successor and since must be {right}"));
        }
        retired.push(RetiredModel { id, since, successor });
    }
    Ok(Models { offered, retired })
}

fn is_id(id: &str) -> bool {
    (1..=256).contains(&id.len()) && !id.chars().any(|letter| letter.is_control() || letter == ' ')
}

fn convert(model: Model) -> Result<ModelInfo, String> {
    if !is_id(&model.id) {
        return Err("the id must be 1 to 256 bytes without spaces".to_owned());
    }
    if model.tasks.is_empty() || model.formats.is_empty() {
        return Err("tasks and formats must name one thing at least".to_owned());
    }
    if !(1..=MAX_COUNT).contains(&model.max_count) {
        return Err(format!("max_count must be from 1 to {MAX_COUNT}, not {}", model.max_count));
    }
    let task = |name: &String| {
        let known = || Task::ALL.map(Task::name).join(", ");
        name.parse::<Task>().map_err(|()| format!("task {name:?} is unknown; there are {}", known()))
    };
    let tasks = model.tasks.iter().map(task).collect::<Result<Vec<_>, _>>()?;
    let format =
        |name: &String| name.parse::<ImageFormat>().map_err(|()| format!("format {name:?} is not png, jpeg or webp"));
    Ok(ModelInfo {
        id: model.id,
        name: model.name,
        family: model.family,
        inputs: inputs(model.inputs, &tasks)?,
        tasks,
        sizes: sizes(model.sizes)?,
        max_count: model.max_count,
        formats: model.formats.iter().map(format).collect::<Result<_, _>>()?,
        negative_prompt: flag(model.negative_prompt),
        seed: flag(model.seed),
        steps: range("steps", &model.steps, 1, MAX_STEPS)?,
        guidance: range("guidance", &model.guidance, 0.0, MAX_GUIDANCE)?,
        samplers: match model.samplers {
            Samplers::Unused(unused) => control(unused),
            Samplers::Names(names) => Control::Honoured(names),
        },
        options: model.options.into_iter().map(option).collect(),
        determinism: match model.determinism {
            Repeats::None => Determinism::None,
            Repeats::BestEffort => Determinism::BestEffort,
            Repeats::Exact => Determinism::Exact,
        },
        price: model.price.map(price).transpose()?,
    })
}

fn inputs(inputs: Option<Inputs>, tasks: &[Task]) -> Result<ModelInputs, String> {
    let is_editor = tasks.iter().any(|task| *task != Task::TextToImage);
    let Some(Inputs { images, references }) = inputs else {
        return Ok(ModelInputs { images: u32::from(is_editor), references: 0 });
    };
    if is_editor == (images == 0) {
        let message =
            "inputs.images must be at least 1 for image-to-image, inpainting and variation, and 0 without them";
        return Err(message.to_owned());
    }
    if images.max(references) as usize > MAX_INPUTS {
        return Err(format!("inputs.images and inputs.references must be at most {MAX_INPUTS}"));
    }
    Ok(ModelInputs { images, references })
}

fn sizes(sizes: Sizes) -> Result<SizeRule, String> {
    let size = |text: &str| text.parse::<Size>().map_err(|()| format!("size {text:?} is not WIDTHxHEIGHT"));
    let rule = match sizes {
        Sizes::Listed(listed) if listed.is_empty() => return Err("sizes.listed must not be empty".to_owned()),
        Sizes::Listed(listed) => SizeRule::Listed(listed.iter().map(|text| size(text)).collect::<Result<_, _>>()?),
        Sizes::Range { multiple: 0, .. } => return Err("sizes.range.multiple must be at least 1".to_owned()),
        Sizes::Range { least_side, most_side, multiple, max_pixels, default } => SizeRule::Range {
            least_side,
            most_side,
            multiple,
            max_pixels,
            default: default.as_deref().map(size).transpose()?,
        },
    };
    match rule.default_size() {
        Some(default) if !rule.allows(default) => {
            Err(format!("the default size {default} is not one that it makes: {}", rule.describe()))
        }
        Some(_) | None => Ok(rule),
    }
}

fn flag(flag: Flag) -> Control<()> {
    match flag {
        Flag::Honoured => Control::Honoured(()),
        Flag::Ignored => Control::Ignored,
        Flag::Refused => Control::Refused,
    }
}

fn control<T>(unused: Unused) -> Control<T> {
    match unused {
        Unused::Ignored => Control::Ignored,
        Unused::Refused => Control::Refused,
    }
}

fn range<T: PartialOrd + Copy>(name: &str, range: &Range<T>, least: T, most: T) -> Result<Control<Numbers<T>>, String> {
    let numbers = match range {
        Range::Unused(unused) => return Ok(control(*unused)),
        Range::Numbers(Bounds { least, most, default }) => Numbers { least: *least, most: *most, default: *default },
    };
    let default = numbers.default.unwrap_or(numbers.least);
    if least <= numbers.least && numbers.least <= default && default <= numbers.most && numbers.most <= most {
        return Ok(Control::Honoured(numbers));
    }
    Err(format!("{name} must have least <= default <= most, within what the host allows"))
}

fn price(price: Price) -> Result<Money, String> {
    let Price { micros, currency } = price;
    if currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(Money { micros, currency });
    }
    Err(format!("price.currency must be three capitals such as USD, not {currency:?}"))
}

fn option(option: OptionDeclaration) -> ModelOption {
    ModelOption { name: option.name, values: option.values.iter().map(Value::to_string).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model() -> Value {
        json!({
            "id": "m", "name": "M", "family": "f", "tasks": ["text-to-image"],
            "sizes": {"range": {"least_side": 64, "most_side": 2048, "multiple": 8, "max_pixels": 4194304, "default": "512x512"}},
            "max_count": 4, "formats": ["png", "webp"], "negative_prompt": "honoured", "seed": "ignored",
            "steps": {"least": 1, "most": 50, "default": 20}, "guidance": "refused", "samplers": ["euler"],
            "options": [{"name": "style", "values": ["vivid", 1]}], "determinism": "best_effort",
            "price": {"micros": 40000, "currency": "USD"}
        })
    }

    fn with(pointer: &str, value: Value) -> String {
        let mut model = model();
        *model.pointer_mut(pointer).unwrap() = value;
        json!({ "models": [model] }).to_string()
    }

    #[test]
    fn every_field_has_its_meaning() {
        let models = parse(&json!({ "models": [model()] }).to_string()).unwrap().offered;
        let model = &models[0];
        assert_eq!((model.id.as_str(), model.max_count), ("m", 4));
        assert_eq!(model.formats, [ImageFormat::Png, ImageFormat::Webp]);
        assert_eq!((&model.negative_prompt, &model.seed), (&Control::Honoured(()), &Control::Ignored));
        assert_eq!(model.steps, Control::Honoured(Numbers { least: 1, most: 50, default: Some(20) }));
        assert_eq!((&model.guidance, &model.samplers), (&Control::Refused, &Control::Honoured(vec!["euler".into()])));
        assert_eq!(model.options, [ModelOption { name: "style".into(), values: vec!["\"vivid\"".into(), "1".into()] }]);
        assert_eq!(model.price, Some(Money { micros: 40_000, currency: "USD".into() }));
        assert!(model.sizes.allows(Size::new(64, 2048).unwrap()));
        let listed = parse(&with("/sizes", json!({"listed": ["1024x1024", "1536x1024"]}))).unwrap().offered;
        assert_eq!(listed[0].sizes.default_size(), Size::new(1024, 1024));
    }

    #[test]
    fn models_that_are_gone_stand_beside_the_others() {
        let retired = json!([{"id": "old", "since": "2026-05-12", "successor": "m"}, {"id": "older"}]);
        let models = parse(&json!({ "models": [model()], "retired": retired }).to_string()).unwrap();
        let gone = |id: &str, since: Option<&str>, successor: Option<&str>| RetiredModel {
            id: id.to_owned(),
            since: since.map(str::to_owned),
            successor: successor.map(str::to_owned),
        };
        assert_eq!(models.retired, [gone("old", Some("2026-05-12"), Some("m")), gone("older", None, None)]);
        assert_eq!(models.offered.len(), 1);
    }

    #[test]
    fn wrong_models_are_refused() {
        let gone = |retired: Value| json!({ "models": [model()], "retired": [retired] }).to_string();
        let mut unknown = model();
        unknown["colour"] = "red".into();
        let rows = [
            (json!({ "models": [unknown] }).to_string(), "unknown field `colour`"),
            (json!({ "models": [model(), model()] }).to_string(), "\"m\" is there twice"),
            (with("/id", json!("a b")), "the id must be"),
            (with("/tasks", json!(["video"])), "task \"video\" is unknown"),
            (with("/tasks", json!([])), "must name one thing"),
            (with("/formats", json!(["gif"])), "format \"gif\""),
            (with("/max_count", json!(11)), "max_count must be from 1 to 10"),
            (with("/sizes", json!({"listed": []})), "must not be empty"),
            (with("/sizes", json!({"listed": ["big"]})), "is not WIDTHxHEIGHT"),
            (with("/sizes/range/multiple", json!(0)), "multiple must be"),
            (with("/sizes/range/default", json!("500x500")), "the default size 500x500"),
            (with("/steps", json!("sometimes")), "\"ignored\", \"refused\" or an object"),
            (with("/steps/default", json!(60)), "steps must have least <= default <= most"),
            (with("/price/currency", json!("dollars")), "price.currency must be"),
            (with("/samplers", json!(1)), "or a list of names"),
            ("{}".to_owned(), "missing field `models`"),
            (gone(json!({"id": "m"})), "\"m\" is there twice"),
            (gone(json!({"id": "a b"})), "retired model \"a b\": the id, the successor and since must be"),
            (gone(json!({"id": "a", "successor": ""})), "retired model \"a\""),
            (gone(json!({"id": "a", "since": "x".repeat(33)})), "and a day as in 2026-05-12"),
            (gone(json!({"id": "a", "why": ""})), "unknown field `why`"),
            (
                json!({"models": [], "retired": (0..257).map(|id| json!({"id": id.to_string()})).collect::<Vec<_>>()})
                    .to_string(),
                "at most 256 models, not 257",
            ),
        ];
        for (json, expected) in rows {
            let error = parse(&json).unwrap_err();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }
}
