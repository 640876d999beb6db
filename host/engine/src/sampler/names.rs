//! Names of samplers and schedules, from wherever they come, and the choice that they and the model make together.
//!
//! Names are read without case, blanks and punctuation. A sampler goes by its own name, the label of its metadata, its diffusers
//! class and its aliases; any of these may carry a curve at its end (`euler_k`, `DPM++ 2M Karras`) and a `k_` before it, as other
//! programs write. What is known to be another solver is not near enough to one of these, and is refused with the list.

use super::{Choice, SAMPLERS, SamplerKind, Solves, ddim, flow_euler};
use crate::error::{Error, Result};
use crate::schedule::{Curve, NoiseConfig, Spacing};

/// Curves by their names: ours, the metadata's, and others'.
const CURVES: &[(&str, Curve, &str, &[&str])] = &[
    ("trained", Curve::Trained, "Automatic", &[]),
    ("karras", Curve::Karras, "Karras", &[]),
    // With its exponent 1, which is all that is offered where it is offered.
    ("exponential", Curve::Exponential, "Exponential", &["polyexponential"]),
    ("beta", Curve::Beta, "Beta", &[]),
];

/// Spacings by their names: ours and others'.
const SPACINGS: &[(&str, Spacing, &[&str])] = &[
    ("leading", Spacing::Leading, &["ddimuniform"]),
    ("linspace", Spacing::Linspace, &["uniform", "normal"]),
    ("trailing", Spacing::Trailing, &["sgmuniform", "simple"]),
];

/// How other programs end a sampler's name to choose its curve, the longest first.
const SUFFIXES: &[(&str, Curve)] = &[
    ("exponential", Curve::Exponential),
    ("karras", Curve::Karras),
    ("beta", Curve::Beta),
    ("ka", Curve::Karras),
    ("k", Curve::Karras),
];

/// Settles on a sampler: what the request names, otherwise what the model names, otherwise the first of the table.
///
/// A sampler's name may carry its curve (`euler_k`, `Euler Karras`); `schedule` names a curve or a spacing on its own.
///
/// # Errors
/// [`Error::Name`] for a name that is not known, or that the sampler cannot walk, with the names that would be right.
pub fn choose(model: &NoiseConfig, sampler: Option<&str>, schedule: Option<&str>) -> Result<Choice> {
    let solves = if model.flow.is_some() { Solves::Flow } else { Solves::Diffusion };
    let asked = sampler.filter(|name| !is_automatic(name));
    let (kind, mut curve, stands_in) = match asked {
        Some(name) => {
            let (kind, curve) = find(name, model, solves).ok_or_else(|| unknown("sampler", name, &names(solves)))?;
            (kind, curve, false)
        }
        None => match SAMPLERS.iter().find(|kind| kind.solves == solves && kind.is_own_of(model)) {
            Some(kind) => (kind, None, false),
            None => (first(solves), None, true),
        },
    };
    let own = kind.spacings.first().copied().unwrap_or(Spacing::Leading);
    let mut spacing = model.spacing.filter(|spacing| kind.spacings.contains(spacing)).unwrap_or(own);
    if let Some(name) = schedule.filter(|name| !is_automatic(name)) {
        match (curve_of(name), spacing_of(name)) {
            (Some(named), _) => curve = Some(named),
            (None, Some(named)) if kind.spacings.contains(&named) => spacing = named,
            (None, Some(_)) => return Err(unknown("schedule", name, &walked(kind))),
            (None, None) => return Err(unknown("schedule", name, &schedule_names())),
        }
    }
    let curve = match (curve, kind.takes_curves) {
        (Some(Curve::Karras | Curve::Exponential | Curve::Beta), false) => {
            return Err(Error::Name {
                what: "schedule",
                name: schedule.or(sampler).unwrap_or_default().to_owned(),
                allowed: format!("the trained one, because the sampler {} walks timesteps", kind.name),
            });
        }
        (Some(curve), _) => curve,
        (None, true) => model.curve,
        (None, false) => Curve::Trained,
    };
    Ok(Choice { kind, spacing, curve, stands_in })
}

