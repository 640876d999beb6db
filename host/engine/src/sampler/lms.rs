//! Linear multistep (Katherine Crowson): the slopes of up to four steps, each weighted by the integral of its polynomial.
//!
//! Defined by diffusers' `LMSDiscreteScheduler` at its order of four.

use std::collections::VecDeque;

use super::{EVERY_SPACING_FROM_LINSPACE, Path, Sampler, SamplerKind, Solves, Walk, levels};
use crate::error::Result;
use crate::schedule::Schedule;

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "lms",
    label: "LMS",
    class_name: "LMSDiscreteScheduler",
    aliases: &[],
    solves: Solves::Diffusion,
    takes_curves: true,
    spacings: EVERY_SPACING_FROM_LINSPACE,
    means: |_| true,
    begin,
};

const ORDER: usize = 4;

struct Lms {
    path: Path,
    sigmas: Vec<f64>,
    /// The last slopes, the newest first.
    slopes: VecDeque<Vec<f64>>,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let (levels, start) = levels(schedule, walk)?;
    let path = Path::of_sigmas(schedule, &levels, start);
    Ok(Box::new(Lms { path, sigmas: levels.sigmas, slopes: VecDeque::with_capacity(ORDER) }))
}

impl Lms {
    /// What the slope of the step `ago` steps before counts in this one: the integral over this step of the polynomial that is 1
    /// there and 0 at the others. Two points of Gauss are exact for it.
    fn weight(&self, step: usize, order: usize, ago: usize) -> f64 {
        let at = |sigma: f64| -> f64 {
            let others = (0..order).filter(|other| *other != ago).map(|other| self.sigmas[step - other]);
            others.map(|other| (sigma - other) / (self.sigmas[step - ago] - other)).product()
        };
        let (from, to) = (self.sigmas[step], self.sigmas[step + 1]);
        let (middle, half) = (0.5 * (from + to), 0.5 * (to - from));
        let place = half / 3f64.sqrt();
        half * (at(middle - place) + at(middle + place))
    }
}

impl Sampler for Lms {
    fn path(&self) -> &Path {
        &self.path
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], _noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let sigma = self.sigmas[step];
        let newest = latents.iter().zip(predicted).map(|(latent, output)| {
            let x = f64::from(*latent);
            (x - self.path.clean(step, x, f64::from(*output))) / sigma
        });
        let newest = newest.collect();
        self.slopes.truncate(ORDER - 1);
        self.slopes.push_front(newest);
        // By its place in the schedule, not by what is known: so a run that begins later uses fewer slopes with weights for more.
        let order = ORDER.min(step + 1);
        let weights: Vec<f64> = (0..order).map(|ago| self.weight(step, order, ago)).collect();
        for (index, latent) in latents.iter_mut().enumerate() {
            let moved: f64 = self.slopes.iter().zip(&weights).map(|(slopes, weight)| weight * slopes[index]).sum();
            *latent = (f64::from(*latent) + moved) as f32;
        }
    }
}
