//! Z-Image's transformer: noisy tokens of a picture and the text's states, in one stream, to a velocity.
//!
//! Defined by diffusers' `ZImageTransformer2DModel`. Picture and text are each brought to a length that 32 divides by a learned
//! token, and refined apart before they meet; the text's part does not change from step to step and is made once, outside.

use candle_core::{D, Device, Result as TensorResult, Tensor};

use crate::checkpoint::Weights;
use crate::config::ZImageConfig;
use crate::error::{Error, Result};
use crate::nn::{
    Activation, Axis, Heads, Linear, Pairs, Projections, RmsNorm, Rope, Rounding, TimeEmbedding, add_gated_in_place,
    add_in_place, gated, layer_norm,
};
use crate::trace::Trace;

/// What the lengths of text and picture are multiples of.
const LENGTHS: usize = 32;

/// The widest that the time's embedding is.
const TIME_WIDTH: usize = 256;

/// Width inside the time's embedding.
const TIME_INNER: usize = 1024;

/// Epsilon of the heads' norms, whatever the config says of the others.
const HEAD_EPSILON: f64 = 1e-5;

/// Side of a patch of latents.
const PATCH: usize = 2;

/// The transformer.
pub(crate) struct Transformer {
    name: String,
    config: ZImageConfig,
    time: TimeEmbedding,
    picture_in: Linear,
    picture_pad: Tensor,
    text_norm: RmsNorm,
    text_in: Linear,
    text_pad: Tensor,
    picture_refiners: Vec<Block>,
    text_refiners: Vec<Block>,
    layers: Vec<Block>,
    last_scale: Linear,
    out: Linear,
    device: Device,
}

/// A text as the stream takes it, and the places of all tokens with a picture of one size.
pub(crate) struct Caption {
    states: Tensor,
    picture: Rope,
    both: Rope,
    /// Rows and columns of the picture's patches.
    grid: (usize, usize),
}

impl Transformer {
    /// Loads the transformer.
    ///
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(config: &ZImageConfig, weights: &Weights) -> Result<Self> {
        let width = config.width;
        let patch = PATCH * PATCH * config.channels;
        let time = time_width(config);
        let blocks = |part: &str, count: usize, modulation: fn(&ZImageConfig, &Weights) -> Result<Option<Linear>>| {
            let weights = weights.at(part);
            (0..count).map(|index| Block::load(config, &weights.at(index), modulation)).collect::<Result<Vec<_>>>()
        };
        let embedder = weights.at("t_embedder.mlp");
        let last = weights.at("all_final_layer.2-1");
        Ok(Self {
            name: weights.component().to_owned(),
            time: TimeEmbedding {
                waves: TIME_WIDTH,
                first: Linear::load(&embedder.at(0), TIME_WIDTH, TIME_INNER)?,
                second: Linear::load(&embedder.at(2), TIME_INNER, time)?,
            },
            picture_in: Linear::load(&weights.at("all_x_embedder.2-1"), patch, width)?,
            picture_pad: weights.get("x_pad_token", &[1, width])?,
            text_norm: RmsNorm::load(&weights.at("cap_embedder.0"), config.text_width, config.epsilon)?,
            text_in: Linear::load(&weights.at("cap_embedder.1"), config.text_width, width)?,
            text_pad: weights.get("cap_pad_token", &[1, width])?,
            picture_refiners: blocks("noise_refiner", config.refiners, modulated)?,
            text_refiners: blocks("context_refiner", config.refiners, plain)?,
            layers: blocks("layers", config.layers, modulated)?,
            last_scale: Linear::load(&last.at("adaLN_modulation.1"), time, width)?,
            out: Linear::load(&last.at("linear"), width, patch)?,
            config: config.clone(),
            device: weights.device().clone(),
        })
    }

