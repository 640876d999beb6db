//! What a file is, told from the names and shapes in its header.
//!
//! Only what distinguishes is looked at. What is certainly something else (a LoRA, an autoencoder alone, …) is told as that,
//! because the file is then merely in the wrong place.

use crate::weights::Table;

/// A kind of model that comes in single files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    StableDiffusion1,
    StableDiffusion2,
    StableDiffusionXl,
    Flux1Dev,
    Flux1Schnell,
    Flux2Klein,
    ZImage,
}

/// What a file was recognised as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) base: Base,
    /// The prefix of the denoising network.
    pub(crate) prefix: &'static str,
    /// Channels that the denoising network takes: more than its latents have, when it fills in masked parts.
    pub(crate) channels: usize,
    /// Whether it predicts velocity.
    pub(crate) is_velocity: bool,
    /// Whether its noise ends without any signal.
    pub(crate) is_zero_terminal: bool,
}

impl Base {
    /// The name that people read, and that of its description in `kinds/`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::StableDiffusion1 => "stable-diffusion-1",
            Self::StableDiffusion2 => "stable-diffusion-2",
            Self::StableDiffusionXl => "stable-diffusion-xl",
            Self::Flux1Dev => "flux-1-dev",
            Self::Flux1Schnell => "flux-1-schnell",
            Self::Flux2Klein => "flux-2-klein-4b",
            Self::ZImage => "z-image-turbo",
        }
    }

    /// The components that have weights, each with what people call it.
    pub(crate) fn components(self) -> &'static [(&'static str, &'static str)] {
        const VAE: (&str, &str) = ("vae", "autoencoder (VAE)");
        match self {
            Self::StableDiffusion1 | Self::StableDiffusion2 => {
                &[("unet", "denoising network"), ("text_encoder", "text encoder"), VAE]
            }
            Self::StableDiffusionXl => &[
                ("unet", "denoising network"),
                ("text_encoder", "first text encoder"),
                ("text_encoder_2", "second text encoder"),
                VAE,
            ],
            Self::Flux1Dev | Self::Flux1Schnell => &[
                ("transformer", "transformer"),
                ("text_encoder", "text encoder (CLIP)"),
                ("text_encoder_2", "text encoder (T5)"),
                VAE,
            ],
            Self::Flux2Klein | Self::ZImage => {
                &[("transformer", "transformer"), ("text_encoder", "text encoder (Qwen3)"), VAE]
            }
        }
    }

    /// The tokenizers, each with the shared one that may stand for it.
    pub(crate) fn tokenizers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::StableDiffusion1 | Self::StableDiffusion2 => &[("tokenizer", "clip")],
            Self::StableDiffusionXl => &[("tokenizer", "clip"), ("tokenizer_2", "clip")],
            Self::Flux1Dev | Self::Flux1Schnell => &[("tokenizer", "clip"), ("tokenizer_2", "t5")],
            Self::Flux2Klein | Self::ZImage => &[("tokenizer", "qwen")],
        }
    }
}

/// What denoising networks lie under, the usual first.
const NETWORKS: &[&str] = &["model.diffusion_model.", ""];

/// Names that only one kind of foreign file has: how they begin or end, and what the file is then.
const FOREIGN: &[(&str, &str, &str)] = &[
    ("", ".lora_down.weight", "a LoRA"),
    ("", ".lora_A.weight", "a LoRA"),
    ("", ".lora_A.default.weight", "a LoRA"),
    ("", ".lokr_w1", "a LoRA (LoKr)"),
    ("", ".hada_w1_a", "a LoRA (LoHa)"),
    ("control_model.", "", "a ControlNet"),
    ("controlnet_cond_embedding.", "", "a ControlNet"),
    ("emb_params", "", "an embedding (textual inversion)"),
    ("clip_g", "", "an embedding (textual inversion)"),
    ("image_proj", "", "an IP-Adapter"),
    ("joint_blocks.0.", "", "a Stable Diffusion 3 model, which this engine does not have"),
    ("model.diffusion_model.joint_blocks.0.", "", "a Stable Diffusion 3 model, which this engine does not have"),
    ("encoder.block.0.layer.0.", "", "a text encoder (T5) alone"),
    ("text_model.encoder.layers.0.", "", "a text encoder (CLIP) alone"),
    ("model.layers.0.self_attn.", "", "a language model alone"),
    ("encoder.down.0.", "", "an autoencoder (VAE) alone"),
    ("encoder.down_blocks.0.", "", "an autoencoder (VAE) alone"),
    ("first_stage_model.", "", "an autoencoder (VAE) alone"),
    (
        "down_blocks.0.",
        "",
        "one component of a model in the diffusers layout, which belongs into a folder with the others",
    ),
    (
        "transformer_blocks.0.",
        "",
        "one component of a model in the diffusers layout, which belongs into a folder with the others",
    ),
];

