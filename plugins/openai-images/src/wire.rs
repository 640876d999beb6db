//! What servers of this API take: a dialect's switches, in the words of the manifest's `[config.dialects]`.

use easel_sdk::{Format, Table};
use serde_json::{Map, Value};

/// One dialect.
#[derive(Clone, Debug)]
pub struct Dialect {
    /// Their words for our parameters.
    pub fields: Fields,
    /// What goes along with every request.
    pub send: Map<String, Value>,
    /// Fields that have no word in the contract; they are passed on as they come.
    pub options: Vec<String>,
    /// The file formats that it gives.
    pub formats: Vec<Format>,
    /// The one that it gives where none is named.
    pub its_format: Format,
    /// How many intermediate states are asked for where somebody watches; 0 for a server that does not stream.
    pub partial_images: u32,
    /// The aspect ratios that it takes in place of a size.
    pub ratios: Vec<String>,
    /// The resolutions that go with them, the smallest first.
    pub resolutions: Vec<Resolution>,
    /// What stands in a prompt before the negative one; empty where that has a field.
    pub negative_after: String,
    /// The tag in a prompt between which more fields stand, as JSON.
    pub tag: String,
    /// Those fields.
    pub tagged: Fields,
    /// Where an answer says what it cost.
    pub cost: Option<Cost>,
    /// How pictures are edited, and how references go along.
    pub edit: Option<Edit>,
    /// How pictures are painted anew in part, where not as they are edited.
    pub inpaint: Option<Edit>,
}

/// What a field can be for, in our words. The size is said in one of three ways: by `size`, by `width` and `height`, or by
/// `ratio` and `resolution`.
const WORDS: [&str; 13] = [
    "compression",
    "count",
    "format",
    "guidance",
    "height",
    "negative_prompt",
    "ratio",
    "resolution",
    "sampler",
    "seed",
    "size",
    "steps",
    "width",
];

/// What OpenAI's own API does not have.
const EXTENSIONS: [&str; 5] = ["guidance", "negative_prompt", "sampler", "seed", "steps"];

/// Their words for ours, by ours; `a/b` is the field b in the object a.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(&'static str, String)>);

impl Fields {
    /// Their word; none where there is no such field.
    pub fn get(&self, word: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == word).map(|(_, field)| field.as_str())
    }

    /// Leaves what OpenAI's own API has.
    pub fn drop_extensions(&mut self) {
        self.0.retain(|(word, _)| !EXTENSIONS.contains(word));
    }
}

/// A request with pictures.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Where it goes, after the base address.
    pub path: String,
    pub body: BodyKind,
    /// The field of one image.
    pub image: String,
    /// The field of several; without it the one of one, as often as needed.
    pub images: Option<String>,
    /// The field of references, a list; without it they follow the images.
    pub references: Option<String>,
    /// The field of the mask; without it there is none.
    pub mask: Option<String>,
    /// How a mask marks what is painted anew.
    pub mask_marks: Marks,
    /// A picture in JSON, with `<base64>` or `<data-url>` where its bytes stand.
    pub picture: Value,
    /// The most images to edit.
    pub most_images: u32,
    /// The most references.
    pub most_references: u32,
    /// The fields, where they are not those of a request without pictures.
    pub fields: Option<Fields>,
    /// The formats that it gives here, where they are fewer.
    pub formats: Option<Vec<Format>>,
}

/// How a request with pictures is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    Json,
    Multipart,
}

/// How a mask marks what is painted anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// It is white there, and black elsewhere.
    White,
    /// It is transparent there, a PNG as OpenAI's own API takes it.
    Transparent,
}

/// One of the resolutions beside a ratio.
#[derive(Clone, Debug)]
pub struct Resolution {
    pub name: String,
    /// Sizes up to this belong to it.
    pub most_pixels: u64,
}

/// Where an answer says what it cost.
#[derive(Clone, Debug)]
pub struct Cost {
    pub pointer: String,
    pub currency: String,
    /// How many of their units are a millionth of the currency's.
    pub in_a_micro: u64,
}

