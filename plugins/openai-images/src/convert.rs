//! Our words to theirs. Pure but for the blobs that it hands on: no call to the upstream.

use easel_sdk::http::{Part, blob_base64, blob_data_url};
use easel_sdk::images_api::{file, form};
use easel_sdk::models::{Control, Determinism, Inputs, ModelOption, Numbers, SizeRange, Sizes, Treatment};
use easel_sdk::{Blob, Error, Format, InputRole, MaskFrom, Model, Money, Note, Request, Result, Share, Size, Table};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::wire::{BodyKind, Cost, Dialect, Edit, Fields, Marks};

/// The largest side that the contract knows.
const MOST_SIDE: u32 = 16_384;

/// `[plugin.openai-images.config]`; `README.md` says what each key means.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Table")]
pub struct Config {
    pub base_url: String,
    pub dialect: String,
    pub dialects: Table,
    pub switches: Table,
    pub model: String,
    pub models: Vec<String>,
    pub sizes: Vec<Size>,
    pub max_count: u32,
    pub timeout_s: u64,
    pub extensions: bool,
}

impl TryFrom<Table> for Config {
    type Error = String;

    fn try_from(mut table: Table) -> Result<Self, String> {
        let (dialects, switches) = (table.table("dialects")?, table.table("switches")?);
        let sizes = table.texts("sizes")?;
        let root_url = table.text("root_url")?.filter(|root_url| !root_url.is_empty());
        let base_url = table.text("base_url")?.unwrap_or_default();
        Ok(Self {
            base_url: root_url.map_or(base_url, |root_url| format!("{}/v1", root_url.trim_end_matches('/'))),
            dialect: table.text("dialect")?.unwrap_or_default(),
            dialects: table.needed("dialects", dialects)?,
            switches: table.needed("switches", switches)?,
            model: table.text("model")?.unwrap_or_default(),
            models: table.texts("models")?,
            sizes: sizes.iter().map(|size| size.parse()).collect::<Result<_, _>>()?,
            max_count: table.small("max_count")?.unwrap_or(1),
            timeout_s: table.whole("timeout_s")?.unwrap_or_default(),
            extensions: table.flag("extensions")?.unwrap_or_default(),
        })
    }
}

impl Config {
    /// The dialect of the upstream, with the operator's switches.
    ///
    /// # Errors
    /// `Internal` naming the key that makes no sense.
    pub fn dialect(&self) -> Result<Dialect> {
        let switches = self.dialects.entry(&self.dialect).map(|dialect| dialect.under(&self.switches));
        let mut dialect = switches.and_then(Dialect::read).map_err(Error::config)?;
        if !self.extensions {
            let Dialect { fields, tagged, edit, inpaint, .. } = &mut dialect;
            let own = [edit, inpaint].into_iter().flatten().filter_map(|edit| edit.fields.as_mut());
            own.chain([fields, tagged]).for_each(Fields::drop_extensions);
        }
        Ok(dialect)
    }

    /// The models it offers.
    ///
    /// # Errors
    /// `Internal` naming the key that makes no sense.
    pub fn models(&self) -> Result<Vec<Model>> {
        if self.base_url.is_empty() {
            return Err(Error::config(
                "base_url does not name the upstream yet; write at the top of easel.toml: plugin.openai-images = { origins \
                 = [\"http://127.0.0.1:9000\"], config = { base_url = \"http://127.0.0.1:9000/v1\" } }",
            ));
        }
        if !(self.base_url.starts_with("http://") || self.base_url.starts_with("https://")) {
            let message = format!(
                "base_url must be the upstream's address up to and with /v1, not {:?}; set base_url = \
                 \"http://127.0.0.1:9000/v1\" under [plugin.openai-images.config]",
                self.base_url
            );
            return Err(Error::config(message));
        }
        if self.models.is_empty() || self.models.iter().any(|entry| self.offer(entry).0.is_empty()) {
            return Err(Error::config("models must list at least one id, and no empty one"));
        }
        let dialect = self.dialect()?;
        Ok(self.models.iter().map(|entry| self.model(&dialect, self.offer(entry).0)).collect())
    }

