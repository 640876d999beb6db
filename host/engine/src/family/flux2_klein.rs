//! FLUX.2 [klein]: the middle layers of Qwen3 read the prompt, a transformer moves the tokens of a picture from noise to
//! what they show, and may look at other pictures while it does.
//!
//! Defined by diffusers' `Flux2KleinPipeline`. The distilled models are not guided; the others see the negative prompt in a
//! second pass. All sizes are read from the model's files, so the 4B and the 9B are one family.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use easel_core::{ModelInputs, Task};

use super::{Facts, Family, Guiding, Model, Recipe, Run};
use crate::checkpoint::Files;
use crate::config::{self, Flux2Config, Flux2VaeConfig, Qwen3Config, read_json};
use crate::error::{Error, Result};
use crate::flow::{Flowing, Velocity, guide, told};
use crate::flux2::{Grid, LatentNorm, Transformer};
use crate::nn::Rope;
use crate::pixels::Pixels;
use crate::prompt::{ChatTokenizer, Thinking};
use crate::qwen3::Qwen3;
use crate::reference::prepare;
use crate::rng::Generator;
use crate::schedule::Schedule;
use crate::tiles;
use crate::tokenizer::Tokens;
use crate::trace::{Recorder, Trace, Values};
use crate::vae::{Decoder, Encoder};

/// The family's line in the table.
pub const FAMILY: Family = Family {
    name: "flux2-klein",
    class_name: "Flux2KleinPipeline",
    describe,
    load: |files, device| Ok(Arc::new(Klein::load(files, device)?)),
};

/// Tokens of the prompt's chat, words around it and padding included.
const PROMPT_TOKENS: usize = 512;

/// Side of the pictures it was trained on, in latents.
const NATIVE_LATENTS: usize = 128;

/// The most pictures to change, and the most to look at besides. To the network both are pictures to look at.
const MAX_PICTURES: u32 = 4;

/// What the model's `model_index.json` and configs say together.
struct Parts {
    transformer: Flux2Config,
    vae: Flux2VaeConfig,
    text: Qwen3Config,
    is_distilled: bool,
}

impl Parts {
    fn read(files: &Files) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Index {
            #[serde(default)]
            is_distilled: bool,
        }
        let index: Index = read_json(files, "model_index.json")?;
        let parts = Self {
            transformer: config::flux2(files)?,
            vae: config::flux2_vae(files)?,
            text: config::qwen3(files)?,
            is_distilled: index.is_distilled,
        };
        let wrong = |reason: String| Err(Error::Config { file: "transformer/config.json".to_owned(), reason });
        let text_width = QUARTERS.len() * parts.text.width;
        if parts.transformer.text_width != text_width {
            let found = parts.transformer.text_width;
            return wrong(format!("joint_attention_dim is {found}, and by the text encoder must be {text_width}"));
        }
        let channels = 4 * parts.vae.decoder.latent_channels;
        if parts.transformer.channels != channels {
            let found = parts.transformer.channels;
            return wrong(format!("in_channels is {found}, and by the autoencoder must be {channels}"));
        }
        if parts.transformer.is_guided {
            return Err(Error::Unsupported {
                file: "transformer/config.json".to_owned(),
                key: "guidance_embeds".to_owned(),
                value: "true".to_owned(),
                allowed: "false".to_owned(),
            });
        }
        if !parts.text.layers.is_multiple_of(4) || parts.text.layers == 0 {
            let reason = format!("num_hidden_layers is {}, and must be a multiple of 4", parts.text.layers);
            return Err(Error::Config { file: "text_encoder/config.json".to_owned(), reason });
        }
        Ok(parts)
    }

    /// The layers of the text encoder that are read: 9, 18 and 27 of 36.
    fn layers(&self) -> [usize; 3] {
        QUARTERS.map(|quarter| self.text.layers / 4 * quarter)
    }

    /// How many pixels a token of the picture stands for along each side.
    fn multiple(&self) -> usize {
        2 * self.vae.decoder.factor()
    }
}

/// Where the text encoder is read, in quarters of its depth.
const QUARTERS: [usize; 3] = [1, 2, 3];

fn describe(files: &Files) -> Result<Facts> {
    let parts = Parts::read(files)?;
    let side = u32::try_from(NATIVE_LATENTS * parts.vae.decoder.factor()).unwrap_or(u32::MAX);
    // What the publisher recommends for either kind; no file says it.
    let (steps, guidance) = if parts.is_distilled { (4, 1.0) } else { (50, 4.0) };
    Ok(Facts {
        native: (side, side),
        multiple: u32::try_from(parts.multiple()).unwrap_or(u32::MAX),
        noise: config::noise(files)?,
        prompt_tokens: PROMPT_TOKENS,
        steps,
        guidance,
        tasks: vec![Task::TextToImage, Task::ImageToImage],
        inputs: ModelInputs { images: MAX_PICTURES, references: MAX_PICTURES },
        guiding: if parts.is_distilled { Guiding::Nothing } else { Guiding::Above(1.0) },
        options: &["loras", "rng", "schedule"],
    })
}