/// The names of all samplers for one kind of noise.
#[must_use]
pub fn names(solves: Solves) -> Vec<&'static str> {
    SAMPLERS.iter().filter(|kind| kind.solves == solves).map(|kind| kind.name).collect()
}

/// The names of all schedules: the curves, then the spacings.
#[must_use]
pub fn schedule_names() -> Vec<&'static str> {
    CURVES.iter().map(|(name, ..)| *name).chain(SPACINGS.iter().map(|(name, ..)| *name)).collect()
}

/// The name of a curve, as the metadata gives it.
pub(super) fn curve_label(curve: Curve) -> &'static str {
    CURVES.iter().find(|(_, known, ..)| *known == curve).map_or("Automatic", |(_, _, label, _)| label)
}

/// The names of the schedules that a sampler walks.
fn walked(kind: &SamplerKind) -> Vec<&'static str> {
    let curves = CURVES.iter().filter(|(_, curve, ..)| kind.takes_curves || *curve == Curve::Trained);
    let spacings = SPACINGS.iter().filter(|(_, spacing, _)| kind.spacings.contains(spacing));
    curves.map(|(name, ..)| *name).chain(spacings.map(|(name, ..)| *name)).collect()
}

fn find(name: &str, model: &NoiseConfig, solves: Solves) -> Option<(&'static SamplerKind, Option<Curve>)> {
    let plain = plain(name);
    let called = |plain: &str| {
        // A class that is several solvers means the model's own, where it is the model's class.
        let mut called = SAMPLERS.iter().filter(|kind| kind.solves == solves && kind.is_called(plain));
        called.clone().find(|kind| kind.is_own_of(model)).or_else(|| called.next())
    };
    let with_curve = |plain: &str| {
        let ended = |(suffix, curve): &(&str, Curve)| Some((called(plain.strip_suffix(suffix)?)?, Some(*curve)));
        called(plain).map(|kind| (kind, None)).or_else(|| SUFFIXES.iter().find_map(ended))
    };
    with_curve(&plain).or_else(|| with_curve(plain.strip_prefix('k')?))
}

impl SamplerKind {
    fn is_called(&self, plain_name: &str) -> bool {
        let own = [self.name, self.label, self.class_name];
        own.iter().any(|name| plain(name) == plain_name) || self.aliases.contains(&plain_name)
    }

    fn is_own_of(&self, model: &NoiseConfig) -> bool {
        self.class_name == model.class_name && (self.means)(model)
    }
}

/// The sampler that stands in for one that is not here.
fn first(solves: Solves) -> &'static SamplerKind {
    match solves {
        Solves::Diffusion => &ddim::KIND,
        Solves::Flow => &flow_euler::KIND,
    }
}

fn curve_of(name: &str) -> Option<Curve> {
    let plain = plain(name);
    let known =
        |(name, _, _, aliases): &&(&str, Curve, &str, &[&str])| *name == plain || aliases.contains(&plain.as_str());
    CURVES.iter().find(known).map(|(_, curve, ..)| *curve)
}

fn spacing_of(name: &str) -> Option<Spacing> {
    let plain = plain(name);
    let known = |(name, _, aliases): &&(&str, Spacing, &[&str])| *name == plain || aliases.contains(&plain.as_str());
    SPACINGS.iter().find(known).map(|(_, spacing, _)| *spacing)
}

fn is_automatic(name: &str) -> bool {
    matches!(plain(name).as_str(), "" | "automatic" | "auto" | "default")
}

/// A name without case, blanks and punctuation, so that `Euler a`, `euler_a` and `euler-a` are one; `++` is `pp`.
fn plain(name: &str) -> String {
    name.replace("++", "pp").chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn unknown(what: &'static str, name: &str, allowed: &[&str]) -> Error {
    Error::Name { what, name: name.to_owned(), allowed: format!("one of {}", allowed.join(", ")) }
}