    fn model(&self, dialect: &Dialect, id: &str) -> Model {
        let has = |word: &str| [&dialect.fields, &dialect.tagged].iter().any(|fields| fields.get(word).is_some());
        let treatment = |is_there: bool| if is_there { Treatment::Honoured } else { Treatment::Ignored };
        let has_seed = has("seed");
        Model {
            tasks: tasks(dialect),
            inputs: dialect
                .edit
                .as_ref()
                .map(|edit| Inputs { images: edit.most_images, references: edit.most_references }),
            sizes: if self.sizes.is_empty() {
                let max_pixels = u64::from(MOST_SIDE) * u64::from(MOST_SIDE);
                Sizes::Range(SizeRange { least_side: 1, most_side: MOST_SIDE, multiple: 1, max_pixels, default: None })
            } else {
                Sizes::Listed(self.sizes.clone())
            },
            max_count: self.max_count,
            formats: dialect.formats.clone(),
            negative_prompt: treatment(has("negative_prompt") || !dialect.negative_after.is_empty()),
            seed: treatment(has_seed),
            steps: if has("steps") {
                Control::Honoured(Numbers { least: 1, most: 1000, default: None })
            } else {
                Control::Ignored
            },
            guidance: if has("guidance") {
                Control::Honoured(Numbers { least: 0.0, most: 100.0, default: None })
            } else {
                Control::Ignored
            },
            samplers: if has("sampler") { Control::Honoured(Vec::new()) } else { Control::Ignored },
            options: dialect.options.iter().map(ModelOption::any).collect(),
            determinism: if has_seed { Determinism::BestEffort } else { Determinism::None },
            ..Model::new(id, "openai-images")
        }
    }

    /// An entry of `models`: the id here, and the upstream's name for it where the request has one.
    fn offer<'a>(&'a self, entry: &'a str) -> (&'a str, Option<&'a str>) {
        let (id, name) = entry.split_once('=').unwrap_or((entry, &self.model));
        (id.trim(), Some(name.trim()).filter(|name| !name.is_empty()))
    }

    /// The upstream's name for the model of a request.
    fn name_of(&self, request: &Request) -> Option<&str> {
        let asked = request.model.as_deref()?;
        self.models.iter().map(|entry| self.offer(entry)).find(|(id, _)| *id == asked)?.1
    }
}

fn tasks(dialect: &Dialect) -> Vec<String> {
    let paints = dialect.inpaint.is_some() || dialect.edit.as_ref().is_some_and(|edit| edit.mask.is_some());
    let tasks = [("text-to-image", true), ("image-to-image", dialect.edit.is_some()), ("inpainting", paints)];
    tasks.into_iter().filter(|(_, is_there)| *is_there).map(|(task, _)| task.to_owned()).collect()
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
    Json(Value, Vec<Blob>),
    Form(Vec<Part>),
}

/// How many pictures the upstream makes at a time.
///
/// # Errors
/// `Unsupported` for pictures that it does not take.
pub fn most_at_a_time(dialect: &Dialect, request: &Request) -> Result<u32> {
    let fields = fields(dialect, operation(dialect, request)?);
    Ok(if fields.get("count").is_some() { request.count } else { 1 })
}

