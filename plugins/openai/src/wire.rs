//! What a model takes and costs, as `[config.catalogue]` of the manifest says it.

use easel_sdk::{Format, Size, Table};
use serde_json::Value;

use crate::day::Day;

/// One model of the catalogue.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name that people read; empty for the id.
    pub name: String,
    pub family: String,
    /// What the upstream calls it; empty for the id.
    pub upstream_name: String,
    /// The longest prompt, in characters.
    pub prompt_chars: u64,
    /// The most pictures of one request to the upstream.
    pub per_request: u32,
    /// The file formats that it gives; a model of one format is not asked for it.
    pub formats: Vec<Format>,
    /// What `response_format` says; empty for the models that refuse the field.
    pub response_format: String,
    pub sizes: Sizes,
    pub options: Vec<OptionRule>,
    /// The most images that it edits or follows; 0 for none.
    pub images: u32,
    /// The formats that those may have; others are converted.
    pub input_formats: Vec<Format>,
    /// Whether it takes a mask, a PNG that is transparent where the first image is painted anew.
    pub masks: bool,
    /// Whether it shows intermediate states.
    pub partials: bool,
    /// The tokens that one of them costs.
    pub partial_tokens: u64,
    /// The model that takes its place, once there is one.
    pub successor: Option<String>,
    /// When it ends, by service.
    pub shutdown: Vec<(String, Day)>,
    /// What it costs, by service.
    pub prices: Vec<(String, Prices)>,
}

/// The sizes that a model makes.
#[derive(Clone, Debug)]
pub enum Sizes {
    /// These, the default first.
    Listed(Vec<Size>),
    /// Every size within bounds; the upstream chooses where none is named.
    Bounds(Bounds),
}

/// Bounds of a size.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub least_side: u32,
    pub most_side: u32,
    /// What both sides divide by.
    pub multiple: u32,
    pub least_pixels: u64,
    pub most_pixels: u64,
    /// How many times the shorter side goes into the longer one at most.
    pub most_ratio: u32,
}

/// A field of the request that has no word in the contract.
#[derive(Clone, Debug)]
pub struct OptionRule {
    pub name: String,
    /// The values that it takes; any where there are none.
    pub values: Vec<Value>,
    /// The one operation that takes it; empty for both.
    pub at: String,
}

/// What a model costs at one service, in millionths of a US dollar.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    pub tokens: Option<TokenPrices>,
    pub pictures: Vec<PicturePrice>,
}

/// Of a million tokens.
#[derive(Clone, Copy, Debug)]
pub struct TokenPrices {
    pub text_in: u64,
    pub image_in: u64,
    pub image_out: u64,
    pub text_out: u64,
}

/// Of one picture.
#[derive(Clone, Debug)]
pub struct PicturePrice {
    pub size: Size,
    /// Empty for a model that has no quality.
    pub quality: String,
    pub micros: u64,
}

impl Entry {
    /// Reads a model.
    ///
    /// # Errors
    /// A message for the operator.
    pub fn read(mut table: Table) -> Result<Self, String> {
        let (family, sizes) = (table.text("family")?, table.value("sizes"));
        let entry = Self {
            name: table.text("name")?.unwrap_or_default(),
            family: table.needed("family", family)?,
            upstream_name: table.text("upstream_name")?.unwrap_or_default(),
            prompt_chars: table.whole("prompt_chars")?.unwrap_or(u64::MAX),
            per_request: table.small("per_request")?.unwrap_or(1),
            formats: formats(&mut table, "formats")?,
            response_format: table.text("response_format")?.unwrap_or_default(),
            sizes: Sizes::read(table.needed("sizes", sizes)?)?,
            options: options(table.table("options")?)?,
            images: table.small("images")?.unwrap_or_default(),
            input_formats: formats(&mut table, "input_formats")?,
            masks: table.flag("masks")?.unwrap_or_default(),
            partials: table.flag("partials")?.unwrap_or_default(),
            partial_tokens: table.whole("partial_tokens")?.unwrap_or_default(),
            successor: table.text("successor")?,
            shutdown: days(table.table("shutdown")?)?,
            prices: prices(table.table("prices")?)?,
        };
        table.done()?;
        Ok(entry)
    }
}

impl Entry {
    /// The day on which it ends at a service.
    pub fn end_at(&self, service: &str) -> Option<&Day> {
        self.shutdown.iter().find(|(name, _)| name == service).map(|(_, day)| day)
    }
}