    /// Refines the text's states `[1, words, text width]` for a picture of `grid` patches, once for all steps.
    ///
    /// # Errors
    /// [`Error::Option`] for a picture with more rows or columns than there are places; a tensor operation that failed.
    pub(crate) fn read(&self, text: &Tensor, grid: (usize, usize), trace: Trace<'_>) -> Result<Caption> {
        let most = (self.config.places[1], self.config.places[2]);
        if grid.0 > most.0 || grid.1 > most.1 {
            let message = format!(
                "a picture has {} by {} patches, and this model has places for {} by {}",
                grid.1, grid.0, most.1, most.0
            );
            return Err(Error::Option { name: "size", message });
        }
        let words = text.dim(1)?.next_multiple_of(LENGTHS);
        if words + 2 > self.config.places[0] {
            let message = format!("a prompt has {words} tokens, and this model has {} places", self.config.places[0]);
            return Err(Error::Option { name: "prompt", message });
        }
        let tokens = grid.0 * grid.1;
        let word_places: Vec<[u32; 3]> = (0..words as u32).map(|word| [1 + word, 0, 0]).collect();
        let mut places: Vec<[u32; 3]> = (0..grid.0 as u32)
            .flat_map(|row| (0..grid.1 as u32).map(move |column| [words as u32 + 1, row, column]))
            .collect();
        places.resize(tokens.next_multiple_of(LENGTHS), [0; 3]);
        let picture = self.rope(&places)?;
        places.extend_from_slice(&word_places);

        let states = self.text_in.forward(&self.text_norm.forward(text)?)?;
        let states = padded(&states, &self.text_pad)?;
        let rope = self.rope(&word_places)?;
        for block in &self.text_refiners {
            block.forward(&states, &rope, None, trace)?;
        }
        Ok(Caption { states, picture, both: self.rope(&places)?, grid })
    }

    fn rope(&self, places: &[[u32; 3]]) -> TensorResult<Rope> {
        let theta = self.config.theta;
        let axes: Vec<Axis> = self.config.axes.iter().map(|width| Axis { width: *width, theta }).collect();
        Rope::new(places, &axes, Pairs::Adjacent, Rounding::Angles, &self.device)
    }

    /// What diffusers calls the transformer's output for latents `[1, height, width, channels]`, of the same shape: the velocity
    /// with its sign turned. `time` runs from 0, all noise, to 1.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(
        &self,
        latents: &Tensor,
        caption: &Caption,
        time: f64,
        trace: Trace<'_>,
    ) -> TensorResult<Tensor> {
        let name = &self.name;
        let time = self.time.forward(f64::from(time as f32 * self.config.time_scale as f32), &self.device)?;
        trace.tell(name, "t_embedder", &time)?;
        let (rows, columns) = caption.grid;
        let channels = self.config.channels;
        let patches = latents.reshape((1, rows, PATCH, columns, PATCH, channels))?.permute((0, 1, 3, 2, 4, 5))?;
        let patches = patches.reshape((1, rows * columns, PATCH * PATCH * channels))?;
        let picture = self.picture_in.forward(&patches)?;
        let picture = padded(&picture, &self.picture_pad)?;
        for block in &self.picture_refiners {
            block.forward(&picture, &caption.picture, Some(&time), trace)?;
        }
        let both = Tensor::cat(&[&picture, &caption.states], 1)?;
        for block in &self.layers {
            block.forward(&both, &caption.both, Some(&time), trace)?;
        }
        let scale = self.last_scale.forward(&Activation::Silu.apply(time.copy()?)?)?.flatten_all()?;
        let both = layer_norm(&both, &(&scale + 1.0)?, &scale.zeros_like()?, 1e-6)?;
        let output = self.out.forward(&both)?;
        trace.tell(name, "all_final_layer.2-1", &output)?;
        let patches = output.narrow(1, 0, rows * columns)?.reshape((1, rows, columns, PATCH, PATCH, channels))?;
        patches.permute((0, 1, 3, 2, 4, 5))?.reshape((1, rows * PATCH, columns * PATCH, channels))
    }
}

/// Appends a token until the length is a multiple; the answer is held by nobody else.
fn padded(x: &Tensor, token: &Tensor) -> TensorResult<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    let more = tokens.next_multiple_of(LENGTHS) - tokens;
    match more {
        0 => x.copy(),
        _ => Tensor::cat(&[x, &token.reshape((1, 1, width))?.broadcast_as((batch, more, width))?.contiguous()?], 1),
    }
}

fn time_width(config: &ZImageConfig) -> usize {
    config.width.min(TIME_WIDTH)
}