/// The request for a share of the pictures.
///
/// # Errors
/// `InvalidRequest` for what the upstream would misunderstand, `Unsupported` for pictures that it does not take.
pub fn call(config: &Config, dialect: &Dialect, request: &Request, share: Share, is_watched: bool) -> Result<Call> {
    let edit = operation(dialect, request)?;
    let fields = fields(dialect, edit);
    let formats = edit.and_then(|edit| edit.formats.as_ref()).unwrap_or(&dialect.formats);
    let mut notes = Vec::new();

    let mut tagged = Map::new();
    controls(&mut tagged, &dialect.tagged, request, share);
    let mut body = Map::new();
    for (field, value) in &dialect.send {
        // An empty text takes a field away from the dialect that this one is laid over.
        put(&mut body, Some(field), Some(value.clone()).filter(|value| value != ""));
    }
    put(&mut body, Some("model"), config.name_of(request));
    put(&mut body, Some("prompt"), Some(prompt(dialect, request, &tagged)?));
    put(&mut body, fields.get("count"), Some(share.count));
    controls(&mut body, fields, request, share);
    size(&mut body, dialect, fields, request, &mut notes);
    format(&mut body, dialect, fields, formats, request);
    if is_watched && share.count == 1 && dialect.partial_images > 0 {
        put(&mut body, Some("stream"), Some(true));
        put(&mut body, Some("partial_images"), Some(dialect.partial_images));
    }
    for name in &dialect.options {
        put(&mut body, Some(name), request.option::<Value>(name)?);
    }
    notes.extend(without_effect(dialect, fields, request));

    let path = edit.map_or("/images/generations", |edit| &edit.path);
    let url = format!("{}{path}", config.base_url.trim_end_matches('/'));
    let body = match edit {
        None => Body::Json(Value::Object(body), Vec::new()),
        Some(edit) => with_pictures(edit, body, request)?,
    };
    Ok(Call { url, body, notes })
}

/// What an answer says that it cost.
pub fn cost(cost: &Cost, units: &Value) -> Option<Money> {
    let micros = units.as_u64()?.div_ceil(cost.in_a_micro);
    Some(Money { micros, currency: cost.currency.clone() })
}

/// How a request with pictures is made; none for one without.
fn operation<'a>(dialect: &'a Dialect, request: &Request) -> Result<Option<&'a Edit>> {
    let brought = |role: InputRole| request.inputs.iter().filter(|input| input.role == role).count();
    if request.inputs.is_empty() {
        return Ok(None);
    }
    let edit = match brought(InputRole::Mask) {
        0 => dialect.edit.as_ref(),
        _ => dialect.inpaint.as_ref().or(dialect.edit.as_ref().filter(|edit| edit.mask.is_some())),
    };
    let edit = edit.ok_or_else(|| match dialect.edit {
        Some(_) => Error::unsupported("mask", "this server takes no mask"),
        None => Error::unsupported("image", "this server takes no pictures"),
    })?;
    let (images, references) = (brought(InputRole::Image), brought(InputRole::Reference));
    if images > edit.most_images as usize {
        let message = format!("this server takes at most {} images here, not {images}", edit.most_images);
        return Err(Error::unsupported("image", message));
    }
    let most = match edit.references {
        Some(_) => edit.most_references as usize,
        None => (edit.most_references as usize).saturating_sub(images),
    };
    if references > most {
        let message = format!("this server takes at most {most} references here, not {references}");
        return Err(Error::unsupported("reference", message));
    }
    Ok(Some(edit))
}

fn fields<'a>(dialect: &'a Dialect, edit: Option<&'a Edit>) -> &'a Fields {
    edit.and_then(|edit| edit.fields.as_ref()).unwrap_or(&dialect.fields)
}

/// The controls that have a field.
fn controls(body: &mut Map<String, Value>, fields: &Fields, request: &Request, share: Share) {
    put(body, fields.get("seed"), request.seed.map(|seed| seed + u64::from(share.first)));
    put(body, fields.get("steps"), request.steps);
    put(body, fields.get("guidance"), request.guidance);
    put(body, fields.get("negative_prompt"), request.negative_prompt.as_deref());
    put(body, fields.get("sampler"), request.sampler.as_deref());
}

