//! From a request that fits a model to the recipes of its pictures, the notes on what was adjusted, and the text that goes
//! into each file.

use std::borrow::Cow;
use std::sync::Arc;

use easel_core::{Control, Error, GenerationRequest, ImageFormat, Note, NoteKind, Numbers, OnUnknown, Task};
use serde_json::{Value, json};

use crate::error;
use crate::family::{Guiding, Recipe};
use crate::given::Given;
use crate::models::Entry;
use crate::pixels::Pixels;
use crate::sampler::{self, Choice};

/// How a request will be done.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// One for each picture.
    pub(crate) recipes: Vec<Recipe>,
    /// The size of the answer, which need not be the size that is made.
    pub(crate) size: (u32, u32),
    pub(crate) format: ImageFormat,
    pub(crate) quality: Option<u8>,
    pub(crate) notes: Vec<Note>,
    model: String,
    family: &'static str,
    paints_over: bool,
}

/// Plans a request.
///
/// # Errors
/// `InvalidRequest` for a sampler, schedule or option that is not possible, in the caller's words.
pub(crate) fn plan(entry: &Entry, request: &GenerationRequest, fallback_seed: u64) -> Result<Plan, Error> {
    let names = request.names();
    let mut notes = Vec::new();
    let options = Options::read(request)?;
    let steps = request.steps.unwrap_or_else(|| default(&entry.info.steps, entry.facts.steps));
    let strength = options.strength.unwrap_or_else(|| {
        let usual: f64 = match request.task {
            Task::TextToImage | Task::Inpainting => 1.0,
            Task::ImageToImage => 0.8,
            Task::Variation => 0.6,
        };
        // Never so little that a run of few steps has none.
        usual.max(f64::from(steps.max(1)).recip())
    });
    if options.strength.is_some() && request.task == Task::TextToImage {
        let message = "strength has no effect without a picture to change".to_owned();
        notes.push(Note::about(NoteKind::Ignored, param(request, "strength"), message));
    }
    let given = Given::read(&request.inputs, strength, names)?.map(Arc::new);
    let choice = sampler::choose(&entry.facts.noise, request.sampler.as_deref(), options.schedule.as_deref())
        .map_err(|error| named(error, request))?;
    if choice.stands_in {
        let message = format!(
            "the model's own sampler {} is not here; {} took its place",
            entry.facts.noise.class_name, choice.kind.name
        );
        notes.push(Note::about(NoteKind::Replaced, names.sampler, message));
    }
    let native = entry.facts.native;
    let size = request.size.map_or(native, |size| (size.width(), size.height()));
    let made = if entry.fixed_size { native } else { size };
    if made != size {
        let message = format!(
            "model {} makes {}x{}; the picture was scaled to fit {}x{} and its rim continued, nothing was stretched",
            entry.info.id, made.0, made.1, size.0, size.1
        );
        notes.push(Note::about(NoteKind::Adjusted, names.size, message));
    }
    let image = given.as_ref().filter(|_| entry.facts.paints_over()).and_then(|given| given.images.first());
    if let Some((width, height)) = image.map(Pixels::size).filter(|image| *image != size) {
        let message = format!(
            "{} is {width}x{height}; it was scaled to fit {}x{} and its rim continued, nothing was stretched or cut off",
            names.image, size.0, size.1
        );
        notes.push(Note::about(NoteKind::Adjusted, names.image, message));
    }
    let guidance = match request.task {
        // There is no prompt to be guided by.
        Task::Variation if request.prompt.trim().is_empty() => 0.0,
        _ => request.guidance.unwrap_or_else(|| default(&entry.info.guidance, entry.facts.guidance)),
    };
    if let Guiding::Above(least) = entry.facts.guiding
        && guidance <= least
        && request.negative_prompt.as_deref().is_some_and(|negative| !negative.trim().is_empty())
    {
        let (negative, scale) = (names.negative_prompt, names.guidance);
        let message = format!("{negative} has no effect at {scale} {guidance}; it needs more than {least}");
        notes.push(Note::about(NoteKind::Ignored, negative, message));
    }
    let format = request.format.unwrap_or(ImageFormat::Png);
    if request.compression.is_some() && format != ImageFormat::Jpeg {
        let message = format!("{} has no effect on {format}, which loses nothing", names.compression);
        notes.push(Note::about(NoteKind::Ignored, names.compression, message));
    }
    let seed = request.seed.unwrap_or(fallback_seed);
    let recipe = Recipe {
        prompt: request.prompt.clone(),
        negative_prompt: request.negative_prompt.clone(),
        size: made,
        seed,
        steps: steps as usize,
        guidance,
        choice,
        eta: options.eta,
        clip_skip: options.clip_skip,
        given,
    };
    let recipes =
        (0..u64::from(request.count)).map(|i| Recipe { seed: seed.wrapping_add(i), ..recipe.clone() }).collect();
    let model = entry.info.id.clone();
    let (family, paints_over) = (entry.family.name, entry.facts.paints_over());
    Ok(Plan { recipes, size, format, quality: request.compression, notes, model, family, paints_over })
}