impl Kind {
    /// Recognises a file. The error is a reason that completes "the file cannot be used: …".
    pub(crate) fn of(table: &Table) -> Result<Self, String> {
        for prefix in NETWORKS {
            if let Some(kind) = Self::under(prefix, table)? {
                return Ok(kind);
            }
        }
        let foreign = FOREIGN.iter().find(|(start, end, _)| match *start {
            "" => table.tensors.keys().any(|key| key.ends_with(end)),
            start => table.under(start).next().is_some(),
        });
        if let Some((.., what)) = foreign {
            return Err(format!("it is {what}, not a model that can be used by itself"));
        }
        let first = table.tensors.keys().next().map(String::as_str).unwrap_or_default();
        let count = table.tensors.len();
        Err(format!(
            "its {count} tensors, {first} and others, are of no kind of model that is known: Stable Diffusion 1, 2 and XL, \
             FLUX.1, FLUX.2 klein, Z-Image"
        ))
    }

    fn under(prefix: &'static str, table: &Table) -> Result<Option<Self>, String> {
        let has = |key: &str| table.has(&format!("{prefix}{key}"));
        let side = |key: &str, dimension: usize| {
            table.shape(&format!("{prefix}{key}")).and_then(|shape| shape.get(dimension)).copied()
        };
        let kind = |base, channels| Self { base, prefix, channels, is_velocity: false, is_zero_terminal: false };
        if has("single_stream_modulation.lin.weight") {
            let width = side("img_in.weight", 0);
            if has("guidance_in.in_layer.weight") {
                return Err("it is FLUX.2 dev, which this engine does not have; it has FLUX.2 klein".to_owned());
            }
            return match width {
                Some(4096) => Err("it is FLUX.2 klein 9B, whose single files are not known; use its folder".to_owned()),
                _ => Ok(Some(kind(Base::Flux2Klein, side("img_in.weight", 1).unwrap_or(128)))),
            };
        }
        if has("double_blocks.0.img_attn.norm.key_norm.scale") {
            if has("distilled_guidance_layer.in_proj.bias") {
                return Err("it is Chroma, which this engine does not have".to_owned());
            }
            let base = if has("guidance_in.in_layer.weight") { Base::Flux1Dev } else { Base::Flux1Schnell };
            return match side("img_in.weight", 1) {
                Some(channels @ (128 | 384)) if base == Base::Flux1Dev => Err(format!(
                    "it is FLUX.1 Fill or a control model of {channels} channels, which this engine does not have"
                )),
                channels => Ok(Some(kind(base, channels.unwrap_or(64)))),
            };
        }
        if has("layers.0.adaLN_modulation.0.weight") && has("layers.0.attention.qkv.weight") {
            return Ok(Some(kind(Base::ZImage, 16)));
        }
        let Some(channels) = side("input_blocks.0.0.weight", 1) else { return Ok(None) };
        Self::stable_diffusion(prefix, channels, table).map(Some)
    }

    /// Which Stable Diffusion: by the text encoders, otherwise by the width of the text the network attends to.
    fn stable_diffusion(prefix: &'static str, channels: usize, table: &Table) -> Result<Self, String> {
        let under = |prefix: &str| table.under(prefix).next().is_some();
        let to_text = |key: &&String| key.starts_with(prefix) && key.ends_with(".attn2.to_k.weight");
        let text = table.tensors.keys().find(to_text).and_then(|key| table.shape(key)?.get(1).copied());
        let base = if under("conditioner.embedders.1.") {
            Base::StableDiffusionXl
        } else if under("conditioner.embedders.0.model.") {
            return Err("it is the refiner of Stable Diffusion XL, which makes no pictures by itself".to_owned());
        } else if under("cond_stage_model.model.") {
            Base::StableDiffusion2
        } else if under("cond_stage_model.transformer.") {
            Base::StableDiffusion1
        } else {
            match text {
                Some(768) => Base::StableDiffusion1,
                Some(1024) => Base::StableDiffusion2,
                Some(2048) => Base::StableDiffusionXl,
                width => {
                    let width = width.map_or("none".to_owned(), |width| width.to_string());
                    return Err(format!(
                        "it is a denoising network of an unknown kind: the width of its text is {width}"
                    ));
                }
            }
        };
        if !matches!(channels, 4 | 9) {
            return Err(format!("its denoising network takes {channels} channels; 4 and, for inpainting, 9 are known"));
        }
        if table.has("edm_mean") {
            return Err("it is Playground 2.5, whose noise this engine does not have".to_owned());
        }
        // What the file says goes before what such files mostly are: the second was trained on velocity.
        let said = table.metadata.get("modelspec.prediction_type").map(String::as_str);
        let is_velocity = match said {
            Some(said) => said.starts_with('v'),
            None => table.has("v_pred") || (base == Base::StableDiffusion2 && channels == 4 && !is_base_size(table)),
        };
        Ok(Self { base, prefix, channels, is_velocity, is_zero_terminal: table.has("ztsnr") })
    }
}

/// Whether the file says that it was made for 512 pixels, as those of the second that predict noise were.
fn is_base_size(table: &Table) -> bool {
    table.metadata.get("modelspec.resolution").is_some_and(|size| size.starts_with("512"))
}