fn modulated(config: &ZImageConfig, weights: &Weights) -> Result<Option<Linear>> {
    Ok(Some(Linear::load(&weights.at("adaLN_modulation.0"), time_width(config), 4 * config.width)?))
}

#[expect(clippy::unnecessary_wraps, reason = "the other way of loading a modulation can fail")]
fn plain(_: &ZImageConfig, _: &Weights) -> Result<Option<Linear>> {
    Ok(None)
}

/// Attention and feed-forward, each normed before and after.
struct Block {
    name: String,
    modulation: Option<Linear>,
    norm_attention: [RmsNorm; 2],
    attention: Projections,
    out: Linear,
    norm_forward: [RmsNorm; 2],
    gate: Linear,
    widen: Linear,
    narrow: Linear,
}

/// Scales before and gates after a part.
type Scaled = Option<(Tensor, Tensor)>;

impl Block {
    fn load(
        config: &ZImageConfig,
        weights: &Weights,
        modulation: fn(&ZImageConfig, &Weights) -> Result<Option<Linear>>,
    ) -> Result<Self> {
        let width = config.width;
        let head = width / config.heads.max(1);
        let heads = Heads { queries: config.heads, keys: config.heads, width: head, epsilon: HEAD_EPSILON };
        let (attention, forward) = (weights.at("attention"), weights.at("feed_forward"));
        let norm = |part: &str| RmsNorm::load(&weights.at(part), width, config.epsilon);
        let linear = Linear::load_without_bias;
        // As Python computes it, with the rounding of its division.
        let inner = (width as f64 / 3.0 * 8.0) as usize;
        Ok(Self {
            name: weights.path(),
            modulation: modulation(config, weights)?,
            norm_attention: [norm("attention_norm1")?, norm("attention_norm2")?],
            attention: Projections::load(
                &attention,
                ["to_q", "to_k", "to_v", "norm_q", "norm_k"],
                width,
                heads,
                linear,
            )?,
            out: linear(&attention.at("to_out.0"), width, width)?,
            norm_forward: [norm("ffn_norm1")?, norm("ffn_norm2")?],
            gate: linear(&forward.at("w1"), width, inner)?,
            widen: linear(&forward.at("w3"), width, inner)?,
            narrow: linear(&forward.at("w2"), inner, width)?,
        })
    }

    /// Adds into the stream.
    fn forward(&self, x: &Tensor, rope: &Rope, time: Option<&Tensor>, trace: Trace<'_>) -> TensorResult<()> {
        let (for_attention, for_forward) = match (&self.modulation, time) {
            (Some(modulation), Some(time)) => {
                let parts = modulation.forward(time)?.flatten_all()?.chunk(4, D::Minus1)?;
                let [scale1, gate1, scale2, gate2] = parts.as_slice() else {
                    candle_core::bail!("a modulation needs two scales and two gates")
                };
                (Some(((scale1 + 1.0)?, gate1.tanh()?)), Some(((scale2 + 1.0)?, gate2.tanh()?)))
            }
            _ => (None, None),
        };
        let y = before(&self.norm_attention, x, &for_attention)?;
        let y = self.out.forward(&self.attention.attend(&y, rope, None)?)?;
        trace.tell(&self.name, "attention", &y)?;
        after(&self.norm_attention, x, &y, &for_attention)?;
        let y = before(&self.norm_forward, x, &for_forward)?;
        let y = gated(Activation::Silu, &self.gate.forward(&y)?, &self.widen.forward(&y)?)?;
        let y = self.narrow.forward(&y)?;
        trace.tell(&self.name, "feed_forward", &y)?;
        after(&self.norm_forward, x, &y, &for_forward)?;
        trace.tell(&self.name, "", x)
    }
}

fn before([norm, _]: &[RmsNorm; 2], x: &Tensor, scaled: &Scaled) -> TensorResult<Tensor> {
    match scaled {
        Some((scale, _)) => norm.forward_scaled(x, scale),
        None => norm.forward(x),
    }
}

fn after([_, norm]: &[RmsNorm; 2], sum: &Tensor, y: &Tensor, scaled: &Scaled) -> TensorResult<()> {
    let y = norm.forward(y)?;
    match scaled {
        Some((_, gate)) => add_gated_in_place(sum, &y, gate),
        None => add_in_place(sum, &y),
    }
}
