//! `easel models remove`: takes a model out of the folder of models.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use easel_engine::inventory::inventory;

use super::add::discard;
use super::{failed, folder};
use crate::cli::{ConfigOptions, Failure};

/// Remove a model and its files from the folder of models.
///
/// A running server keeps what it has loaded until it looks through the folder again.
#[derive(Args, Debug)]
pub(super) struct Remove {
    /// The model, as `easel models` names it
    model: String,
    #[command(flatten)]
    options: ConfigOptions,
}

impl Remove {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        remove(&self.model, &folder(&self.options)?)?;
        println!("removed {}", self.model);
        Ok(ExitCode::SUCCESS)
    }
}

/// Takes a model away by one rename, so that nobody ever sees half of it, and then removes it.
pub(super) fn remove(model: &str, folder: &Path) -> Result<(), Failure> {
    let listed = inventory(folder).map_err(easel_core::Error::from)?;
    let Some(found) = listed.iter().find(|listed| listed.id == model) else {
        let known: Vec<_> = listed.iter().map(|listed| listed.id.as_str()).collect();
        let message = format!("there is no model {model} in {}", folder.display());
        return Err(match known.as_slice() {
            [] => Failure::new(message),
            known => Failure::new(message).with_hint(format!("it can be {}", known.join(", "))),
        });
    };
    let hidden = folder.join(format!(".removing-{model}-{}", std::process::id()));
    let taken = fs::rename(&found.path, &hidden).and_then(|()| discard(&hidden));
    taken.map_err(|error| failed("removed", &found.path, &error))
}
