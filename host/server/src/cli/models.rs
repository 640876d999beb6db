//! `easel models`: what there is to make pictures with.

use std::process::ExitCode;

use clap::Args;
use easel_core::{Control, ModelInfo, Numbers, Readiness};

use super::{ConfigOptions, Failure, runtime, table};
use crate::app::House;

/// List the models: the demo model, those in the folder of models, and those of the plugins.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  easel models
  easel models --data /srv/easel   with the models in /srv/easel/models")]
pub(super) struct Models {
    #[command(flatten)]
    options: ConfigOptions,
}

impl Models {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let loaded = self.options.load_quietly()?;
        let lines = runtime()?.block_on(async {
            let house = House::without_store(loaded.config);
            house.furnish().await?;
            let snapshot = house.world().snapshot();
            let models = snapshot.models();
            let mut lines: Vec<[String; 4]> = vec![["MODEL", "BACKEND", "SIZE", "STEPS"].map(str::to_owned)];
            lines.extend(models.iter().map(|(backend, model)| row(backend.id(), model)));
            let idle = snapshot.backends.iter().filter(|backend| backend.models().is_empty());
            lines.extend(idle.map(|backend| {
                let reason = match backend.readiness() {
                    Readiness::NotReady(reason) => reason,
                    Readiness::Ready | Readiness::Loading => "it has no models".to_owned(),
                };
                ["-".to_owned(), backend.id().to_owned(), reason, String::new()]
            }));
            house.shut_down().await;
            Ok::<_, Failure>(lines)
        })?;
        print!("{}", table(&lines));
        Ok(ExitCode::SUCCESS)
    }
}

fn row(backend: &str, model: &ModelInfo) -> [String; 4] {
    let size = model.sizes.default_size().map_or_else(|| "any".to_owned(), |size| size.to_string());
    let steps = match &model.steps {
        Control::Honoured(Numbers { default: Some(steps), .. }) => steps.to_string(),
        Control::Honoured(Numbers { default: None, .. }) | Control::Ignored | Control::Refused => "-".to_owned(),
    };
    [model.id.clone(), backend.to_owned(), size, steps]
}

#[cfg(test)]
mod tests {
    use crate::cli::table;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let lines = [["MODEL", "BACKEND", "SIZE", "STEPS"], ["shapes", "engine", "128x128", "20"]];
        let lines = lines.map(|line| line.map(str::to_owned));
        assert_eq!(table(&lines), "MODEL   BACKEND  SIZE     STEPS\nshapes  engine   128x128  20\n");
    }
}
