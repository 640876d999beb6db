//! FLUX.1's transformer: noisy tokens of a picture and the text's states to a velocity.
//!
//! Defined by diffusers' `FluxTransformer2DModel`. Every block has modulations of its own, made from the timestep, the text as a
//! whole and, in the guided model, the guidance scale.

use candle_core::{Device, Result as TensorResult, Tensor};

use crate::checkpoint::Weights;
use crate::config::FluxConfig;
use crate::error::Result;
use crate::nn::{
    Activation, Axis, Heads, JointAttention, Linear, Modulation, Pairs, Projections, Rope, Rounding, TimeEmbedding,
    add_in_place, layer_norm,
};
use crate::trace::Trace;

/// Sines and cosines of a timestep, and of a guidance scale.
const WAVES: usize = 256;

/// Epsilon of every norm.
const EPSILON: f64 = 1e-6;

/// How much wider the feed-forward parts are inside.
const WIDER: usize = 4;

/// Base of the rotary frequencies.
const THETA: f64 = 10_000.0;

/// The transformer.
pub(crate) struct Transformer {
    name: String,
    config: FluxConfig,
    time: TimeEmbedding,
    guidance: Option<TimeEmbedding>,
    whole: [Linear; 2],
    picture_in: Linear,
    text_in: Linear,
    doubles: Vec<DoubleBlock>,
    singles: Vec<SingleBlock>,
    norm_out: Linear,
    out: Linear,
    device: Device,
}

impl Transformer {
    /// Loads the transformer.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(config: &FluxConfig, weights: &Weights) -> Result<Self> {
        let width = config.width();
        let embeddings = weights.at("time_text_embed");
        let embedding = |part: &str| -> Result<TimeEmbedding> {
            let weights = embeddings.at(part);
            Ok(TimeEmbedding {
                waves: WAVES,
                first: Linear::load(&weights.at("linear_1"), WAVES, width)?,
                second: Linear::load(&weights.at("linear_2"), width, width)?,
            })
        };
        let whole = embeddings.at("text_embedder");
        let doubles = weights.at("transformer_blocks");
        let singles = weights.at("single_transformer_blocks");
        Ok(Self {
            name: weights.component().to_owned(),
            time: embedding("timestep_embedder")?,
            guidance: if config.is_guided { Some(embedding("guidance_embedder")?) } else { None },
            whole: [
                Linear::load(&whole.at("linear_1"), config.pooled_width, width)?,
                Linear::load(&whole.at("linear_2"), width, width)?,
            ],
            picture_in: Linear::load(&weights.at("x_embedder"), config.channels, width)?,
            text_in: Linear::load(&weights.at("context_embedder"), config.text_width, width)?,
            doubles: (0..config.double_blocks)
                .map(|index| DoubleBlock::load(config, &doubles.at(index)))
                .collect::<Result<_>>()?,
            singles: (0..config.single_blocks)
                .map(|index| SingleBlock::load(config, &singles.at(index)))
                .collect::<Result<_>>()?,
            norm_out: Linear::load(&weights.at("norm_out.linear"), width, 2 * width)?,
            out: Linear::load(&weights.at("proj_out"), width, config.channels)?,
            config: config.clone(),
            device: weights.device().clone(),
        })
    }

    /// Embeds the text's states `[1, words, text width]`, once for all steps.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn read(&self, text: &Tensor, trace: Trace<'_>) -> TensorResult<Tensor> {
        let text = self.text_in.forward(text)?;
        trace.tell(&self.name, "context_embedder", &text)?;
        Ok(text)
    }

    /// Embeds the text as a whole `[1, pooled width]` and the guidance scale, once for all steps.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn condition(&self, pooled: &Tensor, guidance: f64) -> TensorResult<Tensor> {
        let [first, second] = &self.whole;
        let whole = second.forward(&Activation::Silu.apply(first.forward(pooled)?)?)?;
        if let Some(embedding) = &self.guidance {
            let scale = f64::from(guidance as f32 * 1000.0);
            add_in_place(&whole, &embedding.forward(scale, &self.device)?)?;
        }
        Ok(whole)
    }

    /// The places of all tokens: all words at the origin, then the picture by rows.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn places(&self, words: usize, (rows, columns): (usize, usize)) -> TensorResult<Rope> {
        let mut places = vec![[0; 3]; words];
        for row in 0..rows as u32 {
            places.extend((0..columns as u32).map(|column| [0, row, column]));
        }
        let axes: Vec<Axis> = self.config.axes.iter().map(|width| Axis { width: *width, theta: THETA }).collect();
        Rope::new(&places, &axes, Pairs::Adjacent, Rounding::Late, &self.device)
    }

    /// Predicts the velocity `[1, tokens, channels]` of the picture's tokens.
    ///
    /// `text` has been through [`Transformer::read`] and `condition` through [`Transformer::condition`]; `timestep` is the noise
    /// level times 1000.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(
        &self,
        picture: &Tensor,
        (text, condition): (&Tensor, &Tensor),
        rope: &Rope,
        timestep: f64,
        trace: Trace<'_>,
    ) -> TensorResult<Tensor> {
        let name = &self.name;
        let time = (self.time.forward(timestep, &self.device)? + condition)?;
        trace.tell(name, "time_text_embed", &time)?;
        let time = Activation::Silu.apply(time)?;
        let picture = self.picture_in.forward(picture)?;
        trace.tell(name, "x_embedder", &picture)?;
        let words = text.dim(1)?;
        // Blocks add into their streams, and the embedded text is kept for the next step.
        let text = text.copy()?;
        for block in &self.doubles {
            block.forward(&picture, &text, &time, rope, trace)?;
        }
        let both = Tensor::cat(&[&text, &picture], 1)?;
        for block in &self.singles {
            block.forward(&both, words, &time, rope, trace)?;
        }
        let picture = both.narrow(1, words, both.dim(1)? - words)?.contiguous()?;
        // Scale first here, shift second: not the order of the other modulations.
        let last = self.norm_out.forward(&time)?.flatten_all()?.chunk(2, 0)?;
        let [scale, shift] = last.as_slice() else { candle_core::bail!("the last modulation has no two halves") };
        let picture = layer_norm(&picture, &(scale + 1.0)?, shift, EPSILON)?;
        trace.tell(name, "norm_out", &picture)?;
        let velocity = self.out.forward(&picture)?;
        trace.tell(name, "proj_out", &velocity)?;
        Ok(velocity)
    }
}

