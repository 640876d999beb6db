//! Layouts: which names the tensors of a component have in the files there are.
//!
//! The networks know the names of diffusers and transformers. Other files keep several networks under prefixes of their own,
//! name parts otherwise, fuse some and store some turned. A layout is told from the keys of a file, and says for each key
//! which of our names lie there, in which rows and how turned; nothing is copied. A layout is one file here, one line of
//! [`Layout`], and a row in the golden tests, where diffusers' own conversion is the reference.

mod clip;
mod flux;
mod flux2;
mod gguf_text;
mod ldm_unet;
mod ldm_vae;
mod z_image;

use std::collections::BTreeMap;

use super::Opened;

/// Where a tensor lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which of the files.
    pub(crate) file: usize,
    /// Its name there.
    pub(crate) key: String,
    /// Its part of the rows; all when there is nothing here.
    pub(crate) rows: Option<Rows>,
    /// What has to be done to it, in this order.
    pub(crate) turns: Vec<Turn>,
}

/// Equal parts of the rows of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    /// The first part that belongs to it.
    pub(crate) first: usize,
    /// How many parts belong to it.
    pub(crate) count: usize,
    /// How many parts there are.
    pub(crate) parts: usize,
}

impl Rows {
    /// The first row and the number of rows, out of so many; nothing when those do not part equally.
    pub(crate) fn of(&self, all: usize) -> Option<(usize, usize)> {
        let each = all.is_multiple_of(self.parts).then_some(all / self.parts)?;
        Some((self.first * each, self.count * each))
    }
}

/// What has to be done to a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Rows become columns.
    Transpose,
    /// Trailing dimensions of 1 are dropped.
    Squeeze,
    /// The second half of the rows comes first.
    SwapHalves,
}

/// A name of ours that lies under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) name: String,
    pub(crate) rows: Option<Rows>,
    pub(crate) turns: Vec<Turn>,
}

/// Whose names a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    /// Those of FLUX.1.
    Flux,
    /// Those of FLUX.2.
    Flux2,
}

/// Our names that lie under a key of a maker.
pub(crate) fn names(maker: Maker, key: &str) -> Vec<Name> {
    match maker {
        Maker::Flux => flux::names(key),
        Maker::Flux2 => flux2::names(key),
    }
}

impl Name {
    fn plain(name: String) -> Self {
        Self { name, rows: None, turns: Vec::new() }
    }

    fn turned(name: String, turn: Turn) -> Self {
        Self { name, rows: None, turns: vec![turn] }
    }

    fn rows(name: String, first: usize, count: usize, parts: usize) -> Self {
        Self { name, rows: Some(Rows { first, count, parts }), turns: Vec::new() }
    }

    /// The names that share the rows of a fused tensor equally.
    fn split(names: &[String]) -> Vec<Self> {
        names.iter().enumerate().map(|(index, name)| Self::rows(name.clone(), index, 1, names.len())).collect()
    }
}

/// Under which prefixes a component lies in files that hold more than one. The empty one is for files of its own.
const PREFIXES: &[(&str, &[&str])] = &[
    ("unet", &["model.diffusion_model."]),
    ("transformer", &["model.diffusion_model.", "diffusion_model."]),
    ("vae", &["first_stage_model.", "vae."]),
    (
        "text_encoder",
        &[
            "cond_stage_model.transformer.",
            "cond_stage_model.model.",
            "conditioner.embedders.0.transformer.",
            "text_encoders.clip_l.transformer.",
            "text_encoders.qwen3_4b.transformer.",
            "text_encoders.qwen3_8b.transformer.",
        ],
    ),
    ("text_encoder_2", &["conditioner.embedders.1.model.", "text_encoders.t5xxl.transformer."]),
];

/// The prefix under which a component lies among these keys; nothing when it lies under none of those that are known.
pub(crate) fn prefix(component: &str, has: impl Fn(&str) -> bool) -> Option<&'static str> {
    let (_, prefixes) = PREFIXES.iter().find(|(name, _)| *name == component)?;
    prefixes.iter().find(|prefix| has(prefix)).copied()
}

