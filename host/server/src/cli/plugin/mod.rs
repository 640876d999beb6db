//! `easel plugin`: what operators and authors do with plugins. Each subcommand is one file, with a line in [`Command`]
//! and one in [`Plugin::run`].
//!
//! Those that look after a running server ask it over HTTP (`server.rs`), as anybody may who has its operator's key.

mod list;
mod server;
mod show;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Failure;

/// Look after the plugins of a running server.
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  easel plugin list
  easel plugin show prompt-styles
  EASEL_ADMIN_KEY=… easel plugin list --url http://10.0.0.5:7860"
)]
pub(super) struct Plugin {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::List),
    Show(show::Show),
}

impl Plugin {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::List(command) => command.run(),
            Command::Show(command) => command.run(),
        }
    }
}
