//! `easel plugin`: what operators and authors do with plugins. Each subcommand is one file, with a line in [`Command`]
//! and one in [`Plugin::run`].
//!
//! `grant` and `revoke` change what plugins may do, in the data folder's `grants.toml`, which a running server follows.
//! Those that look after a running server ask it over HTTP (`server.rs`), as anybody may who has its operator's key. Those
//! for authors (`new`, `build`, `check`, `test`, `run`) need no server: they use the runtime's workbench.

mod act;
mod build;
mod check;
mod grant;
mod list;
mod new;
mod revoke;
mod run;
mod server;
mod show;
mod test;

mod case;
mod compare;
mod play;
mod project;
mod record;
mod script;
mod sources;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Failure;

/// Make plugins, and look after those of a running server.
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  easel plugin new my-adapter
  easel plugin list
  easel plugin show my-adapter
  easel plugin grant my-adapter --origin https://upstream.example.org
  easel plugin rollback my-adapter
  EASEL_ADMIN_KEY=… easel plugin list --url https://easel.example.org"
)]
pub(super) struct Plugin {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::New),
    Build(build::Build),
    Check(check::Check),
    Test(test::Test),
    Run(run::Run),
    List(list::List),
    Show(show::Show),
    Grant(grant::Grant),
    Revoke(revoke::Revoke),
    Reload(act::Reload),
    Disable(act::Disable),
    Enable(act::Enable),
    Rollback(act::Rollback),
}

impl Plugin {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::New(command) => command.run(),
            Command::Build(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Test(command) => command.run(),
            Command::Run(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Show(command) => command.run(),
            Command::Grant(command) => command.run(),
            Command::Revoke(command) => command.run(),
            Command::Reload(command) => command.run(),
            Command::Disable(command) => command.run(),
            Command::Enable(command) => command.run(),
            Command::Rollback(command) => command.run(),
        }
    }
}
