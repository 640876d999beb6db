//! Our words to theirs: what a model declares, and the request to the upstream.

use easel_sdk::http::Part;
use easel_sdk::images_api::{file, form};
use easel_sdk::models::{Determinism, Inputs, ModelOption, Retired, SizeRange};
use easel_sdk::{Blob, Error, Format, InputRole, MaskFrom, Model, Note, Request, Result, Share, Size, models};
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::day::{Day, Today};
use crate::price;
use crate::wire::{Bounds, Entry, Sizes};

/// The most pictures that the contract lets a client ask for.
const MOST_PICTURES: u32 = 10;

/// The models that are offered, and those that their provider has taken away by now.
///
/// # Errors
/// `Internal` naming the key that makes no sense.
pub fn models(config: &Config, today: Today) -> Result<Vec<Model>> {
    config.check()?;
    let (list, service) = (config.price_list()?, config.service()?.name);
    let mut models = Vec::new();
    for id in &config.offered {
        let entry = config.entry(id)?;
        let end = entry.end_at(&service).filter(|day| day.away_from(today).is_none());
        models.push(model(id, &entry, &list, end));
    }
    Ok(models)
}

fn model(id: &str, entry: &Entry, price_list: &str, end: Option<&Day>) -> Model {
    let edits = entry.images > 0;
    let tasks: &[&str] = match edits {
        true if entry.masks => &["text-to-image", "image-to-image", "inpainting"],
        true => &["text-to-image", "image-to-image"],
        false => &["text-to-image"],
    };
    Model {
        name: if entry.name.is_empty() { id.to_owned() } else { entry.name.clone() },
        tasks: tasks.iter().map(|task| (*task).to_owned()).collect(),
        inputs: edits.then_some(Inputs { images: entry.images, references: entry.images }),
        sizes: match &entry.sizes {
            Sizes::Listed(sizes) => models::Sizes::Listed(sizes.clone()),
            Sizes::Bounds(Bounds { least_side, most_side, multiple, most_pixels, .. }) => {
                let (least_side, most_side, multiple) = (*least_side, *most_side, *multiple);
                models::Sizes::Range(SizeRange {
                    least_side,
                    most_side,
                    multiple,
                    max_pixels: *most_pixels,
                    default: None,
                })
            }
        },
        max_count: MOST_PICTURES,
        formats: entry.formats.clone(),
        options: entry
            .options
            .iter()
            .map(|rule| ModelOption { name: rule.name.clone(), values: rule.values.clone() })
            .collect(),
        determinism: Determinism::None,
        price: price::of(entry, price_list).and_then(price::dearest),
        retired: end.map(|day| Retired { since: Some(day.to_string()), successor: entry.successor.clone() }),
        ..Model::new(id, entry.family.as_str())
    }
}

/// Refuses a model that its provider has taken away since the plugin was loaded, and tells of one that it will.
///
/// # Errors
/// `ModelNotFound`, naming the successor.
pub fn retirement(config: &Config, id: &str, entry: &Entry, today: Today) -> Result<Option<Note>> {
    let service = config.service()?.name;
    let Some(day) = entry.end_at(&service) else { return Ok(None) };
    let successor = entry.successor.as_ref().map_or_else(String::new, |id| format!("; its successor is {id}"));
    match day.away_from(today) {
        None => Err(Error::model_not_found(format!("{service} has no {id} since {day}{successor}"))),
        Some(days) if days <= config.notice_days => {
            Ok(Some(Note::about("model", format!("{service} will have no {id} from {day} on{successor}"))))
        }
        Some(_) => Ok(None),
    }
}

/// Checks what the declared model cannot say.
///
/// # Errors
/// `InvalidRequest` naming the parameter and what would be right.
pub fn check(id: &str, entry: &Entry, request: &Request) -> Result<()> {
    let chars = request.prompt.chars().count() as u64;
    if chars > entry.prompt_chars {
        let message = format!("{id} takes a prompt of at most {} characters, not {chars}", entry.prompt_chars);
        return Err(Error::invalid("prompt", message));
    }
    let pictures = request.inputs.iter().filter(|input| input.role != InputRole::Mask).count();
    if pictures > entry.images as usize {
        let message = format!("{id} takes at most {} pictures, not {pictures}", entry.images);
        return Err(Error::unsupported("image", message));
    }
    Ok(())
}

/// The size to ask for; none leaves it to the model. An edit that names no size gets that of its picture, which the model
/// may not make: then the model chooses, and that is told.
fn size(id: &str, entry: &Entry, request: &Request, notes: &mut Vec<Note>) -> Result<Option<Size>> {
    let (Sizes::Bounds(bounds), Some(size)) = (&entry.sizes, request.size) else { return Ok(request.size) };
    match check_size(id, bounds, size) {
        Err(error) if request.inputs.iter().any(|input| input.role == InputRole::Image && input.size == size) => {
            notes.push(Note::about("size", format!("{}, so {id} chose the size", error.message)));
            Ok(None)
        }
        checked => checked.map(|()| Some(size)),
    }
}