impl Sizes {
    fn read(value: Value) -> Result<Self, String> {
        if let Value::Array(sizes) = &value {
            let mut listed = Vec::new();
            for size in sizes {
                listed.push(size.as_str().unwrap_or_default().parse()?);
            }
            return if listed.is_empty() {
                Err("sizes must not be empty".to_owned())
            } else {
                Ok(Self::Listed(listed))
            };
        }
        let mut table = Table::new("sizes", value)?;
        let mut side = |key: &str| {
            let side = table.small(key)?;
            table.needed(key, side)
        };
        let (least_side, most_side, multiple) = (side("least_side")?, side("most_side")?, side("multiple")?);
        let most_ratio = side("most_ratio")?;
        let mut pixels = |key: &str| {
            let pixels = table.whole(key)?;
            table.needed(key, pixels)
        };
        let (least_pixels, most_pixels) = (pixels("least_pixels")?, pixels("most_pixels")?);
        table.done()?;
        Ok(Self::Bounds(Bounds { least_side, most_side, multiple, least_pixels, most_pixels, most_ratio }))
    }
}

impl OptionRule {
    fn read(name: String, mut table: Table) -> Result<Self, String> {
        let (values, at) = (table.list("values")?, table.text("at")?.unwrap_or_default());
        let rule = Self { name, values, at };
        table.done()?;
        if !matches!(rule.at.as_str(), "" | "generations" | "edits") {
            return Err(format!("option {}: at must be \"generations\" or \"edits\", not {:?}", rule.name, rule.at));
        }
        Ok(rule)
    }
}

impl Prices {
    fn read(mut table: Table) -> Result<Self, String> {
        let mut prices = Self { tokens: None, pictures: Vec::new() };
        if let Some(tokens) = table.table("tokens")? {
            prices.tokens = Some(TokenPrices::read(tokens)?);
        }
        for picture in table.tables("pictures")? {
            prices.pictures.push(PicturePrice::read(picture)?);
        }
        table.done()?;
        Ok(prices)
    }
}

impl TokenPrices {
    fn read(mut table: Table) -> Result<Self, String> {
        let mut price = |key: &str| Ok::<_, String>(table.whole(key)?.unwrap_or_default());
        let (text_in, image_in) = (price("text_in")?, price("image_in")?);
        let (image_out, text_out) = (price("image_out")?, price("text_out")?);
        table.done()?;
        Ok(Self { text_in, image_in, image_out, text_out })
    }
}

impl PicturePrice {
    fn read(mut table: Table) -> Result<Self, String> {
        let (size, micros) = (table.parsed("size")?, table.whole("micros")?);
        let price = Self {
            size: table.needed("size", size)?,
            quality: table.text("quality")?.unwrap_or_default(),
            micros: table.needed("micros", micros)?,
        };
        table.done()?;
        Ok(price)
    }
}

/// The tables of a table, by name.
fn named(table: Option<Table>) -> Result<Vec<(String, Table)>, String> {
    let Some(mut table) = table else { return Ok(Vec::new()) };
    let names: Vec<_> = table.keys().map(str::to_owned).collect();
    let mut all = Vec::new();
    for name in names {
        if let Some(entry) = table.table(&name)? {
            all.push((name, entry));
        }
    }
    Ok(all)
}

fn options(table: Option<Table>) -> Result<Vec<OptionRule>, String> {
    let mut rules = Vec::new();
    for (name, rule) in named(table)? {
        rules.push(OptionRule::read(name, rule)?);
    }
    Ok(rules)
}

fn prices(table: Option<Table>) -> Result<Vec<(String, Prices)>, String> {
    let mut all = Vec::new();
    for (service, prices) in named(table)? {
        all.push((service, Prices::read(prices)?));
    }
    Ok(all)
}

fn days(table: Option<Table>) -> Result<Vec<(String, Day)>, String> {
    let Some(mut table) = table else { return Ok(Vec::new()) };
    let names: Vec<_> = table.keys().map(str::to_owned).collect();
    let mut days = Vec::new();
    for name in names {
        days.extend(table.parsed(&name)?.map(|day| (name, day)));
    }
    Ok(days)
}

fn formats(table: &mut Table, key: &str) -> Result<Vec<Format>, String> {
    let mut formats = Vec::new();
    for text in table.texts(key)? {
        formats.push(text.parse()?);
    }
    Ok(if formats.is_empty() { vec![Format::Png] } else { formats })
}