impl Plan {
    /// The text that goes into a picture: the form that image tools read, and our own.
    pub(crate) fn texts(&self, recipe: &Recipe) -> [(&'static str, Cow<'static, str>); 2] {
        [("parameters", self.parameters(recipe).into()), ("easel", self.json(recipe).to_string().into())]
    }

    fn parameters(&self, recipe: &Recipe) -> String {
        let mut text = recipe.prompt.trim().to_owned();
        if let Some(negative) = recipe.negative_prompt.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            text.push_str("\nNegative prompt: ");
            text.push_str(negative);
        }
        let Recipe { steps, guidance, seed, choice, clip_skip, .. } = recipe;
        let (width, height) = self.size;
        text.push_str(&format!(
            "\nSteps: {steps}, Sampler: {}, Schedule type: {}, CFG scale: {guidance}, Seed: {seed}, Size: {width}x{height}, Model: {}",
            choice.kind.label,
            choice.schedule_label(),
            self.model
        ));
        if *clip_skip > 0 {
            // That form counts the last layer as 1.
            text.push_str(&format!(", Clip skip: {}", clip_skip + 1));
        }
        if let Some(given) = recipe.given.as_ref().filter(|_| self.paints_over) {
            text.push_str(&format!(", Denoising strength: {}", given.strength));
        }
        text.push_str(concat!(", Version: Easel ", env!("CARGO_PKG_VERSION")));
        text
    }

    fn json(&self, recipe: &Recipe) -> Value {
        let Choice { kind, spacing, .. } = recipe.choice;
        json!({
            "easel": env!("CARGO_PKG_VERSION"),
            "model": self.model,
            "family": self.family,
            "prompt": recipe.prompt,
            "negative_prompt": recipe.negative_prompt,
            "seed": recipe.seed,
            "noise": "torch-cpu",
            "steps": recipe.steps,
            "guidance": recipe.guidance,
            "sampler": kind.name,
            "schedule": recipe.choice.schedule_label().to_lowercase(),
            "spacing": format!("{spacing:?}").to_lowercase(),
            "eta": recipe.eta,
            "clip_skip": recipe.clip_skip,
            "strength": recipe.given.as_ref().filter(|_| self.paints_over).map(|given| given.strength),
            "made": format!("{}x{}", recipe.size.0, recipe.size.1),
            "size": format!("{}x{}", self.size.0, self.size.1),
        })
    }
}

fn default<T: Copy>(control: &Control<Numbers<T>>, otherwise: T) -> T {
    match control {
        Control::Honoured(numbers) => numbers.default.unwrap_or(otherwise),
        Control::Ignored | Control::Refused => otherwise,
    }
}

/// The options that only the engine understands.
struct Options {
    schedule: Option<String>,
    eta: f64,
    clip_skip: usize,
    strength: Option<f64>,
}

impl Options {
    fn read(request: &GenerationRequest) -> Result<Self, Error> {
        let value = |name: &str| {
            let json = request.options.get(name).map(|option| option.json.as_str());
            json.map_or(Value::Null, |json| serde_json::from_str(json).unwrap_or(Value::Null))
        };
        let refuse = |name: &str, must: &str| {
            let path = param(request, name);
            let message = format!("{path} must be {must}, not {}", value(name));
            Err(Error::invalid(path, message))
        };
        let schedule = match value("schedule") {
            Value::Null => None,
            Value::String(name) => Some(name),
            _ => return refuse("schedule", &format!("one of {}", sampler::schedule_names().join(", "))),
        };
        let eta = match value("eta") {
            Value::Null => 0.0,
            other => match other.as_f64().filter(|eta| (0.0..=1.0).contains(eta)) {
                Some(eta) => eta,
                None => return refuse("eta", "a number from 0 to 1"),
            },
        };
        let clip_skip = match value("clip_skip") {
            Value::Null => 0,
            other => match other.as_u64().filter(|skip| *skip <= 24) {
                Some(skip) => skip as usize,
                None => return refuse("clip_skip", "a whole number from 0 to 24"),
            },
        };
        let strength = match value("strength") {
            Value::Null => None,
            other => match other.as_f64().filter(|strength| (0.0..=1.0).contains(strength)) {
                Some(strength) => Some(strength),
                None => return refuse("strength", "a number from 0 to 1"),
            },
        };
        Ok(Self { schedule, eta, clip_skip, strength })
    }
}

/// The caller's word for an option: plain, where it came as a general field.
fn param(request: &GenerationRequest, name: &str) -> String {
    match request.options.get(name).map(|option| option.on_unknown) {
        Some(OnUnknown::Note) => name.to_owned(),
        Some(OnUnknown::Refuse) | None => format!("{}.{name}", request.names().options),
    }
}

/// An error of the engine in the caller's words for the parameters.
pub(crate) fn named(error: error::Error, request: &GenerationRequest) -> Error {
    let names = request.names();
    let message = error.to_string();
    match &error {
        error::Error::Name { what: "sampler", .. } => Error::invalid(names.sampler, message),
        error::Error::Name { what, .. } if request.options.contains_key(*what) => {
            Error::invalid(param(request, what), message)
        }
        error::Error::Name { .. } => Error::invalid(names.sampler, message),
        error::Error::Noise(_) => Error::invalid(names.steps, message),
        error::Error::Option { name, .. } => Error::invalid(param(request, name), message),
        _ => error.into(),
    }
}