/// A loaded FLUX.2 [klein] model.
pub struct Klein {
    parts: Parts,
    tokenizer: ChatTokenizer,
    text: Qwen3,
    transformer: Transformer,
    norm: LatentNorm,
    encoder: Encoder,
    decoder: Decoder,
    schedule: Schedule,
    device: Device,
}

impl Klein {
    /// Loads a model.
    pub(crate) fn load(files: &Files, device: &Device) -> Result<Self> {
        let parts = Parts::read(files)?;
        let [_, _, last] = parts.layers();
        let vae = files.weights("vae", WEIGHTS, device)?;
        Ok(Self {
            tokenizer: ChatTokenizer::load(files, "tokenizer", PROMPT_TOKENS, Thinking::Off)?,
            text: Qwen3::load(&parts.text, last, &files.weights("text_encoder", "model", device)?)?,
            transformer: Transformer::load(&parts.transformer, &files.weights("transformer", WEIGHTS, device)?)?,
            norm: LatentNorm::load(&vae.at("bn"), parts.vae.decoder.latent_channels, parts.vae.epsilon)?,
            encoder: Encoder::load(&parts.vae.encoder, &vae)?,
            decoder: Decoder::load(&parts.vae.decoder, &vae)?,
            schedule: Schedule::new(config::noise(files)?)?,
            parts,
            device: device.clone(),
        })
    }

    /// Loads a model onto the CPU.
    ///
    /// # Errors
    /// What its files lack, by file and key or tensor.
    pub fn open(files: &Files) -> Result<Self> {
        Self::load(files, &Device::Cpu)
    }

    /// The prompt in its chat, as the text encoder reads it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn chat(&self, prompt: &str) -> Result<String> {
        self.tokenizer.chat(prompt)
    }

    /// The tokens of a prompt in its chat.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn tokens(&self, prompt: &str) -> Result<Tokens> {
        self.tokenizer.tokens(prompt)
    }

    /// The text states of a prompt: `[1, tokens, width]`.
    ///
    /// # Errors
    /// As [`Model::begin`].
    pub fn states(&self, prompt: &str, recorder: &Recorder) -> Result<Values> {
        Ok(Values::of(&self.encode(prompt, recorder.trace())?)?)
    }

    /// Decodes latents `[1, channels, rows, columns]` as the transformer makes them.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub fn decode(&self, latents: &Values, recorder: &Recorder) -> Result<Values> {
        let latents = self.norm.scatter(&latents.map(&self.device)?)?;
        Ok(Values::of_map(&self.decoder.forward(&latents, recorder.trace())?)?)
    }

    /// Encodes a picture `[1, 3, height, width]` in -1..1 to latents as the transformer reads them.
    ///
    /// # Errors
    /// A tensor operation that failed.
    pub fn encode_picture(&self, picture: &Values, recorder: &Recorder) -> Result<Values> {
        let posterior = self.encoder.forward(&picture.map(&self.device)?, recorder.trace())?;
        Ok(Values::of_map(&self.norm.gather(&posterior.mean)?)?)
    }

    /// Begins a picture that is made while looking at others.
    ///
    /// # Errors
    /// As [`Model::begin`]; [`Error::Option`] for a picture to look at that is too small or too long.
    pub fn begin_with(self: Arc<Self>, recipe: &Recipe, references: &[Pixels], recorder: &Recorder) -> Result<Flowing> {
        self.paint(recipe, &references.iter().collect::<Vec<_>>(), recorder.trace())
    }

    fn paint(self: Arc<Self>, recipe: &Recipe, references: &[&Pixels], trace: Trace<'_>) -> Result<Flowing> {
        let text = self.transformer.read(&self.encode(&recipe.prompt, trace)?, trace)?;
        let negative = match recipe.guidance > 1.0 && !self.parts.is_distilled {
            true => {
                let prompt = recipe.negative_prompt.as_deref().unwrap_or_default();
                Some(self.transformer.read(&self.encode(prompt, Trace::none())?, Trace::none())?)
            }
            false => None,
        };
        let multiple = self.parts.multiple();
        let grid = (recipe.size.1 as usize / multiple, recipe.size.0 as usize / multiple);
        let (looked_at, grids) = self.look_at(references, trace)?;
        let rope = self.transformer.places(text.dim(1)?, grid, &grids)?;
        let tokens = grid.0 * grid.1;
        let schedule = self.schedule.clone();
        let mu = schedule.config().flow.is_some().then(|| empirical_mu(tokens, recipe.steps));
        let painting = Painting { model: self, text, negative, guidance: recipe.guidance, looked_at, rope, grid };
        Flowing::begin(Box::new(painting), &schedule, recipe, mu)
    }

    fn encode(&self, prompt: &str, trace: Trace<'_>) -> Result<Tensor> {
        let tokens = self.tokenizer.tokens(prompt)?;
        let states = self.text.states(&tokens.ids, tokens.used, &self.parts.layers(), trace)?;
        Ok(Tensor::cat(&states, 2)?)
    }

    /// The tokens of pictures to look at, all in one row, and the grid of each.
    fn look_at(&self, references: &[&Pixels], trace: Trace<'_>) -> Result<(Option<Tensor>, Vec<Grid>)> {
        let (mut tokens, mut grids) = (Vec::new(), Vec::new());
        for reference in references {
            let picture = prepare(reference, u32::try_from(self.parts.multiple()).unwrap_or(u32::MAX))?;
            let posterior = self.encoder.forward(&picture.map(&self.device)?, trace)?;
            let latents = self.norm.gather(&posterior.mean)?;
            let (_, rows, columns, channels) = latents.dims4()?;
            grids.push((rows, columns));
            tokens.push(latents.reshape((1, rows * columns, channels))?);
        }
        let tokens = if tokens.is_empty() { None } else { Some(Tensor::cat(&tokens, 1)?) };
        Ok((tokens, grids))
    }
}

