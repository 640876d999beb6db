//! The words of the OpenAI Images API: what a request says, field by field, and the parts of an answer.
//!
//! Nothing is decided here but whether a field can be read; what it means is [`convert`](super::convert)'s.

use easel_core::{Error, ErrorKind, ImageFormat, MAX_COUNT, MAX_SEED, MAX_STEPS, Money, Size};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::dialect::fields::{Fields, quote};

/// What every address under `/v1/images/` reads, with our extensions at the top level.
#[derive(Debug, Default)]
pub(super) struct GenerationBody {
    pub(super) prompt: Option<String>,
    pub(super) model: Option<String>,
    pub(super) n: Option<u32>,
    pub(super) size: Option<Size>,
    pub(super) response_format: Option<ResponseFormat>,
    pub(super) stream: bool,
    pub(super) partial_images: u32,
    pub(super) output_format: Option<ImageFormat>,
    pub(super) output_compression: Option<u8>,
    /// The fields that not every model has, as they came: name and JSON text.
    pub(super) general: Vec<(&'static str, String)>,
    pub(super) seed: Option<u64>,
    pub(super) steps: Option<u32>,
    pub(super) cfg_scale: Option<f64>,
    pub(super) guidance: Option<f64>,
    pub(super) negative_prompt: Option<String>,
    pub(super) scheduler: Option<String>,
    pub(super) backend: Option<String>,
    pub(super) options: Option<Map<String, Value>>,
}

/// How the caller wants the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseFormat {
    Url,
    B64Json,
}