/// Where the names of a component lie in files.
pub(crate) fn places(component: &str, files: &[Opened]) -> BTreeMap<String, Place> {
    let prefix = prefix(component, |prefix| files.iter().any(|file| file.table.under(prefix).next().is_some()));
    let prefix = prefix.unwrap_or_default();
    let keys: Vec<(usize, &str, &str)> = files
        .iter()
        .enumerate()
        .flat_map(|(index, file)| file.table.under(prefix).map(move |key| (index, key, &key[prefix.len()..])))
        .collect();
    let layout = Layout::of(&keys.iter().map(|(_, _, name)| *name).collect::<Vec<_>>());
    let mut places = BTreeMap::new();
    for (file, key, stripped) in keys {
        for Name { name, rows, turns } in layout.names(stripped) {
            places.insert(name, Place { file, key: key.to_owned(), rows, turns });
        }
    }
    places
}

/// A way of naming the tensors of a network.
enum Layout {
    /// As diffusers and transformers do.
    AsIs,
    LdmUnet(ldm_unet::LdmUnet),
    LdmVae(ldm_vae::LdmVae),
    OpenClip,
    Flux,
    Flux2,
    ZImage,
    GgufText,
}

impl Layout {
    /// Tells a layout from the keys of a network, without their prefix.
    fn of(keys: &[&str]) -> Self {
        let has = |key: &str| keys.contains(&key);
        if has("single_stream_modulation.lin.weight") {
            return Self::Flux2;
        }
        if has("double_blocks.0.img_attn.qkv.weight") {
            return Self::Flux;
        }
        if has("layers.0.attention.qkv.weight") {
            return Self::ZImage;
        }
        if has("input_blocks.0.0.weight") {
            return Self::LdmUnet(ldm_unet::LdmUnet::of(keys));
        }
        if has("decoder.mid.block_1.norm1.weight") {
            return Self::LdmVae(ldm_vae::LdmVae::of(keys));
        }
        if has("transformer.resblocks.0.ln_1.weight") {
            return Self::OpenClip;
        }
        if has("blk.0.attn_q.weight") || has("enc.blk.0.attn_q.weight") {
            return Self::GgufText;
        }
        Self::AsIs
    }

    fn names(&self, key: &str) -> Vec<Name> {
        match self {
            Self::AsIs => vec![Name::plain(key.to_owned())],
            Self::LdmUnet(layout) => layout.name(key).map(Name::plain).into_iter().collect(),
            Self::LdmVae(layout) => layout.name(key).into_iter().collect(),
            Self::OpenClip => clip::names(key),
            Self::Flux => flux::names(key),
            Self::Flux2 => flux2::names(key),
            Self::ZImage => z_image::names(key),
            Self::GgufText => gguf_text::names(key),
        }
    }
}

/// Changes the beginning of a name by a table of old and new ones; a beginning ends where a part of the name ends.
fn renamed(key: &str, table: &[(&str, &str)]) -> Option<String> {
    table.iter().find_map(|(old, new)| {
        let rest = key.strip_prefix(old)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{new}{rest}"))
    })
}

/// Takes a number off the front of a name: `3.0.weight` is 3 and `0.weight`.
fn numbered(key: &str) -> Option<(usize, &str)> {
    let (number, rest) = key.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// The names in the two fused matrices of a double block of FLUX.
fn fused(block: &str, rest: &str) -> Option<Vec<Name>> {
    const FUSED: &[(&str, [&str; 3])] =
        &[("img_attn.qkv.", ["to_q", "to_k", "to_v"]), ("txt_attn.qkv.", ["add_q_proj", "add_k_proj", "add_v_proj"])];
    FUSED.iter().find_map(|(fused, names)| {
        let kind = rest.strip_prefix(fused)?;
        Some(Name::split(&names.map(|name| format!("{block}.attn.{name}.{kind}"))))
    })
}