impl Dialect {
    /// Reads a dialect.
    ///
    /// # Errors
    /// A message for the operator.
    pub fn read(mut table: Table) -> Result<Self, String> {
        let dialect = Self {
            fields: Fields::read(table.table("fields")?)?,
            send: table.fields("send")?,
            options: table.texts("options")?,
            formats: formats(&mut table)?.unwrap_or_else(|| vec![Format::Png, Format::Jpeg, Format::Webp]),
            its_format: table.parsed("its_format")?.unwrap_or(Format::Png),
            partial_images: table.small("partial_images")?.unwrap_or_default(),
            ratios: table.texts("ratios")?,
            resolutions: table.tables("resolutions")?.into_iter().map(Resolution::read).collect::<Result<_, _>>()?,
            negative_after: table.text("negative_after")?.unwrap_or_default(),
            tag: table.text("tag")?.unwrap_or_default(),
            tagged: Fields::read(table.table("tagged")?)?,
            cost: table.table("cost")?.map(Cost::read).transpose()?,
            edit: table.table("edit")?.map(Edit::read).transpose()?,
            inpaint: table.table("inpaint")?.map(Edit::read).transpose()?,
        };
        table.done()?;
        Ok(dialect)
    }
}

impl Fields {
    fn read(table: Option<Table>) -> Result<Self, String> {
        let Some(mut table) = table else { return Ok(Self::default()) };
        let mut fields = Vec::new();
        for word in WORDS {
            // An empty text takes a field away from the dialect that this one is laid over.
            fields.extend(table.text(word)?.filter(|field| !field.is_empty()).map(|field| (word, field)));
        }
        table.done()?;
        Ok(Self(fields))
    }
}

impl Edit {
    fn read(mut table: Table) -> Result<Self, String> {
        let (path, image) = (table.text("path")?, table.text("image")?);
        let body = match table.text("body")?.as_deref() {
            Some("json") => BodyKind::Json,
            Some("multipart") => BodyKind::Multipart,
            _ => return Err("body of an edit must be \"json\" or \"multipart\"".to_owned()),
        };
        let mask_marks = match table.text("mask_marks")?.as_deref() {
            None | Some("white") => Marks::White,
            Some("transparent") => Marks::Transparent,
            Some(_) => return Err("mask_marks of an edit must be \"white\" or \"transparent\"".to_owned()),
        };
        let edit = Self {
            path: table.needed("path", path)?,
            body,
            image: table.needed("image", image)?,
            images: table.text("images")?,
            references: table.text("references")?,
            mask: table.text("mask")?.filter(|field| !field.is_empty()),
            mask_marks,
            picture: table.value("picture").unwrap_or_default(),
            most_images: table.small("most_images")?.unwrap_or(1),
            most_references: table.small("most_references")?.unwrap_or_default(),
            fields: table.table("fields")?.map(|fields| Fields::read(Some(fields))).transpose()?,
            formats: formats(&mut table)?,
        };
        table.done()?;
        if edit.body == BodyKind::Json && edit.images.is_none() && edit.most_images > 1 {
            return Err("an edit in JSON with several images needs the field that they go into, images".to_owned());
        }
        Ok(edit)
    }
}

impl Resolution {
    fn read(mut table: Table) -> Result<Self, String> {
        let (name, most) = (table.text("name")?, table.whole("most_pixels")?);
        let resolution = Self { name: table.needed("name", name)?, most_pixels: table.needed("most_pixels", most)? };
        table.done()?;
        Ok(resolution)
    }
}

impl Cost {
    fn read(mut table: Table) -> Result<Self, String> {
        let (pointer, currency) = (table.text("pointer")?, table.text("currency")?);
        let cost = Self {
            pointer: table.needed("pointer", pointer)?,
            currency: table.needed("currency", currency)?,
            in_a_micro: table.whole("in_a_micro")?.unwrap_or(1).max(1),
        };
        table.done()?;
        Ok(cost)
    }
}

fn formats(table: &mut Table) -> Result<Option<Vec<Format>>, String> {
    let formats = table.texts("formats")?.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(formats).filter(|formats| !formats.is_empty()))
}