fn check_size(id: &str, bounds: &Bounds, size: Size) -> Result<()> {
    let pixels = u64::from(size.width) * u64::from(size.height);
    if pixels < bounds.least_pixels {
        let message =
            format!("{id} makes pictures of at least {} pixels, and {size} has {pixels}", bounds.least_pixels);
        return Err(Error::invalid("size", message));
    }
    let (short, long) = (size.width.min(size.height), size.width.max(size.height));
    if long > short.saturating_mul(bounds.most_ratio) {
        let message =
            format!("a side of a picture of {id} is at most {} times the other, unlike {size}", bounds.most_ratio);
        return Err(Error::invalid("size", message));
    }
    Ok(())
}

/// One request to the upstream.
#[derive(Debug)]
pub struct Call {
    pub url: String,
    pub body: Body,
    /// What is done differently than asked.
    pub notes: Vec<Note>,
}

/// What is sent.
#[derive(Debug)]
pub enum Body {
    Json(Value),
    Form(Vec<Part>),
}

/// The request for a share of the pictures, with so many intermediate states.
///
/// # Errors
/// `InvalidRequest` when an option is not JSON; what the host says of a picture that cannot be converted.
pub fn call(config: &Config, id: &str, entry: &Entry, request: &Request, share: Share, partials: u32) -> Result<Call> {
    let operation = if request.inputs.is_empty() { "generations" } else { "edits" };
    let (mut body, mut notes) = (Map::new(), Vec::new());
    let size = size(id, entry, request, &mut notes)?;
    let mut put = |field: &str, value: Value| drop(body.insert(field.to_owned(), value));
    if let Some(name) = config.name_in_body(id, entry) {
        put("model", name.into());
    }
    put("prompt", request.prompt.as_str().into());
    put("n", share.count.into());
    if let Some(size) = size {
        put("size", size.to_string().into());
    }
    if !entry.response_format.is_empty() {
        put("response_format", entry.response_format.as_str().into());
    }
    // PNG is what every model gives by itself, and those of one format do not know the field.
    if let Some(format) = request.format.filter(|format| *format != Format::Png && entry.formats.len() > 1) {
        put("output_format", format.name().into());
        if let Some(compression) = request.compression {
            put("output_compression", compression.into());
        }
    }
    for rule in &entry.options {
        let Some(value) = request.option::<Value>(&rule.name)? else { continue };
        if rule.at.is_empty() || rule.at == operation {
            put(&rule.name, value);
        } else {
            let message = format!("{id} takes it for {} only; it had no effect", rule.at);
            notes.push(Note::about(format!("option.{}", rule.name), message));
        }
    }
    if partials > 0 {
        put("stream", true.into());
        put("partial_images", partials.into());
    }
    let url = config.address(operation, id, entry);
    let body = if request.inputs.is_empty() {
        Body::Json(Value::Object(body))
    } else {
        Body::Form(with_pictures(entry, &body, request)?)
    };
    Ok(Call { url, body, notes })
}

/// The form of an edit: images first, then what they are to be like, which the upstream does not tell apart; then the mask,
/// which is for the first of them, as a picture with a hole.
fn with_pictures(entry: &Entry, body: &Map<String, Value>, request: &Request) -> Result<Vec<Part>> {
    let mut parts = form(body);
    let of = |role: InputRole| request.inputs.iter().filter(move |input| input.role == role);
    let pictures: Vec<_> = of(InputRole::Image).chain(of(InputRole::Reference)).collect();
    let field = if pictures.len() == 1 { "image" } else { "image[]" };
    for input in pictures {
        parts.push(file(field, "image", taken(entry, &input.blob, input.format)?));
    }
    if let Some(mask) = of(InputRole::Mask).next() {
        parts.push(file("mask", "mask", mask.blob.mask_to_alpha(MaskFrom::Transparent)?));
    }
    Ok(parts)
}

/// A picture in a format that the model takes.
fn taken(entry: &Entry, picture: &Blob, format: Format) -> Result<Blob> {
    match entry.input_formats.first() {
        Some(first) if !entry.input_formats.contains(&format) => picture.convert(*first, None),
        _ => Ok(picture.share()),
    }
}

/// What the upstream's list of models says of those that are offered.
pub fn listed(config: &Config, upstream: &[(String, Value)]) -> (Vec<String>, Map<String, Value>) {
    let known = |id: &String| upstream.iter().find(|(known, _)| known == id);
    let missing: Vec<_> = config.offered.iter().filter(|id| known(id).is_none()).cloned().collect();
    let mut details = Map::new();
    let ends = config.offered.iter().filter_map(known).filter(|(_, day)| day.is_string());
    let mut shutdown = Map::new();
    ends.for_each(|(id, day)| drop(shutdown.insert(id.clone(), day.clone())));
    details.insert("not_listed".to_owned(), json!(missing));
    details.insert("shutdown_dates".to_owned(), Value::Object(shutdown));
    (missing, details)
}

#[cfg(test)]
mod tests;
