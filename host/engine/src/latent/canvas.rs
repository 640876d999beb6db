//! Where a run starts, and what it keeps of a given picture: noise alone, a picture under noise, or a picture of which only a
//! part is painted anew.
//!
//! Defined by diffusers' image-to-image and inpainting pipelines, which are the same for all of these families. They draw in
//! this order, and so does this: the sample of the picture's latents, the noise, the sample of the masked picture's latents.

use candle_core::{DType, Tensor};

use super::LatentDiffusion;
use crate::error::{Error, Result};
use crate::family::Recipe;
use crate::given::{Given, Mask};
use crate::pixels::Pixels;
use crate::rng::Generator;
use crate::sampler::Sampler;
use crate::trace::Trace;

/// Where a run starts.
pub(super) struct Canvas {
    /// The first step that is taken.
    pub(super) first: usize,
    /// The latents before it.
    pub(super) latents: Vec<f32>,
    /// What is put back after each step.
    pub(super) kept: Option<Kept>,
    /// What a network that was made for inpainting sees beside the latents: `[1, height, width, channels]`.
    pub(super) beside: Option<Tensor>,
}

/// The part of a picture that stays.
pub(super) struct Kept {
    clean: Vec<f32>,
    noise: Vec<f32>,
    /// For each latent of one channel, whether it is painted anew.
    painted: Vec<bool>,
}

impl Kept {
    /// Puts back what stays, as it is before a step.
    pub(super) fn put_back(&self, sampler: &dyn Sampler, step: usize, latents: &mut [f32]) {
        let kept = sampler.noised(step, &self.clean, &self.noise);
        for ((latent, kept), is_painted) in latents.iter_mut().zip(kept).zip(self.painted.iter().cycle()) {
            if !is_painted {
                *latent = kept;
            }
        }
    }
}

impl Canvas {
    /// Prepares what a recipe starts from.
    ///
    /// # Errors
    /// [`Error::Option`] for a strength that leaves no step; a tensor operation that failed.
    pub(super) fn new(
        model: &LatentDiffusion,
        recipe: &Recipe,
        sampler: &dyn Sampler,
        noise: &mut Generator,
    ) -> Result<Self> {
        let given = recipe.given.as_deref();
        let Some((given, image)) = given.and_then(|given| Some((given, given.images.first()?))) else {
            let drawn = noise.normals(model.latent_count(recipe.size));
            return Ok(Self { first: 0, latents: scaled(&drawn, sampler.start()), kept: None, beside: None });
        };
        let picture = model.picture(&image.fitted(recipe.size.0, recipe.size.1))?;
        let start = Start { model, sampler, picture, first: first_step(sampler, given)?, strength: given.strength };
        match &given.mask {
            None => start.changed(noise),
            Some(mask) => start.painted(&mask.fitted(recipe.size.0, recipe.size.1), noise),
        }
    }
}

/// A run that starts from a picture.
struct Start<'a> {
    model: &'a LatentDiffusion,
    sampler: &'a dyn Sampler,
    /// `[1, height, width, 3]` in -1..1.
    picture: Tensor,
    first: usize,
    strength: f64,
}