/// A block with a stream for the picture and one for the text.
struct DoubleBlock {
    name: String,
    modulations: [Linear; 2],
    attention: JointAttention,
    forwards: [[Linear; 2]; 2],
}

impl DoubleBlock {
    fn load(config: &FluxConfig, weights: &Weights) -> Result<Self> {
        let width = config.width();
        let modulation = |part: &str| Linear::load(&weights.at(part).at("linear"), width, 6 * width);
        let forward = |part: &str| -> Result<[Linear; 2]> {
            let weights = weights.at(part).at("net");
            Ok([
                Linear::load(&weights.at("0.proj"), width, WIDER * width)?,
                Linear::load(&weights.at("2"), WIDER * width, width)?,
            ])
        };
        Ok(Self {
            name: weights.path(),
            modulations: [modulation("norm1")?, modulation("norm1_context")?],
            attention: JointAttention::load(&weights.at("attn"), heads(config), Linear::load)?,
            forwards: [forward("ff")?, forward("ff_context")?],
        })
    }

    /// Adds into both streams.
    fn forward(
        &self,
        picture: &Tensor,
        text: &Tensor,
        time: &Tensor,
        rope: &Rope,
        trace: Trace<'_>,
    ) -> TensorResult<()> {
        let [for_picture, for_text] = &self.modulations;
        let for_picture = Modulation::split(&for_picture.forward(time)?, 2)?;
        let for_text = Modulation::split(&for_text.forward(time)?, 2)?;
        let ([picture1, picture2], [text1, text2]) = (for_picture.as_slice(), for_text.as_slice()) else {
            candle_core::bail!("a block with two streams needs two sets of modulations for each")
        };
        let (picture_norm, text_norm) = (picture1.norm(picture, EPSILON)?, text1.norm(text, EPSILON)?);
        let (attended, text_attended) = self.attention.forward(&picture_norm, &text_norm, rope)?;
        trace.tell(&self.name, "attn.0", &attended)?;
        trace.tell(&self.name, "attn.1", &text_attended)?;
        picture1.add(picture, &attended)?;
        text1.add(text, &text_attended)?;
        let [forward, text_forward] = &self.forwards;
        for (stream, modulation, [widen, narrow], part) in
            [(picture, picture2, forward, "ff"), (text, text2, text_forward, "ff_context")]
        {
            let y = Activation::GeluTanh.apply(widen.forward(&modulation.norm(stream, EPSILON)?)?)?;
            let y = narrow.forward(&y)?;
            trace.tell(&self.name, part, &y)?;
            modulation.add(stream, &y)?;
        }
        trace.tell(&self.name, "0", text)?;
        trace.tell(&self.name, "1", picture)
    }
}

/// A block with one stream, whose attention and feed-forward run side by side.
struct SingleBlock {
    name: String,
    modulation: Linear,
    attention: Projections,
    widen: Linear,
    out: Linear,
}

impl SingleBlock {
    fn load(config: &FluxConfig, weights: &Weights) -> Result<Self> {
        let (width, inner) = (config.width(), WIDER * config.width());
        let names = ["to_q", "to_k", "to_v", "norm_q", "norm_k"];
        Ok(Self {
            name: weights.path(),
            modulation: Linear::load(&weights.at("norm.linear"), width, 3 * width)?,
            attention: Projections::load(&weights.at("attn"), names, width, heads(config), Linear::load)?,
            widen: Linear::load(&weights.at("proj_mlp"), width, inner)?,
            out: Linear::load(&weights.at("proj_out"), width + inner, width)?,
        })
    }

    /// Adds into the stream, whose first `words` tokens are the text.
    fn forward(&self, both: &Tensor, words: usize, time: &Tensor, rope: &Rope, trace: Trace<'_>) -> TensorResult<()> {
        let modulations = Modulation::split(&self.modulation.forward(time)?, 1)?;
        let [modulation] = modulations.as_slice() else {
            candle_core::bail!("a block with one stream needs one modulation")
        };
        let x = modulation.norm(both, EPSILON)?;
        let attended = self.attention.attend(&x, rope, None)?;
        trace.tell(&self.name, "attn", &attended)?;
        let forward = Activation::GeluTanh.apply(self.widen.forward(&x)?)?;
        modulation.add(both, &self.out.forward(&Tensor::cat(&[attended, forward], 2)?)?)?;
        if trace.listens() {
            trace.tell(&self.name, "0", &both.narrow(1, 0, words)?)?;
            trace.tell(&self.name, "1", &both.narrow(1, words, both.dim(1)? - words)?)?;
        }
        Ok(())
    }
}

fn heads(config: &FluxConfig) -> Heads {
    Heads { queries: config.heads, keys: config.heads, width: config.head_width(), epsilon: EPSILON }
}
