//! `easel config`: the documented defaults, and whether a config is right.

use std::process::ExitCode;

use clap::Args;

use super::{ConfigOptions, Failure, ListenOptions};
use crate::config::DEFAULT_TOML;

/// Print every key of the config with its default, or check a config.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  easel config > easel.toml        a config to start from
  easel config --check             checks easel.toml and the environment")]
pub(super) struct ConfigCommand {
    /// Read the config as `serve` would, and say what is wrong with it
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    options: ConfigOptions,
}

impl ConfigCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        if !self.check {
            print!("{DEFAULT_TOML}");
            return Ok(ExitCode::SUCCESS);
        }
        let sources = self.options.sources(&ListenOptions::default())?;
        let loaded = sources.load()?;
        loaded.config.check_exposure()?;
        for notice in &loaded.notices {
            println!("note: {notice}");
        }
        let path = sources.path();
        let file = if path.is_file() { path.display().to_string() } else { format!("no {}", path.display()) };
        println!("the config is right ({file}, the environment)");
        Ok(ExitCode::SUCCESS)
    }
}