impl Start<'_> {
    /// All of the picture is changed.
    fn changed(self, noise: &mut Generator) -> Result<Canvas> {
        let clean = self.model.sample(&self.picture, noise)?;
        let drawn = noise.normals(clean.len());
        let latents = self.sampler.noised(self.first, &clean, &drawn);
        Ok(Canvas { first: self.first, latents, kept: None, beside: None })
    }

    /// What a mask of the picture's size shows is painted anew.
    fn painted(self, mask: &Mask, noise: &mut Generator) -> Result<Canvas> {
        let Self { model, sampler, picture, first, strength } = self;
        let (_, height, width, _) = picture.dims4()?;
        let size = (width as u32, height as u32);
        let starts_from_noise = strength >= 1.0;
        let clean = match model.sees_mask() && starts_from_noise {
            true => None,
            false => Some(model.sample(&picture, noise)?),
        };
        let drawn = noise.normals(model.latent_count(size));
        let latents = match &clean {
            Some(clean) if !starts_from_noise => sampler.noised(first, clean, &drawn),
            _ => scaled(&drawn, sampler.start()),
        };
        let painted = model.latent_mask(mask, (width, height));
        if !model.sees_mask() {
            // diffusers encodes the masked picture for these networks too, and does not look at it; the stream goes on after it.
            drop(noise.normals(drawn.len()));
            let kept = clean.map(|clean| Kept { clean, noise: drawn, painted });
            return Ok(Canvas { first, latents, kept, beside: None });
        }
        let device = picture.device();
        let stays = mask.painted().map(|is_painted| if is_painted { 0f32 } else { 1.0 });
        let stays = Tensor::from_iter(stays, device)?.reshape((1, height, width, 1))?;
        let masked = model.map(&model.sample(&picture.broadcast_mul(&stays)?, noise)?, size)?;
        let (_, latent_height, latent_width, _) = masked.dims4()?;
        let painted = painted.into_iter().map(|is_painted| if is_painted { 1f32 } else { 0.0 });
        let painted = Tensor::from_iter(painted, device)?.reshape((1, latent_height, latent_width, 1))?;
        Ok(Canvas { first, latents, kept: None, beside: Some(Tensor::cat(&[&painted, &masked], 3)?) })
    }
}

fn scaled(noise: &[f32], start: f64) -> Vec<f32> {
    let start = start as f32;
    noise.iter().map(|x| x * start).collect()
}

fn first_step(sampler: &dyn Sampler, given: &Given) -> Result<usize> {
    let first = sampler.first_step(given.strength);
    if first < sampler.steps() {
        return Ok(first);
    }
    let message = format!("strength {} leaves none of {} steps; it must be more, or the steps", given.strength, first);
    Err(Error::Option { name: "strength", message })
}

impl LatentDiffusion {
    /// How many latents a picture has.
    fn latent_count(&self, size: (u32, u32)) -> usize {
        let (channels, height, width) = self.dims(size);
        channels * height * width
    }

    /// Whether the network was made for inpainting: it sees a mask and the masked picture beside the latents.
    pub(super) fn sees_mask(&self) -> bool {
        self.unet.in_channels() > self.vae.latent_channels
    }

    /// A picture as the encoder takes it: `[1, height, width, 3]` in -1..1.
    fn picture(&self, pixels: &Pixels) -> Result<Tensor> {
        let (width, height) = pixels.size();
        let values: Vec<f32> = pixels.as_bytes().iter().map(|byte| 2.0 * (f32::from(*byte) / 255.0) - 1.0).collect();
        Ok(Tensor::from_vec(values, (1, height as usize, width as usize, 3), &self.device)?)
    }

    /// Latents of a picture, drawn from what the encoder says of them, scaled for the network: `[channels, height, width]`.
    fn sample(&self, picture: &Tensor, noise: &mut Generator) -> Result<Vec<f32>> {
        let posterior = self.encoder()?.forward(picture, Trace::none())?;
        let flat = |map: &Tensor| map.permute((0, 3, 1, 2))?.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>();
        let (mean, log_variance) = (flat(&posterior.mean)?, flat(&posterior.log_variance)?);
        let drawn = noise.normals(mean.len());
        let (scale, shift) = (self.vae.scaling_factor as f32, self.vae.shift_factor as f32);
        let values = mean.iter().zip(log_variance).zip(drawn);
        Ok(values.map(|((mean, log), drawn)| (mean + (0.5 * log).exp() * drawn - shift) * scale).collect())
    }

    /// The mask over latents: that of the first pixel under each, as PyTorch's nearest neighbour takes it.
    fn latent_mask(&self, mask: &Mask, (width, height): (usize, usize)) -> Vec<bool> {
        let factor = self.vae.factor();
        let painted: Vec<bool> = mask.painted().collect();
        let rows = (0..height / factor).map(|y| y * factor * width);
        rows.flat_map(|row| (0..width / factor).map(move |x| row + x * factor)).map(|at| painted[at]).collect()
    }
}