/// Controls that the model takes, though not for this kind of request. The seed is not among them: it is always there.
fn without_effect(dialect: &Dialect, fields: &Fields, request: &Request) -> Vec<Note> {
    let has = |word: &str| [fields, &dialect.tagged].iter().any(|fields| fields.get(word).is_some());
    let controls = [
        ("steps", request.steps.is_some(), has("steps")),
        ("guidance", request.guidance.is_some(), has("guidance")),
        ("sampler", request.sampler.is_some(), has("sampler")),
        (
            "negative-prompt",
            request.negative_prompt.is_some(),
            has("negative_prompt") || !dialect.negative_after.is_empty(),
        ),
    ];
    let lost = controls.into_iter().filter(|(_, is_asked, is_taken)| *is_asked && !is_taken);
    lost.map(|(param, ..)| Note::about(param, "the server does not take it for this kind of request; it had no effect"))
        .collect()
}

/// The prompt, with what travels in it.
fn prompt(dialect: &Dialect, request: &Request, tagged: &Map<String, Value>) -> Result<String> {
    let Dialect { tag, negative_after, .. } = dialect;
    let mut prompt = request.prompt.clone();
    let texts = [Some(&request.prompt), request.negative_prompt.as_ref()];
    if !tag.is_empty() && texts.into_iter().flatten().any(|text| text.contains(&format!("{tag}>"))) {
        // What stands between the tags is a setting of the server, which is not for its users to write.
        return Err(Error::invalid("prompt", format!("this server takes no prompt with {tag:?} in it")));
    }
    if let Some(negative) = request.negative_prompt.as_deref().filter(|_| !negative_after.is_empty()) {
        if request.prompt.contains(negative_after.as_str()) {
            let message = format!("this server takes no {negative_after:?} in a prompt with a negative prompt");
            return Err(Error::invalid("prompt", message));
        }
        prompt = format!("{prompt}{negative_after}{negative}");
    }
    if !tagged.is_empty() {
        let json = serde_json::to_string(tagged).map_err(|error| Error::internal(error.to_string()))?;
        prompt = format!("{prompt}<{tag}>{json}</{tag}>");
    }
    Ok(prompt)
}

/// The size, in one of the ways that there are to say it.
fn size(body: &mut Map<String, Value>, dialect: &Dialect, fields: &Fields, request: &Request, notes: &mut Vec<Note>) {
    let Some(size) = request.size else { return };
    put(body, fields.get("size"), Some(size.to_string()));
    put(body, fields.get("width"), Some(size.width));
    put(body, fields.get("height"), Some(size.height));
    if fields.get("ratio").is_some()
        && let Some((ratio, is_exact)) = nearest_ratio(&dialect.ratios, size)
    {
        put(body, fields.get("ratio"), Some(ratio));
        if !is_exact {
            notes
                .push(Note::about("size", format!("the server takes aspect ratios, not sizes: {size} became {ratio}")));
        }
    }
    let pixels = u64::from(size.width) * u64::from(size.height);
    let resolution =
        dialect.resolutions.iter().find(|known| pixels <= known.most_pixels).or(dialect.resolutions.last());
    put(body, fields.get("resolution"), resolution.map(|resolution| resolution.name.as_str()));
}

/// The ratio that is nearest to a size's, and whether it is that of the size.
fn nearest_ratio(ratios: &[String], size: Size) -> Option<(&str, bool)> {
    let asked = f64::from(size.width) / f64::from(size.height);
    let distance = |ratio: &str| {
        let (width, height) = ratio.split_once(':')?;
        let times = tenths(width)? / tenths(height)? / asked;
        Some(times.max(1.0 / times)).filter(|times| times.is_finite())
    };
    let known = ratios.iter().filter_map(|ratio| Some((ratio.as_str(), distance(ratio)?)));
    known.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(ratio, times)| (ratio, times < 1.005))
}

/// Reads a number such as `16` or `19.5`.
fn tenths(text: &str) -> Option<f64> {
    let (whole, tenth) = text.split_once('.').unwrap_or((text, "0"));
    let (whole, tenth): (u32, u8) = (whole.parse().ok()?, tenth.parse().ok().filter(|tenth| *tenth < 10)?);
    Some(f64::from(whole) * 10.0 + f64::from(tenth))
}

