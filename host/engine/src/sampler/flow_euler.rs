//! Euler's method along a flow: straight on by what the network predicts.
//!
//! Defined by diffusers' `FlowMatchEulerDiscreteScheduler`. The stochastic variant goes to the clean picture each time, and
//! back to the next level with fresh noise.

use super::{Mix, Path, Sampler, SamplerKind, Solves, Walk};
use crate::error::{Error, Result};
use crate::schedule::flow::FlowWalk;
use crate::schedule::{Prediction, Schedule, Spacing};

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "euler",
    label: "Euler",
    class_name: "FlowMatchEulerDiscreteScheduler",
    aliases: &["flowmatcheuler", "floweuler"],
    solves: Solves::Flow,
    takes_curves: true,
    spacings: &[Spacing::Trailing],
    means: |_| true,
    begin,
};

struct FlowEuler {
    path: Path,
    sigmas: Vec<f64>,
    is_stochastic: bool,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let config = schedule.config();
    let Some(flow) = &config.flow else {
        return Err(Error::Noise(format!("{} describes no flow", config.class_name)));
    };
    let given = FlowWalk { given: walk.levels.as_deref(), mu: walk.mu, curve: walk.curve };
    let levels = flow.levels(config.train_steps, walk.steps, given)?;
    let path = Path {
        timesteps: levels.timesteps,
        mixes: levels.sigmas.iter().take(walk.steps).map(|sigma| Mix::of_flow(*sigma)).collect(),
        start: 1.0,
        scales_input: false,
        prediction: Prediction::Flow,
        clip: None,
    };
    Ok(Box::new(FlowEuler { path, sigmas: levels.sigmas, is_stochastic: flow.stochastic }))
}

impl Sampler for FlowEuler {
    fn path(&self) -> &Path {
        &self.path
    }

    /// Pipelines for flows round up what others round down.
    fn first_step(&self, strength: f64) -> usize {
        let steps = self.steps() as f64;
        (steps - steps * strength.clamp(0.0, 1.0)) as usize
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let (sigma, next) = (self.sigmas[step], self.sigmas[step + 1]);
        let fresh = if self.is_stochastic { noise(latents.len()) } else { Vec::new() };
        for (index, (latent, output)) in latents.iter_mut().zip(predicted).enumerate() {
            let (x, velocity) = (f64::from(*latent), f64::from(*output));
            *latent = match fresh.get(index) {
                Some(fresh) => (1.0 - next) * (x - sigma * velocity) + next * f64::from(*fresh),
                None => x + (next - sigma) * velocity,
            } as f32;
        }
    }
}
