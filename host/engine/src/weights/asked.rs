//! What a model asks of its files: every tensor by name and shape, without reading one.
//!
//! The networks are loaded as ever, from weights that are not there: each tensor asked for is written down and answered with
//! zeros that take no memory. So the parameters of a model of any size are known at once, and its files' headers can be
//! held against them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::layout::{Place, Turn};
use super::{Opened, without_trailing_ones};

/// Names, each with its component in front, and shapes.
pub type Parameters = BTreeMap<String, Vec<usize>>;

/// What was asked for so far. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    seen: Arc<Mutex<Seen>>,
    /// Whether the headers of the files are held against what is asked.
    looks: bool,
}

#[derive(Debug, Default)]
struct Seen {
    asked: Parameters,
    there: Parameters,
}

/// How a model's files compare with what its networks ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examination {
    /// Names that are not there, with the shapes they must have.
    pub missing: Parameters,
    /// Names of another shape: the shape that is there, and the one it must be.
    pub wrong: BTreeMap<String, (Vec<usize>, Vec<usize>)>,
    /// Names that nothing reads.
    pub unread: Parameters,
    /// How many tensors are as they must be.
    pub right: usize,
}

impl Asked {
    /// Looks at the headers of the files as well.
    #[must_use]
    pub fn looking() -> Self {
        Self { looks: true, ..Self::default() }
    }

    pub(crate) fn looks(&self) -> bool {
        self.looks
    }

    /// Notes what lies in files.
    pub(crate) fn find(&self, component: &str, files: &[Opened], places: &BTreeMap<String, Place>) {
        let mut seen = self.seen();
        for (name, place) in places {
            let entry = files.get(place.file).and_then(|file| file.table.tensors.get(&place.key));
            if let Some(entry) = entry {
                seen.there.insert(full(component, name), shape(place, &entry.shape));
            }
        }
    }

    pub(super) fn has(&self, component: &str, name: &str) -> bool {
        self.seen().there.contains_key(&full(component, name))
    }

    pub(super) fn tell(&self, component: &str, name: &str, shape: &[usize]) {
        self.seen().asked.insert(full(component, name), shape.to_vec());
    }

    /// Everything asked for.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        self.seen().asked.clone()
    }

    /// Compares what was asked for with what is there.
    #[must_use]
    pub fn examination(&self) -> Examination {
        let seen = self.seen();
        let mut examination = Examination::default();
        for (name, wanted) in &seen.asked {
            match seen.there.get(name) {
                None => drop(examination.missing.insert(name.clone(), wanted.clone())),
                Some(there) if without_trailing_ones(there) == without_trailing_ones(wanted) => examination.right += 1,
                Some(there) => drop(examination.wrong.insert(name.clone(), (there.clone(), wanted.clone()))),
            }
        }
        let unread = seen.there.iter().filter(|(name, _)| !seen.asked.contains_key(*name) && !is_beside(name));
        examination.unread = unread.map(|(name, shape)| (name.clone(), shape.clone())).collect();
        examination
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a name belongs to another or is a table of positions, which files hold and networks make themselves.
fn is_beside(name: &str) -> bool {
    const ENDS: &[&str] = &["scale_weight", "weight_scale", "scale_input", "input_scale", "position_ids", "scaled_fp8"];
    ENDS.iter().any(|end| name.ends_with(end))
}

fn full(component: &str, name: &str) -> String {
    format!("{component}.{name}")
}

/// The shape of what lies at a place.
fn shape(place: &Place, stored: &[usize]) -> Vec<usize> {
    let mut shape = stored.to_vec();
    if let (Some(rows), Some(side)) = (place.rows, shape.first_mut()) {
        *side = rows.of(*side).map_or(0, |(_, count)| count);
    }
    for turn in &place.turns {
        match turn {
            Turn::Transpose => shape.reverse(),
            Turn::Squeeze => shape = without_trailing_ones(&shape).to_vec(),
            Turn::SwapHalves => {}
        }
    }
    shape
}
