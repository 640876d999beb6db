//! FLUX.1: T5 reads the prompt word by word and CLIP as a whole, a transformer moves the tokens of a picture from noise to what
//! they show, an autoencoder shows them.
//!
//! Defined by diffusers' `FluxPipeline`. The guided model (dev) is told a scale and needs no second pass; the other
//! (schnell) takes no notice of guidance.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use easel_core::{ModelInputs, Task};

use super::{Facts, Family, Guiding, Model, Recipe, Run};
use crate::checkpoint::Files;
use crate::config::{self, FluxConfig, T5Config, VaeConfig};
use crate::error::{Error, Result};
use crate::flow::{Flowing, Velocity, told};
use crate::flux::Transformer;
use crate::nn::Rope;
use crate::pixels::Pixels;
use crate::prompt::TextTokenizer;
use crate::reader::{ClipReader, Pooling, Text};
use crate::rng::Generator;
use crate::schedule::Schedule;
use crate::t5::T5;
use crate::tiles;
use crate::tokenizer::Tokens;
use crate::trace::{Recorder, Trace, Values};
use crate::vae::Decoder;

/// The family's line in the table.
pub const FAMILY: Family = Family {
    name: "flux",
    class_name: "FluxPipeline",
    describe,
    load: |files, device| Ok(Arc::new(Flux::load(files, device)?)),
};

/// Side of the pictures it was trained on, in latents.
const NATIVE_LATENTS: usize = 128;

/// What a model does when it is not told otherwise: what its publisher made it for, which no file says.
struct Usual {
    /// Tokens that T5 reads, its end token and padding included.
    tokens: usize,
    steps: u32,
    guidance: f64,
    guiding: Guiding,
}

/// dev.
const GUIDED: Usual = Usual { tokens: 512, steps: 28, guidance: 3.5, guiding: Guiding::Told };

/// schnell.
const FAST: Usual = Usual { tokens: 256, steps: 4, guidance: 0.0, guiding: Guiding::Nothing };

struct Parts {
    transformer: FluxConfig,
    vae: VaeConfig,
    t5: T5Config,
    usual: &'static Usual,
}

impl Parts {
    fn read(files: &Files) -> Result<Self> {
        let transformer = config::flux(files)?;
        let usual = if transformer.is_guided { &GUIDED } else { &FAST };
        let parts = Self { transformer, vae: config::vae(files)?, t5: config::t5(files)?, usual };
        let clip = config::text(files, "text_encoder")?;
        let Self { transformer, vae, t5, .. } = &parts;
        let checks = [
            ("joint_attention_dim", transformer.text_width, t5.d_model, "the second text encoder"),
            ("pooled_projection_dim", transformer.pooled_width, clip.width, "the text encoder"),
            ("in_channels", transformer.channels, 4 * vae.latent_channels, "the autoencoder"),
        ];
        for (key, found, must, by) in checks {
            if found != must {
                let reason = format!("{key} is {found}, and by {by} must be {must}");
                return Err(Error::Config { file: "transformer/config.json".to_owned(), reason });
            }
        }
        Ok(parts)
    }

    /// How many pixels a token of the picture stands for along each side.
    fn multiple(&self) -> usize {
        2 * self.vae.factor()
    }
}

fn describe(files: &Files) -> Result<Facts> {
    let parts = Parts::read(files)?;
    let side = u32::try_from(NATIVE_LATENTS * parts.vae.factor()).unwrap_or(u32::MAX);
    let Usual { tokens, steps, guidance, guiding } = *parts.usual;
    Ok(Facts {
        native: (side, side),
        multiple: u32::try_from(parts.multiple()).unwrap_or(u32::MAX),
        noise: config::noise(files)?,
        prompt_tokens: tokens - 1,
        steps,
        guidance,
        tasks: vec![Task::TextToImage],
        inputs: ModelInputs { images: 0, references: 0 },
        guiding,
        options: &["loras", "rng", "schedule"],
    })
}

/// A loaded FLUX.1 model.
pub struct Flux {
    parts: Parts,
    clip: ClipReader,
    tokenizer: TextTokenizer,
    t5: T5,
    transformer: Transformer,
    decoder: Decoder,
    schedule: Schedule,
    device: Device,
}

