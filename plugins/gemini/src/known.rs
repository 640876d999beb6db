//! One model as it is known, read of its entry in the catalogue.

use easel_sdk::{Error, Request, Result, Table};

use crate::config::{Api, Config, word};
use crate::sizes::Choice;

/// Which API a model is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `:generateContent`.
    Gemini,
    /// `:predict`.
    Imagen,
}

/// A model.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its id here.
    pub id: String,
    /// Its id there.
    pub wire_id: String,
    /// The name people read.
    pub name: String,
    pub kind: Kind,
    /// The aspect ratios it takes, the default first.
    pub ratios: Vec<String>,
    /// The image sizes it takes, its own default first. With one only, none is named to the server.
    pub tiers: Vec<Tier>,
    /// The most pictures that a request brings, whatever they are for.
    pub max_inputs: u32,
    /// The most pictures it makes in one request, where that is less than the operator's `max_count`.
    pub max_count: Option<u32>,
    /// The largest seed it takes; it takes none without.
    most_seed: Option<u64>,
    /// Whether it takes a guidance scale.
    pub guidance: bool,
    /// How long it may think.
    pub thinking: Vec<String>,
    /// Whether it may search the web.
    pub search: bool,
    /// What it takes to say who may be shown.
    pub people: Vec<String>,
    /// What it answers with.
    pub modalities: Vec<String>,
    /// What a million tokens cost, in millionths of a dollar.
    pub token_prices: TokenPrices,
    /// When its provider ended it.
    retired: Option<String>,
    /// What its provider names in its place.
    pub successor: Option<String>,
}

/// One image size of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// What the server calls it.
    pub name: String,
    /// The side of a square picture of it.
    pub side: u32,
    /// What one picture costs, in millionths of a dollar.
    pub price: Option<u64>,
}

/// What tokens cost; nothing where that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenPrices {
    pub input: Option<u64>,
    pub text: Option<u64>,
    pub image: Option<u64>,
}

impl Known {
    /// Reads an entry.
    ///
    /// # Errors
    /// `Internal` naming the model and the field that makes no sense.
    pub fn read(config: &Config, id: &str, entry: Table) -> Result<Self> {
        Self::of(config, id, entry).map_err(Error::config)
    }

    fn of(config: &Config, id: &str, mut entry: Table) -> Result<Self, String> {
        let prices = entry.table("token_prices")?;
        let modalities = entry.texts("modalities")?;
        let mut tiers = Vec::new();
        for tier in entry.tables("tiers")? {
            tiers.push(Tier::read(tier)?);
        }
        let known = Self {
            id: entry.text("id")?.unwrap_or_default(),
            wire_id: entry.text("upstream")?.unwrap_or_else(|| id.to_owned()),
            name: entry.text("name")?.unwrap_or_else(|| id.to_owned()),
            kind: word(&mut entry, "kind", &[("gemini", Kind::Gemini), ("imagen", Kind::Imagen)])
                .map_err(|why| format!("models.{id}.{why}"))?,
            ratios: entry.texts("ratios")?,
            tiers,
            max_inputs: entry.small("max_inputs")?.unwrap_or_default(),
            max_count: entry.small("max_count")?,
            most_seed: entry.whole("most_seed")?,
            guidance: entry.flag("guidance")?.unwrap_or_default(),
            thinking: entry.texts("thinking")?,
            search: entry.flag("search")?.unwrap_or_default(),
            people: entry.texts("people")?,
            modalities: if modalities.is_empty() { vec!["IMAGE".to_owned()] } else { modalities },
            token_prices: prices.map(TokenPrices::read).transpose()?.unwrap_or_default(),
            retired: entry.text("retired")?,
            successor: entry.text("successor")?,
        };
        entry.done()?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._@".contains(&byte);
        if known.wire_id.is_empty() || !known.wire_id.bytes().all(is_plain) {
            return Err(format!(
                "model {id:?} must be called on the server by letters, digits, hyphens, dots, _ and @"
            ));
        }
        if known.ratios.is_empty() || known.tiers.is_empty() || known.tiers.iter().any(|tier| tier.side == 0) {
            return Err(format!("model {id:?} must have ratios and tiers, one at least of each, and no side of 0"));
        }
        match known.ratios.iter().find(|ratio| config.size_of(known.kind, ratio).is_none()) {
            Some(ratio) => Err(format!("model {id:?} has the aspect ratio {ratio:?}, which has no size in tables")),
            None => Ok(known),
        }
    }

    /// The largest seed that is sent, if any is. A server that marks its pictures makes them without one.
    pub fn most_seed(&self, config: &Config) -> Option<u64> {
        match self.kind {
            Kind::Gemini => self.most_seed,
            Kind::Imagen => self.most_seed.filter(|_| config.api == Api::Vertex && !config.watermark),
        }
    }

    /// The seed of a request's first picture, where the model takes one.
    ///
    /// # Errors
    /// `InvalidRequest` when that of one of so many pictures would be too large.
    pub fn seed(&self, config: &Config, request: &Request, count: u32) -> Result<Option<u64>> {
        let Some((seed, most)) = request.seed.zip(self.most_seed(config)) else { return Ok(None) };
        if seed.saturating_add(u64::from(count.saturating_sub(1))) <= most {
            return Ok(Some(seed));
        }
        Err(Error::invalid("seed", format!("the seed of every picture must be at most {most}, not from {seed} on")))
    }

    /// The day on which its provider ended it, at the provider only: other servers may go on with it.
    pub fn end(&self, config: &Config) -> Option<&str> {
        self.retired.as_deref().filter(|_| config.is_providers_own())
    }

    /// What to use in its place, as a sentence's end.
    pub fn successor_words(&self) -> Option<String> {
        self.successor.as_ref().map(|successor| format!("its successor is {successor}"))
    }

    /// The tier of a choice: the one that is named to the server, or the server's own.
    pub fn tier(&self, choice: &Choice) -> Option<&Tier> {
        self.tiers.get(choice.tier.unwrap_or(0))
    }
}

impl Tier {
    fn read(mut table: Table) -> Result<Self, String> {
        let (name, side) = (table.text("name")?, table.small("side")?);
        let tier =
            Self { name: table.needed("name", name)?, side: table.needed("side", side)?, price: table.whole("price")? };
        table.done()?;
        Ok(tier)
    }
}

impl TokenPrices {
    fn read(mut table: Table) -> Result<Self, String> {
        let prices = Self { input: table.whole("input")?, text: table.whole("text")?, image: table.whole("image")? };
        table.done()?;
        Ok(prices)
    }
}
