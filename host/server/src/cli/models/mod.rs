//! `easel models`: what there is to make pictures with, and putting models into the folder of models and out of it.
//!
//! Whatever comes into the folder comes whole: it is put together under a hidden name beside the models, looked at, and
//! given its name by one rename. A running server finds it when it looks again.

mod add;
mod check;
mod hub;
mod list;
mod pull;
mod remove;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{ConfigOptions, Failure};

/// List, check, add, pull and remove models; without a command, list them.
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  easel models
  easel models add ~/Downloads/painter.safetensors
  easel models pull stabilityai/sd-turbo
  easel models check painter"
)]
pub(super) struct Models {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: list::List,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::List),
    Check(check::Check),
    Add(add::Add),
    Pull(pull::Pull),
    Remove(remove::Remove),
}

impl Models {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            None => self.list.run(),
            Some(Command::List(command)) => command.run(),
            Some(Command::Check(command)) => command.run(),
            Some(Command::Add(command)) => command.run(),
            Some(Command::Pull(command)) => command.run(),
            Some(Command::Remove(command)) => command.run(),
        }
    }
}

/// The folder of models that the config names.
fn folder(options: &ConfigOptions) -> Result<PathBuf, Failure> {
    Ok(options.load_quietly()?.config.models_folder())
}

/// Refuses what cannot be the name of a model.
fn checked_name(name: &str) -> Result<&str, Failure> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.+ ".contains(c);
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(is_plain) {
        let message = format!("{name:?} cannot be the name of a model");
        return Err(Failure::new(message).with_hint("letters, digits, and - _ . + between them"));
    }
    Ok(name)
}

/// Refuses a name that is taken.
fn must_be_free(folder: &Path, name: &str) -> Result<(), Failure> {
    let listed = easel_engine::inventory::inventory(folder).map_err(easel_core::Error::from)?;
    if listed.iter().any(|listed| listed.id == name) || folder.join(name).exists() {
        let message = format!("there is a model {name} in {} already", folder.display());
        return Err(Failure::new(message)
            .with_hint(format!("easel models remove {name}, or give this one another name with --name")));
    }
    Ok(())
}

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{} cannot be {doing}: {error}", path.display()))
}
