//! The command line. Each command is a file; what they share, the options that say which config counts, is here.
//!
//! What went wrong is told in two lines, `error:` and, where we know what to do about it, `hint:`. The exit code is 1,
//! or 2 where the command line itself was wrong.

mod config;
mod generate;
mod models;
mod plugin;
mod serve;
mod tls;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::app::StartError;
use crate::config::{ConfigError, Environment, Loaded, Sources};
use crate::dev;

/// One server for every way of making an image.
#[derive(Debug, Parser)]
#[command(name = "easel", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  easel serve                                   on http://127.0.0.1:7860
  easel generate \"a red circle\" -o circle.png   one picture, without a server
  easel dev                                     in a source checkout
  easel config > easel.toml                     a config to start from

A first request, once it serves:
  curl http://127.0.0.1:7860/v1/images/generations \\
    -H 'content-type: application/json' -d '{\"prompt\": \"a red circle\"}'";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Dev(serve::Dev),
    Generate(generate::Generate),
    Models(models::Models),
    Plugin(plugin::Plugin),
    Config(config::ConfigCommand),
}

/// Which config counts. Flags stand above environment variables, those above the file.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Config")]
struct ConfigOptions {
    /// The config file [default: easel.toml, where there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of everything that is kept [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The folder of the plugins [default: plugins]
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// What makes the pictures: the engine, or a stub without any model [default: engine]
    #[arg(long, value_enum)]
    mode: Option<ModeOption>,
    /// How the log is written [default: text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log: Option<LogOption>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeOption {
    Engine,
    Stub,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogOption {
    Text,
    Json,
}

/// Where a server listens.
#[derive(Args, Clone, Debug, Default)]
struct ListenOptions {
    /// Where to listen [default: 127.0.0.1:7860]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Another port on the address that is configured
    #[arg(long, conflicts_with = "listen")]
    port: Option<u16>,
    /// Serve other machines without asking for a key
    #[arg(long)]
    insecure: bool,
}

impl ConfigOptions {
    /// The sources of the config: these options, the process's environment, and the file.
    fn sources(&self, listen: &ListenOptions) -> Result<Sources, ConfigError> {
        let mut flags = BTreeMap::new();
        let mut set = |key, value: Option<String>| drop(value.map(|value| flags.insert(key, value)));
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        set("listen", listen.listen.map(|address| address.to_string()));
        set("port", listen.port.map(|port| port.to_string()));
        set("insecure", listen.insecure.then(|| "true".to_owned()));
        set("data", self.data.as_ref().map(text));
        set("plugins", self.plugins.as_ref().map(text));
        let mode = |mode| match mode {
            ModeOption::Engine => "engine".to_owned(),
            ModeOption::Stub => "stub".to_owned(),
        };
        set("mode", self.mode.map(mode));
        let log = |log| match log {
            LogOption::Text => "text".to_owned(),
            LogOption::Json => "json".to_owned(),
        };
        set("log.format", self.log.map(log));
        Ok(Sources { file: self.config.clone(), environment: Environment::of_process(Path::new("."))?, flags })
    }

    /// The config of a command that makes one thing and ends: its log tells only what is amiss.
    fn load_quietly(&self) -> Result<Loaded, ConfigError> {
        let mut loaded = self.sources(&ListenOptions::default())?.load()?;
        if loaded.config.log.level == crate::config::Config::default().log.level {
            loaded.config.log.level = "warn".to_owned();
        }
        crate::logging::start(&loaded.config.log);
        tell_notices(&loaded);
        Ok(loaded)
    }
}

fn tell_notices(loaded: &Loaded) {
    for notice in &loaded.notices {
        tracing::warn!("{notice}");
    }
}

/// Why a command failed.
#[derive(Debug)]
struct Failure {
    message: String,
    hint: Option<String>,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds what to do about it.
    fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { message: error.to_string(), hint: error.hint().map(str::to_owned) }
    }
}

/// The causes are told as well: whoever sits at the terminal is the operator.
impl From<easel_core::Error> for Failure {
    fn from(error: easel_core::Error) -> Self {
        Self { message: with_causes(&error), hint: error.hint().map(str::to_owned) }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let hint = error.hint();
        Self { message: with_causes(&error), hint }
    }
}

impl From<dev::DevError> for Failure {
    fn from(error: dev::DevError) -> Self {
        Self { message: error.to_string(), hint: error.hint().map(str::to_owned) }
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Errors that pass their cause on say the same thing twice.
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        cause = error.source();
    }
    told
}

/// Reads the process's arguments and does what they say.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Writing to a closed terminal can fail; there is nobody to tell.
            drop(error.print());
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let done = match cli.command {
        Command::Serve(command) => command.run(),
        Command::Dev(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Models(command) => command.run(),
        Command::Plugin(command) => command.run(),
        Command::Config(command) => command.run(),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            if let Some(hint) = failure.hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Columns as wide as their widest cell.
fn table<const COLUMNS: usize>(lines: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for line in lines {
        let cells: Vec<_> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The threads that serve: request handling is light, the engine and the plugins bring threads of their own.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("easel-worker")
        .build()
        .map_err(|error| Failure::new(format!("no threads could be started: {error}")))
}