/// The general fields that hold one of some words. `auto` is every one's default and says nothing.
const WORDS: &[(&str, &[&str])] = &[
    // `standard` and `hd` are from models that are gone; clients still send them.
    ("quality", &["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]),
    ("style", &["vivid", "natural"]),
    ("background", &["auto", "transparent", "opaque"]),
    ("moderation", &["auto", "low"]),
    ("complexity", &["low", "medium", "high"]),
];
/// The most intermediate states of each picture that a stream shows.
const MAX_PARTIAL_IMAGES: u64 = 3;
/// The general fields that hold a whole number.
const INTEGERS: &[(&str, u64, u64)] = &[("frame_count", 2, 16), ("frame_duration_ms", 1, 60_000), ("clip_skip", 0, 64)];
/// The general fields that hold a name: a grammar, a generator of noise, a model with another autoencoder.
const NAMES: &[&str] = &["prompt_syntax", "rng", "vae"];

impl GenerationBody {
    /// Reads a body; what is left of it is unknown here, which [`Fields::finish`] notes.
    ///
    /// # Errors
    /// `InvalidRequest` or `Unsupported`, naming the first field that cannot be read.
    pub(super) fn read(fields: &mut Fields) -> Result<Self, Error> {
        let (stream, partial_images) = streaming(fields)?;
        // Who the caller's own user is has no effect on the picture, so it is no warning either.
        fields.text("user")?;
        fields.text("safety_identifier")?;
        Ok(Self {
            prompt: fields.text("prompt")?,
            model: fields.text("model")?,
            n: small(fields.integer("n", 1..=MAX_COUNT.into())?),
            size: size(fields)?,
            response_format: response_format(fields)?,
            stream,
            partial_images,
            output_format: output_format(fields)?,
            output_compression: small(fields.integer("output_compression", 0..=100)?),
            general: general(fields)?,
            seed: seed(fields)?,
            steps: small(fields.integer("steps", 1..=MAX_STEPS.into())?),
            cfg_scale: fields.number("cfg_scale")?,
            guidance: fields.number("guidance")?,
            negative_prompt: fields.text("negative_prompt")?,
            scheduler: fields.text("scheduler")?,
            backend: fields.text("backend")?,
            options: fields.object("options")?,
        })
    }
}

/// Whether the answer comes as a stream, and how many intermediate states of each picture come in it.
fn streaming(fields: &mut Fields) -> Result<(bool, u32), Error> {
    let partial_images = small(fields.integer("partial_images", 0..=MAX_PARTIAL_IMAGES)?).unwrap_or(0);
    let stream = fields.flag("stream")?.unwrap_or(false);
    if partial_images > 0 && !stream {
        fields.note_ignored("partial_images", "it goes with stream only");
    }
    Ok((stream, partial_images))
}

fn size(fields: &mut Fields) -> Result<Option<Size>, Error> {
    let Some(text) = fields.text("size")?.filter(|text| text != "auto") else { return Ok(None) };
    text.parse().map(Some).map_err(|()| {
        let (most, text) = (Size::MAX_SIDE, quote(&text));
        let message =
            format!("size must be auto or WIDTHxHEIGHT with sides from 1 to {most}, as in 1024x1024, not {text}");
        Error::invalid("size", message)
    })
}

fn response_format(fields: &mut Fields) -> Result<Option<ResponseFormat>, Error> {
    let word = fields.word("response_format", &["url", "b64_json"])?;
    Ok(word.map(|word| if word == "url" { ResponseFormat::Url } else { ResponseFormat::B64Json }))
}

fn output_format(fields: &mut Fields) -> Result<Option<ImageFormat>, Error> {
    let Some(text) = fields.text("output_format")? else { return Ok(None) };
    if let Ok(format) = text.parse() {
        return Ok(Some(format));
    }
    let known = ImageFormat::ALL.map(ImageFormat::name).join(", ");
    if matches!(text.as_str(), "gif" | "svg") {
        let message = format!("output_format {text} is not made here; it must be one of {known}");
        return Err(Error::new(ErrorKind::Unsupported, message).with_param("output_format"));
    }
    Err(Error::invalid("output_format", format!("output_format must be one of {known}, not {}", quote(&text))))
}

fn seed(fields: &mut Fields) -> Result<Option<u64>, Error> {
    fields
        .integer("seed", 0..=MAX_SEED)
        .map_err(|error| error.with_hint("leave seed out for another picture every time"))
}

fn general(fields: &mut Fields) -> Result<Vec<(&'static str, String)>, Error> {
    let mut general = Vec::new();
    for (name, words) in WORDS {
        if let Some(word) = fields.word(name, words)?.filter(|word| *word != "auto") {
            general.push((*name, Value::from(word).to_string()));
        }
    }
    for (name, least, most) in INTEGERS {
        if let Some(number) = fields.integer(name, *least..=*most)? {
            general.push((*name, number.to_string()));
        }
    }
    for name in NAMES {
        if let Some(text) = fields.text(name)?.filter(|text| !text.is_empty()) {
            general.push((*name, Value::from(text).to_string()));
        }
    }
    if let Some(loras) = fields.list("loras")? {
        general.push(("loras", Value::Array(loras).to_string()));
    }
    if let Some(svg) = fields.object("svg")? {
        general.push(("svg", Value::Object(svg).to_string()));
    }
    Ok(general)
}

/// A number whose range was checked, in its own type.
fn small<T: TryFrom<u64>>(number: Option<u64>) -> Option<T> {
    number.and_then(|number| T::try_from(number).ok())
}

/// One picture of an answer, but for its base64.
#[derive(Debug, Default, Serialize)]
pub(super) struct ImageItem {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revised_prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u64>,
}

/// What an answer says besides its pictures.
#[derive(Debug, Default, Serialize)]
pub(super) struct Particulars {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output_format: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quality: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) background: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<Cost>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<Warning>,
}

/// A whole answer with its pictures by address.
#[derive(Debug, Serialize)]
pub(super) struct WholeAnswer {
    pub(super) created: u64,
    pub(super) data: Vec<ImageItem>,
    #[serde(flatten)]
    pub(super) particulars: Particulars,
}

/// What was counted, where tokens were.
#[derive(Debug, Serialize)]
pub(super) struct Tokens {
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) total_tokens: u64,
    pub(super) input_tokens_details: TokenDetails,
    /// The same as beside the usage; an extension of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<Cost>,
}

