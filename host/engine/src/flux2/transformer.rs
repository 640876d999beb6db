//! FLUX.2's transformer: noisy tokens of a picture, the text's states and pictures to look at, to a velocity.
//!
//! Defined by diffusers' `Flux2Transformer2DModel`. One set of modulations, made from the timestep, serves all blocks of a
//! kind. What does not change from step to step, the embedded text and the places of all tokens, is made once, outside.

use candle_core::{Device, Result as TensorResult, Tensor};

use crate::checkpoint::Weights;
use crate::config::Flux2Config;
use crate::error::Result;
use crate::nn::{
    Activation, Axis, Heads, JointAttention, Linear, Modulation, Pairs, Projections, Rope, Rounding, TimeEmbedding,
    gated_halves, layer_norm,
};
use crate::trace::Trace;

/// The transformer.
pub(crate) struct Transformer {
    name: String,
    config: Flux2Config,
    time: TimeEmbedding,
    guidance: Option<TimeEmbedding>,
    modulations: [Linear; 3],
    picture_in: Linear,
    text_in: Linear,
    doubles: Vec<DoubleBlock>,
    singles: Vec<SingleBlock>,
    norm_out: Linear,
    out: Linear,
    device: Device,
}

/// The tokens of a picture: rows and columns.
pub(crate) type Grid = (usize, usize);

impl Transformer {
    /// Loads the transformer.
    ///
    /// # Errors
    /// [`crate::Error::Weights`] when a tensor is missing or has another shape.
    pub(crate) fn load(config: &Flux2Config, weights: &Weights) -> Result<Self> {
        let linear = Linear::load_without_bias;
        let width = config.width();
        let embeddings = weights.at("time_guidance_embed");
        let embedding = |part: &str| -> Result<TimeEmbedding> {
            let weights = embeddings.at(part);
            Ok(TimeEmbedding {
                waves: config.waves,
                first: linear(&weights.at("linear_1"), config.waves, width)?,
                second: linear(&weights.at("linear_2"), width, width)?,
            })
        };
        let modulation = |part: &str, sets: usize| linear(&weights.at(part).at("linear"), width, 3 * sets * width);
        let doubles = weights.at("transformer_blocks");
        let singles = weights.at("single_transformer_blocks");
        Ok(Self {
            name: weights.component().to_owned(),
            time: embedding("timestep_embedder")?,
            guidance: if config.is_guided { Some(embedding("guidance_embedder")?) } else { None },
            modulations: [
                modulation("double_stream_modulation_img", 2)?,
                modulation("double_stream_modulation_txt", 2)?,
                modulation("single_stream_modulation", 1)?,
            ],
            picture_in: linear(&weights.at("x_embedder"), config.channels, width)?,
            text_in: linear(&weights.at("context_embedder"), config.text_width, width)?,
            doubles: (0..config.double_blocks)
                .map(|index| DoubleBlock::load(config, &doubles.at(index)))
                .collect::<Result<_>>()?,
            singles: (0..config.single_blocks)
                .map(|index| SingleBlock::load(config, &singles.at(index)))
                .collect::<Result<_>>()?,
            norm_out: linear(&weights.at("norm_out.linear"), width, 2 * width)?,
            out: linear(&weights.at("proj_out"), width, config.channels)?,
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

    /// The places of all tokens in the order of the sequence: words, the picture, the pictures to look at.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn places(&self, words: usize, picture: Grid, references: &[Grid]) -> TensorResult<Rope> {
        let mut places: Vec<[u32; 4]> = (0..words as u32).map(|word| [0, 0, 0, word]).collect();
        // The picture stands at time 0, those to look at ten apart after it.
        let times = (0..).map(|index: u32| index * 10);
        for (time, (rows, columns)) in times.zip(std::iter::once(&picture).chain(references)) {
            for row in 0..*rows as u32 {
                places.extend((0..*columns as u32).map(|column| [time, row, column, 0]));
            }
        }
        let theta = self.config.theta;
        let axes: Vec<Axis> = self.config.axes.iter().map(|width| Axis { width: *width, theta }).collect();
        Rope::new(&places, &axes, Pairs::Adjacent, Rounding::Late, &self.device)
    }

    /// Predicts the velocity `[1, tokens, channels]` of the picture's tokens, those to look at following them.
    ///
    /// `text` has been through [`Transformer::read`]; `timestep` is the noise level times 1000, `guidance` a scale.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub(crate) fn forward(
        &self,
        picture: &Tensor,
        text: &Tensor,
        rope: &Rope,
        (timestep, guidance): (f64, Option<f64>),
        trace: Trace<'_>,
    ) -> TensorResult<Tensor> {
        let name = &self.name;
        let time = self.time.forward(timestep, &self.device)?;
        let time = match (&self.guidance, guidance) {
            (Some(embedding), Some(scale)) => (time + embedding.forward(scale * 1000.0, &self.device)?)?,
            _ => time,
        };
        trace.tell(name, "time_guidance_embed", &time)?;
        let time = Activation::Silu.apply(time)?;
        let [for_picture, for_text, for_both] = &self.modulations;
        let (for_picture, for_text, for_both) =
            (for_picture.forward(&time)?, for_text.forward(&time)?, for_both.forward(&time)?);
        trace.tell(name, "double_stream_modulation_img", &for_picture)?;
        trace.tell(name, "double_stream_modulation_txt", &for_text)?;
        trace.tell(name, "single_stream_modulation", &for_both)?;
        let (for_picture, for_text) = (Modulation::split(&for_picture, 2)?, Modulation::split(&for_text, 2)?);
        let for_both = Modulation::split(&for_both, 1)?;

        let picture = self.picture_in.forward(picture)?;
        trace.tell(name, "x_embedder", &picture)?;
        let words = text.dim(1)?;
        // Blocks add into their streams, and the embedded text is kept for the next step.
        let text = text.copy()?;
        for block in &self.doubles {
            block.forward(&picture, &text, [&for_picture, &for_text], rope, trace)?;
        }
        let both = Tensor::cat(&[&text, &picture], 1)?;
        for block in &self.singles {
            block.forward(&both, &for_both, rope, trace)?;
        }
        let picture = both.narrow(1, words, both.dim(1)? - words)?.contiguous()?;
        // Scale first here, shift second: not the order of the other modulations.
        let last = self.norm_out.forward(&time)?.flatten_all()?.chunk(2, 0)?;
        let [scale, shift] = last.as_slice() else { candle_core::bail!("the last modulation has no two halves") };
        let picture = layer_norm(&picture, &(scale + 1.0)?, shift, self.config.epsilon)?;
        trace.tell(name, "norm_out", &picture)?;
        let velocity = self.out.forward(&picture)?;
        trace.tell(name, "proj_out", &velocity)?;
        Ok(velocity)
    }
}

/// A block with a stream for the picture and one for the text.
struct DoubleBlock {
    name: String,
    attention: JointAttention,
    picture: FeedForward,
    text: FeedForward,
    epsilon: f64,
}

impl DoubleBlock {
    fn load(config: &Flux2Config, weights: &Weights) -> Result<Self> {
        Ok(Self {
            name: weights.path(),
            attention: JointAttention::load(&weights.at("attn"), heads(config), Linear::load_without_bias)?,
            picture: FeedForward::load(config, &weights.at("ff"))?,
            text: FeedForward::load(config, &weights.at("ff_context"))?,
            epsilon: config.epsilon,
        })
    }

