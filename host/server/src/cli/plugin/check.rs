//! `easel plugin check`: what a server would say of a component, before it has one.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use easel_runtime::HostLimits;
use easel_runtime::workbench::{Weight, Workbench};

use super::project::Built;
use crate::cli::{Failure, runtime};

/// Say what a server would say of a component: manifest, contract, imports, exports, size, config and models.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  easel plugin check
  easel plugin check my-adapter.wasm")]
pub(super) struct Check {
    /// The component, or the plugin's folder
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    path: PathBuf,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let built = Built::read(&self.path)?;
        let checked = runtime()?.block_on(async {
            let workbench = Workbench::new(HostLimits::default(), built.cache().as_deref())?;
            Ok::<_, Failure>(workbench.check(&built.component, built.manifest.as_deref()).await)
        })?;
        println!("{}", built.path.display());
        for (fact, value) in &checked.facts {
            println!("  {fact:18}{value}");
        }
        for finding in &checked.findings {
            let weight = match finding.weight {
                Weight::Refused => "refused",
                Weight::Advice => "advice",
            };
            println!("{weight}  {}: {}", finding.about, finding.message);
        }
        if checked.is_accepted() {
            println!("a server takes it");
            return Ok(ExitCode::SUCCESS);
        }
        println!("a server refuses it");
        Ok(ExitCode::FAILURE)
    }
}