/// What something costs, in millionths of a currency's unit; an extension of ours.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cost {
    pub(super) micros: u64,
    pub(super) currency: String,
}

impl From<&Money> for Cost {
    fn from(money: &Money) -> Self {
        Self { micros: money.micros, currency: money.currency.clone() }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct TokenDetails {
    pub(super) text_tokens: u64,
    pub(super) image_tokens: u64,
}

/// Which kind of stream it is; the names of its events say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    Generation,
    Edit,
}

impl EventKind {
    /// The name of the event with an intermediate state.
    pub(super) fn partial(self) -> &'static str {
        match self {
            Self::Generation => "image_generation.partial_image",
            Self::Edit => "image_edit.partial_image",
        }
    }

    /// The name of the event with a finished picture.
    pub(super) fn completed(self) -> &'static str {
        match self {
            Self::Generation => "image_generation.completed",
            Self::Edit => "image_edit.completed",
        }
    }
}

/// An intermediate state of a picture, but for its base64.
#[derive(Debug, Serialize)]
pub(super) struct PartialEvent {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) partial_image_index: u32,
    /// Which picture, from 0; an extension of ours.
    pub(super) image_index: usize,
    #[serde(flatten)]
    pub(super) look: Look,
}

/// A finished picture, but for its base64. What is said of the whole request stands in the last of them.
#[derive(Debug, Serialize)]
pub(super) struct CompletedEvent {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// Which picture, from 0; an extension of ours.
    pub(super) image_index: usize,
    #[serde(flatten)]
    pub(super) look: Look,
    #[serde(flatten)]
    pub(super) item: ImageItem,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<Cost>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<Warning>,
}

/// What every event of a stream says about its picture.
#[derive(Debug, Serialize)]
pub(super) struct Look {
    pub(super) created_at: u64,
    pub(super) size: String,
    pub(super) output_format: &'static str,
    pub(super) quality: Value,
    pub(super) background: Value,
}

/// Something that was done differently than asked; an extension of ours.
#[derive(Debug, Serialize)]
pub(super) struct Warning {
    pub(super) param: Option<String>,
    pub(super) kind: &'static str,
    pub(super) message: String,
}

/// The error envelope. `message`, `type`, `param` and `code` must all be there: the official libraries read them
/// without looking.
pub(super) fn error_body(error: &Error) -> Value {
    let mut inner = json!({
        "message": error.message(),
        "type": error_type(error.kind()),
        "param": error.param(),
        "code": error.code(),
    });
    if let Some(hint) = error.hint() {
        inner["hint"] = hint.into();
    }
    if let Some(cost) = error.billed() {
        inner["billed"] = json!(Cost::from(cost));
    }
    let mut body = json!({ "error": inner });
    if let Some(backend) = error.backend() {
        body["backend_class"] = backend.into();
        body["route_kind"] = "images".into();
    }
    body
}

fn error_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ContentPolicy => "image_generation_user_error",
        ErrorKind::InvalidRequest
        | ErrorKind::Unsupported
        | ErrorKind::Unauthenticated
        | ErrorKind::ModelNotFound
        | ErrorKind::NotFound
        | ErrorKind::MethodNotAllowed
        | ErrorKind::TooLarge
        | ErrorKind::UnsupportedMediaType => "invalid_request_error",
        ErrorKind::Forbidden => "permission_error",
        ErrorKind::InsufficientFunds => "insufficient_quota",
        ErrorKind::Overloaded | ErrorKind::RateLimited => "rate_limit_error",
        ErrorKind::Upstream
        | ErrorKind::PluginFault
        | ErrorKind::NotReady
        | ErrorKind::OutOfMemory
        | ErrorKind::Timeout
        | ErrorKind::Cancelled
        | ErrorKind::Storage
        | ErrorKind::Internal => "server_error",
    }
}