    /// Adds into both streams.
    fn forward(
        &self,
        picture: &Tensor,
        text: &Tensor,
        modulations: [&[Modulation]; 2],
        rope: &Rope,
        trace: Trace<'_>,
    ) -> TensorResult<()> {
        let [[picture1, picture2], [text1, text2]] = modulations else {
            candle_core::bail!("a block with two streams needs two sets of modulations for each")
        };
        let (picture_norm, text_norm) = (picture1.norm(picture, self.epsilon)?, text1.norm(text, self.epsilon)?);
        let (for_picture, for_text) = self.attention.forward(&picture_norm, &text_norm, rope)?;
        trace.tell(&self.name, "attn.0", &for_picture)?;
        trace.tell(&self.name, "attn.1", &for_text)?;
        picture1.add(picture, &for_picture)?;
        text1.add(text, &for_text)?;
        for (stream, modulation, forward, part) in
            [(picture, picture2, &self.picture, "ff"), (text, text2, &self.text, "ff_context")]
        {
            let y = forward.forward(&modulation.norm(stream, self.epsilon)?)?;
            trace.tell(&self.name, part, &y)?;
            modulation.add(stream, &y)?;
        }
        trace.tell(&self.name, "0", text)?;
        trace.tell(&self.name, "1", picture)
    }
}

struct FeedForward {
    widen: Linear,
    narrow: Linear,
}

impl FeedForward {
    fn load(config: &Flux2Config, weights: &Weights) -> Result<Self> {
        let (width, inner) = (config.width(), config.inner_width);
        Ok(Self {
            widen: Linear::load_without_bias(&weights.at("linear_in"), width, 2 * inner)?,
            narrow: Linear::load_without_bias(&weights.at("linear_out"), inner, width)?,
        })
    }

    fn forward(&self, x: &Tensor) -> TensorResult<Tensor> {
        self.narrow.forward(&gated_halves(Activation::Silu, &self.widen.forward(x)?)?)
    }
}

/// A block with one stream, whose attention and feed-forward run side by side.
struct SingleBlock {
    name: String,
    attention: Projections,
    widen: Linear,
    out: Linear,
    epsilon: f64,
}

impl SingleBlock {
    fn load(config: &Flux2Config, weights: &Weights) -> Result<Self> {
        let (width, inner) = (config.width(), config.inner_width);
        let attention = weights.at("attn");
        let fused = attention.at("to_qkv_mlp_proj");
        let whole = fused.get("weight", &[3 * width + 2 * inner, width])?;
        let rows = |from: usize, count: usize| Linear::from_rows(&fused, whole.narrow(0, from, count)?);
        Ok(Self {
            name: weights.path(),
            attention: Projections::new(
                [rows(0, width)?, rows(width, width)?, rows(2 * width, width)?],
                &attention,
                ["norm_q", "norm_k"],
                heads(config),
            )?,
            widen: rows(3 * width, 2 * inner)?,
            out: Linear::load_without_bias(&attention.at("to_out"), width + inner, width)?,
            epsilon: config.epsilon,
        })
    }

    /// Adds into the stream.
    fn forward(&self, both: &Tensor, modulations: &[Modulation], rope: &Rope, trace: Trace<'_>) -> TensorResult<()> {
        let [modulation] = modulations else { candle_core::bail!("a block with one stream needs one modulation") };
        let x = modulation.norm(both, self.epsilon)?;
        let attended = self.attention.attend(&x, rope, None)?;
        let forward = gated_halves(Activation::Silu, &self.widen.forward(&x)?)?;
        let y = self.out.forward(&Tensor::cat(&[attended, forward], 2)?)?;
        trace.tell(&self.name, "attn", &y)?;
        modulation.add(both, &y)?;
        trace.tell(&self.name, "", both)
    }
}

fn heads(config: &Flux2Config) -> Heads {
    Heads { queries: config.heads, keys: config.heads, width: config.head_width(), epsilon: config.epsilon }
}
