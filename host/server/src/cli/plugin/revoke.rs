//! `easel plugin revoke`: takes back what `easel plugin grant` gave. What `easel.toml` gives is taken back there.

use std::process::ExitCode;

use clap::Args;

use crate::cli::{ConfigOptions, Failure, ListenOptions};
use crate::config::{Edit, GrantsFile};

/// Take back what a plugin was given by command.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  easel plugin revoke some-adapter --origin https://api.example.org
  easel plugin revoke some-adapter --credential api_key
  easel plugin revoke some-adapter --all")]
pub(super) struct Revoke {
    /// The plugin's id
    id: String,
    /// Take back everything
    #[arg(long, conflicts_with_all = ["origin", "credential"], required_unless_present_any = ["origin", "credential"])]
    all: bool,
    /// Take back what was given or withheld at this origin, as the file names it
    #[arg(long, value_name = "ORIGIN")]
    origin: Vec<String>,
    /// Take back this credential
    #[arg(long, value_name = "NAME")]
    credential: Vec<String>,
    #[command(flatten)]
    options: ConfigOptions,
}

impl Revoke {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let config = self.options.sources(&ListenOptions::default())?.load()?.config;
        let file = GrantsFile::open(&config.grants_file())?;
        let origins = self.origin.into_iter().map(Edit::RevokeOrigin);
        let credentials = self.credential.into_iter().map(Edit::RevokeCredential);
        let all = self.all.then_some(Edit::RevokeAll);
        let edits: Vec<_> = origins.chain(credentials).chain(all).collect();
        if let Some(vain) = edits.iter().find(|edit| !file.would_change(&self.id, edit)) {
            let what = match vain {
                Edit::RevokeOrigin(origin) => origin.as_str(),
                Edit::RevokeCredential(name) => name.as_str(),
                Edit::Network(_) | Edit::Origin(_) | Edit::Withhold(_) | Edit::Credential(..) | Edit::RevokeAll => {
                    "anything"
                }
            };
            let message = format!("{} does not give {} {what}", config.grants_file().display(), self.id);
            let is_elsewhere = config.plugins.contains_key(&self.id);
            let hint =
                is_elsewhere.then(|| format!("what easel.toml gives is taken back there, under [plugin.{}]", self.id));
            return Err(Failure { message, hint });
        }
        file.change(&self.id, &edits)?;
        println!("written to {}", config.grants_file().display());
        Ok(ExitCode::SUCCESS)
    }
}