/// The file format, unless it is the one that the server gives by itself: not every server knows the field.
fn format(body: &mut Map<String, Value>, dialect: &Dialect, fields: &Fields, formats: &[Format], request: &Request) {
    let Some(asked) = request.format else { return };
    let given = if formats.contains(&asked) { asked } else { formats.first().copied().unwrap_or(asked) };
    if given != dialect.its_format {
        put(body, fields.get("format"), Some(given.name()));
    }
    if given != Format::Png {
        put(body, fields.get("compression"), request.compression);
    }
}

/// Writes a value under a field, `a/b` as the field b in the object a; nothing where there is no field or no value.
fn put(body: &mut Map<String, Value>, field: Option<&str>, value: Option<impl Into<Value>>) {
    let (Some(field), Some(value)) = (field, value.map(Into::into)) else { return };
    match field.split_once('/') {
        None => drop(body.insert(field.to_owned(), value)),
        Some((object, rest)) => {
            if let Value::Object(object) = body.entry(object).or_insert_with(|| json!({})) {
                put(object, Some(rest), Some(value));
            }
        }
    }
}

fn with_pictures(edit: &Edit, mut body: Map<String, Value>, request: &Request) -> Result<Body> {
    let of = |role: InputRole| request.inputs.iter().filter(move |input| input.role == role);
    let (mut images, mut references): (Vec<_>, Vec<_>) =
        (of(InputRole::Image).collect(), of(InputRole::Reference).collect());
    if edit.references.is_none() {
        images.append(&mut references);
    }
    let mask = match (edit.mask.as_deref(), of(InputRole::Mask).next()) {
        (Some(field), Some(input)) => Some((field, marked(edit.mask_marks, &input.blob)?)),
        _ => None,
    };
    let several = edit.images.as_deref().filter(|_| images.len() > 1);
    match edit.body {
        BodyKind::Multipart => {
            let mut parts = form(&body);
            let field = several.unwrap_or(&edit.image);
            parts.extend(images.iter().map(|input| file(field, "image", input.blob.share())));
            let field = edit.references.as_deref().unwrap_or_default();
            parts.extend(references.iter().map(|input| file(field, "reference", input.blob.share())));
            parts.extend(mask.map(|(field, mask)| file(field, "mask", mask)));
            Ok(Body::Form(parts))
        }
        BodyKind::Json => {
            let mut blobs = Vec::new();
            let mut place = |blob: &Blob| {
                blobs.push(blob.share());
                placed(&edit.picture, blobs.len() - 1)
            };
            match several {
                Some(field) => {
                    let images: Vec<_> = images.iter().map(|input| place(&input.blob)).collect();
                    put(&mut body, Some(field), Some(images));
                }
                None => put(&mut body, Some(&edit.image), images.first().map(|input| place(&input.blob))),
            }
            if !references.is_empty() {
                let references: Vec<_> = references.iter().map(|input| place(&input.blob)).collect();
                put(&mut body, edit.references.as_deref(), Some(references));
            }
            if let Some((field, mask)) = mask {
                put(&mut body, Some(field), Some(place(&mask)));
            }
            Ok(Body::Json(Value::Object(body), blobs))
        }
    }
}

/// A mask, white where the image is painted anew, as they have it.
fn marked(marks: Marks, mask: &Blob) -> Result<Blob> {
    match marks {
        Marks::White => Ok(mask.share()),
        Marks::Transparent => mask.mask_to_alpha(MaskFrom::Transparent),
    }
}

/// A picture as it stands in JSON, with the place where the host writes its bytes.
fn placed(picture: &Value, number: usize) -> Value {
    match picture {
        Value::String(text) if text == "<base64>" => blob_base64(number),
        Value::String(text) if text == "<data-url>" => blob_data_url(number),
        Value::Object(fields) => {
            let mut all = Map::new();
            fields.iter().for_each(|(name, value)| drop(all.insert(name.clone(), placed(value, number))));
            Value::Object(all)
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
