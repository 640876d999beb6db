//! UniPC (Zhao et al. 2023): each step is predicted from the ones before, and corrected once the network has seen where it led.
//!
//! Defined by diffusers' `UniPCMultistepScheduler`, which predicts the clean picture. The correction costs nothing: it uses the
//! prediction that the next step needs anyway.

use std::collections::VecDeque;

use super::{EVERY_SPACING_FROM_LINSPACE, Path, Point, Sampler, SamplerKind, Solves, Walk, exponential_path};
use crate::error::Result;
use crate::schedule::Schedule;

pub(super) const KIND: SamplerKind = SamplerKind {
    name: "unipc",
    label: "UniPC",
    class_name: "UniPCMultistepScheduler",
    aliases: &["unipcbh2"],
    solves: Solves::Diffusion,
    takes_curves: true,
    spacings: EVERY_SPACING_FROM_LINSPACE,
    means: |_| true,
    begin,
};

/// More than this the published weights do not go.
const MOST: usize = 3;

struct UniPc {
    path: Path,
    points: Vec<Point>,
    order: usize,
    is_plain: bool,
    /// What the last steps took for clean, the newest first.
    history: VecDeque<Vec<f64>>,
    /// Where the last step began, corrected, and how many predictions it used.
    last: Option<(Vec<f64>, usize)>,
}

fn begin(schedule: &Schedule, walk: &Walk) -> Result<Box<dyn Sampler>> {
    let solver = &schedule.config().solver;
    let (path, points) = exponential_path(schedule, walk, walk.spacing, true)?;
    let order = solver.order.clamp(1, MOST);
    let history = VecDeque::with_capacity(order);
    Ok(Box::new(UniPc { path, points, order, is_plain: solver.is_plain, history, last: None }))
}

/// What a prediction or a correction needs of the step from `points[from]` to the next.
struct Frame {
    latents: f64,
    clean: f64,
    /// The factor of all differences together.
    scale: f64,
    /// Where the earlier predictions lie, in the length of the step; then 1, the end of the step.
    places: Vec<f64>,
    /// What the weights of the differences must add up to, by power.
    moments: Vec<f64>,
}

impl UniPc {
    fn frame(&self, from: usize, order: usize) -> Frame {
        let (here, there) = (self.points[from], self.points[from + 1]);
        let length = there.log - here.log;
        let share = (-length).exp_m1();
        let scale = if self.is_plain { -length } else { share };
        let earlier = (1..order).map(|ago| (self.points[from - ago].log - here.log) / length);
        let mut rest = share / -length - 1.0;
        let mut factorial = 1.0;
        let moments = (1..=order).map(|power| {
            let moment = rest * factorial / scale;
            factorial *= (power + 1) as f64;
            rest = rest / -length - 1.0 / factorial;
            moment
        });
        Frame {
            latents: there.mix.spread / here.mix.spread,
            clean: -there.mix.signal * share,
            scale: -there.mix.signal * scale,
            moments: moments.collect(),
            places: earlier.chain([1.0]).collect(),
        }
    }

    /// The latents after a step that began at `start`, by the newest `order` clean pictures, and by the one at the end of
    /// the step, if that is known already.
    fn jump(&self, frame: &Frame, start: &[f64], order: usize, reached: Option<&[f64]>) -> Vec<f64> {
        let weights = match reached {
            Some(_) if order == 1 => vec![0.5],
            Some(_) => solved(&frame.places, &frame.moments),
            // Simpler than the equations say, and as good.
            None if order == 2 => vec![0.5],
            None => solved(&frame.places[..order - 1], &frame.moments[..order - 1]),
        };
        let newest = &self.history[0];
        (0..start.len())
            .map(|index| {
                let clean = newest[index];
                let earlier = self.history.iter().skip(1).zip(&frame.places);
                let earlier = earlier.take(order - 1).map(|(past, place)| (past[index] - clean) / place);
                let differences = earlier.chain(reached.map(|reached| reached[index] - clean));
                let bend: f64 = differences.zip(&weights).map(|(difference, weight)| difference * weight).sum();
                // The factor may be without bound where there is nothing to multiply.
                let bend = if weights.is_empty() { 0.0 } else { frame.scale * bend };
                frame.latents * start[index] + frame.clean * clean + bend
            })
            .collect()
    }
}

impl Sampler for UniPc {
    fn path(&self) -> &Path {
        &self.path
    }

    fn step(&mut self, step: usize, latents: &mut [f32], predicted: &[f32], _noise: &mut dyn FnMut(usize) -> Vec<f32>) {
        let mut start: Vec<f64> = latents.iter().map(|x| f64::from(*x)).collect();
        let clean: Vec<f64> =
            start.iter().zip(predicted).map(|(x, y)| self.path.clean(step, *x, f64::from(*y))).collect();
        if let Some((before, order)) = self.last.take() {
            start = self.jump(&self.frame(step - 1, order), &before, order, Some(&clean));
        }
        self.history.truncate(self.order - 1);
        self.history.push_front(clean);
        let left = self.points.len() - 1 - step;
        let order = self.order.min(left).min(self.history.len());
        let reached = self.jump(&self.frame(step, order), &start, order, None);
        for (latent, x) in latents.iter_mut().zip(&reached) {
            *latent = *x as f32;
        }
        self.last = Some((start, order));
    }
}

/// Solves for the weights whose sums over powers of `places` are `moments`, by elimination; there are three at most, and the
/// places differ.
fn solved(places: &[f64], moments: &[f64]) -> Vec<f64> {
    let count = places.len();
    let mut rows: Vec<Vec<f64>> = (0..count)
        .map(|power| places.iter().map(|place| place.powi(power as i32)).chain([moments[power]]).collect())
        .collect();
    for pivot in 0..count {
        let best = (pivot..count).max_by(|a, b| rows[*a][pivot].abs().total_cmp(&rows[*b][pivot].abs()));
        rows.swap(pivot, best.unwrap_or(pivot));
        let lead = rows[pivot].clone();
        for (index, row) in rows.iter_mut().enumerate() {
            if index != pivot {
                let factor = row[pivot] / lead[pivot];
                row.iter_mut().zip(&lead).for_each(|(value, lead)| *value -= factor * lead);
            }
        }
    }
    rows.iter().enumerate().map(|(index, row)| row[count] / row[index]).collect()
}

#[cfg(test)]
mod tests {
    use super::solved;

    #[test]
    fn the_weights_add_up_to_the_moments() {
        let (places, moments) = ([-1.5, -0.4, 1.0], [0.3, 0.7, -0.2]);
        let weights = solved(&places, &moments);
        for (power, moment) in moments.iter().enumerate() {
            let sum: f64 = weights.iter().zip(places).map(|(weight, place)| weight * place.powi(power as i32)).sum();
            assert!((sum - moment).abs() < 1e-12, "{power}: {sum}");
        }
        assert!(solved(&[], &[]).is_empty());
    }
}