impl Flux {
    /// Loads a model.
    pub(crate) fn load(files: &Files, device: &Device) -> Result<Self> {
        let parts = Parts::read(files)?;
        let weights = "diffusion_pytorch_model";
        Ok(Self {
            clip: ClipReader::load(files, "", Pooling::Plain, device)?,
            tokenizer: TextTokenizer::load(files, "tokenizer_2", parts.usual.tokens)?,
            t5: T5::load(&parts.t5, &files.weights("text_encoder_2", "model", device)?)?,
            transformer: Transformer::load(&parts.transformer, &files.weights("transformer", weights, device)?)?,
            decoder: Decoder::load(&parts.vae, &files.weights("vae", weights, device)?)?,
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

    /// The tokens of a prompt as T5 reads it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn tokens(&self, prompt: &str) -> Result<Tokens> {
        self.tokenizer.tokens(prompt)
    }

    /// The text states of a prompt, `[1, tokens, width]`, and its one state as a whole, `[1, width]`.
    ///
    /// # Errors
    /// As [`Model::begin`].
    pub fn states(&self, prompt: &str, recorder: &Recorder) -> Result<(Values, Values)> {
        let (states, whole) = self.encode(prompt, recorder.trace())?;
        Ok((Values::of(&states)?, Values::of(&whole)?))
    }

    /// Begins a picture, telling `recorder` of what happens before the first step.
    ///
    /// # Errors
    /// As [`Model::begin`].
    pub fn begin_traced(self: Arc<Self>, recipe: &Recipe, recorder: &Recorder) -> Result<Flowing> {
        self.paint(recipe, recorder.trace())
    }

    fn paint(self: Arc<Self>, recipe: &Recipe, trace: Trace<'_>) -> Result<Flowing> {
        let (states, whole) = self.encode(&recipe.prompt, trace)?;
        let text = self.transformer.read(&states, trace)?;
        let condition = self.transformer.condition(&whole, recipe.guidance)?;
        let multiple = self.parts.multiple();
        let grid = (recipe.size.1 as usize / multiple, recipe.size.0 as usize / multiple);
        let rope = self.transformer.places(text.dim(1)?, grid)?;
        let schedule = self.schedule.clone();
        let mu = schedule.config().flow.as_ref().and_then(|flow| flow.mu(grid.0 * grid.1));
        let painting = Painting { model: self, text, condition, rope, grid };
        Flowing::begin(Box::new(painting), &schedule, recipe, mu)
    }

    fn encode(&self, prompt: &str, trace: Trace<'_>) -> Result<(Tensor, Tensor)> {
        let reading = self.clip.read(&[Text { words: prompt, skip: 0 }], 0, Pooling::Plain, trace)?;
        let whole = self.clip.ended(&reading, trace)?;
        let states = self.t5.states(&self.tokenizer.tokens(prompt)?.ids)?;
        trace.tell("text2", "last", &states)?;
        Ok((states, whole))
    }
}

impl Model for Flux {
    fn begin(self: Arc<Self>, recipe: &Recipe) -> Result<Box<dyn Run>> {
        Ok(Box::new(self.paint(recipe, Trace::none())?))
    }

    fn dropped_tokens(&self, prompt: &str) -> Result<usize> {
        Ok(self.tokenizer.tokens(prompt)?.dropped)
    }
}

/// Everything about one picture that does not change from step to step.
struct Painting {
    model: Arc<Flux>,
    text: Tensor,
    condition: Tensor,
    rope: Rope,
    /// Rows and columns of tokens.
    grid: (usize, usize),
}

impl Velocity for Painting {
    fn noise(&self, generator: &mut Generator) -> Vec<f32> {
        // Drawn as a map, kept as a row of tokens of two by two latents: channel first, then row, then column.
        let (rows, columns) = self.grid;
        let channels = self.model.parts.transformer.channels;
        let map = generator.normals(rows * columns * channels);
        let place = |index: usize| {
            let (token, part) = (index / channels, index % channels);
            let (row, column) = (token / columns * 2 + part / 2 % 2, token % columns * 2 + part % 2);
            (part / 4 * 2 * rows + row) * 2 * columns + column
        };
        (0..map.len()).map(|index| map[place(index)]).collect()
    }

    fn predict(&self, latents: &[f32], timestep: f64, trace: Trace<'_>) -> Result<Vec<f32>> {
        let tokens = Tensor::from_slice(latents, self.dims(), &self.model.device)?;
        let text = (&self.text, &self.condition);
        let velocity = self.model.transformer.forward(&tokens, text, &self.rope, told(timestep), trace)?;
        Ok(velocity.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?)
    }

    fn show(&self, latents: &[f32]) -> Result<Pixels> {
        let ((rows, columns), vae) = (self.grid, &self.model.parts.vae);
        let dims = (1, rows, columns, vae.latent_channels, 2, 2);
        let patches = Tensor::from_slice(latents, dims, &self.model.device)?.permute((0, 1, 4, 2, 5, 3))?;
        let latents = patches.reshape((1, 2 * rows, 2 * columns, vae.latent_channels))?;
        let latents = latents.affine(vae.scaling_factor.recip(), vae.shift_factor)?;
        let decoder = |piece: &Tensor| self.model.decoder.forward(piece, Trace::none());
        let picture = tiles::decode(&latents, vae.factor(), decoder)?;
        let (_, height, width, _) = picture.dims4()?;
        let values = picture.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        Pixels::from_signed(&values, width as u32, height as u32)
    }

    fn dims(&self) -> Vec<usize> {
        vec![1, self.grid.0 * self.grid.1, self.model.parts.transformer.channels]
    }
}
