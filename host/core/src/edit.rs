//! Changes of a request, as a transformer asks for them. They are applied all or none
//! ([`GenerationRequest::edit`](crate::GenerationRequest::edit)), and logged by [`Edit::diff`], which never holds a prompt.

use std::borrow::Cow;

use crate::{Draft, ImageFormat, Input, OptionValue, Size, Task};

/// The longest name that a log tells in full.
const MAX_NAME: usize = 64;

/// One change of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Replaces the kind of work.
    Task(Task),
    /// Replaces the prompt.
    Prompt(String),
    /// Replaces or removes the negative prompt.
    NegativePrompt(Option<String>),
    /// Replaces or removes the model.
    Model(Option<String>),
    /// Replaces the number of pictures.
    Count(u32),
    /// Replaces or removes the size.
    Size(Option<Size>),
    /// Replaces or removes the seed.
    Seed(Option<u64>),
    /// Replaces or removes the number of steps.
    Steps(Option<u32>),
    /// Replaces or removes the guidance scale.
    Guidance(Option<f64>),
    /// Replaces or removes the sampler.
    Sampler(Option<String>),
    /// Replaces or removes the file format.
    Format(Option<ImageFormat>),
    /// Replaces or removes the quality of a lossy format.
    Compression(Option<u8>),
    /// Replaces the pictures that the request brings.
    Inputs(Vec<Input>),
    /// Sets or removes one option.
    Option(String, Option<OptionValue>),
}

impl Edit {
    /// The parameter that it changes, in our word.
    pub fn target(&self) -> Cow<'static, str> {
        match self {
            Self::Task(_) => "task".into(),
            Self::Prompt(_) => "prompt".into(),
            Self::NegativePrompt(_) => "negative_prompt".into(),
            Self::Model(_) => "model".into(),
            Self::Count(_) => "count".into(),
            Self::Size(_) => "size".into(),
            Self::Seed(_) => "seed".into(),
            Self::Steps(_) => "steps".into(),
            Self::Guidance(_) => "guidance".into(),
            Self::Sampler(_) => "sampler".into(),
            Self::Format(_) => "format".into(),
            Self::Compression(_) => "compression".into(),
            Self::Inputs(_) => "inputs".into(),
            Self::Option(name, _) => format!("options.{name}").into(),
        }
    }

    /// What it changes in a request, for logs: `count 1 → 2`. Prompts, options and whatever is not like a name are told by
    /// their length, pictures by their number and length.
    pub fn diff(&self, before: &Draft) -> String {
        let (from, to) = match self {
            Self::Task(task) => (before.task.name().to_owned(), task.name().to_owned()),
            Self::Prompt(prompt) => (length(&before.prompt), length(prompt)),
            Self::NegativePrompt(prompt) => {
                (or_none(before.negative_prompt.as_deref(), length), or_none(prompt.as_deref(), length))
            }
            Self::Model(model) => (or_none(before.model.as_deref(), name), or_none(model.as_deref(), name)),
            Self::Count(count) => (before.count.to_string(), count.to_string()),
            Self::Size(size) => (shown(before.size), shown(*size)),
            Self::Seed(seed) => (shown(before.seed), shown(*seed)),
            Self::Steps(steps) => (shown(before.steps), shown(*steps)),
            Self::Guidance(guidance) => (shown(before.guidance), shown(*guidance)),
            Self::Sampler(sampler) => (or_none(before.sampler.as_deref(), name), or_none(sampler.as_deref(), name)),
            Self::Format(format) => (shown(before.format), shown(*format)),
            Self::Compression(quality) => (shown(before.compression), shown(*quality)),
            Self::Inputs(inputs) => (pictures(&before.inputs), pictures(inputs)),
            Self::Option(option, value) => {
                let json = |value: &OptionValue| length(&value.json);
                let (from, to) = (or_none(before.options.get(option), json), or_none(value.as_ref(), json));
                return format!("options.{} {from} → {to}", name(option));
            }
        };
        format!("{} {from} → {to}", self.target())
    }

    pub(crate) fn apply(self, draft: &mut Draft) {
        match self {
            Self::Task(task) => draft.task = task,
            Self::Prompt(prompt) => draft.prompt = prompt,
            Self::NegativePrompt(prompt) => draft.negative_prompt = prompt,
            Self::Model(model) => draft.model = model,
            Self::Count(count) => draft.count = count,
            Self::Size(size) => draft.size = size,
            Self::Seed(seed) => draft.seed = seed,
            Self::Steps(steps) => draft.steps = steps,
            Self::Guidance(guidance) => draft.guidance = guidance,
            Self::Sampler(sampler) => draft.sampler = sampler,
            Self::Format(format) => draft.format = format,
            Self::Compression(compression) => draft.compression = compression,
            Self::Inputs(inputs) => draft.inputs = inputs,
            Self::Option(name, Some(value)) => drop(draft.options.insert(name, value)),
            Self::Option(name, None) => drop(draft.options.remove(&name)),
        }
    }
}

fn or_none<T>(value: Option<T>, tell: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "none".to_owned(), tell)
}

fn shown(value: Option<impl ToString>) -> String {
    or_none(value, |value| value.to_string())
}

fn length(text: &str) -> String {
    format!("{} characters", text.chars().count())
}

/// A name in full; by its length what is none, since it may be somebody's prompt.
fn name(text: &str) -> String {
    let is_name = (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_name { text.to_owned() } else { length(text) }
}

fn pictures(inputs: &[Input]) -> String {
    let bytes: usize = inputs.iter().map(|input| input.image.bytes.len()).sum();
    let roles: Vec<_> = inputs.iter().map(|input| input.role.name()).collect();
    format!("[{}] of {bytes} bytes", roles.join(", "))
}