/// The name that diffusers gives the weights of a network.
const WEIGHTS: &str = "diffusion_pytorch_model";

/// The shift of a picture of so many tokens in so many steps: two straight lines, measured by the publisher at 10 and at 200
/// steps, and the line between them.
fn empirical_mu(tokens: usize, steps: usize) -> f64 {
    let (tokens, steps) = (tokens as f64, steps as f64);
    let at_200 = 0.000_169_27 * tokens + 0.456_666_66;
    if tokens > 4300.0 {
        return at_200;
    }
    let at_10 = 8.738_095_24e-5 * tokens + 1.898_333_33;
    let slope = (at_200 - at_10) / 190.0;
    slope * steps + (at_200 - 200.0 * slope)
}

impl Model for Klein {
    fn begin(self: Arc<Self>, recipe: &Recipe) -> Result<Box<dyn Run>> {
        let pictures = recipe.given.iter().flat_map(|given| given.images.iter().chain(&given.references));
        Ok(Box::new(self.paint(recipe, &pictures.collect::<Vec<_>>(), Trace::none())?))
    }

    fn dropped_tokens(&self, prompt: &str) -> Result<usize> {
        Ok(self.tokenizer.tokens(prompt)?.dropped)
    }
}

/// Everything about one picture that does not change from step to step.
struct Painting {
    model: Arc<Klein>,
    text: Tensor,
    negative: Option<Tensor>,
    guidance: f64,
    looked_at: Option<Tensor>,
    rope: Rope,
    grid: Grid,
}

impl Painting {
    fn velocity(&self, tokens: &Tensor, text: &Tensor, timestep: f64, trace: Trace<'_>) -> Result<Vec<f32>> {
        let velocity = self.model.transformer.forward(tokens, text, &self.rope, (told(timestep), None), trace)?;
        let velocity = velocity.narrow(1, 0, self.grid.0 * self.grid.1)?;
        Ok(velocity.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?)
    }
}

impl Velocity for Painting {
    fn noise(&self, generator: &mut Generator) -> Vec<f32> {
        // Drawn as a map, kept as a row of tokens.
        let (tokens, channels) = (self.grid.0 * self.grid.1, self.model.parts.transformer.channels);
        let map = generator.normals(channels * tokens);
        (0..tokens * channels).map(|index| map[index % channels * tokens + index / channels]).collect()
    }

    fn predict(&self, latents: &[f32], timestep: f64, trace: Trace<'_>) -> Result<Vec<f32>> {
        let tokens = Tensor::from_slice(latents, self.dims(), &self.model.device)?;
        let tokens = match &self.looked_at {
            Some(looked_at) => Tensor::cat(&[&tokens, looked_at], 1)?,
            None => tokens,
        };
        let mut velocity = self.velocity(&tokens, &self.text, timestep, trace)?;
        if let Some(negative) = &self.negative {
            guide(&mut velocity, &self.velocity(&tokens, negative, timestep, Trace::none())?, self.guidance);
        }
        Ok(velocity)
    }

    fn show(&self, latents: &[f32]) -> Result<Pixels> {
        let (rows, columns) = self.grid;
        let channels = self.model.parts.transformer.channels;
        let latents = Tensor::from_slice(latents, (1, rows, columns, channels), &self.model.device)?;
        let decoder = |piece: &Tensor| self.model.decoder.forward(piece, Trace::none());
        let factor = self.model.parts.vae.decoder.factor();
        let picture = tiles::decode(&self.model.norm.scatter(&latents)?, factor, decoder)?;
        let (_, height, width, _) = picture.dims4()?;
        let values = picture.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        Pixels::from_signed(&values, width as u32, height as u32)
    }

    fn dims(&self) -> Vec<usize> {
        vec![1, self.grid.0 * self.grid.1, self.model.parts.transformer.channels]
    }
}

#[cfg(test)]
mod tests {
    use super::empirical_mu;

    #[test]
    fn the_shift_is_that_of_the_publisher() {
        // Sides in pixels, sixteen to a token.
        for (width, height, want) in
            [(1024, 1024, 2.29118), (512, 512, 2.03069), (768, 1344, 2.285753), (2048, 2048, 3.229986)]
        {
            let mu = empirical_mu((width / 16) * (height / 16), 4);
            assert!((mu - want).abs() < 1e-5, "{width}x{height}: {mu}");
        }
    }
}
